"""The ideal programs at work on clusters: over fleets, over host memory, and over links.

All of them are optimistic: a period that is impossible for them is impossible, and what they reach is a placement to
try, good where what they leave out matters little.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from solver.compiled import CompiledInstance, Floats, Ints
from solver.exact import link_ideals
from solver.exact.fleet_ideals import FleetIdealProgram
from solver.exact.link_cases import LinkCases
from solver.exact.link_sweeps import MAX_BYTES
from solver.exact.throughput_ideals import FINEST, IdealProgram, Trial, Verdict, max_ideals_within, span_of, supports
from solver.fleet_search import FleetSearch
from solver.formulations.fractional_assignment_glop import Prices, find_prices
from solver.heuristics.moves import TINIEST_MS
from solver.heuristics.orders import topological_orders
from solver.instance import ObjectiveKind
from solver.kernels import stop_flag
from solver.loose_items import drop_light
from solver.memory_watch import room_bytes
from solver.period_bound import PeriodBound
from solver.result import Placement
from solver.search import Search

MAX_COUNT_STATES = 2048
LOOSE_KEPT, LOOSE_KEPT_OVER_LINKS = 4, 1
"""Loose items that a program is given; the others stay out of the instance that it sees."""
MAX_STEPS = 2_000_000_000
PRICES_SHARE, IDEALS_SHARE, LINK_IDEALS_SHARE, TRIAL_SHARE = 0.1, 0.4, 0.6, 0.3
"""Parts of the remaining time: for prices, for all trials over host memory, over links, and for one of these."""
FIRST_STEP = 0.02
"""The first trial is so far above the bound, relatively, the next ones twice, four times … as far; then they bisect."""
RELAXED_GAP = 1e-4
"""Relative gap at which bisection ends: what is reached there need not be a placement of the instance."""
FOLLOWED_PARTS = math.inf, 0.3, 0.03, 0.0
"""Labels follow no tensors, then those whose times over two links differ by such parts of the period; at last all."""
IDEALS, LINK_IDEALS = "ideals", "link ideals"

Attempt = Callable[[float, Callable[[], bool], float, Ints], Trial]


class ClusterIdeals:
    """The ideal programs of one search, for the acyclic partition.

    Args:
        search: says how much time is left, and takes bounds of the cost.
        reduced: the instance, reduced for the partition.
        coarse: a relaxation of it over ``host``.
        prices: of load and memory in ``coarse``, if they are known.
        fleets: of ``coarse``, if there are limits on them.
        bound: takes bounds of the period.
        offer: takes placements, and the method that found them.
    """

    def __init__(
        self,
        search: Search,
        reduced: CompiledInstance,
        coarse: CompiledInstance,
        prices: Prices | None,
        fleets: FleetSearch | None,
        bound: PeriodBound,
        offer: Callable[[Placement, str], object],
    ) -> None:
        self._search = search
        self._reduced = reduced
        self._coarse = coarse
        self._prices = prices
        self._fleets = fleets
        self._bound = bound
        self._offer = offer
        self._is_cost = search.instance.objective.kind is ObjectiveKind.COST
        self.methods: list[str] = []

    def run(self) -> None:
        """Bounds and placements, first from the programs that see less; ``methods`` are those that took part."""
        if self._fleets is not None:
            self._run_fleets(self._fleets)
        else:
            self._run_host()
        self._run_links()

    def _run_fleets(self, fleets: FleetSearch) -> None:
        """The program for all fleets that the limits allow, on the relaxation."""
        coarse = self._coarse
        if self._search.over or coarse.is_gpipe or not all(coarse.has_forward):
            return
        program = fleets.program(self._narrow_order(coarse), self._prices_of, (self._max_ideals(), MAX_COUNT_STATES))
        if not program.fits:
            return
        self.methods.append(IDEALS)
        if self._is_cost:
            self._bisect_cost(fleets, program, coarse, IDEALS)
        else:
            self._bisect(program.try_period, coarse, IDEALS, self._until(IDEALS_SHARE))

    def _run_host(self) -> None:
        """The program on the relaxation, with few loose items."""
        coarse, prices = drop_light(self._coarse, LOOSE_KEPT), self._prices
        if self._search.over or coarse.is_gpipe or not supports(coarse, MAX_COUNT_STATES):
            return
        values = None if prices is None else (prices.of_load, prices.of_memory)
        program = IdealProgram(coarse, self._narrow_order(coarse), self._max_ideals(), values)
        if program.fits:
            self.methods.append(IDEALS)
            self._bisect(program.try_period, coarse, IDEALS, self._until(IDEALS_SHARE))

    def _run_links(self) -> None:
        """The program that tells the links of used devices from those of idle ones."""
        reduced = drop_light(self._reduced, LOOSE_KEPT_OVER_LINKS)
        if self._search.over or reduced.links is None or not link_ideals.supports(reduced):
            return
        prices = self._prices_of(reduced)
        if prices is None:
            return
        room = min(MAX_BYTES, room_bytes(self._search.options.memory_limit_bytes))
        program = LinkCases(reduced, self._narrow_order(reduced), prices, room)
        if not program.fits:
            return
        self.methods.append(LINK_IDEALS)
        if not self._is_cost:
            self._follow(program)
        elif self._fleets is not None:
            self._bisect_cost(self._fleets, program, reduced, LINK_IDEALS)

    def _bisect_cost(
        self,
        fleets: FleetSearch,
        program: FleetIdealProgram | LinkCases,
        compiled: CompiledInstance,
        method: str,
    ) -> None:
        """Raise the bound of the cost as far as ``program`` can."""
        search = self._search
        period = min(self._bound.worst_ms, self._bound.ceiling_ms)
        with stop_flag(lambda: search.over) as stop:
            is_infeasible, found = fleets.bisect_cost(program, period, IDEALS_SHARE, method, stop)
        for assignment in found:
            self._offer(compiled.placement(assignment), method)
        if is_infeasible and search.placement is None:
            search.infeasible_by = method

    def _follow(self, program: LinkCases) -> None:
        """Bisect with as many tensors followed as a trial in a share of the time allows."""
        value = self._search.objective_value or self._bound.ms
        levels = [part * value for part in FOLLOWED_PARTS]

        def attempt(period_ms: float, expired: Callable[[], bool], max_steps: float, stop: Ints) -> Trial:
            trial = Trial(Verdict.GAVE_UP)
            while levels and trial.verdict is Verdict.GAVE_UP and not expired():
                is_late = self._until(TRIAL_SHARE)
                trial = program.try_period(period_ms, is_late, max_steps, stop, follow_ms=levels)
                if trial.verdict is Verdict.GAVE_UP:
                    levels.pop()
            return trial

        self._bisect(attempt, program.compiled, LINK_IDEALS, self._until(LINK_IDEALS_SHARE))

    def _bisect(
        self,
        attempt: Attempt,
        compiled: CompiledInstance,
        method: str,
        expired: Callable[[], bool],
    ) -> None:
        """Raise the bound of the period until the program reaches one little above it.

        Args:
            attempt: tries a period.
            compiled: what it places.
            method: in whose name.
            expired: ends it.
        """
        search, bound = self._search, self._bound
        reached, step = math.inf, FIRST_STEP
        with stop_flag(expired) as stop:
            while not expired():
                value = math.inf if self._is_cost or search.objective_value is None else search.objective_value
                upper = min(value, reached, bound.ceiling_ms)
                if upper == math.inf:
                    return
                is_near = upper - bound.ms <= upper * RELAXED_GAP
                if is_near and value == upper:
                    period = value * (1 - FINEST / 2)
                elif is_near:
                    return
                else:
                    period = min(bound.ms * (1 + step), (bound.ms + upper) / 2)
                trial = attempt(max(period, TINIEST_MS), expired, MAX_STEPS, stop)
                if trial.verdict is Verdict.GAVE_UP:
                    return
                if trial.assignment is None:
                    step *= 2
                    bound.claim(period, method)
                else:
                    reached = period
                    self._offer(compiled.placement(trial.assignment), method)

    def _max_ideals(self) -> int:
        return max_ideals_within(room_bytes(self._search.options.memory_limit_bytes))

    def _until(self, share: float) -> Callable[[], bool]:
        """Whether the search is over or a share of the time left has passed since."""
        search = self._search
        deadline = search.elapsed_s + search.remaining_s * share
        return lambda: search.over or search.elapsed_s > deadline

    def _prices_of(self, compiled: CompiledInstance) -> tuple[Floats, Floats] | None:
        prices = find_prices(compiled, self._search.remaining_s * PRICES_SHARE)
        return None if prices is None else (prices.of_load, prices.of_memory)

    def _narrow_order(self, compiled: CompiledInstance) -> Ints:
        orders = itertools.islice(topological_orders(compiled, self._search.options.seed), 4)
        return min(orders, key=lambda order: span_of(compiled, order))
