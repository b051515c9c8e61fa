"""Graphs too wide for the ideals and too large for a model: orders are cut, items moved, and flows bound the period."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from functools import cached_property

from solver.compiled import CompiledInstance
from solver.exact import spread_flows
from solver.heuristics import borders
from solver.heuristics.bisection import bisected_order
from solver.heuristics.borders import Borders
from solver.heuristics.segments import cut_order
from solver.kernels import stop_flag
from solver.search import Search

STEPS_PER_ITEM, MAX_STEPS = 1_000, 400_000_000
"""Moves tried in the first round of two; each time they are twice as many, until a round takes a minute or so."""
FLOWS_SHARE = 0.4
"""Part of the time for the bound where there is one worker."""


class WideSearch:
    """Both sides of one search.

    Args:
        search: takes placements and bounds.
        reduced: for the partition of the search; the bound is of it.
        acyclic: reduced for the acyclic partition; the placements are of it.
        workers: with two or more, both sides are sought at once.
        methods: takes the names of what is used.
        share: of the time left.
    """

    def __init__(
        self,
        search: Search,
        reduced: CompiledInstance,
        acyclic: CompiledInstance,
        workers: int,
        methods: list[str],
        share: float = 1.0,
    ) -> None:
        self._search = search
        self._reduced = reduced
        self._acyclic = acyclic
        self._workers = workers
        self._methods = methods
        self._started = search.elapsed_s
        self._limit_s = search.remaining_s * share

    def run(self) -> None:
        """Until the search is over, the time is used, or nothing is left to do."""
        if self._search.over:
            return
        searches = borders.supports(self._acyclic) and all(self._acyclic.has_forward)
        bounds = spread_flows.supports(self._reduced)
        if searches:
            self._methods.extend(("bisection", "borders"))
        if bounds:
            self._methods.append("flows")
        rival = self._search.beside(lambda: self._bound(1.0), "flows") if bounds and self._workers > 1 else None
        if searches:
            self._find(range(1))
        if bounds and self._workers == 1:
            self._bound(FLOWS_SHARE)
        if searches:
            self._find(itertools.count(1))
        if rival is not None:
            rival.join(max(0.0, self._started + self._limit_s - self._search.elapsed_s))

    @cached_property
    def _moves(self) -> Borders:
        return Borders(self._acyclic)

    def _is_over(self, share: float) -> bool:
        return self._search.over or self._search.elapsed_s >= self._started + share * self._limit_s

    def _bound(self, share: float) -> None:
        search = self._search
        if search.over:
            return
        with stop_flag(lambda: self._is_over(share)) as stop:
            spread_flows.bound_by_flows(
                self._reduced, search.options.seed, lambda period: search.claim_bound(period, "flows"), stop
            )

    def _find(self, rounds: Iterable[int]) -> None:
        """Rounds that start from a new order, cut into stages, or from the best placement known, in turns."""
        search, compiled, seed = self._search, self._acyclic, self._search.options.seed
        if search.over:
            return
        with stop_flag(lambda: self._is_over(1.0)) as stop:
            for number in rounds:
                start = None
                if number % 2 == 0:
                    order = bisected_order(compiled, seed + number)
                    start = cut_order(compiled, order, search.best_bound, math.inf)
                    if start is not None:
                        search.offer(compiled.placement(start), "bisection")
                elif search.placement is not None:
                    start = compiled.gather(search.placement)
                if stop[0]:
                    return
                if start is not None:
                    steps = min(MAX_STEPS, STEPS_PER_ITEM * compiled.num_items << min(number // 2, 30))
                    moved = self._moves.improve(start, steps, seed + number, stop, hot=number % 2 == 0)
                    if moved is not None:
                        search.offer(compiled.placement(moved), "borders")
