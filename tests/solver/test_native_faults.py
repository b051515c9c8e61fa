"""Every fault of a native document, provoked alone: its code and the exact place."""

from __future__ import annotations

import copy
import json
import math

import pytest

from solver.errors import InvalidInstance, Issue
from solver.formats import native
from tests.solver.documents import REMOVED, SOUND, changed

LONG = "x" * 1025
OP = "/graph/operators/0"
EDGE = "/graph/edges/2"
DEVICE = "/cluster/devices/0"
WIRES = "/cluster/interconnect"

FIELDS = [
    # path, value, code
    ("/schema_version", 2, "unknown_value"),
    ("/schema_version", True, "unknown_value"),
    ("/schema_version", 1.0, "unknown_value"),
    ("/unheard_of", 1, "unknown_field"),
    ("/graph", REMOVED, "missing_field"),
    ("/graph", [], "wrong_type"),
    ("/graph/name", 3, "wrong_type"),
    ("/graph/name", "\ud800", "invalid_text"),
    ("/graph/nodes", [], "unknown_field"),
    ("/graph/operators", REMOVED, "missing_field"),
    ("/graph/operators", {}, "wrong_type"),
    (OP, None, "wrong_type"),
    (f"{OP}/id", REMOVED, "missing_field"),
    (f"{OP}/id", 1, "wrong_type"),
    (f"{OP}/id", "", "empty_id"),
    (f"{OP}/id", LONG, "id_too_long"),
    (f"{OP}/id", "\ud800", "invalid_text"),
    (f"{OP}/flops", 1, "unknown_field"),
    (f"{OP}/compute_time_ms", REMOVED, "missing_field"),
    (f"{OP}/compute_time_ms", 2.0, "wrong_type"),
    (f"{OP}/compute_time_ms/gpu", -1.0, "out_of_range"),
    (f"{OP}/compute_time_ms/gpu", 1e16, "out_of_range"),
    (f"{OP}/compute_time_ms/gpu", 10**400, "out_of_range"),
    (f"{OP}/compute_time_ms/gpu", math.nan, "not_finite"),
    (f"{OP}/compute_time_ms/gpu", math.inf, "not_finite"),
    (f"{OP}/compute_time_ms/gpu", "2", "wrong_type"),
    (f"{OP}/compute_time_ms/gpu", True, "wrong_type"),
    (f"{OP}/compute_time_ms/gpu", None, "wrong_type"),
    (f"{OP}/compute_time_ms/", 1.0, "empty_id"),
    (f"{OP}/memory_bytes", -1, "out_of_range"),
    (f"{OP}/memory_bytes", 0.5, "not_whole"),
    (f"{OP}/memory_bytes", 2**53, "out_of_range"),
    (f"{OP}/memory_bytes", 10**400, "out_of_range"),
    (f"{OP}/memory_bytes", "1000", "wrong_type"),
    (f"{OP}/memory_bytes", None, "wrong_type"),
    (f"{OP}/colocation_group", "", "empty_id"),
    (f"{OP}/colocation_group", 3, "wrong_type"),
    (f"{OP}/is_backward", 1, "wrong_type"),
    (f"{OP}/is_backward", "true", "wrong_type"),
    (f"{OP}/allowed_devices", "gpu", "wrong_type"),
    ("/graph/operators/1/allowed_devices/0", "tpu", "unknown_device"),
    ("/graph/operators/1/allowed_devices/0", 0, "wrong_type"),
    ("/graph/edges", "none", "wrong_type"),
    (EDGE, [], "wrong_type"),
    (f"{EDGE}/source", REMOVED, "missing_field"),
    (f"{EDGE}/target", "z", "unknown_operator"),
    (f"{EDGE}/source", "z", "unknown_operator"),
    (f"{EDGE}/tensor", "", "empty_id"),
    (f"{EDGE}/bytes", -1, "out_of_range"),
    (f"{EDGE}/bytes", 1.5, "not_whole"),
    (f"{EDGE}/transfer_time_ms", -0.5, "out_of_range"),
    (f"{EDGE}/transfer_time_ms", math.nan, "not_finite"),
    (f"{EDGE}/weight", 1, "unknown_field"),
    ("/cluster", REMOVED, "missing_field"),
    ("/cluster/devices", REMOVED, "missing_field"),
    (f"{DEVICE}/id", REMOVED, "missing_field"),
    (f"{DEVICE}/kind", "", "empty_id"),
    (f"{DEVICE}/count", -1, "out_of_range"),
    (f"{DEVICE}/count", 1.5, "wrong_type"),
    (f"{DEVICE}/count", 65_537, "out_of_range"),
    (f"{DEVICE}/memory_bytes", -1, "out_of_range"),
    (f"{DEVICE}/is_host", 0, "wrong_type"),
    (f"{DEVICE}/cost_per_hour", -1, "out_of_range"),
    (f"{DEVICE}/host_bandwidth_bytes_per_s", 0, "out_of_range"),
    (f"{DEVICE}/host_latency_ms", -1, "out_of_range"),
    (f"{WIRES}/model", "mesh", "unknown_value"),
    (f"{WIRES}/overlap", "half", "unknown_value"),
    (f"{WIRES}/host_bandwidth_bytes_per_s", 0, "out_of_range"),
    (f"{WIRES}/host_latency_ms", math.inf, "not_finite"),
    (f"{WIRES}/default/bandwidth_bytes_per_s", 0, "out_of_range"),
    (f"{WIRES}/default/bandwidth_bytes_per_s", REMOVED, "missing_field"),
    (f"{WIRES}/default/latency_ms", -1, "out_of_range"),
    (f"{WIRES}/groups/0/devices/1", "tpu", "unknown_device"),
    (f"{WIRES}/groups/0/bandwidth_bytes_per_s", 2e18, "out_of_range"),
    (f"{WIRES}/pairs/0/a", "tpu", "unknown_device"),
    (f"{WIRES}/pairs/0/b", "gpu:2", "unknown_device"),
    (f"{WIRES}/pairs/0/latency_ms", "fast", "wrong_type"),
    ("/objective/kind", "speed", "unknown_value"),
    ("/objective/partition", None, "unknown_value"),
    ("/objective/schedule", "1F1B", "unknown_value"),
    ("/objective/execution", "lazy", "unknown_value"),
    ("/objective/blocks_per_device", 0, "out_of_range"),
    ("/objective/link_contention", "no", "wrong_type"),
    ("/constraints/max_period_ms", -1, "out_of_range"),
    ("/constraints/max_devices", 1.5, "wrong_type"),
    ("/constraints/max_latency_ms", math.inf, "not_finite"),
    ("/constraints/pinned/z", "gpu", "unknown_operator"),
    ("/constraints/pinned/a", "tpu", "unknown_device"),
    ("/constraints/pinned/a", 0, "wrong_type"),
    ("/constraints/forbidden/0/operator", "z", "unknown_operator"),
    ("/constraints/forbidden/0/device", "gpu:7", "unknown_device"),
    ("/constraints/forbidden/0/device", REMOVED, "missing_field"),
    ("/constraints/max_moved_operators", -1, "out_of_range"),
    ("/constraints/max_moved_bytes", 0.5, "not_whole"),
    ("/constraints/min_throughput_per_s", "1", "wrong_type"),
    ("/constraints/max_cost_per_hour", -1, "out_of_range"),
    ("/solver/time_limit_s", 0, "out_of_range"),
    ("/solver/time_limit_s", 30 * 86_400 + 1, "out_of_range"),
    ("/solver/time_limit_s", "30", "wrong_type"),
    ("/solver/relative_gap", 1.5, "out_of_range"),
    ("/solver/workers", 0, "out_of_range"),
    ("/solver/workers", 1025, "out_of_range"),
    ("/solver/seed", -1, "out_of_range"),
    ("/solver/seed", 2**31, "out_of_range"),
    ("/solver/memory_limit_bytes", 0, "out_of_range"),
    ("/solver/memory_limit_bytes", 1.5, "not_whole"),
    ("/solver/threads", 2, "unknown_field"),
]

