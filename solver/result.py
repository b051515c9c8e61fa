"""The answer: a placement, how good it is, and how much of that is proved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

OPTIMALITY_TOLERANCE = 1e-6
"""Largest relative gap that may be called optimal."""

Placement = Mapping[str, str]
"""Operator id → device name."""


class Status(StrEnum):
    """What is known about the answer."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    UNKNOWN = "unknown"


class StopReason(StrEnum):
    """Why the search ended; independent of what it found."""

    PROVED = "proved"
    GAP_LIMIT = "gap_limit"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Stage:
    """One used device and what it spends per sample, in milliseconds."""

    device: str
    operators: tuple[str, ...]
    compute_time_ms: float
    transfer_in_ms: float
    transfer_out_ms: float
    load_ms: float
    memory_bytes: int
    memory_limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class Incumbent:
    """A step of the search: the best verified value and the best proved bound at that moment."""

    elapsed_s: float
    objective_value: float | None
    best_bound: float | None
    found_by: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What an observer is told while the search runs; placement and stages when a better one was just verified."""

    incumbent: Incumbent
    placement: Placement | None = None
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True, slots=True)
class InfeasibilityReason:
    """One reason why no placement exists, with the operators and devices concerned and by how much they miss."""

    code: str
    message: str
    operators: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    required: float | None = None
    available: float | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class SolverReport:
    """Who produced the answer, for replaying it.

    ``distrusted`` names methods whose bound a verified placement contradicted; none of their claims is used.
    """

    methods: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    workers: int = 1
    found_by: str | None = None
    proved_by: str | None = None
    distrusted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to an instance. ``objective_value`` and ``best_bound`` are ``None`` while unknown, never infinite."""

    status: Status
    stop_reason: StopReason
    objective_value: float | None = None
    best_bound: float | None = None
    placement: Placement | None = None
    stages: tuple[Stage, ...] = ()
    incumbents: tuple[Incumbent, ...] = ()
    infeasibility: tuple[InfeasibilityReason, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)
    solver: SolverReport = field(default_factory=SolverReport)

    @property
    def relative_gap(self) -> float | None:
        """See :func:`relative_gap`."""
        return relative_gap(self.objective_value, self.best_bound)


class SweepStopReason(StrEnum):
    """Why a sweep of the frontier ended; as :class:`StopReason`, and ``points_limit``: enough points were found."""

    PROVED = "proved"
    GAP_LIMIT = "gap_limit"
    POINTS_LIMIT = "points_limit"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class FrontierPoint:
    """A verified placement that no other one known beats in period and cost, and what is proved around it.

    No placement that costs at most ``cost_per_hour`` has a period below ``period_bound_ms``, and none with a period of
    at most ``period_ms`` costs less than ``cost_bound_per_hour``. ``optimal``: both bounds are reached.
    """

    cost_per_hour: float
    period_ms: float
    period_bound_ms: float
    cost_bound_per_hour: float
    placement: Placement
    stages: tuple[Stage, ...]

    @property
    def relative_gap(self) -> float:
        """Of the period, at this cost."""
        return relative_gap(self.period_ms, self.period_bound_ms) or 0.0

    @property
    def status(self) -> Status:
        """``optimal`` when nothing as cheap is faster and nothing as fast is cheaper; else ``feasible``."""
        cost_gap = relative_gap(self.cost_per_hour, self.cost_bound_per_hour) or 0.0
        return Status.OPTIMAL if max(self.relative_gap, cost_gap) <= OPTIMALITY_TOLERANCE else Status.FEASIBLE


@dataclass(frozen=True, slots=True)
class FrontierBound:
    """No placement of at most this cost has a period below ``least_period_ms``; ``None``: there is none."""

    max_cost_per_hour: float
    least_period_ms: float | None


@dataclass(frozen=True, slots=True)
class Frontier:
    """The answer to a sweep: what is known of the least period at every cost, from both sides.

    ``points`` and ``bounds`` go from cheap to dear. ``status`` is ``optimal`` when no placement lies on the frontier
    beyond these points. ``relative_gap`` is the largest gap of the period at any cost from the cheapest point on.
    """

    status: Status
    stop_reason: SweepStopReason
    points: tuple[FrontierPoint, ...]
    bounds: tuple[FrontierBound, ...]
    relative_gap: float | None
    num_searches: int
    elapsed_s: float
    infeasibility: tuple[InfeasibilityReason, ...]
    solver: SolverReport


def relative_gap(objective_value: float | None, best_bound: float | None) -> float | None:
    """(objective_value − best_bound) ÷ objective_value; 0 when both are 0, ``None`` when either is unknown."""
    if objective_value is None or best_bound is None:
        return None
    if objective_value == 0:
        return 0.0
    return max(0.0, (objective_value - best_bound) / objective_value)
