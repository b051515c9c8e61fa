"""Backward operators that are given a place: nothing but pipelines of the instance, and hardly ever a worse one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from solver.absorption import absorb
from solver.backward_order import order_backward
from solver.bounds import bound_period
from solver.compiled import compile_instance
from solver.exact.throughput_ideals import IdealProgram, Verdict, supports
from solver.heuristics.orders import topological_orders
from solver.heuristics.segments import place_segments
from solver.instance import Objective, Partition
from solver.reductions import reduce_instance, strong_components
from solver.result import Status
from solver.verification import verify
from tests.properties.enumeration import close, enumerate_optimum
from tests.properties.graphs import mirrored, shaped
from tests.properties.instances import random_instance


def pipelined(instance):
    return absorb(reduce_instance(compile_instance(instance), Partition.ACYCLIC), Partition.ACYCLIC)


def test_what_is_found_is_a_pipeline_of_the_instance():
    covered = optimal = 0
    for seed in range(500):
        instance = replace(random_instance(seed), objective=Objective())
        compiled = pipelined(instance)
        if all(compiled.has_forward) or not compiled.allowed.any(axis=1).all():
            continue
        ordered = order_backward(compiled)
        assert all(ordered.has_forward)
        assert set(compiled.item_edges) <= set(ordered.item_edges)
        assert len(strong_components(ordered.num_items, ordered.item_edges)) == ordered.num_items, seed
        placements = list(place_segments(ordered, bound_ms=bound_period(compiled), seed=seed, expired=lambda: False))
        optimum, _ = enumerate_optimum(instance)
        if optimum and supports(ordered):
            order = next(iter(topological_orders(ordered, seed)))
            trial = IdealProgram(ordered, order, 100_000).try_period(optimum * (1 + 1e-9), lambda: False)
            assert trial.verdict is not Verdict.GAVE_UP
            covered += 1
            if trial.assignment is not None:
                placements.append(trial.assignment)
                optimal += 1
        for assignment in placements:
            verification = verify(instance, compiled.placement(assignment))
            assert verification.violations == (), seed
            assert verification.objective_value >= optimum * (1 - 1e-9), seed
    assert covered > 50
    assert optimal > covered / 2


def test_graphs_without_loose_operators_stay_as_they_are():
    compiled = pipelined(mirrored(shaped("chain", 1), 1))
    assert order_backward(compiled) is compiled


@pytest.mark.parametrize("gathers", [False, True])
def test_the_place_given_is_no_proof(solve, gathers):
    """Where the best placement keeps to no order, it is found all the same, and nothing above it is claimed."""
    for seed in range(20):
        source = shaped("fork", seed, num_devices=2, host=True, times=lambda s: s.choice([0.0, 1.0, 1.0, 3.0]))
        instance = mirrored(source, seed, twins=0.3, gathers=gathers)
        if len(instance.graph.operators) > 7:
            continue
        optimum, _ = enumerate_optimum(instance)
        result = solve(instance)
        assert result.status is Status.OPTIMAL, seed
        assert close(result.objective_value, optimum), seed