UNNAMED = {OP, f"{OP}/id", f"{DEVICE}/id"}

ELSEWHERE = [
    # changes, code, path of the fault
    ({"/graph/operators": [], "/graph/edges": [], "/constraints": {}}, "empty_graph", "/graph/operators"),
    ({"/graph/operators/2/id": "a", "/graph/edges": [], "/constraints": {}}, "duplicate_operator_id", None),
    ({f"{EDGE}/target": "b"}, "self_loop", EDGE),
    ({"/graph/edges/1/bytes": 4097}, "tensor_bytes_mismatch", "/graph/edges/1/bytes"),
    ({"/graph/edges/1/transfer_time_ms": 0.25}, "tensor_transfer_time_mismatch", "/graph/edges/1/transfer_time_ms"),
    ({"/graph/edges/1/transfer_time_ms": None}, "tensor_transfer_time_mismatch", "/graph/edges/1/transfer_time_ms"),
    ({"/graph/edges/3": {"source": "c", "target": "b"}}, "cycle", "/graph/edges"),
    ({"/cluster/devices/2": {"id": "cpu", "kind": "cpu"}}, "duplicate_device_id", "/cluster/devices/2/id"),
    ({"/cluster/devices/2": {"id": "gpu:1", "kind": "gpu"}}, "duplicate_device_id", "/cluster/devices/2/id"),
    ({"/cluster/devices/2": {"id": "gpu", "kind": "gpu", "count": 0}}, "duplicate_device_id", "/cluster/devices/2/id"),
    ({f"{DEVICE}/count": 65_536}, "too_many_devices", "/cluster/devices"),
    ({f"{WIRES}/pairs/0/b": "gpu:0"}, "self_link", f"{WIRES}/pairs/0"),
    (
        {f"{WIRES}/host_bandwidth_bytes_per_s": None, f"{EDGE}/transfer_time_ms": None},
        "missing_bandwidth",
        f"{DEVICE}/host_bandwidth_bytes_per_s",
    ),
    (
        {"/constraints/previous_placement": None, "/constraints/max_moved_bytes": 0},
        "missing_previous_placement",
        "/constraints/max_moved_bytes",
    ),
    (
        {"/constraints/previous_placement": None, "/constraints/max_moved_operators": 0},
        "missing_previous_placement",
        "/constraints/max_moved_operators",
    ),
    ({"/constraints/previous_placement/a": "gpu"}, "ambiguous_device", "/constraints/previous_placement/a"),
]


