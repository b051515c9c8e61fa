"""What is told about jobs, in records, and why something cannot be done with one, in exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.auth.allowance import NO_BOUNDS, Allowance
from app.schemas import State


class PlacementNotFound(Exception):
    """This tenant has no placement of that id."""


class StartNotUsable(Exception):
    """There is no placement to start from; in words for the client."""


class KeyInFlight(Exception):
    """The request that brought the idempotency key first is still waiting for its answer."""


class KeyReused(Exception):
    """The idempotency key came with another request before."""


class NoFreeSlots(Exception):
    """The job would have to wait, and must not."""


class QueueFull(Exception):
    """As many jobs are queued as may be."""


class NotFinished(Exception):
    """The job is still going on."""


class AlreadyFinished(Exception):
    """The job has ended by itself; carries its state."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.state = state


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPlacement:
    """A job to be made."""

    tenant: str
    request: bytes
    """The request document, gzip."""
    digest: str
    time_limit_s: float
    workers: int
    fingerprint: str
    priority: int = 0
    tags: tuple[str, ...] = ()
    max_wait_s: float | None = None
    warm_start: str | None = None
    idempotency_key: str | None = None
    answering_s: float = 0.0
    webhook_url: str | None = None
    trace_parent: str | None = None
    key_id: str | None = None
    allowance: Allowance = NO_BOUNDS


@dataclass(frozen=True, slots=True)
class Summary:
    """A job as it stands, without its documents."""

    id: str
    state: State
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    heartbeat_at: datetime | None
    attempt: int
    priority: int
    tags: tuple[str, ...]
    request_digest: str
    time_limit_s: float
    elapsed_s: float
    """How long it has been solved for, in all attempts."""
    objective_value: float | None
    best_bound: float | None
    relative_gap: float | None
    error: dict[str, Any] | None
    num_events: int
    queue_position: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A job with its newest result."""

    summary: Summary
    result: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job."""

    sequence: int
    kind: str
    created_at: datetime
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """The queue of all tenants."""

    states: dict[State, int]
    slots: int
    """Of all live dispatchers."""
    oldest_s: float
    """How long the oldest queued job has waited."""
