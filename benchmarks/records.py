"""What a benchmark remembers of each run, and of where it ran."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from solver.result import OPTIMALITY_TOLERANCE, relative_gap

PLACEWRIGHT = "Placewright"
"""The name of our own command line among the methods."""


@dataclass(frozen=True, slots=True)
class Step:
    """A moment of a search, in seconds since it began: the best verified value and the best bound."""

    elapsed_s: float
    objective_value: float | None
    best_bound: float | None


@dataclass(frozen=True, slots=True)
class Record:
    """One run of one method on one workload, in a process of its own.

    Attributes:
        suite: why it was run, one of :data:`benchmarks.plan.SUITES`.
        objective_value: in ms (objective cost: per hour), recomputed by the verifier from the placement; ``None``
            without a valid placement.
        best_bound: in the same unit, as the method claims it; ``None`` for methods that prove nothing.
        found_by: for Placewright, the method that found the answer; ``proved_by`` likewise for the bound.
        ended: why the method stopped, in its own words.
        wall_s: of the whole process, start-up included.
        cpu_s: of all its threads; far less than ``wall_s`` times the workers tells of a busy machine.
        peak_memory_bytes: of that process.
        failure: in words, when there is no valid placement.
    """

    suite: str
    workload: str
    num_operators: int
    num_devices: int
    partition: str
    method: str
    time_limit_s: float
    objective_value: float | None = None
    best_bound: float | None = None
    found_by: str | None = None
    proved_by: str | None = None
    ended: str | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    steps: tuple[Step, ...] = ()
    failure: str | None = None

    @property
    def gap(self) -> float | None:
        """(objective value − best bound) ÷ objective value; ``None`` when either is unknown."""
        return relative_gap(self.objective_value, self.best_bound)

    @property
    def is_proved(self) -> bool:
        """Whether the gap is closed."""
        return self.gap is not None and self.gap <= OPTIMALITY_TOLERANCE

    @property
    def first_s(self) -> float | None:
        """When the first placement was verified, in seconds since the search began."""
        return next((step.elapsed_s for step in self.steps if step.objective_value is not None), None)

    def reached_s(self, gap: float) -> float | None:
        """When the gap was first at most ``gap``, in seconds since the search began."""
        for step in self.steps:
            reached = relative_gap(step.objective_value, step.best_bound)
            if reached is not None and reached <= gap:
                return step.elapsed_s
        return None


@dataclass(frozen=True, slots=True)
class Campaign:
    """All runs of one ``make bench``.

    Attributes:
        origin: machine, versions and commit, by name, see :mod:`benchmarks.origin`.
        options: what was asked for.
        not_read: file → why it is no workload.
        not_compared: workloads that the alternatives are not written for.
    """

    origin: dict[str, Any]
    options: dict[str, Any]
    not_read: dict[str, str]
    not_compared: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def to_document(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Campaign:
        """The way back."""
        records = [
            Record(**{**record, "steps": tuple(Step(**step) for step in record["steps"])})
            for record in document["records"]
        ]
        return cls(**{**document, "records": records})