def faults(document):
    with pytest.raises(InvalidInstance) as caught:
        native.from_document(document)
    return [(issue.code, issue.pointer) for issue in caught.value.issues]


def test_the_sound_document_is_sound():
    assert native.read(json.dumps(SOUND).encode()).instance.graph.name == "small"


def name_of(value):
    return "huge" if isinstance(value, int) and value > 2**64 else None


@pytest.mark.parametrize(("pointer", "value", "code"), FIELDS, ids=name_of)
def test_a_fault_of_one_field(pointer, value, code):
    document = changed({pointer: value})
    before = copy.deepcopy(document)
    assert (code, pointer) in faults(document)
    # Whatever names an operator or device without a readable id then names what is not there.
    consequences = {"unknown_operator", "unknown_device"} if pointer in UNNAMED else set()
    assert {where for code, where in faults(document) if code not in consequences} == {pointer}
    assert repr(document) == repr(before), "the caller's document is left alone"


@pytest.mark.parametrize(("changes", "code", "pointer"), ELSEWHERE)
def test_a_fault_between_fields(changes, code, pointer):
    found = faults(changed(changes))
    assert {fault for fault, _ in found} == {code}
    if pointer is not None:
        assert set(found) == {(code, pointer)}


def test_no_devices():
    document = changed({"/cluster": {"devices": []}, "/constraints": {}, "/graph/operators/1/allowed_devices": None})
    assert faults(document) == [("no_devices", "/cluster/devices")]
    document["cluster"]["devices"] = [{"id": "gpu", "kind": "gpu", "count": 0}]
    assert faults(document) == [("no_devices", "/cluster/devices")]


def test_every_fault_says_what_to_do():
    for pointer, value, _ in FIELDS:
        with pytest.raises(InvalidInstance) as caught:
            native.from_document(changed({pointer: value}))
        for issue in caught.value.issues:
            assert issue.message
            assert issue.hint
            assert len(issue.message) < 400
            for phrase in ("input", "Record", "dictionary", "valid", "permitted", "{"):
                assert phrase not in issue.message, "not a word of the person who wrote the document"


