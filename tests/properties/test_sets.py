"""What convex and free partitions are searched with: cheapest sets, annealing, neighbourhoods, against enumeration."""

from __future__ import annotations

import dataclasses
import itertools
import threading

import pytest

from solver.cases import search_cases
from solver.compiled import compile_instance
from solver.exact import cheapest_sets
from solver.exact.leading_items import divide_leading_items
from solver.formulations import cpsat
from solver.formulations.throughput_bottleneck_highs import supports as is_uniform
from solver.formulations.throughput_cases_highs import solve_case
from solver.formulations.throughput_neighbourhood_cpsat import NeighbourhoodModel
from solver.heuristics import annealing
from solver.instance import (
    Cluster,
    DeviceSpec,
    Graph,
    Instance,
    Objective,
    Operator,
    Overlap,
    Partition,
    PipelineSchedule,
    SolverOptions,
)
from solver.reductions import reduce_instance
from solver.search import Search
from solver.verification import verify
from tests.depth import chunks
from tests.properties.enumeration import enumerate_optimum
from tests.properties.instances import random_instance

ROUNDING = 1e-9


def with_rules(seed, partition, **changes):
    instance = random_instance(seed)
    objective = dataclasses.replace(instance.objective, partition=partition, schedule=PipelineSchedule.ONE_F_ONE_B)
    interconnect = dataclasses.replace(instance.cluster.interconnect, **changes)
    cluster = dataclasses.replace(instance.cluster, interconnect=interconnect)
    return dataclasses.replace(instance, objective=objective, cluster=cluster)


def without_limits(instance):
    """Every device with room for everything, so that memory does not bind."""
    devices = tuple(dataclasses.replace(spec, memory_bytes=None) for spec in instance.cluster.devices)
    return dataclasses.replace(instance, cluster=dataclasses.replace(instance.cluster, devices=devices))


def values_of_all_assignments(instance, compiled):
    """Every valid placement that keeps the items together, with its value."""
    devices = [(k, n) for k, c in enumerate(compiled.classes) for n in range(c.count)]
    for assignment in itertools.product(devices, repeat=compiled.num_items):
        verification = verify(instance, compiled.placement(assignment))
        if not verification.violations and verification.objective_value is not None:
            yield verification.objective_value, assignment


@pytest.mark.parametrize("chunk", chunks(3))
def test_uniting_cheapest_sets_keeps_the_optimum(chunk):
    num_united = 0
    for seed in range(160 * chunk, 160 * chunk + 160):
        instance = without_limits(with_rules(seed, Partition.FREE, overlap=Overlap.NONE))
        compiled = reduce_instance(compile_instance(instance), Partition.FREE)
        optimum = enumerate_optimum(instance)[0]
        if not optimum or not cheapest_sets.supports(compiled):
            continue
        for known in (optimum, 1.5 * optimum):
            united, loss_ms = cheapest_sets.unite_cheapest_sets(compiled, known, lambda: False)
            if united.num_items == compiled.num_items:
                continue
            num_united += 1
            best = min(value for value, _ in values_of_all_assignments(instance, united))
            assert best <= optimum * (1 + ROUNDING) + loss_ms, seed
    assert num_united > 10


def test_cheapest_sets_are_not_united_where_the_argument_fails():
    overlapping = with_rules(3, Partition.FREE, overlap=Overlap.FULL)
    assert not cheapest_sets.supports(compile_instance(overlapping))


@pytest.mark.parametrize("chunk", chunks(4))
def test_annealing_meets_its_target_and_mostly_the_optimum(chunk):
    met = tried = 0
    for seed in range(60 * chunk, 60 * chunk + 60):
        instance = with_rules(seed, Partition.FREE)
        compiled = reduce_instance(compile_instance(instance), Partition.FREE)
        optimum = enumerate_optimum(instance)[0]
        if not optimum or not annealing.supports(compiled):
            continue
        start = max(itertools.islice(values_of_all_assignments(instance, compiled), 50))
        best = start[0]
        tried += 1
        for assignment in annealing.anneal(
            compiled,
            list(start[1]),
            target=lambda: best * (1 - 1e-9),  # noqa: B023  asked at once
            seed=seed,
            expired=lambda: best <= optimum * (1 + ROUNDING),  # noqa: B023
            num_rounds=1,
        ):
            verification = verify(instance, compiled.placement(assignment))
            assert verification.violations == (), seed
            assert verification.objective_value <= best * (1 + ROUNDING), seed
            assert verification.objective_value >= optimum * (1 - ROUNDING), seed
            best = min(best, verification.objective_value)
        met += best <= optimum * (1 + 1e-6)
    assert met > 0.8 * tried > 8


