"""The memory limit: watched while a search runs, and heard by every method."""

from __future__ import annotations

import math
import random
import threading

import numpy as np
import pytest

from solver import host_search, memory_watch
from solver.compiled import compile_instance
from solver.exact.link_ideals import LinkIdealProgram
from solver.exact.throughput_ideals import IdealProgram, Verdict, max_ideals_within
from solver.formats import native
from solver.heuristics.orders import topological_orders
from solver.instance import Edge, Partition, Request, SolverOptions
from solver.result import Status, StopReason
from tests.small import edges, gpus, make, ops
from tests.solver.test_solve import hard

PLENTY = 2**50


def test_resident_bytes_counts_what_is_held():
    before = memory_watch.resident_bytes()
    block = bytearray(b"x") * 50_000_000
    assert memory_watch.resident_bytes() > before + 40_000_000
    del block


def test_the_watch_sees_the_limit_passed_and_ends_with_its_block(monkeypatch):
    held, passed = [1], threading.Event()
    monkeypatch.setattr(memory_watch, "resident_bytes", lambda: held[0])
    with memory_watch.watch_memory(10, passed.set):
        assert not passed.wait(0.2)
        held[0] = 11
        assert passed.wait(60)
    assert not any(thread.name == "memory-watch" for thread in threading.enumerate())


def test_the_first_look_comes_first():
    seen = []
    with memory_watch.watch_memory(1, lambda: seen.append(True)):
        assert seen == [True]


@pytest.mark.parametrize("partition", Partition)
def test_a_limit_passed_from_the_start_still_gives_an_answer(solve, partition):
    result = solve(hard(partition), memory_limit_bytes=1)
    assert result.status is Status.FEASIBLE
    assert result.stop_reason is StopReason.MEMORY_LIMIT


@pytest.mark.parametrize("partition", Partition)
def test_a_limit_passed_on_the_way_ends_the_search(solve, partition, monkeypatch):
    """With an hour to go, the test would run into its own limit if the watch were not heard."""
    looks = iter([0] * 12)
    monkeypatch.setattr(memory_watch, "resident_bytes", lambda: next(looks, PLENTY + 1))
    monkeypatch.setattr(host_search, "room_bytes", lambda _: math.inf)
    result = solve(hard(partition), time_limit_s=3600.0, memory_limit_bytes=PLENTY)
    assert result.status is Status.FEASIBLE
    assert result.stop_reason is StopReason.MEMORY_LIMIT


def test_a_limit_that_is_not_reached_changes_nothing(solve):
    result = solve(make(ops(a=2.0, b=3.0, c=1.0), edges(ab=0.5, bc=0.5)), memory_limit_bytes=PLENTY)
    assert result.status is Status.OPTIMAL
    assert result.stop_reason is StopReason.PROVED


def many_ideals():
    """Compiled, with an order, and a period at which tens of thousands of ideals can be reached."""
    source = random.Random(0)
    operators = ops(**{f"o{i}": source.uniform(1, 2) for i in range(26)})
    data = [
        Edge(f"o{a}", f"o{b}", tensor=f"t{b}", transfer_time_ms=source.uniform(0.2, 1))
        for a in range(26)
        for b in range(a + 8, 26, 5)
    ]
    reduced = compile_instance(make(operators, data, [gpus(5)]))
    period = 1.8 * sum(operator.compute_time_ms["gpu"] for operator in operators) / 5
    return reduced, next(topological_orders(reduced, 0)), period


def test_ideals_beyond_the_room_are_handed_over():
    reduced, order, period = many_ideals()
    trial = IdealProgram(reduced, order, 20_000).try_period(period, lambda: False)
    assert trial.verdict is Verdict.GAVE_UP
    assert trial.num_ideals <= 20_000


def test_so_are_those_of_the_program_over_links():
    reduced, order, period = many_ideals()
    prices = np.ones(1), np.zeros(1)
    verdicts = {}
    for room in (0.0, math.inf):
        program = LinkIdealProgram(reduced, order, prices, room)
        verdicts[room] = program.try_period(period, lambda: False, math.inf, np.zeros(1, dtype=np.int64)).verdict
    assert verdicts == {0.0: Verdict.GAVE_UP, math.inf: Verdict.REACHED}


def test_the_room_is_what_the_limit_leaves(monkeypatch):
    monkeypatch.setattr(memory_watch, "resident_bytes", lambda: 600)
    assert memory_watch.room_bytes(None) == math.inf
    assert (memory_watch.room_bytes(1000), memory_watch.room_bytes(500)) == (400, 0)
    assert max_ideals_within(math.inf) > max_ideals_within(10**6) > max_ideals_within(0) == 0


def test_the_document_carries_the_limit():
    request = Request(make(ops(a=1.0)), SolverOptions(memory_limit_bytes=4_000_000_000))
    document = native.request_document(request)
    assert document["solver"]["memory_limit_bytes"] == 4_000_000_000
    options = native.from_document(document).options
    assert options == request.options
    assert isinstance(options.memory_limit_bytes, int)