@pytest.mark.parametrize(
    ("pointer", "value", "message"),
    [
        ("/graph", REMOVED, "the field 'graph' is missing"),
        (f"{OP}/flops", 1, "there is no field 'flops' here"),
        (OP, None, "expected an object, found null"),
        ("/graph/operators", {}, "expected an array, found an object"),
        (f"{OP}/id", 1, "expected text, found 1"),
        (f"{OP}/id", "", "expected text that is not empty, found ''"),
        (f"{OP}/id", "\ud800", "expected well-formed Unicode text, found '\\ud800'"),
        (f"{OP}/is_backward", 1, "expected true or false, found 1"),
        (f"{OP}/compute_time_ms/gpu", "2", "expected a number, found '2'"),
        (f"{OP}/compute_time_ms/gpu", True, "expected a number, found true"),
        (f"{OP}/compute_time_ms/gpu", -1.0, "expected a number of at least 0, found -1.0"),
        (f"{OP}/compute_time_ms/gpu", 1e16, "expected a number of at most 1000000000000000, found 1e+16"),
        (f"{OP}/compute_time_ms/gpu", 10**400, "expected a number of at most 1e308, found a huge number"),
        (f"{OP}/compute_time_ms/gpu", math.inf, "expected a finite number, found Infinity"),
        (f"{OP}/memory_bytes", 1.5, "expected a whole number, found 1.5"),
        ("/solver/workers", 1.5, "expected a whole number, found 1.5"),
        ("/solver/time_limit_s", 0, "expected a number above 0, found 0"),
        ("/schema_version", 2, "expected 1, found 2"),
        ("/schema_version", True, "expected 1, found true"),
        (
            "/graph/edges/1/transfer_time_ms",
            None,
            "'a' sends the same tensor to 'c' and to 'b', but transfer_time_ms is not given here and 0.5 there",
        ),
        ("/objective/kind", "speed", "expected 'throughput', 'latency' or 'cost', found 'speed'"),
    ],
)
def test_messages_name_what_is_expected(pointer, value, message):
    with pytest.raises(InvalidInstance) as caught:
        native.from_document(changed({pointer: value}))
    assert caught.value.issues[0].message == message


@pytest.mark.parametrize("document", [None, [], 3, "graph", True, {}, {"graph": None}, {"graph": 1, "cluster": "x"}])
def test_anything_but_a_document(document):
    assert faults(document)


def test_pointers_escape_what_rfc_6901_escapes():
    assert Issue("code", "message", ("a/b", "c~d", 0), "hint").pointer == "/a~1b/c~0d/0"
    assert faults(changed({f"{OP}/compute_time_ms": {"a/b~c": -1}})) == [
        ("out_of_range", f"{OP}/compute_time_ms/a~1b~0c")
    ]


def test_many_faults_at_once_in_one_answer():
    changes = {
        f"{OP}/compute_time_ms/gpu": -1,
        f"{EDGE}/target": "z",
        f"{DEVICE}/count": "two",
        "/objective/kind": "speed",
        "/constraints/pinned/y": "gpu",
        "/solver/seed": -1,
        "/graph/edges/3": {"source": "b", "target": "b", "tensor": "own"},
    }
    assert set(faults(changed(changes))) == {
        ("out_of_range", f"{OP}/compute_time_ms/gpu"),
        ("unknown_operator", f"{EDGE}/target"),
        ("wrong_type", f"{DEVICE}/count"),
        ("unknown_value", "/objective/kind"),
        ("unknown_operator", "/constraints/pinned/y"),
        ("out_of_range", "/solver/seed"),
        ("self_loop", "/graph/edges/3"),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {f"{OP}/memory_bytes": "much"},
        {f"{OP}/id": 7},
        {"/graph/edges/0/bytes": -1},
        {f"{DEVICE}/cost_per_hour": "cheap"},
        {f"{WIRES}/groups/0/latency_ms": -1},
        {f"{WIRES}/default/bandwidth_bytes_per_s": 0},
        {f"{WIRES}/default/bandwidth_bytes_per_s": REMOVED},
        {f"{WIRES}/overlap": 1},
        {"/constraints/forbidden/0/device": 0},
        {"/constraints/pinned": 1},
        {"/objective": []},
        {"/solver/seed": "zero"},
        {"/unheard_of": 1},
    ],
)
def test_a_fault_of_one_record_does_not_hide_those_of_others(changes):
    """A cycle and an unknown operator, which take a second look at the graph, are told as well."""
    changes = {
        **changes,
        "/graph/edges/3": {"source": "c", "target": "b"},
        "/graph/edges/4": {"source": "b", "target": "z", "tensor": "u"},
    }
    found = faults(changed(changes))
    assert ("cycle", "/graph/edges") in found
    assert ("unknown_operator", "/graph/edges/4/target") in found
    assert len(found) > 2


