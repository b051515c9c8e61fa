"""The native format: the request document of POST /placements, the answer document, and placements."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from solver.collector import collector_paused
from solver.errors import InvalidInstance, Issue, Path
from solver.explanation import Explanation
from solver.formats import json_text
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
from solver.validation import MAX_DEVICES, MAX_ID_LENGTH, validate, validate_options
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

_CODES = {
    "missing": "missing_field",
    "extra_forbidden": "unknown_field",
    "finite_number": "not_finite",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "int_parsing_size": "out_of_range",
    "multiple_of": "not_whole",
    "int_from_float": "not_whole",
    "enum": "unknown_value",
    "literal_error": "unknown_value",
    "string_too_short": "empty_id",
    "string_too_long": "id_too_long",
    "string_unicode": "invalid_text",
}
_EXPECTED = {
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dict_type": "an object",
    "list_type": "an array",
    "string_type": "text",
    "string_unicode": "well-formed Unicode text",
    "string_too_short": "text that is not empty",
    "string_too_long": "at most {max_length} characters",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_from_float": "a whole number",
    "multiple_of": "a whole number",
    "greater_than": "a number above {gt:.16g}",
    "greater_than_equal": "a number of at least {ge:.16g}",
    "less_than": "a number below {lt:.16g}",
    "less_than_equal": "a number of at most {le:.16g}",
    "enum": "{expected}",
    "literal_error": "{expected}",
}
"""What each kind of fault that Pydantic tells apart misses."""
_HINTS = {
    "missing_field": "add the field",
    "unknown_field": "remove the field, or correct its name",
    "not_finite": "give a finite number",
    "out_of_range": "give a number in range; check the unit",
    "not_whole": "round to a whole number",
    "unknown_value": "use one of the values named",
    "empty_id": "give it a name",
    "id_too_long": f"use at most {MAX_ID_LENGTH} characters",
    "invalid_text": "send well-formed Unicode text",
    "wrong_type": "give a value of the type named",
}


MAX_FLOAT = sys.float_info.max
STAND_IN_COUNT = 1024
"""Devices of an entry whose count cannot be read; references to them are not faults of their own."""


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
        raise InvalidInstance((*faults, *_faults_of_the_rest(document, faults))) from error
    issues = (*validate(request.instance), *validate_options(request.options))
    if issues:
        raise InvalidInstance(issues)
    return request


def issue_of(fault: Mapping[str, Any]) -> Issue:
    """A fault that Pydantic found, in our words."""
    kind = fault["type"]
    code = _CODES.get(kind, "wrong_type")
    expected = _EXPECTED[kind].format(**fault.get("ctx", {})) if kind in _EXPECTED else fault["msg"]
    if code == "wrong_type" and isinstance(fault["input"], int) and abs(fault["input"]) > MAX_FLOAT:
        code, expected = "out_of_range", "a number of at most 1e308"  # more than Pydantic can read
    # Pydantic marks a fault in the key of a map with a further part that is no part of the document.
    path: Path = tuple(part for part in fault["loc"] if part != "[key]")
    if kind == "missing":
        message = f"the field {_shorten(path[-1])} is missing"
    elif kind == "extra_forbidden":
        message = f"there is no field {_shorten(path[-1])} here"
    else:
        message = f"expected {expected}, found {_shorten(fault['input'])}"
    return Issue(code, message, path, _HINTS[code])


def _shorten(value: object) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "an array"
    if value is None or isinstance(value, bool | float):
        return json.dumps(value)  # as it stands in the document
    # An integer of thousands of digits cannot even be printed.
    text = "a huge number" if isinstance(value, int) and value.bit_length() > 1000 else ascii(value)
    return text if len(text) <= 60 else text[:57] + "…"


_RECORD_LISTS: tuple[Path, ...] = (
    ("graph", "operators"),
    ("graph", "edges"),
    ("cluster", "devices"),
    ("cluster", "interconnect", "groups"),
    ("cluster", "interconnect", "pairs"),
    ("constraints", "forbidden"),
)


def _faults_of_the_rest(document: Any, faults: Sequence[Issue]) -> list[Issue]:
    """What else is wrong, as far as it can be told while the faulty parts are looked past.

    Faulty records of a list are replaced by sound ones of the same id, or left out; other faulty fields fall back to
    their defaults, or take the object they are needed in with them. Faults that stand inside a replaced part are not
    reported again.
    """
    paths = [fault.path for fault in faults]
    while True:
        mended, replaced, index_of = _look_past(document, paths)
        try:
            request = _build(RequestDocument.model_validate(mended))
        except ValidationError as error:
            wider = {tuple(fault["loc"][:-1]) for fault in error.errors(include_url=False, include_input=False)}
            if () in wider or wider <= replaced:
                return []
            paths += wider
        else:
            break
    issues = []
    for issue in (*validate(request.instance), *validate_options(request.options)):
        path = issue.path
        for where, indices in index_of.items():
            size = len(where)
            if path[:size] == where and len(path) > size:
                path = (*where, indices[int(path[size])], *path[size + 1 :])
        inside = any(path[:size] in replaced for size in range(1, len(path) + 1))
        if not inside:
            issues.append(Issue(issue.code, issue.message, path, issue.hint))
    return issues


def _look_past(document: Any, paths: list[Path]) -> tuple[Any, set[Path], dict[Path, list[int]]]:
    """A copy of the document without its faulty parts, those parts, and where the records of each list came from."""
    mended = _copy(document, 4)  # as deep as the fields outside of lists stand
    replaced: set[Path] = set()
    left_out: dict[Path, set[int]] = {}
    for path in paths:
        where = next((p for p in _RECORD_LISTS if path[: len(p)] == p and len(path) > len(p)), None)
        if where is not None:
            index = int(path[len(where)])
            record_path = (*where, index)
            if record_path in replaced:
                continue
            replaced.add(record_path)
            records = _at(mended, where)
            sound = _sound_record(where, records[index], index)
            if sound is None:
                left_out.setdefault(where, set()).add(index)
            else:
                records[index] = sound
        elif path:
            replaced.add(path)
            parent = _at(mended, path[:-1])
            if isinstance(parent, dict):
                parent.pop(path[-1], None)
    index_of: dict[Path, list[int]] = {}
    for where, dropped in left_out.items():
        records = _at(mended, where)
        if not isinstance(records, list):
            continue  # what holds the list was taken out as well
        index_of[where] = [index for index in range(len(records)) if index not in dropped]
        _at(mended, where[:-1])[where[-1]] = [records[index] for index in index_of[where]]
    return mended, replaced, index_of


def _copy(value: Any, depth: int) -> Any:
    if depth and isinstance(value, dict):
        return {key: _copy(part, depth - 1) for key, part in value.items()}
    return list(value) if isinstance(value, list) else value


def _at(document: Any, path: Path) -> Any:
    for part in path:
        if not isinstance(document, dict):
            return None
        document = document.get(part)
    return document


def _sound_record(where: Path, record: Any, index: int) -> dict[str, Any] | None:
    """Something others can refer to in place of a faulty operator or device; nothing in place of other records."""
    if where[-1] not in {"operators", "devices"}:
        return None
    found = record if isinstance(record, dict) else {}
    name = found.get("id")
    sound: dict[str, Any] = {"id": name if isinstance(name, str) and name else f"\x00{index}"}
    if where[-1] == "operators":
        return {**sound, "compute_time_ms": {}}
    count = found.get("count")
    if isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MAX_DEVICES:
        sound["count"] = count
    elif count is not None:
        sound["count"] = STAND_IN_COUNT
    return {**sound, "kind": "\x00", "is_host": True}


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
