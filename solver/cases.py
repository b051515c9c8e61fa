"""A proof case by case: every way to divide the leading items is searched up to a period, then up to the best known."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from solver.compiled import CompiledInstance
from solver.exact.leading_items import Case
from solver.formulations import cpsat
from solver.formulations.throughput_cases_cpsat import CaseModel
from solver.result import OPTIMALITY_TOLERANCE
from solver.search import Search

WIDE_GAP = 0.02
"""A gap wider than this is halved first: easier cases fall early, and the bound rises meanwhile."""
FIRST_EFFORT = 1.0
"""For each case, in CP-SAT's deterministic units; doubled with every turn."""
ROUNDING = 1e-9


class CaseSearch:
    """The cases of one instance.

    Args:
        search: takes placements and bounds.
        compiled: what the cases are about.
        cases: all ways that may be better than the best placement of ``search``.
        loss_ms: how far the optimum of ``compiled`` may lie above that of the instance.
    """

    def __init__(self, search: Search, compiled: CompiledInstance, cases: Sequence[Case], loss_ms: float) -> None:
        self._search = search
        self._compiled = compiled
        self._cases = cases
        self._loss_ms = loss_ms
        self._lock = threading.Lock()

    def run(self, workers: int) -> None:
        """Raise the bound until it meets the best placement, or the search is over."""
        search = self._search
        while not search.over:
            value = search.objective_value
            lowest = min((case.bound_ms for case in self._cases), default=value)
            if value is None or lowest is None:
                return
            target = value * (1 - OPTIMALITY_TOLERANCE / 2) + self._loss_ms
            if lowest >= target:
                search.claim_bound(min(lowest - self._loss_ms, value), CaseModel.name)
                return
            if target - lowest > WIDE_GAP * value:
                target = (target + lowest) / 2
            self._raise_to(target, workers)

    def _raise_to(self, target_ms: float, workers: int) -> None:
        """Until no case can be below ``target_ms``; what is hard gets another turn, with more effort."""
        effort = FIRST_EFFORT
        with ThreadPoolExecutor(max_workers=workers, thread_name_prefix=CaseModel.name) as pool:
            while not self._search.over:
                below = [case for case in self._cases if case.bound_ms < target_ms]
                if not below:
                    return
                # Which way of building the relaxation is quicker differs from case to case, often tenfold.
                for at_once in (True, False):
                    settle = partial(self._settle, target_ms=target_ms, effort=effort, at_once=at_once)
                    # Read to the end, so that what goes wrong in a case is heard.
                    list(pool.map(settle, sorted(below, key=lambda case: case.bound_ms)))
                effort *= 2

    def _settle(self, case: Case, target_ms: float, effort: float, *, at_once: bool) -> None:
        search, compiled = self._search, self._compiled
        if search.over or case.bound_ms >= target_ms:
            return

        def take(assignment: cpsat.Assignment) -> None:
            search.offer(compiled.placement(assignment), CaseModel.name)

        def note(bound_ms: float) -> None:
            self._note(case, bound_ms)

        outcome = cpsat.run(
            CaseModel(compiled, target_ms, case.bound_ms, case.groups),
            cpsat.RunOptions(search.remaining_s, 1, search.options.seed, effort=effort, relaxes=True, at_once=at_once),
            take,
            note,
            lambda: search.over,
        )
        if outcome is cpsat.Outcome.INFEASIBLE:
            note(target_ms)

    def _note(self, case: Case, bound_ms: float) -> None:
        with self._lock:
            case.bound_ms = max(case.bound_ms, bound_ms)
            lowest = min(case.bound_ms for case in self._cases)
        self._search.claim_bound(lowest * (1 - ROUNDING) - self._loss_ms, CaseModel.name)
