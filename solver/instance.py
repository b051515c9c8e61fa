"""The question: an operator graph, a cluster, an objective and constraints.

Every record is immutable and holds the request's numbers as they were given. The records themselves carry no rules
that need to look at more than one of them; :func:`solver.validation.validate` finds every such fault at once, and
:func:`solver.solve.solve` refuses an instance that has one. Times are milliseconds, sizes are bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ObjectiveKind(StrEnum):
    """What is minimised: the pipeline's period, one sample's makespan, or the price of the devices."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"
    COST = "cost"


class Partition(StrEnum):
    """Which sets of forward operators a device may hold."""

    ACYCLIC = "acyclic"
    CONVEX = "convex"
    FREE = "free"


class PipelineSchedule(StrEnum):
    """How forward and backward passes share a device in the steady state."""

    ONE_F_ONE_B = "1f1b"
    GPIPE = "gpipe"


class Execution(StrEnum):
    """How a device executes its operators when one sample's latency counts."""

    BLOCKS = "blocks"
    OPERATORS = "operators"


class Overlap(StrEnum):
    """How compute, incoming and outgoing transfers of one device add up."""

    NONE = "none"
    FULL = "full"
    DUPLEX = "duplex"


class InterconnectModel(StrEnum):
    """Through host memory, or over links between pairs of devices."""

    HOST = "host"
    LINKS = "links"


@dataclass(frozen=True, slots=True)
class Operator:
    """A node of the graph; ``compute_time_ms`` maps a device kind to the time of one sample on it."""

    id: str
    compute_time_ms: Mapping[str, float]
    memory_bytes: int = 0
    colocation_group: str | None = None
    is_backward: bool = False
    allowed_devices: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """Data that ``target`` needs from ``source``. Edges of one ``tensor`` of a source share one transfer per device."""

    source: str
    target: str
    bytes: int = 0
    tensor: str | None = None
    transfer_time_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """Operators and the edges between them."""

    operators: tuple[Operator, ...]
    edges: tuple[Edge, ...] = ()
    name: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One entry of the cluster: a device, or ``count`` identical ones named ``id:0 … id:count-1``."""

    id: str
    kind: str
    memory_bytes: int | None = None
    count: int | None = None
    is_host: bool = False
    cost_per_hour: float | None = None
    host_bandwidth_bytes_per_s: float | None = None
    host_latency_ms: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the devices this entry stands for."""
        if self.count is None:
            return (self.id,)
        return tuple(f"{self.id}:{index}" for index in range(self.count))


@dataclass(frozen=True, slots=True)
class Device:
    """A single device, by its full name, with the entry of the cluster it comes from."""

    name: str
    spec: DeviceSpec


@dataclass(frozen=True, slots=True)
class Link:
    """Speed of a connection: bytes ÷ ``bandwidth_bytes_per_s`` + ``latency_ms``."""

    bandwidth_bytes_per_s: float
    latency_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class LinkGroup:
    """A node, a rack, a site: every two of its devices are joined by ``link``."""

    devices: tuple[str, ...]
    link: Link


@dataclass(frozen=True, slots=True)
class LinkPair:
    """The connection between two named devices, in both directions."""

    a: str
    b: str
    link: Link


@dataclass(frozen=True, slots=True)
class Interconnect:
    """How tensors travel between devices, and how that adds up with compute."""

    model: InterconnectModel = InterconnectModel.HOST
    overlap: Overlap = Overlap.NONE
    host_bandwidth_bytes_per_s: float | None = None
    host_latency_ms: float = 0.0
    default: Link | None = None
    groups: tuple[LinkGroup, ...] = ()
    pairs: tuple[LinkPair, ...] = ()


@dataclass(frozen=True, slots=True)
class Cluster:
    """The devices and what joins them."""

    devices: tuple[DeviceSpec, ...]
    interconnect: Interconnect = field(default_factory=Interconnect)

    def expand(self) -> tuple[Device, ...]:
        """Every single device, in the order of the document."""
        return tuple(Device(name, spec) for spec in self.devices for name in spec.names)

    def resolve(self) -> dict[str, tuple[str, ...]]:
        """Map every id a document may use, with index or without, to the names of the devices it means."""
        meaning: dict[str, tuple[str, ...]] = {}
        for spec in self.devices:
            meaning[spec.id] = spec.names
            meaning.update({name: (name,) for name in spec.names})
        return meaning


@dataclass(frozen=True, slots=True)
class Objective:
    """What to minimise, and under which execution model."""

    kind: ObjectiveKind = ObjectiveKind.THROUGHPUT
    partition: Partition = Partition.ACYCLIC
    schedule: PipelineSchedule = PipelineSchedule.ONE_F_ONE_B
    execution: Execution = Execution.BLOCKS
    blocks_per_device: int = 1
    link_contention: bool = False


@dataclass(frozen=True, slots=True)
class ForbiddenPlacement:
    """An operator that must not sit on a device (or on any device of an id without index)."""

    operator: str
    device: str


@dataclass(frozen=True, slots=True)
class Constraints:
    """Limits on the answer; ``None`` or empty means no limit."""

    max_period_ms: float | None = None
    min_throughput_per_s: float | None = None
    max_latency_ms: float | None = None
    max_devices: int | None = None
    max_cost_per_hour: float | None = None
    pinned: Mapping[str, str] = field(default_factory=dict)
    forbidden: tuple[ForbiddenPlacement, ...] = ()
    previous_placement: Mapping[str, str] | None = None
    max_moved_operators: int | None = None
    max_moved_bytes: int | None = None

    @property
    def longest_period_ms(self) -> float:
        """The longest period the limits allow; infinite without a limit."""
        rate = self.min_throughput_per_s
        return min(
            math.inf if self.max_period_ms is None else self.max_period_ms,
            1000 / rate if rate else math.inf,
        )


@dataclass(frozen=True, slots=True)
class Instance:
    """The whole question."""

    graph: Graph
    cluster: Cluster
    objective: Objective = field(default_factory=Objective)
    constraints: Constraints = field(default_factory=Constraints)


@dataclass(frozen=True, slots=True)
class SolverOptions:
    """How long and how hard to try. ``workers=None`` uses every core.

    One worker and a fixed seed repeat themselves, but for what the time limit, or the part of it that a method gets,
    cuts off. ``memory_limit_bytes`` is what the whole process may hold before the search ends with what it has.
    """

    time_limit_s: float = 30.0
    relative_gap: float = 0.0
    workers: int | None = None
    seed: int = 0
    memory_limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A document: the instance and how to solve it."""

    instance: Instance
    options: SolverOptions = field(default_factory=SolverOptions)
