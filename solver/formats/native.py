"""The native format: the request document of POST /placements, the answer document, and placements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from solver.collector import collector_paused
from solver.errors import InvalidInstance, Issue
from solver.explanation import Explanation
from solver.formats import json_text
from solver.formats.document_faults import faults_of_the_rest, issue_of
from solver.formats.schema import LinkRecord, RequestDocument
from solver.instance import (
    Cluster,
    Constraints,
    DeviceSpec,
    Edge,
    ForbiddenPlacement,
    Graph,
    Instance,
    Interconnect,
    Link,
    LinkGroup,
    LinkPair,
    Objective,
    Operator,
    Request,
    SolverOptions,
)
from solver.result import InfeasibilityReason, Result
from solver.validation import validate, validate_options
from solver.verification import Verification

__all__ = [
    "RequestDocument",
    "explanation_document",
    "from_document",
    "read",
    "request_document",
    "result_document",
    "verification_document",
]


def read(data: bytes) -> Request:
    """A request from the bytes of a native document.

    Raises:
        UnreadableDocument: not JSON at all.
        InvalidInstance: with every fault of the document.
    """
    return from_document(json_text.parse(data))


@collector_paused()
def from_document(document: Any) -> Request:
    """A request from a parsed native document. Raises :class:`InvalidInstance` with every fault."""
    try:
        request = _build(RequestDocument.model_validate(document))
    except ValidationError as error:
        faults = [issue_of(fault) for fault in error.errors(include_url=False)]
        raise InvalidInstance((*faults, *faults_of_the_rest(document, faults, _check))) from error
    issues = _validate(request)
    if issues:
        raise InvalidInstance(issues)
    return request


def _check(document: Any) -> tuple[Issue, ...]:
    return _validate(_build(RequestDocument.model_validate(document)))


def _validate(request: Request) -> tuple[Issue, ...]:
    return (*validate(request.instance), *validate_options(request.options))


def _link(record: LinkRecord) -> Link:
    return Link(record.bandwidth_bytes_per_s, record.latency_ms)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _build(document: RequestDocument) -> Request:
    """The instance and options that a document of the right shape describes."""
    graph, cluster, limits = document.graph, document.cluster, document.constraints
    wires = cluster.interconnect
    instance = Instance(
        graph=Graph(
            name=graph.name,
            operators=tuple(
                Operator(
                    id=o.id,
                    compute_time_ms=o.compute_time_ms,
                    memory_bytes=int(o.memory_bytes),
                    colocation_group=o.colocation_group,
                    is_backward=o.is_backward,
                    allowed_devices=None if o.allowed_devices is None else tuple(o.allowed_devices),
                )
                for o in graph.operators
            ),
            edges=tuple(Edge(e.source, e.target, int(e.bytes), e.tensor, e.transfer_time_ms) for e in graph.edges),
        ),
        cluster=Cluster(
            devices=tuple(
                DeviceSpec(
                    id=d.id,
                    kind=d.kind,
                    memory_bytes=_whole(d.memory_bytes),
                    count=d.count,
                    is_host=d.is_host,
                    cost_per_hour=d.cost_per_hour,
                    host_bandwidth_bytes_per_s=d.host_bandwidth_bytes_per_s,
                    host_latency_ms=d.host_latency_ms,
                )
                for d in cluster.devices
            ),
            interconnect=Interconnect(
                model=wires.model,
                overlap=wires.overlap,
                host_bandwidth_bytes_per_s=wires.host_bandwidth_bytes_per_s,
                host_latency_ms=wires.host_latency_ms,
                default=None if wires.default is None else _link(wires.default),
                groups=tuple(LinkGroup(tuple(g.devices), _link(g)) for g in wires.groups),
                pairs=tuple(LinkPair(p.a, p.b, _link(p)) for p in wires.pairs),
            ),
        ),
        objective=Objective(**document.objective.model_dump()),
        constraints=Constraints(
            max_period_ms=limits.max_period_ms,
            min_throughput_per_s=limits.min_throughput_per_s,
            max_latency_ms=limits.max_latency_ms,
            max_devices=limits.max_devices,
            max_cost_per_hour=limits.max_cost_per_hour,
            pinned=limits.pinned,
            forbidden=tuple(ForbiddenPlacement(f.operator, f.device) for f in limits.forbidden),
            previous_placement=limits.previous_placement,
            max_moved_operators=limits.max_moved_operators,
            max_moved_bytes=_whole(limits.max_moved_bytes),
        ),
    )
    options = document.solver.model_dump()
    options["memory_limit_bytes"] = _whole(document.solver.memory_limit_bytes)
    return Request(instance, SolverOptions(**options))


def request_document(request: Request) -> dict[str, Any]:
    """The native document of a request; reading it again gives an equal request. Defaults of records are left out."""
    instance = request.instance
    wires = instance.cluster.interconnect
    return {
        "schema_version": 1,
        "graph": {
            **({} if instance.graph.name is None else {"name": instance.graph.name}),
            "operators": [
                {"id": o.id, "compute_time_ms": dict(o.compute_time_ms), "memory_bytes": o.memory_bytes}
                | _given(colocation_group=o.colocation_group)
                | ({"is_backward": True} if o.is_backward else {})
                | _given(allowed_devices=None if o.allowed_devices is None else list(o.allowed_devices))
                for o in instance.graph.operators
            ],
            "edges": [
                {"source": e.source, "target": e.target}
                | _given(tensor=e.tensor)
                | {"bytes": e.bytes}
                | _given(transfer_time_ms=e.transfer_time_ms)
                for e in instance.graph.edges
            ],
        },
        "cluster": {
            "devices": [
                _given(**{key: value for key, value in asdict(d).items() if key != "is_host"})
                | ({"is_host": True} if d.is_host else {})
                for d in instance.cluster.devices
            ],
            "interconnect": {
                "model": wires.model.value,
                "overlap": wires.overlap.value,
                **_given(host_bandwidth_bytes_per_s=wires.host_bandwidth_bytes_per_s),
                "host_latency_ms": wires.host_latency_ms,
                **({} if wires.default is None else {"default": asdict(wires.default)}),
                "groups": [{"devices": list(g.devices), **asdict(g.link)} for g in wires.groups],
                "pairs": [{"a": p.a, "b": p.b, **asdict(p.link)} for p in wires.pairs],
            },
        },
        "objective": {key: str(v) if isinstance(v, str) else v for key, v in asdict(instance.objective).items()},
        "constraints": {
            key: value
            for key, value in asdict(instance.constraints).items()
            if value is not None and (value or key not in {"pinned", "forbidden"})
        },
        "solver": asdict(request.options),
    }


def _given(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def result_document(result: Result) -> dict[str, Any]:
    """The answer of problem.md §4 as JSON values: no infinities, no NaN, enums as text."""
    return {
        "status": result.status.value,
        "stop_reason": result.stop_reason.value,
        "objective_value": result.objective_value,
        "best_bound": result.best_bound,
        "relative_gap": result.relative_gap,
        "placement": None if result.placement is None else dict(result.placement),
        "stages": [asdict(stage) for stage in result.stages],
        "incumbents": [asdict(incumbent) for incumbent in result.incumbents],
        "infeasibility": reason_documents(result.infeasibility),
        "timings_s": dict(result.timings_s),
        "solver": asdict(result.solver),
    }


def reason_documents(reasons: Sequence[InfeasibilityReason]) -> list[dict[str, Any]] | None:
    """Why there is no placement, as JSON values; ``None`` when there is nothing to say."""
    return [_given(**asdict(reason)) for reason in reasons] or None


def verification_document(verification: Verification) -> dict[str, Any]:
    """What the verifier found, as JSON values."""
    return {
        "valid": not verification.violations,
        "objective_value": verification.objective_value,
        "violations": [asdict(violation) for violation in verification.violations],
        "stages": [asdict(stage) for stage in verification.stages],
    }


def explanation_document(verification: Verification, explanation: Explanation | None) -> dict[str, Any]:
    """What the verifier found, and with it why; ``explanation`` is null when there is no value to explain."""
    return verification_document(verification) | {"explanation": None if explanation is None else asdict(explanation)}
