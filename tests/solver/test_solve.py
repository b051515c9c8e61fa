"""The conductor: limits, stopping, repeatability, progress."""

from __future__ import annotations

import random
import threading

import pytest

from solver import host_search
from solver import solve as conductor
from solver.exact import throughput_ideals
from solver.instance import (
    Cluster,
    DeviceSpec,
    Edge,
    Graph,
    Instance,
    Interconnect,
    Objective,
    Operator,
    Partition,
    SolverOptions,
)
from solver.result import Status, StopReason
from tests.patience import wait_until
from tests.small import edges, gpus, make, op, ops

TO_THE_END = SolverOptions(workers=1, seed=0, time_limit_s=250.0)


def hard(partition=Partition.FREE, size=120, seed=1):
    """Placed at once, but far from proved within the time of a test: random costs, many alike devices, tight memory."""
    source = random.Random(seed)
    operators = tuple(Operator(f"o{i}", {"gpu": source.uniform(1, 9)}, source.randint(1, 9)) for i in range(size))
    total = sum(operator.memory_bytes for operator in operators)
    links = tuple(
        Edge(f"o{a}", f"o{i}", tensor=f"t{i}.{a}", transfer_time_ms=source.uniform(0.5, 3))
        for i in range(1, size)
        for a in source.sample(range(max(0, i - 20), i), min(i, 3))
    )
    devices = (DeviceSpec("gpu", "gpu", total // 7, 8),)
    return Instance(Graph(operators, links), Cluster(devices, Interconnect()), Objective(partition=partition))


@pytest.mark.parametrize("partition", Partition)
def test_a_tenth_of_a_second(solve, partition):
    """An answer or none, but never a claim that was not proved."""
    result = solve(hard(partition), time_limit_s=0.1)
    assert result.status in {Status.FEASIBLE, Status.UNKNOWN}
    assert result.stop_reason is StopReason.TIME_LIMIT
    assert result.best_bound > 0


def test_a_moment_is_enough_where_bounds_and_heuristics_meet(solve):
    assert solve(make(ops(a=2.0, b=2.0)), time_limit_s=0.1).status is Status.OPTIMAL


@pytest.mark.parametrize("partition", Partition)
def test_stopped_before_the_start(solve, partition):
    stop = threading.Event()
    stop.set()
    result = solve(hard(partition), stop=stop)
    assert result.status in {Status.FEASIBLE, Status.UNKNOWN}
    assert result.stop_reason is StopReason.CANCELLED


@pytest.mark.parametrize("partition", Partition)
@pytest.mark.parametrize("workers", [1, 2])
def test_stopped_on_the_way(solve, partition, workers):
    """With an hour to go, the test would run into its own limit if the stop were not heard."""
    stop = threading.Event()
    seen = []

    def watch(progress):
        seen.append(progress)
        if progress.placement is not None:
            stop.set()

    result = solve(hard(partition), stop=stop, on_progress=watch, time_limit_s=3600.0, workers=workers)
    assert result.status is Status.FEASIBLE
    assert result.stop_reason is StopReason.CANCELLED
    assert result.placement is not None


def test_stopped_in_the_midst_of_a_model(solve):
    stop = threading.Event()
    timer = threading.Timer(2.0, stop.set)

    def watch(progress):
        if progress.placement is not None and timer.ident is None:
            timer.start()

    result = solve(hard(), stop=stop, on_progress=watch, time_limit_s=3600.0)
    timer.join()
    assert result.status is Status.FEASIBLE
    assert result.stop_reason is StopReason.CANCELLED


def test_infeasible_is_proved_even_when_stopped_at_once(solve):
    stop = threading.Event()
    stop.set()
    assert solve(make([op("a", {})]), stop=stop).status is Status.INFEASIBLE


@pytest.mark.parametrize("partition", Partition)
@pytest.mark.parametrize("seed", [0, 7])
def test_one_worker_and_a_seed_give_the_same_answer_twice(solve, partition, seed):
    instance = hard(partition, size=12, seed=seed)
    first, second = (solve(instance, seed=seed, time_limit_s=250.0) for _ in range(2))
    assert first.status in {Status.OPTIMAL, Status.INFEASIBLE}
    assert first.placement == second.placement
    assert first.best_bound == second.best_bound
    assert first.stages == second.stages


def test_a_gap_may_be_asked_for(solve):
    result = solve(hard(Partition.ACYCLIC), relative_gap=0.9)
    assert result.status is Status.FEASIBLE
    assert result.stop_reason is StopReason.GAP_LIMIT
    assert result.relative_gap <= 0.9


def test_progress_comes_with_placements_and_bounds(solve):
    """With an hour to go, the test would run into its own limit if there were no second placement."""
    steps, values, stop = [], set(), threading.Event()

    def watch(progress):
        steps.append(progress)
        if progress.placement is not None:
            values.add(progress.incumbent.objective_value)
        if len(values) > 1:
            stop.set()

    result = solve(hard(), on_progress=watch, stop=stop, time_limit_s=3600.0)
    assert steps[-1].incumbent.objective_value == result.objective_value
    assert steps[-1].incumbent.best_bound == result.best_bound
    assert result.objective_value == min(values) < max(values)


def test_an_observer_that_fails_is_heard():
    """Its error reaches the caller, rather than a solver thread's log."""

    def fail(_):
        raise LookupError

    with pytest.raises(LookupError):
        conductor.solve(make(ops(a=1.0, b=2.0)), on_progress=fail)


def test_the_report_tells_how_to_repeat_it(solve):
    result = solve(make(ops(a=2.0, b=3.0), edges(ab=0.5)), seed=5)
    report = result.solver
    assert (report.seed, report.workers) == (5, 1)
    assert report.found_by in report.methods
    assert report.proved_by in report.methods
    assert set(report.versions) >= {"placewright", "ortools", "python"}
    assert set(result.timings_s) >= {"validate", "reduce", "heuristics", "solve", "verify"}
    assert all(seconds >= 0 for seconds in result.timings_s.values())


def test_a_method_that_lies_is_distrusted_and_its_claim_not_used(monkeypatch):
    """A bound above a verified placement: the answer stands, the claim does not."""
    monkeypatch.setattr(host_search, "bound_period", lambda _: 100.0)
    result = conductor.solve(make(ops(a=2.0, b=3.0), edges(ab=0.5)))
    assert "bounds" in result.solver.distrusted
    assert result.solver.proved_by != "bounds"
    assert result.objective_value == 3.5
    assert result.best_bound <= 3.5


def test_alike_devices_are_numbered_along_the_pipeline(solve):
    result = solve(make(ops(a=2.0, b=2.0, c=2.0), edges(ab=0.1, bc=0.1), [gpus(3)]))
    assert result.placement == {"a": "gpu:0", "b": "gpu:1", "c": "gpu:2"}


def test_a_bound_of_an_earlier_search_counts_unless_a_placement_contradicts_it(solve):
    instance = hard(Partition.FREE, size=12, seed=3)
    best = solve(instance)
    again = conductor.solve(instance, TO_THE_END, hint=best.placement, bound=best.best_bound)
    assert (again.status, again.solver.proved_by) == (Status.OPTIMAL, "earlier search")
    distrusting = conductor.solve(instance, TO_THE_END, hint=best.placement, bound=2 * best.objective_value)
    assert distrusting.solver.distrusted == ("earlier search",)
    assert distrusting.best_bound <= best.objective_value


def test_a_hint_is_a_start_and_a_bad_one_does_no_harm(solve):
    instance = hard(Partition.FREE, size=12, seed=3)
    best = solve(instance)
    for hint in (best.placement, {}, {"o0": "nowhere"}, dict.fromkeys(best.placement, "gpu:0")):
        for workers in (1, 2):
            result = conductor.solve(instance, SolverOptions(workers=workers, time_limit_s=600.0), hint=hint)
            assert (result.status, result.solver.proved_by) == (Status.OPTIMAL, "assignment")
            assert result.objective_value == best.objective_value


@pytest.mark.parametrize("partition", Partition)
def test_a_stop_is_heard_within_one_ideal_too(solve, monkeypatch, partition):
    """Sparse and wide: the ideals that a first stage can lead to take seconds to list. Here none is listed."""
    source = random.Random(7)
    operators = tuple(Operator(f"o{i}", {"gpu": source.uniform(1, 10)}, source.randrange(1000)) for i in range(120))
    pairs = {(source.randrange(i), i): source.uniform(0.1, 3) for i in range(1, 120) for _ in range(2)}
    time_ms = {a: time for (a, _), time in reversed(pairs.items())}
    links = tuple(Edge(f"o{a}", f"o{i}", transfer_time_ms=time_ms[a]) for a, i in pairs)
    cluster = Cluster((DeviceSpec("gpu", "gpu", count=7),))
    instance = Instance(Graph(operators, links), cluster, Objective(partition=partition))
    stop, listed, explore = threading.Event(), [], throughput_ideals.explore

    def explore_when_stopped(*arguments):
        stop.set()
        *_, table, _max_steps, flag = arguments
        assert wait_until(lambda: flag[0])
        code = explore(*arguments)
        listed.append(int(table.cursor[0]))
        return code

    monkeypatch.setattr(throughput_ideals, "explore", explore_when_stopped)
    result = solve(instance, stop=stop, time_limit_s=3600.0)
    assert result.stop_reason is StopReason.CANCELLED
    assert set(listed) == {1}  # the empty one, where it starts


def test_no_more_devices_count_than_there_are_operators(solve):
    result = solve(make(ops(a=2.0, b=3.0, c=4.0), edges(ab=0.5, bc=0.5), [gpus(65_535)]))
    assert (result.status, result.objective_value) == (Status.OPTIMAL, 4.5)


@pytest.mark.parametrize("partition", Partition)
def test_one_device_only(solve, partition):
    result = solve(make(ops(a=0.1, b=0.2, c=0.3), edges(ab=9.0, bc=9.0), [gpus(1)], partition=partition))
    assert result.objective_value == pytest.approx(0.6, rel=1e-12)
    assert result.status is Status.OPTIMAL


@pytest.mark.parametrize("partition", Partition)
def test_one_operator_and_a_thousand_devices(solve, partition):
    assert solve(make(ops(a=1.0), (), [gpus(1024)], partition=partition)).status is Status.OPTIMAL
