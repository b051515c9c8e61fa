"""The frontier against enumeration: every point, every bound, nothing left out."""

from __future__ import annotations

import itertools
import math
import threading
from dataclasses import replace

import pytest

from solver.cost_levels import CostLevels
from solver.errors import InvalidInstance
from solver.frontier import sweep
from solver.instance import Cluster, Constraints, DeviceSpec, ObjectiveKind, SolverOptions
from solver.result import Status, SweepStopReason
from solver.verification import verify
from tests.depth import chunks
from tests.properties.clusters import random_cluster_instance
from tests.properties.enumeration import close, cost, is_feasible, period
from tests.small import edges, gpus, make, op, ops

OPTIONS = SolverOptions(time_limit_s=60, workers=1)
ROUNDING = 1e-6


def priced(seed):
    """A random instance on which every device has a price; two in three are free of limits, for longer frontiers."""
    instance = random_cluster_instance(seed)
    devices = tuple(
        spec if spec.cost_per_hour is not None else replace(spec, cost_per_hour=(0.0, 0.3, 0.7)[seed % 3])
        for spec in instance.cluster.devices
    )
    constraints = Constraints() if seed % 3 else instance.constraints
    return replace(instance, cluster=replace(instance.cluster, devices=devices), constraints=constraints)


def enumerate_worths(instance):
    """(cost, period) of every feasible placement."""
    operators = [operator.id for operator in instance.graph.operators]
    for choice in itertools.product(instance.cluster.expand(), repeat=len(operators)):
        placement = dict(zip(operators, choice, strict=True))
        if is_feasible(instance, placement):
            yield cost(set(choice)), period(instance, placement)


def pareto(worths):
    front = []
    for price, time in sorted(worths):
        if not front or time < front[-1][1] * (1 - ROUNDING):
            if front and price <= front[-1][0] * (1 + ROUNDING):
                front.pop()
            front.append((price, time))
    return front


def check(instance, frontier, worths):
    """What holds of every sweep, finished or not: placements are worth what is said, and nothing lies below a bound."""
    for point in frontier.points:
        for kind, value in ((ObjectiveKind.THROUGHPUT, point.period_ms), (ObjectiveKind.COST, point.cost_per_hour)):
            judged = replace(instance, objective=replace(instance.objective, kind=kind))
            verification = verify(judged, point.placement)
            assert verification.violations == ()
            assert verification.objective_value == value
        for price, time in worths:
            assert price > point.cost_per_hour * (1 + 1e-9) or time >= point.period_bound_ms * (1 - 1e-9)
            assert time > point.period_ms * (1 + 1e-9) or price >= point.cost_bound_per_hour * (1 - 1e-9)
    for one, other in itertools.pairwise(frontier.points):
        assert one.cost_per_hour < other.cost_per_hour
        assert one.period_ms > other.period_ms
    for bound in frontier.bounds:
        least = math.inf if bound.least_period_ms is None else bound.least_period_ms
        for price, time in worths:
            assert price > bound.max_cost_per_hour * (1 + 1e-9) or time >= least * (1 - 1e-9)
    if frontier.status is Status.OPTIMAL:
        assert all(point.status is Status.OPTIMAL for point in frontier.points)


@pytest.mark.parametrize("chunk", chunks(4))
def test_frontier_equals_enumeration(chunk):
    for seed in range(chunk * 10, chunk * 10 + 10):
        instance = priced(seed)
        worths = list(enumerate_worths(instance))
        frontier = sweep(instance, OPTIONS)
        check(instance, frontier, worths)
        assert frontier.stop_reason is SweepStopReason.PROVED, seed
        if not worths:
            assert frontier.status is Status.INFEASIBLE, seed
            assert frontier.infeasibility, seed
            continue
        assert frontier.status is Status.OPTIMAL, seed
        expected = pareto(worths)
        assert len(frontier.points) == len(expected), seed
        for point, (price, time) in zip(frontier.points, expected, strict=True):
            assert close(point.cost_per_hour, price), seed
            assert point.period_ms == pytest.approx(time, rel=ROUNDING), seed


def test_the_random_frontiers_have_several_points():
    """Else the test above could pass by looking away."""
    sizes = [len(pareto(enumerate_worths(priced(seed)))) for seed in range(60)]
    assert sizes.count(0) >= 3
    assert sum(size >= 3 for size in sizes) >= 10


