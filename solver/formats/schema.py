"""The native request document: its shape, types and ranges, field by field (problem.md §5 in code).

Only what one field can tell is checked here; what needs a second look at the document is
:func:`solver.validation.validate`'s business.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from solver.field_checks import MAX_ID_LENGTH
from solver.instance import Execution, InterconnectModel, ObjectiveKind, Overlap, Partition, PipelineSchedule
from solver.validation import (
    MAX_BYTES,
    MAX_DEVICES,
    MAX_RATE,
    MAX_TIME_LIMIT_S,
    MAX_TIME_MS,
)

Name = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
Milliseconds = Annotated[float, Field(strict=True, ge=0, le=MAX_TIME_MS, allow_inf_nan=False)]
# Whole numbers may be written as 17185374208.0, as many JSON writers do; read through float, exact below 2**53.
Bytes = Annotated[float, Field(strict=True, ge=0, le=MAX_BYTES, multiple_of=1, allow_inf_nan=False)]
Rate = Annotated[float, Field(strict=True, gt=0, le=MAX_RATE, allow_inf_nan=False)]
Price = Annotated[float, Field(strict=True, ge=0, le=MAX_RATE, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]


def _whole(low: int, high: int) -> Any:
    return Field(strict=True, ge=low, le=high)


def _read_version(value: object) -> object:
    """Not what only equals the number: true and 1.0 do."""
    if isinstance(value, bool | float):
        raise PydanticCustomError("literal_error", "one of the versions", {"expected": "1"})
    return value


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class OperatorRecord(_Record):
    """An operator (a whole layer may be one)."""

    id: Name
    compute_time_ms: dict[Name, Milliseconds] = Field(
        description="Device kind → time of one sample on it; a kind that is absent cannot run the operator"
    )
    memory_bytes: Bytes = Field(0, description="What the operator occupies on the device that holds it")
    colocation_group: Name | None = Field(None, description="Operators of one group share one device")
    is_backward: Flag = False
    allowed_devices: list[Name] | None = Field(None, description="Device ids, with or without index")


class EdgeRecord(_Record):
    """Data that one operator needs from another."""

    source: Name
    target: Name
    tensor: Name | None = Field(None, description="Name of the output; default: the one output of the source")
    bytes: Bytes = 0
    transfer_time_ms: Milliseconds | None = Field(
        None, description="Whole time of one transfer, in place of bytes ÷ bandwidth + latency"
    )


class GraphRecord(_Record):
    """The operator graph; it must not have cycles."""

    name: Annotated[str, Field(max_length=MAX_ID_LENGTH)] | None = None
    operators: list[OperatorRecord]
    edges: list[EdgeRecord] = Field(default_factory=list)


class DeviceRecord(_Record):
    """A device, or ``count`` identical ones named ``id:0`` … ``id:count-1``."""

    id: Name
    kind: Name
    memory_bytes: Bytes | None = Field(None, description="Absent: unlimited")
    count: Annotated[int, _whole(0, MAX_DEVICES)] | None = None
    is_host: Flag = False
    cost_per_hour: Price | None = None
    host_bandwidth_bytes_per_s: Rate | None = Field(None, description="In place of the interconnect's")
    host_latency_ms: Milliseconds | None = Field(None, description="In place of the interconnect's")


class LinkRecord(_Record):
    """Speed of a connection."""

    bandwidth_bytes_per_s: Rate
    latency_ms: Milliseconds = 0


class GroupRecord(LinkRecord):
    """A node, a rack …: how each two of its devices are joined."""

    devices: list[Name]


class PairRecord(LinkRecord):
    """The connection between two named devices."""

    a: Name
    b: Name


class InterconnectRecord(_Record):
    """How tensors travel."""

    model: InterconnectModel = InterconnectModel.HOST
    overlap: Overlap = Overlap.NONE
    host_bandwidth_bytes_per_s: Rate | None = None
    host_latency_ms: Milliseconds = 0
    default: LinkRecord | None = None
    groups: list[GroupRecord] = Field(default_factory=list)
    pairs: list[PairRecord] = Field(default_factory=list)


class ClusterRecord(_Record):
    """Devices and interconnect."""

    devices: list[DeviceRecord]
    interconnect: InterconnectRecord = Field(default_factory=lambda: InterconnectRecord.model_validate({}))


class ObjectiveRecord(_Record):
    """What to minimise."""

    kind: ObjectiveKind = ObjectiveKind.THROUGHPUT
    partition: Partition = Partition.ACYCLIC
    schedule: PipelineSchedule = PipelineSchedule.ONE_F_ONE_B
    execution: Execution = Execution.BLOCKS
    blocks_per_device: Annotated[int, _whole(1, 1_000_000)] = 1
    link_contention: Flag = False


class ForbiddenRecord(_Record):
    """An operator that must not sit on a device."""

    operator: Name
    device: Name


class ConstraintsRecord(_Record):
    """Limits on the answer."""

    max_period_ms: Milliseconds | None = None
    min_throughput_per_s: Price | None = None
    max_latency_ms: Milliseconds | None = None
    max_devices: Annotated[int, _whole(0, MAX_DEVICES)] | None = None
    max_cost_per_hour: Price | None = None
    pinned: dict[Name, Name] = Field(default_factory=dict)
    forbidden: list[ForbiddenRecord] = Field(default_factory=list)
    previous_placement: dict[Name, Name] | None = None
    max_moved_operators: Annotated[int, _whole(0, MAX_BYTES)] | None = None
    max_moved_bytes: Bytes | None = None


class SolverRecord(_Record):
    """How long and how hard to try."""

    time_limit_s: Annotated[float, Field(strict=True, gt=0, le=MAX_TIME_LIMIT_S)] = 30.0
    relative_gap: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.0
    workers: Annotated[int, _whole(1, 1024)] | None = Field(None, description="null: every core")
    seed: Annotated[int, _whole(0, 2**31 - 1)] = 0
    memory_limit_bytes: Annotated[Bytes, Field(gt=0)] | None = Field(
        None, description="What the solving process may hold before it ends with the best so far; null: no limit"
    )


class RequestDocument(_Record):
    """A graph, a cluster, an objective and constraints: the body of POST /placements."""

    schema_version: Annotated[Literal[1], BeforeValidator(_read_version)] = 1
    graph: GraphRecord
    cluster: ClusterRecord
    objective: ObjectiveRecord = Field(default_factory=lambda: ObjectiveRecord.model_validate({}))
    constraints: ConstraintsRecord = Field(default_factory=lambda: ConstraintsRecord.model_validate({}))
    solver: SolverRecord = Field(default_factory=lambda: SolverRecord.model_validate({}))
