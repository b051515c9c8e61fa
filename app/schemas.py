"""What the service says: the placement resource, the problem document, and the answer's shape for the API's reader.

The answer itself is written by :mod:`solver.formats.native`; the models of it here only describe it in OpenAPI.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from solver.explanation import Part, Pass
from solver.improvements import ImprovementCode
from solver.instance import InterconnectModel, ObjectiveKind, Partition
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


ACTIVE = tuple(state for state in State if not state.is_terminal)
HELD = tuple(state for state in ACTIVE if state is not State.QUEUED)
"""The states in which a dispatcher has the job."""


class CancelMode(StrEnum):
    """What becomes of what was found when a job is cancelled."""

    KEEP_BEST = "keep_best"
    DISCARD = "discard"


def format_time(moment: datetime) -> str:
    """As every answer writes a time: UTC, with microseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Moment = Annotated[datetime, PlainSerializer(format_time, return_type=str)]


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


class PlacementStatus(_Document):
    """A placement job without its result."""

    id: str
    state: State
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    heartbeat_at: Moment | None
    attempt: int
    priority: int
    tags: list[str]
    elapsed_s: float = Field(description="How long it has been solved for, in all attempts.")
    time_limit_s: float
    objective_value: float | None
    best_bound: float | None
    relative_gap: float | None
    queue_position: int | None = Field(description="How many start before it; null unless it is queued, and in lists.")
    error: Problem | None


class PlacementList(_Document):
    """A page of placements."""

    placements: list[PlacementStatus]
    next_cursor: str | None = Field(description="For the next page; null on the last one.")


class NumberedIncumbent(Incumbent):
    """A step of the search with its place among the events of the placement."""

    sequence: int
    created_at: Moment
    relative_gap: float | None
    attempt: int


class IncumbentList(_Document):
    """Steps of the search, in their order."""

    incumbents: list[NumberedIncumbent]


class Cancellation(_Document):
    """How to cancel a placement."""

    mode: CancelMode = CancelMode.KEEP_BEST


class Size(_Document):
    """How large a problem is."""

    num_operators: int
    num_edges: int
    num_devices: int
    num_assignments: int = Field(description="Operators × devices: what a model of it has to decide.")


class Validation(_Document):
    """What is wrong with a request document."""

    valid: bool
    issues: list[Issue]
    num_issues: int = Field(description="How many faults there are, listed or not.")
    supported: bool = Field(description="Whether some method here can solve it; the issues say why not.")
    size: Size | None = Field(description="Null when the document cannot be read far enough.")


class Violation(_Document):
    """A rule that a placement breaks."""

    code: str
    message: str
    operators: list[str]
    devices: list[str]


class Load(_Document):
    """What a device spends in a pass, and what binds it."""

    device: str
    in_pass: Pass
    compute_time_ms: float
    transfer_in_ms: float
    transfer_out_ms: float
    load_ms: float
    slack_ms: float = Field(description="What it may take longer before the period does.")
    bound_by: list[Part] = Field(description="The parts that the load consists of under the overlap rule.")
    is_bottleneck: bool


class TensorCost(_Document):
    """A tensor that travels, and what each end pays."""

    tensor: str | None
    producer: str
    device: str
    transfer_out_ms: float
    transfer_in_ms: dict[str, float]


class Destination(_Document):
    """The placement with some operators on this device instead."""

    device: str
    period_ms: float | None
    cost_per_hour: float | None
    violations: list[Violation] = Field(description="All of that placement, not only new ones.")


class Move(_Document):
    """Operators that move together, and where they might: the best first."""

    operators: list[str]
    device: str
    destinations: list[Destination]


class Change(_Document):
    """One thing made better, and the period of this same placement then."""

    code: ImprovementCode
    message: str
    pointer: str = Field(description="JSON pointer to what is made better, in the request.")
    period_ms: float
    operators: list[str] = Field(description="With more_memory: what moves to the device.")
    device: str | None
    memory_bytes: int | None = Field(description="With more_memory: how many more.")


class Explanation(_Document):
    """Why a placement is worth what it is. Nothing is solved again: all is about this placement and its neighbours."""

    period_ms: float
    cost_per_hour: float | None
    loads: list[Load]
    tensors: list[TensorCost] = Field(description="The dearest ones.")
    num_tensors: int = Field(description="How many tensors cost something, listed or not.")
    moves: list[Move]
    num_moves_not_tried: int
    changes: list[Change]
    num_changes_not_tried: int


class Evaluation(BaseModel):
    """What a placement is worth."""

    model_config = ConfigDict(extra="allow")

    valid: bool
    objective_value: float | None = Field(description="Null when the placement is too incomplete to have one.")
    violations: list[Violation]
    stages: list[Stage]
    explanation: Explanation | None = Field(
        default=None, description="Only with `explain`; null when the placement has no value to explain."
    )


class Limits(_Document):
    """What a request may ask for."""

    max_body_bytes: int
    max_issues: int
    max_devices: int
    max_time_limit_s: float
    max_workers: int
    default_workers: int
    memory_limit_bytes: int
    default_wait_s: float
    max_wait_s: float
    max_queued: int
    max_priority: int
    max_tags: int
    retention_days: float | None
    slots: int = Field(description="Cores of all live dispatchers.")
    requests_per_minute: int | None = Field(description="Of this key; null: as many as you like.")
    max_jobs: int | None = Field(description="Queued and running placements of this key; null: no bound of its own.")
    cpu_seconds_per_day: float | None = Field(description="Seconds times workers of this key in 24 hours.")


class SupportedQuestion(_Document):
    """A kind of question that there is a method for."""

    objective: ObjectiveKind
    partition: Partition
    interconnect: InterconnectModel
    constraints: list[str]


class Solvers(_Document):
    """What can be solved here."""

    versions: dict[str, str]
    questions: list[SupportedQuestion]


class Health(_Document):
    """That the service, or everything it needs, is up."""

    status: str
