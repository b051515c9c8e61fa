"""Throughput or cost, every partition: the numbers of devices used are chosen too, by cutting planes from prices.

For prices w, u of load and memory and a fleet with n[k] devices of class k (:mod:`solver.fleets`), the items are worth
W at least and the fleet holds Σ_k n[k] (w[k] T + u[k] M[k]) at most within period T; so one set of prices bounds T for
every fleet (:mod:`solver.formulations.fractional_assignment_glop`). The fleets are few enough to list. The one that
looks best gets its own best prices, which bound all others as well, until the best one does not move: then the least of
the bounds is that of the relaxation with whole numbers of devices.

Source: own; prices found for one choice of the whole numbers and used for all are Benders' cuts (1962).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from solver.compiled import CompiledInstance
from solver.fleets import ROOM, Fleets
from solver.formulations.fractional_assignment_glop import bound_by_counts, find_prices

STEP = 1e-6
"""A bound that grows by less, relatively, has not moved."""
FORGIVEN = 1 + 3e-9
"""A limit of the period is kept up to what the verifier forgives."""


class FleetBounds:
    """What each fleet can do at best, as far as it is known.

    Args:
        compiled: the instance, or a relaxation.
        fleets: of ``compiled``.
        longest_ms: no longer period is allowed.

    Attributes:
        periods: [F] lower bounds of the period, in ms, within each fleet.
    """

    def __init__(self, compiled: CompiledInstance, fleets: Fleets, longest_ms: float = math.inf) -> None:
        # What takes longer than allowed somewhere does not sit there.
        compute = compiled.compute_ms.sum(axis=2)
        self._compiled = compiled.forbid(compute > longest_ms * FORGIVEN)
        self._longest_ms = longest_ms * FORGIVEN
        self.fleets = fleets
        self.periods = np.zeros(len(fleets.costs))
        for pattern in np.unique(self._compiled.allowed, axis=0):
            self.periods[fleets.counts[:, pattern].sum(axis=1) == 0] = math.inf

    @property
    def are_open(self) -> npt.NDArray[np.bool_]:
        """[F]: whether a fleet may keep the limit of the period."""
        return np.isfinite(self.periods) & (self.periods <= self._longest_ms)

    def least_period(self, remaining_s: Callable[[], float], max_cost: float = math.inf) -> float:
        """No fleet, of those that cost so much at most, allows a shorter period, in ms; infinite when none will do."""
        affordable = self.fleets.costs <= max_cost * ROOM
        while remaining_s() > 0 and (self.are_open & affordable).any():
            least = self.periods[affordable].min()
            best = np.flatnonzero(affordable & (self.periods == least))
            if not self._price(int(best[self.fleets.counts[best].sum(axis=1).argmax()]), remaining_s()):
                break
        return float(self.periods[self.are_open & affordable].min(initial=math.inf))

    def least_cost(self, remaining_s: Callable[[], float]) -> float:
        """No cheaper fleet keeps the limit of the period; infinite when none does."""
        while remaining_s() > 0 and self.are_open.any():
            cheapest = int(np.where(self.are_open, self.fleets.costs, np.inf).argmin())
            if not self._price(cheapest, remaining_s()):
                break
        return float(self.fleets.costs[self.are_open].min(initial=math.inf))

    def _price(self, fleet: int, time_limit_s: float) -> bool:
        """Find the best prices for a fleet; whether its bound has moved."""
        before = float(self.periods[fleet])
        prices = find_prices(self._compiled, time_limit_s, self.fleets.counts[fleet])
        if prices is None:
            return False
        bounds = bound_by_counts(self._compiled, prices, self.fleets.counts)
        np.maximum(self.periods, bounds, out=self.periods)
        return float(self.periods[fleet]) > before * (1 + STEP)
