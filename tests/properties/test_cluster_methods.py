"""Bounds and moves on real clusters: no bound exceeds the optimum, and what annealing says it reached is reached."""

from __future__ import annotations

import dataclasses
import math
import random

import numpy as np
import pytest

from solver.bounds import bound_period
from solver.clusters import unite_similar
from solver.compiled import compile_instance
from solver.exact.operator_cuts import bound_by_cuts
from solver.exact.throughput_ideals import IdealProgram, Verdict, supports
from solver.formulations.fractional_assignment_glop import Prices, bound_by_prices, find_prices
from solver.heuristics.moves import Annealing
from solver.heuristics.orders import topological_orders
from solver.instance import Constraints, Objective, ObjectiveKind, Partition
from solver.reductions import reduce_instance
from solver.verification import verify
from tests.properties.clusters import random_cluster_instance
from tests.properties.enumeration import close, enumerate_optimum

ROUNDING = 1 + 1e-9


def throughput_instances(chunk, size=50):
    """Without limits, so that there is an optimum more often than not."""
    for seed in range(chunk * size, chunk * size + size):
        instance = random_cluster_instance(seed)
        objective = dataclasses.replace(instance.objective, kind=ObjectiveKind.THROUGHPUT)
        instance = dataclasses.replace(instance, objective=objective, constraints=Constraints())
        reduced = reduce_instance(compile_instance(instance), instance.objective.partition)
        if reduced.allowed.any(axis=1).all():
            yield seed, instance, reduced, enumerate_optimum(instance)[0]


@pytest.mark.parametrize("chunk", range(10))
def test_bounds_over_links_stay_below_the_optimum(chunk):
    tight = 0
    for seed, _, reduced, optimum in throughput_instances(chunk):
        if optimum is None:
            continue
        coarse = unite_similar(reduced)
        source = random.Random(seed)
        shape = len(coarse.classes)
        prices = [Prices(*(np.array([source.random() for _ in range(shape)]) for _ in range(2))), find_prices(coarse)]
        bounds = [bound_by_prices(coarse, some) for some in prices if some is not None]
        bounds.append(bound_period(coarse))
        bound_by_cuts(coarse, bounds.append, lambda: False)
        assert max(bounds) <= optimum * ROUNDING, seed
        tight += max(bounds) >= optimum * (1 - 1e-6)
    assert tight > 5


@pytest.mark.parametrize("chunk", range(6))
def test_what_the_optimistic_ideal_program_calls_impossible_is(chunk):
    impossible = 0
    for seed, drawn, _, _ in throughput_instances(chunk):
        instance = dataclasses.replace(drawn, objective=Objective())
        optimum = enumerate_optimum(instance)[0]
        reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
        coarse = unite_similar(reduced)
        if not optimum or not supports(coarse, 2048):
            continue
        prices = find_prices(coarse)
        program = IdealProgram(
            coarse,
            next(iter(topological_orders(coarse, seed))),
            100_000,
            None if prices is None else (prices.of_load, prices.of_memory),
        )
        assert program.try_period(optimum * ROUNDING, lambda: False).verdict is Verdict.REACHED, seed
        for factor in (0.95, 0.7):
            impossible += program.try_period(optimum * factor, lambda: False).verdict is Verdict.IMPOSSIBLE
    assert impossible > 20


@pytest.mark.parametrize("chunk", range(6))
def test_annealing_reaches_what_it_says_and_often_the_optimum(chunk):
    met = total = 0
    for seed, instance, drawn, optimum in throughput_instances(chunk):
        if optimum is None:
            continue
        is_convex = instance.objective.partition is Partition.CONVEX
        reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC) if is_convex else drawn
        start = starting_point(reduced)
        if start is None:
            continue
        annealing = Annealing(reduced)
        value, found = annealing.improve(start, 1e4, 0.0, seed, np.zeros(1, dtype=np.int64))
        total += 1
        if found is None:
            continue
        verification = verify(instance, reduced.placement(found))
        assert verification.violations == (), seed
        assert close(verification.objective_value, value), seed
        met += value <= optimum * 1.01 + 1e-9
    assert met > 0.8 * total


def starting_point(reduced):
    """Everything on one device, if one can run it all; memory and all else apart."""
    for index in range(len(reduced.classes)):
        if np.isfinite(reduced.compute_ms[:, index].sum()) and reduced.allowed[:, index].all():
            return [(index, 0)] * reduced.num_items
    return None


def test_annealing_never_calls_an_infinite_time_a_period():
    for _, _, reduced, _ in throughput_instances(0):
        start = starting_point(reduced)
        if start is not None:
            value, found = Annealing(reduced).improve(start, 1e-9, 0.0, 0, np.zeros(1, dtype=np.int64))
            assert found is None or math.isfinite(value)