def test_messages_name_records_by_what_they_say():
    """Their places would be wrong where a faulty record before them was looked past."""
    changes = {"/graph/edges/0/bytes": -1, "/graph/edges/3": {"source": "b", "target": "d", "tensor": "t", "bytes": 2}}
    with pytest.raises(InvalidInstance) as caught:
        native.from_document(changed(changes))
    mismatch = next(issue for issue in caught.value.issues if issue.code == "tensor_bytes_mismatch")
    assert mismatch.pointer == "/graph/edges/3/bytes"
    assert mismatch.message == "'b' sends the same tensor to 'd' and to 'c', but bytes is 2 here and 1 there"


def test_a_thousand_faults():
    operators = [{"id": f"o{i}", "compute_time_ms": {"gpu": -1.0}} for i in range(500)]
    edges = [{"source": f"o{i}", "target": f"p{i}"} for i in range(500)]
    found = faults({"graph": {"operators": operators, "edges": edges}, "cluster": {"devices": [{"id": "g"}]}})
    assert len(found) == 1001


def test_a_hundred_cycles_are_not_all_told():
    operators = [{"id": f"{end}{i}", "compute_time_ms": {}} for i in range(100) for end in "ab"]
    edges = [{"source": f"{x}{i}", "target": f"{y}{i}"} for i in range(100) for x, y in ("ab", "ba")]
    document = {"graph": {"operators": operators, "edges": edges}, "cluster": {"devices": [{"id": "g", "kind": "g"}]}}
    assert faults(document) == [("cycle", "/graph/edges")] * 20


def test_a_long_cycle_is_told_in_short():
    size = 1000
    operators = [{"id": f"o{i}", "compute_time_ms": {}} for i in range(size)]
    edges = [{"source": f"o{i}", "target": f"o{(i + 1) % size}"} for i in range(size)]
    document = {"graph": {"operators": operators, "edges": edges}, "cluster": {"devices": [{"id": "g", "kind": "g"}]}}
    with pytest.raises(InvalidInstance) as caught:
        native.from_document(document)
    assert "a cycle of 1000 operators" in caught.value.issues[0].message
    assert len(caught.value.issues[0].message) < 200


@pytest.mark.timeout(60)
def test_a_hundred_thousand_operators():
    """No clock here; what is quadratic would take hours."""
    size = 100_000
    operators = [{"id": f"o{i}", "compute_time_ms": {"g": 1.0}, "allowed_devices": ["g"]} for i in range(size)]
    edges = [{"source": f"o{i}", "target": f"o{i + 1}", "bytes": 1} for i in range(size - 1)]
    edges += [{"source": "o0", "target": f"o{i}", "bytes": 1} for i in range(2, size)]
    devices = [{"id": "g", "kind": "g", "count": 1024}]
    document = {
        "graph": {"operators": operators, "edges": edges},
        "cluster": {"devices": devices, "interconnect": {"host_bandwidth_bytes_per_s": 1e9}},
    }
    assert len(native.from_document(document).instance.graph.operators) == size
    edges[7]["target"] = "nowhere"
    assert faults(document) == [("unknown_operator", "/graph/edges/7/target")]


def test_no_devices_is_told_beside_other_faults():
    document = changed({"/cluster": {"devices": []}, "/constraints": {}, "/graph/operators/1/allowed_devices": None})
    document["unheard_of"] = 1
    assert set(faults(document)) == {("no_devices", "/cluster/devices"), ("unknown_field", "/unheard_of")}
