"""Each formulation alone, without the bounds and heuristics that would close most tiny instances before it is asked."""

from __future__ import annotations

import pytest

from solver.compiled import compile_instance
from solver.formulations import cpsat
from solver.formulations.throughput_assignment_cpsat import AssignmentModel
from solver.formulations.throughput_ladder_cpsat import LadderModel
from solver.instance import Partition
from solver.reductions import reduce_instance
from solver.verification import verify
from tests.depth import chunks
from tests.properties.enumeration import enumerate_optimum
from tests.properties.instances import random_instance, with_decimal_costs

CUT_OFF = (1638, 1790, 3574, 3946, 4514)
"""Seeds at which the sum of an item's times, in one order, once was above the optimum, in another."""
ENOUGH = 1e3
"""Times the optimum: a limit that cuts nothing off that matters."""


def run(instance, limit_ms, presolve):
    """The outcome, the verified values and the bounds of the formulation that proves this partition."""
    partition = instance.objective.partition
    reduced = reduce_instance(compile_instance(instance), partition)
    if not reduced.allowed.any(axis=1).all():
        return None
    model = (LadderModel if partition is Partition.ACYCLIC else AssignmentModel)(reduced, limit_ms, 0.0)
    found, bounds = [], [0.0]
    outcome = cpsat.run(
        model,
        cpsat.RunOptions(30.0, 1, 0, 0.0, presolve),
        lambda assignment: found.append(verify(instance, reduced.placement(assignment))),
        bounds.append,
        lambda: False,
    )
    assert not any(verification.violations for verification in found)
    return outcome, [verification.objective_value for verification in found], max(bounds)


@pytest.mark.parametrize("chunk", chunks(8))
@pytest.mark.parametrize("presolve", [True, False], ids=["presolve", "plain"])
def test_with_room(chunk, presolve):
    for seed in range(chunk * 20, chunk * 20 + 20):
        instance = random_instance(seed)
        optimum, _ = enumerate_optimum(instance)
        limit = ENOUGH if optimum is None else max(optimum * ENOUGH, 1e-9)
        answer = run(instance, limit, presolve)
        if answer is None:
            assert optimum is None, seed
        elif optimum is None:
            assert answer[0] is cpsat.Outcome.INFEASIBLE, seed
        else:
            outcome, values, bound = answer
            assert outcome is cpsat.Outcome.OPTIMAL, seed
            assert bound <= optimum * (1 + 1e-9), seed
            assert bound >= optimum - limit * cpsat.ROUNDING_GAP * (1 + 1e-9), seed
            assert min(values) <= optimum + limit * cpsat.ROUNDING_GAP, seed


@pytest.mark.parametrize("chunk", chunks(8))
@pytest.mark.parametrize("change", [lambda instance, _: instance, with_decimal_costs], ids=["any", "decimal"])
def test_at_the_optimum(chunk, change):
    """No placement as good as the limit is cut off, down to the last bit, and none better is made up."""
    for seed in (*range(chunk * 20, chunk * 20 + 20), *(CUT_OFF if chunk == 0 else ())):
        instance = change(random_instance(seed), seed)
        _, placement = enumerate_optimum(instance)
        if placement is None:
            continue
        optimum = verify(instance, placement).objective_value
        if optimum:
            outcome, values, bound = run(instance, optimum, presolve=False)
            assert outcome is cpsat.Outcome.OPTIMAL, seed
            assert min(values) <= optimum * (1 + 1e-6), seed
            assert optimum * (1 - 1e-6) <= bound <= optimum * (1 + 1e-9), seed
