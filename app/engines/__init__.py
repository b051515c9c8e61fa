"""Where solves run: the contract every engine keeps.

An engine runs one task in a process of its own and returns once nothing of it is left. Meanwhile it reports to a
:class:`Watch`, and asks it whether to stop. What a solve has found is reported as it comes, so whatever ends it, the
best placement is known.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from app.schemas import Problem


@dataclass(frozen=True, slots=True)
class Task:
    """What to solve, and within which limits: the operator's, not the document's."""

    placement_id: str
    document: bytes
    """The request document, gzip."""
    time_limit_s: float
    workers: int
    best: bytes | None = None
    """The result document to start from, gzip."""
    best_bound: float | None = None
    """What the same versions of the solver have proved before."""
    memory_limit_bytes: int | None = None
    stop_grace_s: float = 5.0
    """From the polite interrupt to the kill."""
    overrun_grace_s: float = 10.0
    """How far the time limit may be overrun before the interrupt."""
    startup_grace_s: float = 120.0
    """For reading the document."""
    trace_parent: str | None = None


class StopCause(StrEnum):
    """Why a solve was told to stop."""

    CANCEL = "cancel"
    DISCARD = "discard"
    """Cancelled, and nobody wants its placement."""
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease_lost"
    OVERRUN = "overrun"
    MEMORY = "memory"

    @property
    def is_unkind(self) -> bool:
        """Whether there is no answer to wait for."""
        return self in (StopCause.DISCARD, StopCause.LEASE_LOST)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a solve ended: with a result, or with an error; and what it had been told."""

    result: dict[str, Any] | None
    error: Problem | None
    stop_cause: StopCause | None = None
    elapsed_s: float = 0.0
    """How long it solved, its start left aside."""


class Watch(Protocol):
    """What the owner of the job wants to know meanwhile, and may want. Called from one thread at a time."""

    def note_start(self) -> None:
        """The document is read; the clock of the time limit runs."""

    def note_progress(self, steps: Sequence[Mapping[str, Any]], result: dict[str, Any] | None) -> None:
        """Steps of the search, and the best answer so far when it is a new one."""

    def note_log(self, content: bytes) -> None:
        """What the process has written."""

    def stop_order(self) -> StopCause | None:
        """Why to stop now, if so."""


class Engine(Protocol):
    """Runs tasks."""

    name: str

    def start(self) -> None:
        """Connect. Raises :class:`OSError` in a sentence for the operator."""

    def warm_up(self, stopping: threading.Event) -> None:
        """Return once a task can be started without delay, or when ``stopping`` is set."""

    def count_slots(self) -> int:
        """Cores that all solves share."""

    def run(self, task: Task, watch: Watch) -> Outcome:
        """Run the task to its end. Called from many threads."""

    def stop(self) -> None:
        """Give everything back; no task runs any more."""
