"""Stages of hundreds of operators, devices far larger than others, and numbers of bytes that no computer has."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from solver import host_search
from solver import solve as conductor
from solver.compiled import compile_instance
from solver.exact.link_cases import LinkCases
from solver.exact.throughput_ideals import IdealProgram, Verdict
from solver.formulations.fractional_assignment_glop import find_prices
from solver.heuristics.orders import topological_orders
from solver.instance import (
    DeviceSpec,
    Edge,
    InterconnectModel,
    Link,
    LinkGroup,
    Operator,
    Partition,
    SolverOptions,
)
from solver.reductions import reduce_instance
from solver.result import Status
from solver.validation import MAX_BYTES
from solver.verification import verify
from tests.depth import chunks
from tests.properties.enumeration import close
from tests.small import gpus, make, op, ops

BIG_AND_SMALL = (DeviceSpec("big", "big"), DeviceSpec("small", "small"))
LINKS = {"model": InterconnectModel.LINKS, "default": Link(1000.0)}


def unlike(name, time, factor=1000.0, **fields):
    """An operator that the small device needs ``factor`` times as long for."""
    return Operator(name, {"big": time, "small": time * factor}, **fields)


def link_program(reduced, seed=0):
    prices = find_prices(reduced)
    order = next(iter(topological_orders(reduced, seed)))
    return LinkCases(reduced, order, (prices.of_load, prices.of_memory))


def verdict_of(program, period_ms):
    stop, steps = np.zeros(1, dtype=np.int64), 1_000_000
    if isinstance(program, IdealProgram):
        return program.try_period(period_ms, lambda: False, steps, stop).verdict
    return program.try_period(period_ms, lambda: False, steps, stop, follow_ms=(math.inf, 0.0)).verdict


@pytest.mark.parametrize("length", [100, 122, 123, 200, 400])
def test_a_stage_may_be_longer_than_the_window_of_the_ideals(length):
    operators = [unlike(f"o{i}", 1.0) for i in range(length)]
    chain = [Edge(f"o{i}", f"o{i + 1}", 1) for i in range(length - 1)]
    reduced = reduce_instance(compile_instance(make(operators, chain, BIG_AND_SMALL, wires=LINKS)), Partition.ACYCLIC)
    program = link_program(reduced)
    assert verdict_of(program, length * 1.0001) is Verdict.REACHED
    assert verdict_of(program, length * 0.99) is Verdict.IMPOSSIBLE


def skewed(seed, wires=None):
    """125 to 175 operators in a narrow graph, many of which belong on one of two or three devices."""
    source = random.Random(seed)
    size, factor = source.randint(125, 175), source.choice([1.0, 3.0, 30.0])
    operators = [unlike(f"o{i}", source.uniform(0.5, 2), factor) for i in range(size)]
    pairs = {(i - 1 - (source.random() < 0.03), i) for i in range(2, size)}
    pairs |= {(i - source.randint(2, 4), i) for i in range(4, size)}
    sizes = [source.randint(1, 50) for _ in range(size)]
    times = [None if wires is not None else size / 200 for size in sizes]
    tensors = [Edge(f"o{a}", f"o{b}", sizes[a], transfer_time_ms=times[a]) for a, b in sorted(pairs)]
    devices = (DeviceSpec("big", "big"), DeviceSpec("small", "small", count=source.randint(2, 3)))
    return make(operators, tensors, devices, wires=wires)


@pytest.mark.parametrize("chunk", chunks(3))
def test_over_host_memory_both_ideal_programs_say_the_same(chunk):
    agreed = Counter()
    for seed in range(4 * chunk, 4 * chunk + 4):
        reduced = reduce_instance(compile_instance(skewed(seed)), Partition.ACYCLIC)
        order = next(iter(topological_orders(reduced, seed)))
        programs = IdealProgram(reduced, order, 1_000_000), link_program(reduced, seed)
        assert all(program.fits for program in programs)
        whole = float(reduced.compute_ms[:, 0].sum())
        for part in (1.001, 0.98, 0.9, 0.75, 0.6, 0.5, 0.45):
            one, other = (verdict_of(program, whole * part) for program in programs)
            assert Verdict.GAVE_UP in {one, other} or one is other, (seed, part)
            agreed[one] += one is other is not Verdict.GAVE_UP
    assert agreed.total() >= 8


@pytest.mark.parametrize("seed", chunks(6))
def test_bounds_over_links_stay_below_placements_with_large_stages(seed):
    """Those of the first operators of an order on one device and the rest on another."""
    groups = (LinkGroup(("big", "small:0"), Link(2000.0)),)
    instance = skewed(seed, {**LINKS, "groups": groups} if seed % 2 else LINKS)
    reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
    program = link_program(reduced, seed)
    names = [operator.id for operator in instance.graph.operators]
    splits = [
        {name: "big" if i < cut else "small:0" for i, name in enumerate(names)} for cut in range(0, len(names) + 1, 3)
    ]
    best = min(verify(instance, split).objective_value for split in splits)
    for part in (1.0 + 1e-6, 1.05, 1.2):
        assert verdict_of(program, best * part) is not Verdict.IMPOSSIBLE


@pytest.mark.parametrize("is_modelled", [True, False])
@pytest.mark.parametrize("partition", [Partition.CONVEX, Partition.FREE])
def test_a_start_that_is_no_pipeline_does_no_harm(partition, is_modelled, monkeypatch):
    """In a graph too wide for the ideals; a search that is resumed starts from what it had."""
    monkeypatch.setattr(host_search, "is_modelled", lambda _: is_modelled)
    source = random.Random(1)
    operators = ops(**{f"o{i}": source.uniform(1, 5) for i in range(60)})
    pairs = [(i, j) for i in range(30) for j in range(30, 60) if source.random() < 0.08]
    tensors = [Edge(f"o{a}", f"o{b}", transfer_time_ms=1.0) for a, b in pairs]
    # Twice forth and back between two devices, which a convex set may, a pipeline may not.
    crossing = [("c0", "c1"), ("d0", "d1")]
    operators += ops(c0=1.0, c1=1.0, d0=1.0, d1=1.0)
    tensors += [Edge(a, b, transfer_time_ms=0.1) for a, b in crossing]
    instance = make(operators, tensors, [gpus(4)], partition=partition)
    hint = dict.fromkeys((operator.id for operator in operators), "gpu:2")
    hint |= {"c0": "gpu:0", "c1": "gpu:1", "d0": "gpu:1", "d1": "gpu:0"}
    assert verify(instance, hint).violations == ()
    result = conductor.solve(instance, SolverOptions(workers=1, time_limit_s=1.0), hint=hint)
    assert result.objective_value < verify(instance, hint).objective_value


@pytest.mark.parametrize("count", [600, 1100])
@pytest.mark.parametrize("model", InterconnectModel)
def test_what_has_no_limit_may_hold_more_bytes_than_can_be_counted(model, count, solve):
    """Sums beyond 2**62 and 2**63."""
    wires = {"model": model, "default": Link(1e5)} if model is InterconnectModel.LINKS else {"model": model}
    source = random.Random(4)
    times = [source.uniform(1, 5) for _ in range(12)]
    values = []
    for need in (1, MAX_BYTES):
        operators = [op(f"o{i}", time, 1) for i, time in enumerate(times)]
        operators += [op(f"m{i}", 0.01, need, colocation_group="m") for i in range(count)]
        tensors = [Edge(f"o{i}", f"o{i + 1}", 37 * (i + 1)) for i in range(11)]
        tensors += [Edge("o0", "m0", 37), Edge("m0", "o5", 100)]
        if model is InterconnectModel.HOST:
            tensors = [replace(tensor, transfer_time_ms=tensor.bytes / 100) for tensor in tensors]
        result = solve(make(operators, tensors, [gpus(4)], wires=wires))
        assert result.status is Status.OPTIMAL
        values.append(result.objective_value)
    assert close(*values)


def test_what_may_move_is_counted_without_overflow(solve):
    operators = [op(f"o{i}", 1.0 + i % 3, 2**52) for i in range(40)]
    chain = [Edge(f"o{i}", f"o{i + 1}", transfer_time_ms=0.1) for i in range(39)]
    previous = {f"o{i}": f"gpu:{i % 30}" for i in range(40)}
    limits = {"previous_placement": previous, "max_moved_bytes": MAX_BYTES}
    instance = make(operators, chain, [gpus(30)], constraints=limits, partition=Partition.FREE)
    result = solve(instance, time_limit_s=3.0)
    assert sum(result.placement[name] != device for name, device in previous.items()) <= 1