@pytest.mark.parametrize("partition", [Partition.CONVEX, Partition.FREE])
@pytest.mark.parametrize("chunk", chunks(2))
def test_a_neighbourhood_of_all_devices_is_the_instance(partition, chunk):
    tried = 0
    for seed in range(30 * chunk, 30 * chunk + 30):
        instance = with_rules(seed, partition)
        compiled = reduce_instance(compile_instance(instance), partition)
        optimum = enumerate_optimum(instance)[0]
        start = next(values_of_all_assignments(instance, compiled), None)
        if start is None or compiled.num_devices < 2:
            continue
        tried += 1
        value, current = start
        for size in (2, compiled.num_devices):
            devices = [(k, n) for k, c in enumerate(compiled.classes) for n in range(c.count)][:size]
            model = NeighbourhoodModel(compiled, value, current, devices)
            model.hint(current)
            found = [current]
            cpsat.run(model, cpsat.RunOptions(30.0, 1, 0, presolve=False), found.append, lambda _: None, lambda: False)
            verification = verify(instance, compiled.placement(found[-1]))
            assert verification.violations == (), seed
            for item, home in enumerate(current):
                assert found[-1][item] == home or home in devices, seed
        assert verification.objective_value <= optimum * (1 + 1e-6), seed
    assert tried > 5


@pytest.mark.parametrize("chunk", range(4))
def test_the_cases_of_the_leading_items_hold_the_optimum(chunk):
    """From a known period that can be beaten the search through all cases ends at the optimum, with a proof of it."""
    num_divided = 0
    for seed in range(100 * chunk, 100 * chunk + 100):
        instance = random_instance(seed)
        compiled = reduce_instance(compile_instance(instance), instance.objective.partition)
        optimum = enumerate_optimum(instance)[0]
        if not optimum or instance.objective.partition is not Partition.FREE or not is_uniform(compiled):
            continue
        cases = divide_leading_items(compiled, 1.5 * optimum, lambda: False)
        if cases is None:
            continue
        num_divided += 1
        assert min(case.bound_ms for case in cases) <= optimum * (1 + ROUNDING), seed
        search = Search(instance, SolverOptions(time_limit_s=60, workers=1), None, threading.Event())
        search.offer(worst_placement(instance, compiled, 1.5 * optimum), "test")
        search_cases(search, compiled, cases, 0.0, lambda: False)
        assert search.objective_value == pytest.approx(optimum, rel=2e-5), seed
        assert search.best_bound == pytest.approx(optimum, rel=1e-4), seed
        assert not search.distrusted, seed
    assert num_divided > 5


def test_cases_leave_room_on_hosts_for_the_other_items():
    """Here the optimum has an item that a host could take between the leading ones, on a device of its own."""
    times = {"x": {"gpu": 7.0, "cpu": 8.0}, "l": {"gpu": 6.0}, "m": {"gpu": 2.0}, "h": {"cpu": 8.5}}
    instance = Instance(
        Graph(tuple(Operator(name, compute) for name, compute in times.items())),
        Cluster((DeviceSpec("gpu", "gpu", count=2), DeviceSpec("cpu", "cpu", is_host=True))),
        Objective(partition=Partition.FREE),
    )
    compiled = compile_instance(instance)
    cases = divide_leading_items(compiled, 9.0, lambda: False)
    assert {frozenset(map(frozenset, case.groups)) for case in cases} == {
        frozenset({frozenset({1, 2})}),
        frozenset({frozenset({1}), frozenset({2})}),
    }
    outcomes = [solve_case(compiled, 9.0, case.groups, 10.0, lambda: False) for case in cases]
    values = [verify(instance, compiled.placement(outcome.assignment)).objective_value for outcome in outcomes]
    assert min(values) == 8.5 == enumerate_optimum(instance)[0]
    assert min(outcome.bound_ms for outcome in outcomes) <= 8.5


def worst_placement(instance, compiled, limit_ms):
    """The worst placement that is better than ``limit_ms``."""
    values = [pair for pair in values_of_all_assignments(instance, compiled) if pair[0] < limit_ms]
    return compiled.placement(max(values)[1])
