"""The ledger of a search: what is offered, claimed, believed and told."""

from __future__ import annotations

import threading
import time

import pytest

from solver.instance import SolverOptions
from solver.result import Status, StopReason, relative_gap
from solver.search import Search
from tests.small import edges, make, ops

INSTANCE = make(ops(a=2.0, b=3.0), edges(ab=0.5))
SPREAD = {"a": "gpu:0", "b": "gpu:1"}
TOGETHER = {"a": "gpu:0", "b": "gpu:0"}
"""Worth 3.5 and 5."""


def start(**options):
    told = []
    return Search(INSTANCE, SolverOptions(**options), told.append, threading.Event()), told


def test_nothing_is_known_at_first():
    search, told = start()
    assert search.objective_value is None
    assert search.best_bound == 0.0
    assert not search.closed
    assert not search.over
    assert told == []
    assert search.conclude() == (Status.UNKNOWN, StopReason.TIME_LIMIT)


def test_better_placements_replace_worse_ones():
    search, told = start()
    assert search.offer(TOGETHER, "first")
    assert search.offer(SPREAD, "second")
    assert not search.offer(TOGETHER, "third")
    assert not search.offer(dict(SPREAD), "fourth")
    assert (search.objective_value, search.placement, search.found_by) == (3.5, SPREAD, "second")
    assert [(p.incumbent.objective_value, p.incumbent.found_by, p.placement) for p in told] == [
        (5.0, "first", TOGETHER),
        (3.5, "second", SPREAD),
    ]
    assert [incumbent.objective_value for incumbent in search.incumbents] == [5.0, 3.5]
    assert search.rejected == {}


@pytest.mark.parametrize("placement", [{}, {"a": "gpu:0"}, {"a": "gpu", "b": "gpu:0"}, {**SPREAD, "z": "gpu:0"}])
def test_placements_that_the_verifier_refuses_are_counted_and_not_used(placement):
    search, told = start()
    assert not search.offer(placement, "careless")
    assert not search.offer(placement, "careless")
    assert search.rejected == {"careless": 2}
    assert search.placement is None
    assert told == []


def test_bounds_only_rise():
    search, told = start()
    search.claim_bound(1.0, "one")
    search.claim_bound(2.0, "other")
    search.claim_bound(1.5, "one")
    search.claim_bound(1.0, "other")
    assert search.best_bound == 2.0
    assert search.proved_by == "other"
    assert [step.incumbent.best_bound for step in told] == [1.0, 2.0]


def test_closing_the_gap_ends_the_search():
    search, _ = start()
    search.offer(SPREAD, "finder")
    search.claim_bound(3.5 * (1 - 1e-7), "prover")
    assert search.closed
    assert search.over
    assert search.conclude() == (Status.OPTIMAL, StopReason.PROVED)


def test_a_gap_of_a_hundredth_is_not_optimal():
    search, _ = start()
    search.offer(SPREAD, "finder")
    search.claim_bound(3.5 * 0.99, "prover")
    assert not search.closed
    search.options = SolverOptions(relative_gap=0.02)
    assert search.closed
    assert search.conclude() == (Status.FEASIBLE, StopReason.GAP_LIMIT)


@pytest.mark.parametrize("claimed_first", [True, False])
def test_a_method_contradicted_by_a_placement_is_distrusted_altogether(claimed_first):
    """All it ever claimed is set aside, and what others claimed holds again."""
    search, _ = start()
    search.claim_bound(1.0, "honest")
    if claimed_first:
        search.claim_bound(2.0, "liar")
        search.claim_bound(3.6, "liar")
        search.offer(SPREAD, "finder")
    else:
        search.offer(SPREAD, "finder")
        search.claim_bound(2.0, "liar")
        search.claim_bound(3.6, "liar")
    assert search.distrusted == {"liar"}
    assert search.best_bound == 1.0
    assert search.proved_by == "honest"
    search.claim_bound(3.4, "liar")
    assert search.best_bound == 1.0
    assert not search.closed
    assert search.conclude()[0] is Status.FEASIBLE


def test_only_the_contradicted_are_distrusted():
    search, _ = start()
    search.claim_bound(3.4, "honest")
    search.claim_bound(4.0, "liar")
    search.claim_bound(9.0, "braggart")
    search.offer(TOGETHER, "finder")
    assert search.distrusted == {"braggart"}
    assert search.best_bound == 4.0
    search.offer(SPREAD, "finder")
    assert search.distrusted == {"braggart", "liar"}
    assert search.best_bound == 3.4


def test_rounding_is_no_contradiction_and_no_bound_exceeds_a_value():
    search, _ = start()
    search.offer(SPREAD, "finder")
    search.claim_bound(3.5 * (1 + 1e-12), "prover")
    assert search.distrusted == set()
    assert search.best_bound == 3.5
    assert relative_gap(search.objective_value, search.best_bound) == 0.0


def test_being_stopped_is_told_from_running_out_of_time():
    search, _ = start()
    search.stop.set()
    assert search.over
    assert search.conclude() == (Status.UNKNOWN, StopReason.CANCELLED)
    search, _ = start(time_limit_s=1e-9)
    assert search.over
    assert search.remaining_s == 0.0
    search.offer(SPREAD, "finder")
    assert search.conclude() == (Status.FEASIBLE, StopReason.TIME_LIMIT)


def test_a_proof_counts_also_when_it_comes_with_the_stop():
    search, _ = start()
    search.offer(SPREAD, "finder")
    search.claim_bound(3.5, "prover")
    search.stop.set()
    assert search.conclude() == (Status.OPTIMAL, StopReason.PROVED)


def test_thousands_of_bounds_leave_few_traces():
    search, told = start()
    search.offer(SPREAD, "finder")
    for step in range(1000):
        search.claim_bound(step / 1000, "prover")
    assert len(told) == 1000
    assert len(search.incumbents) == 2
    assert search.incumbents[0].objective_value == 3.5
    assert search.incumbents[-1].best_bound == 0.999


def test_a_method_beside_that_finds_no_memory_ends_the_search_and_nothing_else():
    search, _ = start()
    search.offer(TOGETHER, "first")

    def fail(error):
        raise error

    search.beside(lambda: fail(MemoryError()), "large").join(60)
    assert search.over
    assert search.conclude() == (Status.FEASIBLE, StopReason.MEMORY_LIMIT)
    with pytest.raises(ZeroDivisionError):
        search.beside(lambda: fail(ZeroDivisionError()), "faulty").join(60)


def test_methods_left_behind_learn_that_the_answer_is_given():
    search, _ = start()
    assert not search.over
    search.seal()
    assert search.over


def test_many_threads_at_once():
    search, told = start()
    placements = [TOGETHER, SPREAD, {"a": "gpu:1", "b": "gpu:0"}, {}]

    def work(number):
        for step in range(50):
            search.offer(placements[(number + step) % 4], f"m{number}")
            search.claim_bound(step / 50, f"m{number}")
            time.sleep(0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert search.objective_value == 3.5
    assert search.best_bound == 49 / 50
    values = [step.incumbent.objective_value for step in told if step.incumbent.objective_value is not None]
    assert values == sorted(values, reverse=True)
    bounds = [step.incumbent.best_bound for step in told]
    assert bounds == sorted(bounds)


@pytest.mark.parametrize(
    ("value", "bound", "gap"),
    [(None, 1.0, None), (1.0, None, None), (0.0, 0.0, 0.0), (2.0, 1.0, 0.5), (2.0, 2.0, 0.0), (2.0, 0.0, 1.0)],
)
def test_relative_gap(value, bound, gap):
    assert relative_gap(value, bound) == gap
