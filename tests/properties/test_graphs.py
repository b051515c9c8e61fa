"""Methods against each other, and against enumeration, on the shapes that networks have."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from solver import host_search
from solver.instance import Objective, Partition, PipelineSchedule
from solver.result import Status
from tests.properties.enumeration import close, enumerate_optimum
from tests.properties.graphs import SHAPES, mirrored, shaped

LARGE = [shape for shape in SHAPES if shape != "fork"]
TIMES = {
    "plain": lambda source: source.uniform(0.5, 5),
    "ties": lambda source: source.choice([1.0, 2.0]),
    "with nothing": lambda source: source.choice([0.0, 0.0, 1.0, 3.0]),
    "wild": lambda source: 10 ** source.uniform(-9, 12),
}


@pytest.fixture
def by_ideals(monkeypatch, solve):
    """Acyclic pipelines proved without any model."""

    def run(instance):
        monkeypatch.setattr(host_search, "is_modelled", lambda _: False)
        result = solve(instance)
        monkeypatch.undo()
        assert result.solver.proved_by != "ladder"
        return result

    return run


@pytest.fixture
def by_ladder(monkeypatch, solve):
    """Acyclic pipelines proved by the model alone."""

    def run(instance):
        monkeypatch.setattr(host_search, "supports", lambda _: False)
        result = solve(instance, time_limit_s=120.0)
        monkeypatch.undo()
        assert result.solver.proved_by != "ideals"
        return result

    return run


@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("times", TIMES)
def test_ideals_and_ladder_agree(shape, times, by_ideals, by_ladder):
    for seed in range(3):
        instance = shaped(shape, seed, times=TIMES[times], host=seed == 1)
        one, other = by_ideals(instance), by_ladder(instance)
        assert one.status is other.status is Status.OPTIMAL, seed
        assert close(one.objective_value, other.objective_value, 2e-6), seed


@pytest.mark.parametrize("shape", LARGE)
def test_ideals_and_ladder_agree_when_memory_is_tight(shape, by_ideals, by_ladder):
    statuses = set()
    for seed in range(8):
        instance = shaped(shape, seed, room=random.Random(seed).uniform(1.0, 1.2))
        one, other = by_ideals(instance), by_ladder(instance)
        assert one.status is other.status, seed
        statuses.add(one.status)
        if one.status is Status.OPTIMAL:
            assert close(one.objective_value, other.objective_value, 2e-6), seed
    assert Status.OPTIMAL in statuses


@pytest.mark.parametrize("schedule", PipelineSchedule)
@pytest.mark.parametrize("shape", LARGE)
def test_ideals_and_ladder_agree_on_training_graphs(shape, schedule, by_ideals, by_ladder):
    for seed, times in enumerate(TIMES if schedule is PipelineSchedule.GPIPE else ["plain"] * 3):
        room = 2.3 if seed == 3 else None  # Twice as much is to be held.
        instance = mirrored(shaped(shape, seed, times=TIMES[times], host=seed == 2, room=room), seed)
        instance = replace(instance, objective=Objective(schedule=schedule))
        one, other = by_ideals(instance), by_ladder(instance)
        assert one.status is other.status is Status.OPTIMAL, seed
        assert close(one.objective_value, other.objective_value, 2e-6), seed


@pytest.mark.parametrize("gathers", [False, True])
@pytest.mark.parametrize("schedule", PipelineSchedule)
def test_small_training_graphs_equal_enumeration(solve, gathers, schedule):
    """With backward operators that belong to a forward one and others that may sit anywhere."""
    for seed in range(6):
        instance = mirrored(shaped("fork", seed, num_devices=2, host=True), seed, twins=0.7, gathers=gathers)
        for partition in Partition:
            variant = replace(instance, objective=Objective(partition=partition, schedule=schedule))
            optimum, _ = enumerate_optimum(variant)
            result = solve(variant)
            assert result.status is Status.OPTIMAL, (seed, partition)
            assert close(result.objective_value, optimum), (seed, partition)


@pytest.mark.parametrize("gathers", [False, True])
def test_rules_are_ordered_on_training_graphs(solve, gathers):
    """free ≤ convex ≤ acyclic, in values and in bounds."""
    for shape in LARGE:
        instance = mirrored(shaped(shape, 5), 5, twins=0.8, gathers=gathers)
        results = [
            solve(replace(instance, objective=Objective(partition=partition)), time_limit_s=0.2)
            for partition in (Partition.FREE, Partition.CONVEX, Partition.ACYCLIC)
        ]
        for index, looser in enumerate(results):
            for stricter in results[index:]:
                if stricter.placement is not None:  # there was time for one
                    assert looser.best_bound <= stricter.objective_value * (1 + 1e-9), shape
