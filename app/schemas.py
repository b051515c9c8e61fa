"""What the service says: the placement resource, the problem document, and the answer's shape for the API's reader.

The answer itself is written by :mod:`solver.formats.native`; the models of it here only describe it in OpenAPI.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from solver.result import Status, StopReason


class State(StrEnum):
    """The life of a job; what is known about the answer is the result's ``status``."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing will change any more."""
        return self not in (State.QUEUED, State.RUNNING, State.CANCELLING)


class CancelMode(StrEnum):
    """What becomes of what was found when a job is cancelled."""

    KEEP_BEST = "keep_best"
    DISCARD = "discard"


def _format_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Moment = Annotated[datetime, PlainSerializer(_format_time, return_type=str)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Issue(_Document):
    """One fault of the request document."""

    code: str = Field(description="Stable and machine-readable.")
    pointer: str = Field(description="JSON pointer (RFC 6901) to the fault; empty: the whole document.")
    message: str
    hint: str = Field(description="What to do about it.")


class Problem(_Document):
    """An error (RFC 9457, application/problem+json)."""

    type: str = Field(
        description="Stable name of the kind of problem.", examples=["urn:placewright:problem:invalid-document"]
    )
    title: str
    status: int
    detail: str
    issues: list[Issue] | None = Field(
        default=None, description="Every fault found in the request document, up to a bound."
    )
    num_issues: int | None = Field(default=None, description="How many faults there are, listed or not.")


class Stage(_Document):
    """A used device and what it spends per sample."""

    device: str
    operators: list[str]
    compute_time_ms: float
    transfer_in_ms: float
    transfer_out_ms: float
    load_ms: float
    memory_bytes: int
    memory_limit_bytes: int | None


class Incumbent(_Document):
    """A step of the search."""

    elapsed_s: float
    objective_value: float | None
    best_bound: float | None
    found_by: str


class Answer(BaseModel):
    """The solver's answer, or the best so far while ``stop_reason`` is null."""

    model_config = ConfigDict(extra="allow")

    status: Status
    stop_reason: StopReason | None
    objective_value: float | None = Field(description="Milliseconds (cost: per hour); null while unknown.")
    best_bound: float | None = Field(description="No placement can be better than this; null while unknown.")
    relative_gap: float | None = Field(description="(objective_value - best_bound) / objective_value.")
    placement: dict[str, str] | None = Field(description="Operator id to device name.")
    stages: list[Stage] = Field(description="The used devices in pipeline order.")
    incumbents: list[Incumbent]
    infeasibility: list[dict[str, Any]] | None = Field(description="Why no placement exists, when that is proved.")
    timings_s: dict[str, float]
    solver: dict[str, Any] = Field(description="Engines, versions, seed and workers, for replaying the answer.")


class Placement(_Document):
    """A placement job: where it stands and what it found."""

    id: str
    state: State
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    heartbeat_at: Moment | None = Field(description="When the service last looked after the running solve.")
    attempt: int = Field(description="How often the solve was started; 0 while it was never.")
    priority: int = Field(description="Higher ones start first.")
    tags: list[str]
    request_digest: str = Field(description="sha256 of the request document.")
    result: Answer | None = Field(description="The answer; the best so far while running or after a failure.")
    error: Problem | None = Field(description="Why the job failed.")


class Health(_Document):
    """That the service, or everything it needs, is up."""

    status: str
