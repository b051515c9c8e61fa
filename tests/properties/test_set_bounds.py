"""Bounds from sets of items never exceed the optimum that enumeration finds, whatever the rules."""

from __future__ import annotations

import math

import numpy as np
import pytest

from solver.bounds import bound_by_counting, bound_period
from solver.compiled import compile_instance
from solver.exact.counted_cuts import bound_by_counted_cuts
from solver.exact.operator_cuts import bound_by_cuts
from solver.formulations.throughput_bottleneck_highs import bound_by_bottleneck, supports
from solver.instance import Cluster, DeviceSpec, Edge, Graph, Instance, Objective, Operator, Partition
from solver.reductions import reduce_instance
from tests.depth import chunks
from tests.properties.enumeration import enumerate_optimum
from tests.properties.instances import random_instance

ROUNDING = 1e-9


def reduced_and_optimum(seed):
    instance = random_instance(seed)
    reduced = reduce_instance(compile_instance(instance), instance.objective.partition)
    return reduced, enumerate_optimum(instance)[0]


@pytest.mark.parametrize("chunk", chunks(4))
def test_minimum_cuts_bound_the_optimum(chunk):
    for seed in range(100 * chunk, 100 * chunk + 100):
        reduced, optimum = reduced_and_optimum(seed)
        if optimum is None:
            continue
        bounds = [0.0]
        bound_by_cuts(reduced, bounds.append, lambda: False)
        assert bounds == sorted(bounds)
        assert math.isfinite(bounds[-1])
        assert bounds[-1] <= optimum * (1 + ROUNDING), seed


@pytest.mark.parametrize("chunk", chunks(3))
def test_the_bottleneck_bounds_the_optimum(chunk):
    for seed in range(60 * chunk, 60 * chunk + 60):
        reduced, optimum = reduced_and_optimum(seed)
        if not optimum or not supports(reduced):
            continue
        for known in (optimum, 1.5 * optimum):
            bounds = [0.0]
            bound_by_bottleneck(reduced, known, 10.0, lambda: False, bounds.append)
            assert bounds == sorted(bounds)
            assert bounds[-1] <= optimum * (1 + ROUNDING), seed


@pytest.mark.parametrize("chunk", chunks(4))
def test_counted_cuts_bound_the_optimum(chunk):
    for seed in range(100 * chunk, 100 * chunk + 100):
        reduced, optimum = reduced_and_optimum(seed)
        if not optimum:
            continue
        for known in (optimum, 1.5 * optimum):
            bounds = [0.0]
            bound_by_counted_cuts(reduced, known, bounds.append, lambda: False)
            assert bounds == sorted(bounds)
            assert bounds[-1] <= optimum * (1 + ROUNDING), seed


def test_counted_cuts_by_hand():
    """Three long operators in a row on two devices: one holds two of them, best two neighbours."""
    chain = Graph(
        tuple(Operator(name, {"gpu": 5.0}) for name in "abc"),
        (Edge("a", "b", transfer_time_ms=1.0), Edge("b", "c", transfer_time_ms=1.0)),
    )
    instance = Instance(chain, Cluster((DeviceSpec("gpu", "gpu", count=2),)), Objective(partition=Partition.FREE))
    bounds = []
    bound_by_counted_cuts(compile_instance(instance), 16.0, bounds.append, lambda: False)
    assert bounds == pytest.approx([11.0])


def test_the_bounds_are_not_trivial():
    """Some instance is proved optimal by cuts alone, some by the bottleneck alone (within its safety margin)."""
    met_by_cuts = met_by_bottleneck = 0
    for seed in range(60):
        reduced, optimum = reduced_and_optimum(seed)
        if not optimum or not supports(reduced):
            continue
        bounds = [0.0]
        bound_by_cuts(reduced, bounds.append, lambda: False)
        met_by_cuts += bounds[-1] >= optimum * (1 - 1e-6)
        bounds = [0.0]
        bound_by_bottleneck(reduced, optimum, 10.0, lambda: False, bounds.append)
        met_by_bottleneck += bounds[-1] >= optimum * (1 - 1e-4)
    assert met_by_cuts > 5
    assert met_by_bottleneck > 5


@pytest.mark.parametrize("chunk", chunks(3))
def test_bounds_without_search_stay_below_the_optimum(chunk):
    for seed in range(2000 + 100 * chunk, 2100 + 100 * chunk):
        reduced, optimum = reduced_and_optimum(seed)
        if optimum is not None:
            assert 0 <= bound_period(reduced) <= optimum * (1 + ROUNDING), seed


def test_counting_by_hand():
    seven_threes = np.full((7, 1), 3.0)
    assert bound_by_counting(seven_threes, [3], [False]) == 9.0  # one of three devices holds three of seven
    with_a_host = np.array([[3.0, 4.0]] * 7)
    assert bound_by_counting(with_a_host, [3, 1], [False, True]) == 6.0  # one may go to the host for 4
    with_a_slow_host = np.array([[3.0, 40.0]] * 7)
    assert bound_by_counting(with_a_slow_host, [3, 1], [False, True]) == 9.0
    assert bound_by_counting(np.array([[np.inf, 4.0]]), [3, 1], [False, True]) == 0.0
    assert bound_by_counting(np.array([[4.0]]), [1], [True]) == 0.0
