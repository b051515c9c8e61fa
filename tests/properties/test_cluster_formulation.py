"""The model of any cluster alone, without the bounds and heuristics that would close most tiny instances before it."""

from __future__ import annotations

import pytest

from solver.compiled import compile_instance
from solver.formulations import cpsat
from solver.formulations.cluster_cpsat import ClusterModel
from solver.instance import ObjectiveKind
from solver.reductions import reduce_instance
from solver.verification import verify
from tests.depth import chunks
from tests.properties.clusters import random_cluster_instance
from tests.properties.enumeration import close, enumerate_optimum

ENOUGH_MS = 1e4
"""A limit that cuts nothing off that matters."""


def longest_period(instance):
    limits = instance.constraints
    rate = limits.min_throughput_per_s
    return min(limits.max_period_ms or ENOUGH_MS, 1000 / rate if rate else ENOUGH_MS)


@pytest.mark.parametrize("chunk", chunks(10))
@pytest.mark.parametrize("presolve", [True, False], ids=["presolve", "plain"])
def test_model_equals_enumeration(chunk, presolve):
    for seed in range(chunk * 20, chunk * 20 + 20):
        instance = random_cluster_instance(seed)
        optimum, best = enumerate_optimum(instance)
        reduced = reduce_instance(compile_instance(instance), instance.objective.partition)
        if not reduced.allowed.any(axis=1).all():
            assert optimum is None, seed
            continue
        model = ClusterModel(reduced, longest_period(instance), 0.0)
        if best is not None and seed % 2:
            model.hint(reduced.assignment_of(best))
        found, bounds = [], [0.0]
        outcome = cpsat.run(
            model,
            cpsat.RunOptions(30.0, 1, 0, 0.0, presolve),
            lambda assignment, found=found, instance=instance, reduced=reduced: found.append(
                verify(instance, reduced.placement(assignment))
            ),
            bounds.append,
            lambda: False,
        )
        assert not any(verification.violations for verification in found), seed
        if optimum is None:
            assert outcome is cpsat.Outcome.INFEASIBLE, seed
            continue
        assert outcome is cpsat.Outcome.OPTIMAL, seed
        assert max(bounds) <= optimum * (1 + 1e-9), seed
        slack = 0.0 if instance.objective.kind is ObjectiveKind.COST else ENOUGH_MS * cpsat.ROUNDING_GAP
        assert max(bounds) >= optimum - slack - 1e-9 * optimum, seed
        assert close(min(v.objective_value for v in found), optimum) or slack, seed
        assert min(v.objective_value for v in found) <= optimum + slack + 1e-9, seed
