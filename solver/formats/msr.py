"""The format of the public workloads of Tarnawski et al. (NeurIPS 2020): ``nodes``, ``edges``, ``maxFPGAs``.

Numbers are read as they stand. Read only; hand-made splits (``fpgas``, ``cpus``) are read as placements.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from solver.collector import collector_paused
from solver.errors import InvalidInstance, Issue, Path
from solver.formats.document_faults import issue_of
from solver.instance import Cluster, DeviceSpec, Edge, Graph, Instance, Interconnect, Operator, Request
from solver.result import Placement
from solver.validation import MAX_BYTES, MAX_DEVICES, MAX_TIME_MS, validate

ACCELERATOR = "accelerator"
CPU = "cpu"

_Time = Annotated[float, Field(strict=True, ge=0, le=MAX_TIME_MS, allow_inf_nan=False)]
_Size = Annotated[float, Field(strict=True, ge=0, le=MAX_BYTES, allow_inf_nan=False)]


def _read_id(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise PydanticCustomError("id_type", "a whole number or text")
    return str(value)


def _read_flag(value: object) -> bool:
    if not isinstance(value, int | float) or value not in (0, 1):
        raise PydanticCustomError("flag_type", "0 or 1, or false or true")
    return bool(value)


_Id = Annotated[str, BeforeValidator(_read_id)]
_Flag = Annotated[bool, BeforeValidator(_read_flag)]
_Count = Annotated[int, Field(strict=True, ge=0, le=MAX_DEVICES)]


class _Node(BaseModel):
    id: _Id
    supportedOnFpga: _Flag = True  # noqa: N815  the format's own name
    cpuLatency: _Time  # noqa: N815
    fpgaLatency: _Time | None = None  # noqa: N815
    isBackwardNode: _Flag = False  # noqa: N815
    colorClass: _Id | None = None  # noqa: N815
    size: _Size = 0


class _Edge(BaseModel):
    sourceId: _Id  # noqa: N815
    destId: _Id  # noqa: N815
    cost: _Time
    size: _Size = 0


class _Workload(BaseModel):
    maxFPGAs: _Count  # noqa: N815
    maxCPUs: _Count = 0  # noqa: N815
    maxSizePerFPGA: _Size | None = None  # noqa: N815
    nodes: list[_Node]
    edges: list[_Edge] = Field(default_factory=list)


class _Share(BaseModel):
    nodes: list[_Id]


class _Split(BaseModel):
    fpgas: list[_Share] = Field(default_factory=list)
    cpus: list[_Share] = Field(default_factory=list)


def accepts(document: Any) -> bool:
    """Whether a parsed document looks like a workload of this format."""
    return isinstance(document, dict) and "nodes" in document and "graph" not in document


def accepts_split(document: Any) -> bool:
    """Whether a parsed document looks like a hand-made split of this format."""
    # A plain map may have operators called so; it gives each of them a device.
    return isinstance(document, dict) and any(isinstance(document.get(key), list) for key in ("fpgas", "cpus"))


@collector_paused()
def from_document(document: Any) -> Request:
    """A request from a parsed workload. Raises :class:`InvalidInstance` with every fault, by the format's own names."""
    try:
        workload = _Workload.model_validate(document)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise InvalidInstance(tuple(issue_of(fault) for fault in faults)) from error
    instance = _build(workload)
    issues = tuple(Issue(i.code, i.message, _own_path(i.path), i.hint) for i in validate(instance))
    if issues:
        raise InvalidInstance(issues)
    return Request(instance)


def placement_from_document(document: Any) -> Placement:
    """Operator id → device name from a hand-made split. Raises :class:`InvalidInstance`."""
    try:
        split = _Split.model_validate(document)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise InvalidInstance(tuple(issue_of(fault) for fault in faults)) from error
    placement: dict[str, str] = {}
    issues: list[Issue] = []
    for key, kind, shares in (("fpgas", ACCELERATOR, split.fpgas), ("cpus", CPU, split.cpus)):
        for index, share in enumerate(shares):
            for position, node in enumerate(share.nodes):
                if node in placement:
                    message = f"node {node!r} is already on {placement[node]}"
                    issues.append(
                        Issue("duplicate_assignment", message, (key, index, "nodes", position), "list every node once")
                    )
                placement.setdefault(node, f"{kind}:{index}")
    if issues:
        raise InvalidInstance(tuple(issues))
    return placement


def _build(workload: _Workload) -> Instance:
    # Within this format only the cost of an edge counts, and the files differ in its size for one producer now and
    # then; the largest is kept, so that the tensor has one size.
    largest: dict[str, float] = {}
    for edge in workload.edges:
        largest[edge.sourceId] = max(edge.size, largest.get(edge.sourceId, 0.0))
    operators = tuple(
        Operator(
            id=node.id,
            compute_time_ms={CPU: node.cpuLatency}
            | ({ACCELERATOR: node.fpgaLatency} if node.supportedOnFpga and node.fpgaLatency is not None else {}),
            # A part of a byte still takes room.
            memory_bytes=math.ceil(node.size),
            colocation_group=node.colorClass,
            is_backward=node.isBackwardNode,
        )
        for node in workload.nodes
    )
    edges = tuple(
        Edge(e.sourceId, e.destId, math.ceil(largest[e.sourceId]), transfer_time_ms=e.cost) for e in workload.edges
    )
    room = None if workload.maxSizePerFPGA is None else math.floor(workload.maxSizePerFPGA)
    devices = (
        DeviceSpec(ACCELERATOR, ACCELERATOR, room, workload.maxFPGAs),
        DeviceSpec(CPU, CPU, None, workload.maxCPUs, is_host=True),
    )
    return Instance(Graph(operators, edges), Cluster(devices, Interconnect()))


_OWN_NAMES = {
    "operators": "nodes",
    "id": "id",
    "source": "sourceId",
    "target": "destId",
    "transfer_time_ms": "cost",
    "bytes": "size",
    "memory_bytes": "size",
    "colocation_group": "colorClass",
}


def _own_path(path: Path) -> Path:
    """A path into the native document → the same place in a workload of this format."""
    if path[:1] == ("cluster",):
        return ("maxFPGAs",)
    return tuple(_OWN_NAMES.get(part, part) if isinstance(part, str) else part for part in path[1:])
