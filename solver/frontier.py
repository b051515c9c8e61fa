"""The frontier of throughput against cost: at every price, the least period that can be had, known from both sides.

The ε-constraint method (Haimes, Lasdon, Wismer 1971) with bisection. What a set of devices may cost is one of finitely
many sums of prices, the *levels*. A search for the least period within one level proves a bound for that level and all
below it; a search for the least cost shows which levels are too cheap for any placement. A level is *open* while the
best period found within it is above the bound.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from solver.clusters import unite_similar
from solver.compiled import compile_instance
from solver.cost_levels import NEAR, CostLevels
from solver.errors import InvalidInstance, Issue
from solver.fleets import find_fleets
from solver.formulations.counted_assignment_glop import FleetBounds
from solver.instance import Cluster, Instance, ObjectiveKind, SolverOptions
from solver.reductions import reduce_instance
from solver.result import (
    OPTIMALITY_TOLERANCE,
    Frontier,
    FrontierBound,
    FrontierPoint,
    InfeasibilityReason,
    Placement,
    Progress,
    Result,
    SolverReport,
    Stage,
    Status,
    StopReason,
    SweepStopReason,
)
from solver.solve import check_supported, solve
from solver.validation import validate, validate_options
from solver.verification import verify

Floats = npt.NDArray[np.float64]

END_SHARE = 0.25
"""Part of the remaining time that each end of the frontier may take."""
LEAST_SEARCH_S = 0.01
PRICES_SHARE, NUM_PRICED = 0.1, 24
"""Part of the time for prices before any search, and so many levels spread over all that prices are found for."""
FIRST_GAPS = (0.05, 0.01)
"""Every level is brought this near before any is searched further."""


@dataclass(frozen=True, slots=True)
class SweepProgress:
    """What an observer is told after every search: the frontier so far."""

    elapsed_s: float
    num_searches: int
    points: tuple[FrontierPoint, ...]
    relative_gap: float | None


def sweep(
    instance: Instance,
    options: SolverOptions | None = None,
    *,
    max_points: int = 20,
    on_progress: Callable[[SweepProgress], None] | None = None,
    stop: threading.Event | None = None,
) -> Frontier:
    """The Pareto frontier of period and cost, as far as it can be found and proved within the limits.

    The fastest and the cheapest end come first, then the widest unknown stretch between neighbours. Every placement
    found on the way counts, and is offered to the searches that can afford it.

    Args:
        instance: the question; its objective may be throughput or cost, its constraints hold for every point.
        options: limits of the sweep as a whole; ``relative_gap`` is that at which a level is left alone.
        max_points: no further points are looked for once there are so many.
        on_progress: told after every search.
        stop: when set, the sweep ends soon with what it has.

    Raises:
        InvalidInstance: with every fault of the instance or the options, devices without a price among them.
        UnsupportedInstance: valid, but outside what this version solves.
    """
    options = options or SolverOptions()
    issues = (*validate(instance), *validate_options(options), *_check_prices(instance.cluster))
    if issues:
        raise InvalidInstance(issues)
    if max_points < 1:
        raise ValueError("max_points must be at least 1")
    check_supported(instance)
    return _Sweep(instance, options, max_points, on_progress, stop or threading.Event()).run()


def _check_prices(cluster: Cluster) -> Iterable[Issue]:
    for index, spec in enumerate(cluster.devices):
        if spec.cost_per_hour is None:
            message = f"device {spec.id!r} has no cost_per_hour, which the frontier needs"
            hint = "give its price; 0 for a device that costs nothing more"
            yield Issue("missing_cost", message, ("cluster", "devices", index, "cost_per_hour"), hint)


@dataclass(frozen=True, slots=True)
class _Found:
    """A verified placement and what it is worth."""

    cost: float
    period_ms: float
    placement: Placement
    stages: tuple[Stage, ...]


class _Sweep:
    """What is known so far: placements that nothing beats, bounds by level, and how often each level was searched."""

    def __init__(
        self,
        instance: Instance,
        options: SolverOptions,
        max_points: int,
        on_progress: Callable[[SweepProgress], None] | None,
        stop: threading.Event,
    ) -> None:
        self._started = time.monotonic()
        self._instance = instance
        self._options = options
        self._max_points = max_points
        self._on_progress = on_progress
        self._stop = stop
        limit = instance.constraints.max_cost_per_hour
        self._levels = CostLevels(instance.cluster, math.inf if limit is None else limit)
        self._found: list[_Found] = []
        self._claims: list[tuple[int, float]] = []
        self._num_tries = np.zeros(len(self._levels))
        self._is_exhausted = np.zeros(len(self._levels), dtype=np.bool_)
        self._barren: set[float] = set()
        self._num_searches = 0
        self._wanted_gap = options.relative_gap
        self._out_of_memory = False
        self._reasons: tuple[InfeasibilityReason, ...] = ()
        self._report = SolverReport()

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started

    @property
    def _remaining_s(self) -> float:
        return self._options.time_limit_s - self._elapsed_s

    @property
    def _over(self) -> bool:
        return self._stop.is_set() or self._out_of_memory or self._remaining_s < LEAST_SEARCH_S

    def run(self) -> Frontier:
        last = len(self._levels) - 1
        self._price_levels(self._remaining_s * PRICES_SHARE)
        self._wanted_gap = max(FIRST_GAPS[0], self._options.relative_gap)
        if self._search_period(last, self._remaining_s * END_SHARE).status is not Status.INFEASIBLE and not self._over:
            self._search_cost(self._remaining_s * END_SHARE)
        for gap in (*FIRST_GAPS, 0.0):
            self._wanted_gap = max(gap, self._options.relative_gap)
            self._num_tries = np.where(self._is_exhausted, math.inf, 0.0)
            while not self._over and (level := self._next_level()) is not None:
                self._fill(*level)
        return self._answer()

    def _price_levels(self, limit_s: float) -> None:
        """Bounds from prices of load and memory: those of one level hold for every other, so few are enough for all."""
        deadline = self._elapsed_s + limit_s
        instance = replace(self._instance, objective=replace(self._instance.objective, kind=ObjectiveKind.COST))
        coarse = unite_similar(reduce_instance(compile_instance(instance), instance.objective.partition))
        fleets = find_fleets(coarse)
        if fleets is None or not coarse.allowed.any(axis=1).all():
            return
        bounds = FleetBounds(coarse, fleets, instance.constraints.longest_period_ms)
        tops = self._levels.tops
        for level in np.unique(np.linspace(0, len(tops) - 1, NUM_PRICED).astype(int)):
            bounds.least_period(lambda: 0.0 if self._stop.is_set() else deadline - self._elapsed_s, float(tops[level]))
        order = np.argsort(fleets.costs, kind="stable")
        least = np.minimum.accumulate(np.where(bounds.are_open, bounds.periods, math.inf)[order])
        affordable = np.searchsorted(fleets.costs[order], tops * (1 + 2 * NEAR), side="right")
        within = np.append(math.inf, least)[affordable]
        # One claim for every height: it holds for all levels below.
        for level in np.flatnonzero(np.append(within[1:] != within[:-1], True)):
            self._claims.append((int(level), float(within[level])))

    def _search_period(self, level: int, limit_s: float) -> Result:
        """Search for the least period within a level."""
        affordable = [found for found in self._found if self._levels.index(found.cost) <= level]
        bound = float(self._bounds()[level])
        top = None if level == len(self._levels) - 1 else float(self._levels.tops[level])
        result = self._solve(ObjectiveKind.THROUGHPUT, top, limit_s, affordable[-1:], bound)
        if result.status is Status.INFEASIBLE:
            self._claims.append((level, math.inf))
            self._reasons = result.infeasibility if top is None else self._reasons
        elif result.best_bound is not None:
            self._claims.append((level, result.best_bound))
        self._tell()
        return result

    def _search_cost(self, limit_s: float) -> None:
        """Search for the least cost at any period; all levels below the bound are out of reach."""
        result = self._solve(ObjectiveKind.COST, None, limit_s, self._found[:1], None)
        least = math.inf if result.status is Status.INFEASIBLE else result.best_bound or 0.0
        beyond = int(np.searchsorted(self._levels.tops, least * (1 - NEAR)))
        if beyond > 0:
            self._claims.append((beyond - 1, math.inf))
        self._tell()

    def _solve(
        self, kind: ObjectiveKind, max_cost: float | None, limit_s: float, hints: list[_Found], bound: float | None
    ) -> Result:
        instance = replace(self._instance, objective=replace(self._instance.objective, kind=kind))
        if max_cost is not None:
            instance = replace(instance, constraints=replace(instance.constraints, max_cost_per_hour=max_cost))
        placements: list[Placement] = []

        def note(progress: Progress) -> None:
            if progress.placement is not None:
                placements.append(progress.placement)

        result = solve(
            instance,
            replace(
                self._options,
                time_limit_s=max(limit_s, LEAST_SEARCH_S),
                relative_gap=self._options.relative_gap if kind is ObjectiveKind.COST else self._wanted_gap,
            ),
            on_progress=note,
            stop=self._stop,
            hint=hints[0].placement if hints else None,
            bound=None if bound == math.inf else bound,
            seeks_conflict=max_cost is None,
        )
        self._num_searches += 1
        self._out_of_memory = result.stop_reason is StopReason.MEMORY_LIMIT
        self._report = result.solver
        for placement in [*placements, *([] if result.placement is None else [result.placement])]:
            self._consider(placement)
        return result

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(SweepProgress(self._elapsed_s, self._num_searches, self._points(), self._gap()))

    def _consider(self, placement: Placement) -> None:
        """Keep a placement of the user's instance if nothing known beats it, and drop what it beats."""
        throughput, cost = (
            verify(replace(self._instance, objective=replace(self._instance.objective, kind=kind)), placement)
            for kind in (ObjectiveKind.THROUGHPUT, ObjectiveKind.COST)
        )
        if throughput.violations or throughput.objective_value is None or cost.objective_value is None:
            return
        new = _Found(cost.objective_value, throughput.objective_value, placement, throughput.stages)
        kept: list[_Found] = []
        for found in sorted([*self._found, new], key=lambda f: (f.cost, f.period_ms)):
            if kept and found.period_ms >= kept[-1].period_ms * (1 - NEAR):
                continue
            if kept and found.cost <= kept[-1].cost * (1 + NEAR):
                kept.pop()
            kept.append(found)
        self._found = kept

    def _bounds(self) -> Floats:
        """By level, the period below which no placement that costs so much at most can be; infinite: there is none."""
        bounds = np.zeros(len(self._levels))
        for level, period in self._claims:
            # As in a single search: what a verified placement contradicts is a defect, and is not believed.
            if all(self._levels.index(f.cost) > level or f.period_ms >= period * (1 - NEAR) for f in self._found):
                bounds[level] = max(bounds[level], period)
        return np.maximum.accumulate(bounds[::-1])[::-1]

    def _best(self) -> Floats:
        """By level, the shortest period found that even its floor affords; infinite: none."""
        best = np.full(len(self._levels), math.inf)
        for found in self._found:
            level = self._levels.index(found.cost)
            # A point inside a level of several sums is beyond its floor.
            best[level + (self._levels.floors[level] < found.cost * (1 - NEAR)) :] = found.period_ms
        return best

    def _gaps(self) -> Floats:
        """By level, how much of the best period may still be gained: 0 to 1."""
        best, bounds = self._best(), self._bounds()
        gaps = np.where(bounds < best, 1.0, 0.0)
        known = np.isfinite(best) & (bounds < best)
        gaps[known] = 1 - bounds[known] / best[known]
        return gaps

    def _gap(self) -> float | None:
        affordable = np.isfinite(self._best())
        return float(self._gaps()[affordable].max()) if affordable.any() else None

    def _next_level(self) -> tuple[int, float] | None:
        """The level to search next and the time for it: in the widest unknown stretch, of the least tried."""
        gaps = self._gaps()
        is_open = (gaps > max(self._wanted_gap, OPTIMALITY_TOLERANCE)) & np.isfinite(self._num_tries)
        wanted = math.inf
        if len(self._found) >= self._max_points:
            is_open &= np.isin(np.arange(len(gaps)), [self._levels.index(found.cost) for found in self._found])
        else:
            wanted = self._max_points - len(self._found)
        if not is_open.any():
            return None
        is_open &= self._num_tries == self._num_tries[is_open].min()
        candidates = np.flatnonzero(is_open)
        best = self._best()[candidates]
        weights = gaps[candidates] * np.diff(self._levels.floors, prepend=0.0)[candidates]
        stretches = np.unique(best)
        widest = stretches[np.argmax([weights[best == period].sum() for period in stretches])]
        stretch = candidates[best == widest]
        # After a search in the middle in vain, the top shows whether there is anything at all.
        level = stretch[-1] if float(widest) in self._barren else stretch[len(stretch) // 2]
        return int(level), self._remaining_s / min(len(candidates), wanted)

    def _fill(self, level: int, limit_s: float) -> None:
        """Search a level; one that an unfinished search used up its means on is not tried again."""
        best = float(self._best()[level])
        began, known = self._elapsed_s, [(found.cost, found.period_ms) for found in self._found]
        result = self._search_period(level, limit_s)
        if known == [(found.cost, found.period_ms) for found in self._found]:
            self._barren.add(best)
        gave_up = self._elapsed_s - began < limit_s / 2 and not self._over
        self._is_exhausted[level] = gave_up and result.stop_reason is not StopReason.GAP_LIMIT
        self._num_tries[level] += math.inf if gave_up else 1

    def _points(self) -> tuple[FrontierPoint, ...]:
        bounds, levels = self._bounds(), self._levels
        points = []
        for found in self._found:
            as_fast = bounds <= found.period_ms * (1 + NEAR)
            least = float(levels.floors[np.argmax(as_fast)])
            bound = min(float(bounds[levels.index(found.cost)]), found.period_ms)
            points.append(
                FrontierPoint(found.cost, found.period_ms, bound, min(least, found.cost), found.placement, found.stages)
            )
        return tuple(points)

    def _stairs(self) -> tuple[FrontierBound, ...]:
        """The bounds by level, one for every height."""
        bounds = self._bounds()
        ends = np.flatnonzero(np.append(bounds[1:] != bounds[:-1], True))
        return tuple(
            FrontierBound(float(self._levels.tops[i]), float(bounds[i]) if math.isfinite(bounds[i]) else None)
            for i in ends
        )

    def _answer(self) -> Frontier:
        largest = float(self._gaps().max(initial=0.0))
        is_proved = largest <= OPTIMALITY_TOLERANCE
        if is_proved:
            reason = SweepStopReason.PROVED
        elif self._stop.is_set():
            reason = SweepStopReason.CANCELLED
        elif self._out_of_memory:
            reason = SweepStopReason.MEMORY_LIMIT
        elif largest <= self._options.relative_gap:
            reason = SweepStopReason.GAP_LIMIT
        elif len(self._found) >= self._max_points and self._next_level() is None:
            reason = SweepStopReason.POINTS_LIMIT
        else:
            reason = SweepStopReason.TIME_LIMIT
        if self._found:
            status = Status.OPTIMAL if is_proved else Status.FEASIBLE
        else:
            status = Status.INFEASIBLE if is_proved else Status.UNKNOWN
        return Frontier(
            status=status,
            stop_reason=reason,
            points=self._points(),
            bounds=self._stairs(),
            relative_gap=self._gap(),
            num_searches=self._num_searches,
            elapsed_s=self._elapsed_s,
            infeasibility=self._reasons if status is Status.INFEASIBLE else (),
            solver=self._report,
        )
