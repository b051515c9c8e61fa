"""The ideal program alone: what it calls impossible is, and what it calls reached is reached."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from solver.compiled import compile_instance
from solver.exact.throughput_ideals import IdealProgram, Trial, Verdict, close_gap, supports
from solver.heuristics.orders import topological_orders
from solver.instance import Objective, Overlap, Partition
from solver.loose_items import drop_light
from solver.reductions import reduce_instance
from solver.verification import verify
from tests.depth import chunks
from tests.properties.enumeration import enumerate_optimum, enumerate_pipelines
from tests.properties.instances import random_chain_like, random_instance, with_extreme_costs

MAX_IDEALS = 1_000_000
DROWNED = (313, 1034, 1533, 2413)
"""Seeds at which rounding of sums with 1e12 ms in them once made a period look impossible that was not."""


def check_trials(instance, optimum, seed):
    """Trial periods around the optimum have the verdicts they should."""
    reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
    if not optimum or not supports(reduced):
        return False
    orders = list(topological_orders(reduced, seed))
    program = IdealProgram(reduced, random.Random(seed).choice(orders), MAX_IDEALS)
    for factor in (1 + 1e-8, 1.01, 1.5):
        trial = program.try_period(optimum * factor, lambda: False)
        assert trial.verdict is Verdict.REACHED, (seed, factor)
        verification = verify(instance, reduced.placement(trial.assignment))
        assert verification.violations == ()
        assert verification.objective_value <= optimum * factor * (1 + 1e-9)
    for factor in (1 - 1e-6, 0.99, 0.5):
        assert program.try_period(optimum * factor, lambda: False).verdict is Verdict.IMPOSSIBLE, (seed, factor)
    return True


@pytest.mark.parametrize("chunk", chunks(10))
@pytest.mark.parametrize("change", [lambda instance, _: instance, with_extreme_costs], ids=["plain", "extreme"])
def test_trials_of_tiny_instances(chunk, change):
    seeds = [*range(chunk * 20, chunk * 20 + 20), *(DROWNED if chunk == 0 else ())]
    covered = 0
    for seed in seeds:
        instance = change(replace(random_instance(seed), objective=Objective()), seed)
        optimum, _ = enumerate_optimum(instance)
        covered += check_trials(instance, optimum, seed)
    assert covered > 5


def test_few_loose_items_are_easier_to_place():
    covered = reached_below = 0
    for seed in range(1000):
        instance = replace(random_instance(seed), objective=Objective())
        reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
        relaxed = drop_light(reduced, 1)
        if relaxed is reduced or not supports(relaxed):
            continue
        optimum, _ = enumerate_optimum(instance)
        if not optimum:
            continue
        covered += 1
        assert relaxed.num_items - sum(relaxed.has_forward) == 1
        assert relaxed.placement([(0, 0)] * relaxed.num_items).keys() == {o.id for o in instance.graph.operators}
        program = IdealProgram(relaxed, next(iter(topological_orders(relaxed, seed))), MAX_IDEALS)
        assert program.try_period(optimum * (1 + 1e-8), lambda: False).verdict is Verdict.REACHED, seed
        reached_below += program.try_period(optimum * 0.9, lambda: False).verdict is Verdict.REACHED
    assert covered > 10
    assert reached_below < covered / 2


@pytest.mark.parametrize("seed", range(60))
def test_trials_of_longer_pipelines(seed):
    """Long enough for stages to be passed over, alike siblings and several stages per device class."""
    instance = random_chain_like(seed)
    optimum = enumerate_pipelines(instance)
    if math.isfinite(optimum):
        check_trials(instance, optimum, seed)


@pytest.mark.parametrize("overlap", Overlap)
def test_solve_finds_the_optimum_of_longer_pipelines(solve, overlap):
    for seed in range(10):
        instance = random_chain_like(seed)
        wires = replace(instance.cluster.interconnect, overlap=overlap)
        instance = replace(instance, cluster=replace(instance.cluster, interconnect=wires))
        optimum = enumerate_pipelines(instance)
        result = solve(instance)
        if math.isfinite(optimum):
            assert result.status == "optimal"
            assert result.objective_value == pytest.approx(optimum, rel=1e-6)
        else:
            assert result.status == "infeasible"


def test_a_trial_that_leads_nowhere_is_not_repeated_for_ever():
    """A placement that is refused, or no better than the best one known, leaves the interval as it was."""

    class Stub:
        trials = 0

        def try_period(self, *_):
            self.trials += 1
            assert self.trials < 10
            return Trial(Verdict.REACHED, [])

    close_gap(
        Stub(),
        interval=lambda: (1.0, 2.0),
        found=lambda _: False,
        proved=lambda _: None,
        expired=lambda: False,
    )