def two_generations(**constraints):
    return make(
        [op(name, {"new": 1.0, "old": 2.5}) for name in "abcdef"],
        edges(ab=0.1, bc=0.1, cd=0.1, de=0.1, ef=0.1),
        [DeviceSpec("new", "new", None, 2, cost_per_hour=4.0), DeviceSpec("old", "old", None, 3, cost_per_hour=1.0)],
        constraints=constraints,
    )


def test_a_sweep_of_few_points_has_both_ends_and_true_bounds():
    instance = two_generations()
    whole = sweep(instance, OPTIONS)
    few = sweep(instance, OPTIONS, max_points=2)
    check(instance, few, list(enumerate_worths(instance)))
    assert len(few.points) < len(whole.points)
    assert few.num_searches < whole.num_searches
    assert (few.status, few.stop_reason) == (Status.FEASIBLE, SweepStopReason.POINTS_LIMIT)
    assert few.points[-1].period_ms == pytest.approx(whole.points[-1].period_ms)


def test_the_limits_of_the_request_hold_for_every_point():
    frontier = sweep(two_generations(max_cost_per_hour=5.0, max_period_ms=8.0), OPTIONS)
    assert frontier.status is Status.OPTIMAL
    assert frontier.points
    assert all(point.cost_per_hour <= 5.0 and point.period_ms <= 8.0 for point in frontier.points)
    impossible = sweep(two_generations(max_cost_per_hour=0.5), OPTIONS)
    assert (impossible.status, impossible.points) == (Status.INFEASIBLE, ())
    assert impossible.infeasibility


def test_a_cancelled_sweep_keeps_what_it_has():
    stop, seen = threading.Event(), []

    def cancel(progress):
        seen.append(progress)
        stop.set()

    instance = two_generations()
    frontier = sweep(instance, OPTIONS, stop=stop, on_progress=cancel)
    assert len(seen) == frontier.num_searches == 1
    assert frontier.points == seen[-1].points != ()
    assert (frontier.status, frontier.stop_reason) == (Status.FEASIBLE, SweepStopReason.CANCELLED)
    check(instance, frontier, list(enumerate_worths(instance)))


def test_a_sweep_without_time_claims_nothing():
    instance = two_generations()
    frontier = sweep(instance, replace(OPTIONS, time_limit_s=1e-3))
    assert frontier.status is not Status.INFEASIBLE
    check(instance, frontier, list(enumerate_worths(instance)))


def test_devices_without_a_price_are_named():
    devices = (gpus(), DeviceSpec("old", "gpu", cost_per_hour=1.0), DeviceSpec("cpu", "cpu", is_host=True))
    with pytest.raises(InvalidInstance) as caught:
        sweep(make(ops(a=1), devices=devices), OPTIONS)
    assert [(issue.code, issue.pointer) for issue in caught.value.issues] == [
        ("missing_cost", "/cluster/devices/0/cost_per_hour"),
        ("missing_cost", "/cluster/devices/2/cost_per_hour"),
    ]
    assert "'gpu'" in caught.value.issues[0].message


def test_levels_are_all_sums_of_prices_even_when_dealt_with_in_ranges(monkeypatch):
    cluster = Cluster((gpus(5, cost_per_hour=0.1), DeviceSpec("b", "b", count=3, cost_per_hour=0.7)))
    sums = sorted({round(0.1 * i + 0.7 * j, 6) for i in range(6) for j in range(4)})
    exact = CostLevels(cluster, math.inf)
    assert exact.floors == pytest.approx(sums)
    assert exact.tops == pytest.approx(sums)
    assert [exact.index(value) for value in sums] == list(range(len(sums)))
    monkeypatch.setattr("solver.cost_levels.MAX_LEVELS", 6)
    coarse = CostLevels(cluster, math.inf)
    assert len(coarse) <= 6
    for value in sums:
        level = coarse.index(value)
        assert coarse.floors[level] <= value * (1 + 1e-9)
        assert value <= coarse.tops[level] * (1 + 1e-9)


def test_coarse_levels_still_give_true_points_and_bounds(monkeypatch):
    monkeypatch.setattr("solver.cost_levels.MAX_LEVELS", 3)
    for seed in range(20):
        instance = replace(priced(seed), constraints=Constraints())
        check(instance, sweep(instance, OPTIONS), list(enumerate_worths(instance)))
