"""How tests solve: every answer, and every step towards it, is held against the verifier before a test sees it."""

from __future__ import annotations

import itertools
import json
import math

from solver.formats.native import result_document
from solver.instance import SolverOptions
from solver.result import OPTIMALITY_TOLERANCE, Status, StopReason
from solver.solve import solve
from solver.verification import verify

ROUNDING = 1e-9
"""Relative difference that floating-point sums may make."""


def solve_checked(instance, *, stop=None, on_progress=None, **options):
    """``solve`` with one worker and a fixed seed; the answer has been checked in every way that needs no optimum."""
    options = SolverOptions(**{"workers": 1, "seed": 0, "time_limit_s": 30.0, **options})
    steps = []

    def watch(progress):
        steps.append(progress)
        if on_progress is not None:
            on_progress(progress)

    result = solve(instance, options, on_progress=watch, stop=stop)
    check_answer(instance, result, options)
    check_progress(instance, result, steps)
    return result


def check_answer(instance, result, options):
    assert result.solver.distrusted == ()
    json.dumps(result_document(result), allow_nan=False)
    if result.placement is None:
        assert result.status in {Status.INFEASIBLE, Status.UNKNOWN}
        assert result.objective_value is None
        assert result.relative_gap is None
        assert result.stages == ()
    else:
        check_placement(instance, result)
    if result.status is Status.INFEASIBLE:
        assert result.best_bound is None
        assert result.stop_reason is StopReason.PROVED
        assert result.infeasibility
        assert all(reason.code and reason.message for reason in result.infeasibility)
    else:
        assert result.infeasibility == ()
        assert math.isfinite(result.best_bound)
        assert result.best_bound >= 0
    if result.stop_reason is StopReason.PROVED:
        assert result.status in {Status.OPTIMAL, Status.INFEASIBLE}
    if result.stop_reason is StopReason.GAP_LIMIT:
        assert OPTIMALITY_TOLERANCE < result.relative_gap <= options.relative_gap


def check_placement(instance, result):
    verification = verify(instance, result.placement)
    assert verification.violations == ()
    assert verification.objective_value == result.objective_value
    assert verification.stages == result.stages
    assert set(result.placement) == {operator.id for operator in instance.graph.operators}
    assert math.isfinite(result.objective_value)
    assert result.best_bound <= result.objective_value
    proved = result.relative_gap <= OPTIMALITY_TOLERANCE
    assert result.status is (Status.OPTIMAL if proved else Status.FEASIBLE)


def check_progress(instance, result, steps):
    """Values only fall, bounds only rise, and every placement that was shown is what it was said to be."""
    for one, following in itertools.pairwise(steps):
        assert following.incumbent.elapsed_s >= one.incumbent.elapsed_s
        assert following.incumbent.best_bound >= one.incumbent.best_bound
        if one.incumbent.objective_value is not None:
            assert following.incumbent.objective_value <= one.incumbent.objective_value
    for step in steps:
        if step.placement is not None:
            verification = verify(instance, step.placement)
            assert verification.violations == ()
            assert verification.objective_value == step.incumbent.objective_value
    assert set(result.incumbents) <= {step.incumbent for step in steps}
    if result.placement is not None:
        assert result.incumbents[-1].objective_value == result.objective_value
