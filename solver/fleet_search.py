"""Limits on the devices used, and the objective cost: bounds over all fleets, and fleets that are worth a trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np

from solver.compiled import CompiledInstance, Ints
from solver.exact.fleet_ideals import FleetIdealProgram, Prices
from solver.exact.link_cases import LinkCases
from solver.exact.throughput_ideals import Assignment, Verdict
from solver.fleets import ROOM, Fleets, keeps_limits
from solver.formulations.counted_assignment_glop import FleetBounds
from solver.instance import ObjectiveKind
from solver.search import Search

MAX_STEPS = 400_000_000
EAGERNESS = 3
"""The most promising fleets are drawn most often: the power of a random share of their list."""


class FleetSearch:
    """What is known of the fleets of one search.

    Args:
        search: takes bounds of the cost.
        coarse: the instance, or a relaxation whose classes unite those of the instance.
        fleets: of ``coarse``.
    """

    def __init__(self, search: Search, coarse: CompiledInstance, fleets: Fleets) -> None:
        self._search = search
        self._coarse = coarse
        self._is_cost = search.instance.objective.kind is ObjectiveKind.COST
        self._longest_ms = search.instance.constraints.longest_period_ms
        self._bounds = FleetBounds(coarse, fleets, self._longest_ms)
        self._fleets = fleets
        self._is_largest = fleets.largest_within(math.inf)
        self._draws = np.random.default_rng(search.options.seed)

    def bound(self, limit_s: float) -> float:
        """Claim what prices prove of the cost; the same of the period, in ms: infinite if no fleet will do."""
        deadline = self._search.elapsed_s + limit_s

        def remaining_s() -> float:
            return 0.0 if self._search.over else deadline - self._search.elapsed_s

        if not self._is_cost:
            return self._bounds.least_period(remaining_s)
        cost = self._bounds.least_cost(remaining_s)
        if cost < math.inf:
            self._search.claim_bound(cost, "prices")
        return 0.0 if cost < math.inf else math.inf

    def program(
        self, order: Ints, find_prices: Callable[[CompiledInstance], Prices | None], limits: tuple[int, int]
    ) -> FleetIdealProgram:
        """The ideal program for these fleets; what it proves of each is kept here."""
        return FleetIdealProgram(self._coarse, order, self._fleets, self._bounds.periods, find_prices, limits)

    def bisect_cost(
        self, program: FleetIdealProgram | LinkCases, period_ms: float, share: float, method: str, stop: Ints
    ) -> tuple[bool, list[Assignment]]:
        """Raise the bound of the cost to where the program, which is optimistic, finds a way within ``period_ms``.

        Returns:
            Whether no fleet will do, and the placements met on the way.
        """
        search = self._search
        deadline = search.elapsed_s + search.remaining_s * share
        # Fleets that cost the same, but for rounding, are one level.
        costs = np.unique(self._fleets.costs[self._bounds.are_open])
        is_first = np.append(True, costs[1:] > costs[:-1] * ROOM)
        floors, tops = costs[is_first], costs[np.append(is_first[1:], True)]
        found: list[Assignment] = []
        low, reached, step = int(np.searchsorted(tops, search.best_bound / ROOM)), len(floors), 0
        while not search.over and search.elapsed_s < deadline:
            value = search.objective_value
            high = min(reached, len(floors) if value is None else int(np.searchsorted(tops, value / ROOM)))
            if low >= high:
                break
            # From the bound, which is mostly near, in growing steps, then by halves.
            middle = min(low + step, (low + high - 1) // 2 if found else high - 1)
            program.limit_cost(float(tops[middle]))
            trial = program.try_period(period_ms, lambda: search.over or search.elapsed_s > deadline, MAX_STEPS, stop)
            if trial.verdict is Verdict.GAVE_UP:
                break
            if trial.assignment is None:
                low, step = middle + 1, 2 * step + 1
                if low < len(floors):
                    search.claim_bound(float(floors[low]) / ROOM, method)
            else:
                reached = middle
                found.append(trial.assignment)
        return low >= len(floors), found

    def draw(self, target_ms: float) -> frozenset[str] | None:
        """The devices of a fleet that may do with ``target_ms``, and cheaper than known; ``None`` if there is none."""
        bounds, fleets = self._bounds, self._fleets
        hopeful = bounds.periods <= target_ms
        value = self._search.objective_value
        if self._is_cost:
            if value is not None:
                hopeful &= fleets.costs < value / ROOM
            ranks = fleets.costs
        else:
            hopeful &= self._is_largest
            ranks = bounds.periods
        chosen = np.flatnonzero(hopeful)
        if not len(chosen):
            return None
        chosen = chosen[np.argsort(ranks[chosen], kind="stable")]
        # Without a placement, the cheapest fleets are the least likely to lead to one.
        power = 1 if self._is_cost and value is None else EAGERNESS
        fleet = fleets.counts[chosen[int(len(chosen) * self._draws.random() ** power)]]
        names: list[str] = []
        in_order = self._draws.random() < 0.5
        for count, device_class in zip(fleet, self._coarse.classes, strict=True):
            places = np.arange(count) if in_order else self._draws.permutation(device_class.count)[:count]
            names += [device_class.devices[place] for place in places]
        return frozenset(names)

    def extend(self, names: Collection[str]) -> frozenset[str] | None:
        """Add devices to those of ``names``, at random, while the limits allow it; ``None`` if these are too many."""
        classes = self._coarse.classes
        counts = np.array([[sum(name in names for name in c.devices) for c in classes]])
        if not keeps_limits(self._coarse, counts)[0]:
            return None
        extended = set(names)
        idle = [(k, name) for k, c in enumerate(classes) for name in c.devices if name not in extended]
        for index in self._draws.permutation(len(idle)):
            k, name = idle[index]
            counts[0, k] += 1
            if keeps_limits(self._coarse, counts)[0]:
                extended.add(name)
            else:
                counts[0, k] -= 1
        return frozenset(extended)
