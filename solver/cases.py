"""A proof case by case: every way to divide the leading items is searched up to a period, then up to a longer one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from solver.compiled import CompiledInstance
from solver.exact.leading_items import Case
from solver.formulations.throughput_cases_highs import NAME, solve_case
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
        search.claim_bound(min((case.bound_ms for case in cases), default=value + loss_ms) - loss_ms, NAME)
        target = value + loss_ms
        open_cases = [case for case in cases if case.is_open(target)]
        if not open_cases:
            return
        known = max(search.best_bound, min(max(case.bound_ms, case.searched_ms) for case in open_cases))
        if target - known > WIDE_GAP * value:
            target = known + STEP * value
        if not _search_up_to(target, search, compiled, cases, expired):
            return


def _search_up_to(
    target_ms: float, search: Search, compiled: CompiledInstance, cases: Sequence[Case], expired: Callable[[], bool]
) -> bool:
    """Until nothing is left to be found up to ``target_ms``; whether that was reached."""
    slice_s = SLICE_S
    turn = sorted((case for case in cases if case.is_open(target_ms)), key=lambda case: case.bound_ms)
    while turn:
        for case in turn:
            if expired():
                return False
            outcome = solve_case(compiled, target_ms, case.groups, min(slice_s, search.remaining_s), expired)
            if outcome is None:
                return False
            case.bound_ms = max(case.bound_ms, outcome.bound_ms)
            if outcome.assignment is not None:
                search.offer(compiled.placement(outcome.assignment), NAME)
            if outcome.is_settled:
                case.searched_ms = target_ms if outcome.assignment is None else math.inf
        turn = [case for case in turn if case.is_open(target_ms)]
        slice_s *= 2
    return True
