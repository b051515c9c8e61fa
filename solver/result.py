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


def relative_gap(objective_value: float | None, best_bound: float | None) -> float | None:
    """(objective_value − best_bound) ÷ objective_value; 0 when both are 0, ``None`` when either is unknown."""
    if objective_value is None or best_bound is None:
        return None
    if objective_value == 0:
        return 0.0
    return max(0.0, (objective_value - best_bound) / objective_value)
