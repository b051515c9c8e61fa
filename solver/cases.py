"""A proof case by case: every way to divide the leading items is searched up to a period, then up to a longer one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from solver.compiled import CompiledInstance
from solver.exact.leading_items import Case
from solver.formulations.throughput_cases_highs import NAME, SAFETY, solve_case
from solver.search import Search

WIDE_GAP, STEP = 0.015, 0.01
"""A gap wider than the first is closed in steps of the second, relative to the value: the bound rises meanwhile."""
SLICE_S = 10.0
"""For one case; those that need more have their turn again, with twice as much."""


def search_cases(
    search: Search, compiled: CompiledInstance, cases: Sequence[Case], loss_ms: float, expired: Callable[[], bool]
) -> None:
    """Raise the bound until it meets the best placement, or no more can be known, or ``expired``.

    Args:
        search: takes placements and bounds.
        compiled: what the cases are about; its free partition.
        cases: all ways in which a placement may be better than the best one of ``search``.
        loss_ms: how far the optimum of ``compiled`` may lie above that of the instance.
        expired: asked often.
    """
    while not expired():
        value = search.objective_value
        if value is None:
            return
        lowest = min((case.bound_ms for case in cases), default=value)
        search.claim_bound(lowest - loss_ms, NAME)
        target = value * (1 - SAFETY / 2) + loss_ms
        if lowest >= target * (1 - 2 * SAFETY):
            return
        if target - max(lowest, search.best_bound) > WIDE_GAP * value:
            target = max(lowest, search.best_bound) + STEP * value
        if not _raise_to(search, compiled, cases, target, expired):
            return


def _raise_to(
    search: Search, compiled: CompiledInstance, cases: Sequence[Case], target_ms: float, expired: Callable[[], bool]
) -> bool:
    """Until no case can be below ``target_ms``; whether that was reached."""
    slice_s = SLICE_S
    below = sorted((case for case in cases if case.bound_ms < target_ms), key=lambda case: case.bound_ms)
    while below and not expired():
        left = []
        for case in below:
            if expired():
                return False
            outcome = solve_case(compiled, target_ms, case.groups, min(slice_s, search.remaining_s), expired)
            case.bound_ms = max(case.bound_ms, outcome.bound_ms)
            if outcome.assignment is not None:
                search.offer(compiled.placement(outcome.assignment), NAME)
            if case.bound_ms < target_ms * (1 - 2 * SAFETY):
                if outcome.is_settled and outcome.assignment is None:
                    return False
                if not outcome.is_settled:
                    left.append(case)
        below, slice_s = left, 2 * slice_s
    return not below
