"""Whenever a search ends, what it says is true: the answers are checked by the ``solve`` fixture."""

from __future__ import annotations

import math
import random
import threading
from dataclasses import replace

import pytest

from benchmarks.synthetic import transformer
from solver.instance import Objective, Partition, PipelineSchedule
from solver.result import Status, StopReason
from tests.properties.enumeration import check_optimum
from tests.properties.graphs import SHAPES, mirrored, shaped
from tests.properties.instances import random_instance, with_extreme_costs
from tests.small import gpus, host, make, op, ops

ENDED_EARLY = {StopReason.TIME_LIMIT, StopReason.PROVED}


def some_graph(seed, partition):
    """Small and large, with and without a backward part, with memory that is plentiful, tight or too little."""
    source = random.Random(seed)
    schedule = source.choice([PipelineSchedule.ONE_F_ONE_B, PipelineSchedule.ONE_F_ONE_B, PipelineSchedule.GPIPE])
    if source.random() < 0.25:
        instance = transformer(source.randint(2, 12), source.randint(2, 16), seed=seed)
    else:
        shape = source.choice(list(SHAPES))
        instance = shaped(shape, seed, room=source.choice([None, 0.9, 1.1, 1.5]), host=source.random() < 0.3)
        if source.random() < 0.5:
            instance = mirrored(instance, seed, twins=source.choice([1.0, 0.8]), gathers=source.random() < 0.5)
    return replace(instance, objective=Objective(partition=partition, schedule=schedule))


@pytest.mark.parametrize("partition", Partition)
def test_a_tenth_of_a_second(solve, partition):
    for seed in range(25):
        result = solve(some_graph(seed, partition), time_limit_s=0.1)
        assert result.stop_reason in ENDED_EARLY, seed


@pytest.mark.parametrize("partition", Partition)
def test_a_second(solve, partition):
    for seed in range(100, 108):
        result = solve(some_graph(seed, partition), time_limit_s=1.0, workers=1 + seed % 2)
        assert result.stop_reason in ENDED_EARLY, seed


@pytest.mark.parametrize("partition", Partition)
def test_cancelled_at_any_moment(solve, partition):
    """With an hour to go, the test would run into its own limit if one cancellation were not heard."""
    for seed in range(200, 215):
        stop = threading.Event()
        timer = threading.Timer(random.Random(seed).choice([0.0, 0.01, 0.05, 0.2, 0.5, 1.0]), stop.set)
        timer.start()
        result = solve(some_graph(seed, partition), stop=stop, time_limit_s=3600.0, workers=1 + seed % 2)
        timer.cancel()
        assert result.stop_reason in {StopReason.CANCELLED, StopReason.PROVED}, seed


@pytest.mark.parametrize("partition", Partition)
def test_costs_from_1e_minus_9_to_1e12_equal_enumeration(solve, partition):
    for seed in range(36):
        instance = random_instance(seed)
        instance = with_extreme_costs(replace(instance, objective=Objective(partition=partition)), seed)
        check_optimum(instance, solve(instance), seed)


@pytest.mark.parametrize("partition", Partition)
@pytest.mark.parametrize("schedule", PipelineSchedule)
def test_one_operator(solve, partition, schedule):
    for time in (0.0, 1e-9, 1.0, 1e12):
        result = solve(make([op("a", time)], (), [gpus(3), host()], partition=partition, schedule=schedule))
        assert result.status is Status.OPTIMAL
        assert result.objective_value == time


@pytest.mark.parametrize("partition", Partition)
def test_more_devices_than_operators(solve, partition):
    result = solve(make(ops(a=1.0, b=2.0, c=4.0), (), [gpus(500)], partition=partition))
    assert result.status is Status.OPTIMAL
    assert result.objective_value == 4.0


@pytest.mark.parametrize("partition", Partition)
def test_all_costs_nothing(solve, partition):
    for shape in SHAPES:
        instance = mirrored(shaped(shape, 1, times=lambda _: 0.0), 1, twins=0.5, gathers=True)
        result = solve(replace(instance, objective=Objective(partition=partition)))
        assert (result.status, result.objective_value, result.best_bound) == (Status.OPTIMAL, 0.0, 0.0)


@pytest.mark.parametrize("partition", Partition)
def test_memory_that_just_fits_and_one_byte_less(solve, partition):
    """Three devices for nine operators of three sizes: 3 + 5 + 7 bytes each, or nothing fits."""
    sizes = [3, 5, 7] * 3
    operators = [op(f"o{index}", 1.0, memory_bytes=size) for index, size in enumerate(sizes)]
    for room, status in ((15, Status.OPTIMAL), (14, Status.INFEASIBLE)):
        result = solve(make(operators, (), [gpus(3, memory_bytes=room)], partition=partition))
        assert result.status is status
        assert result.objective_value is None or math.isclose(result.objective_value, 3.0)
