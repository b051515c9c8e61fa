"""Bytes in, instances out: broken text, the msr format by its own names, placements and splits."""

from __future__ import annotations

import json

import pytest

from solver import formats
from solver.errors import InvalidInstance, UnreadableDocument
from solver.formats import json_text, native
from solver.instance import DeviceSpec, Edge, Objective, Operator
from tests.solver.documents import SOUND

WORKLOAD = {
    "maxFPGAs": 2,
    "maxCPUs": 1,
    "maxSizePerFPGA": 100.7,
    "nodes": [
        {"id": 1, "supportedOnFpga": 1, "cpuLatency": 20, "fpgaLatency": 2, "isBackwardNode": 0, "size": 10.2},
        {"id": "b", "supportedOnFpga": 0, "cpuLatency": 5.5, "fpgaLatency": 1, "isBackwardNode": 1, "colorClass": 7},
        {"id": 3, "cpuLatency": 1, "fpgaLatency": None, "note": "passed over"},
    ],
    "edges": [
        {"sourceId": 1, "destId": "b", "cost": 0.25, "size": 3},
        {"sourceId": 1, "destId": 3, "cost": 0.25},
    ],
}


def faults(data, format="auto"):  # noqa: A002
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    with pytest.raises(InvalidInstance) as caught:
        formats.read(data, format)
    return [(issue.code, issue.pointer) for issue in caught.value.issues]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "line 1, column 1"),
        (b"{", "not JSON"),
        (b'{"a": 1,}', "line 1, column 9"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1} {"b": 2}', "Extra data"),
        (b'{"a": "\n"}', "control character"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8 text (byte 0)"),
        (b'{"a": "\xe4"}', "not UTF-8 text (byte 7)"),
        (b"\x00", "not JSON"),
        (b"[" * 500_000, "nested too deeply"),
        (b'{"a":' * 500_000, "nested too deeply"),
        (b"1" * 5000, "too many digits"),
        (b'{"a": -' + b"1" * 5000 + b"}", "too many digits"),
    ],
)
def test_what_cannot_be_read(data, says):
    with pytest.raises(UnreadableDocument, match=says.replace("(", r"\(").replace(")", r"\)")):
        formats.read(data)
    with pytest.raises(UnreadableDocument):
        formats.read_placement(data)


def test_a_byte_order_mark_does_no_harm():
    assert native.read(b"\xef\xbb\xbf" + json.dumps(SOUND).encode()) == native.read(json.dumps(SOUND).encode())


def test_a_key_given_twice_is_refused_wherever_it_stands():
    assert faults(b'{"a": 1, "b": {"c": 1, "c": 1}}') == [("duplicate_key", "/b/c")]
    assert faults(b'[{"a": 1, "a": 2}, {"b": 1, "b": 2}]') == [("duplicate_key", "/0/a"), ("duplicate_key", "/1/b")]
    with pytest.raises(InvalidInstance):
        formats.read_placement(b'{"placement": {"a": "gpu:0", "a": "gpu:1"}}')
    many = "{" + ",".join(f'"{number % 500}": 1' for number in range(1000)) + "}"
    assert len(faults(many.encode())) == json_text.MAX_KEYS_NAMED


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(text):
    data = json.dumps(SOUND).replace("20.0", text).encode()
    assert faults(data) == [("not_finite", "/graph/operators/0/compute_time_ms/cpu")]
    data = json.dumps(WORKLOAD).replace("5.5", text).encode()
    assert faults(data) == [("not_finite", "/nodes/1/cpuLatency")]


def test_whole_numbers_may_be_written_with_a_point():
    data = json.dumps(SOUND).replace("17185374208", "17185374208.0").encode()
    request = native.read(data)
    assert request == native.read(json.dumps(SOUND).encode())
    assert type(request.instance.cluster.devices[0].memory_bytes) is int


def test_names_may_be_any_text():
    name = 'ä/~"\\ \U0001f600\x7f'
    document = {
        "graph": {"operators": [{"id": name, "compute_time_ms": {name: 1.0}, "colocation_group": name}]},
        "cluster": {"devices": [{"id": name, "kind": name}]},
        "constraints": {"pinned": {name: name}},
    }
    for ensure_ascii in (True, False):
        request = native.read(json.dumps(document, ensure_ascii=ensure_ascii).encode())
        assert request.instance.constraints.pinned == {name: name}
        assert native.read(json.dumps(native.request_document(request)).encode()) == request


def test_half_a_surrogate_pair_is_no_text():
    assert faults(json.dumps(SOUND).replace('"small"', '"\\ud800"').encode()) == [("invalid_text", "/graph/name")]


def test_a_document_as_short_as_can_be():
    request = native.from_document(
        {
            "graph": {"operators": [{"id": "a", "compute_time_ms": {}}]},
            "cluster": {"devices": [{"id": "g", "kind": "g"}]},
        }
    )
    assert request.instance.graph.operators == (Operator("a", {}),)
    assert request.instance.cluster.devices == (DeviceSpec("g", "g"),)
    assert request.instance.objective == Objective()
    assert request.options.time_limit_s == 30


def test_the_native_document_of_a_request_reads_as_the_same_request():
    request = native.read(json.dumps(SOUND).encode())
    document = native.request_document(request)
    assert native.read(json.dumps(document, allow_nan=False).encode()) == request
    # The sound document says everything but the defaults.
    assert document["graph"]["operators"][1] == {**SOUND["graph"]["operators"][1], "memory_bytes": 0}


def test_msr_workloads():
    instance = formats.read(json.dumps(WORKLOAD).encode()).instance
    assert instance.cluster.devices == (
        DeviceSpec("accelerator", "accelerator", 100, 2),
        DeviceSpec("cpu", "cpu", None, 1, is_host=True),
    )
    assert [device.name for device in instance.cluster.expand()] == ["accelerator:0", "accelerator:1", "cpu:0"]
    assert instance.graph.operators == (
        Operator("1", {"cpu": 20, "accelerator": 2}, 11),
        Operator("b", {"cpu": 5.5}, 0, "7", is_backward=True),
        Operator("3", {"cpu": 1}),
    )
    assert instance.graph.edges == (Edge("1", "b", 3, None, 0.25), Edge("1", "3", 3, None, 0.25))
    assert instance.objective == Objective()


def test_msr_numbers_and_texts_are_the_same_ids():
    document = {
        **WORKLOAD,
        "edges": [{"sourceId": "1", "destId": "b", "cost": 1}, {"sourceId": 1, "destId": "3", "cost": 1, "size": 5}],
    }
    edges = formats.read(json.dumps(document).encode()).instance.graph.edges
    assert [(edge.source, edge.target, edge.bytes) for edge in edges] == [("1", "b", 5), ("1", "3", 5)]


def changed(**fields):
    document = json.loads(json.dumps(WORKLOAD))
    for place, value in fields.items():
        parts = [int(part) if part.isdigit() else part for part in place.split("__")]
        parent = document
        for part in parts[:-1]:
            parent = parent[part]
        parent[parts[-1]] = value
    return document


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"maxFPGAs": -1}, "out_of_range", "/maxFPGAs"),
        ({"maxFPGAs": "many"}, "wrong_type", "/maxFPGAs"),
        ({"maxFPGAs": "2"}, "wrong_type", "/maxFPGAs"),
        ({"maxCPUs": True}, "wrong_type", "/maxCPUs"),
        ({"maxSizePerFPGA": "100"}, "wrong_type", "/maxSizePerFPGA"),
        ({"maxFPGAs": 0, "maxCPUs": 0}, "no_devices", "/maxFPGAs"),
        ({"maxFPGAs": 65_536, "maxCPUs": 65_536}, "too_many_devices", "/maxFPGAs"),
        ({"maxSizePerFPGA": -1}, "out_of_range", "/maxSizePerFPGA"),
        ({"nodes": {}}, "wrong_type", "/nodes"),
        ({"nodes": [], "edges": []}, "empty_graph", "/nodes"),
        ({"nodes__0__id": None}, "wrong_type", "/nodes/0/id"),
        ({"nodes__0__id": 1.5}, "wrong_type", "/nodes/0/id"),
        ({"nodes__0__id": True}, "wrong_type", "/nodes/0/id"),
        ({"nodes__0__id": [1]}, "wrong_type", "/nodes/0/id"),
        ({"nodes__2__id": 1, "edges": []}, "duplicate_operator_id", "/nodes/2/id"),
        ({"nodes__2__id": "1", "edges": []}, "duplicate_operator_id", "/nodes/2/id"),
        ({"nodes__2__id": "", "edges": []}, "empty_id", "/nodes/2/id"),
        ({"nodes__0__cpuLatency": -1}, "out_of_range", "/nodes/0/cpuLatency"),
        ({"nodes__0__cpuLatency": None}, "wrong_type", "/nodes/0/cpuLatency"),
        ({"nodes__0__fpgaLatency": "fast"}, "wrong_type", "/nodes/0/fpgaLatency"),
        ({"nodes__0__cpuLatency": "7"}, "wrong_type", "/nodes/0/cpuLatency"),
        ({"nodes__0__fpgaLatency": True}, "wrong_type", "/nodes/0/fpgaLatency"),
        ({"nodes__0__size": False}, "wrong_type", "/nodes/0/size"),
        ({"nodes__0__supportedOnFpga": 2}, "wrong_type", "/nodes/0/supportedOnFpga"),
        ({"nodes__0__supportedOnFpga": "yes"}, "wrong_type", "/nodes/0/supportedOnFpga"),
        ({"nodes__0__size": -1}, "out_of_range", "/nodes/0/size"),
        ({"nodes__0__colorClass": {}}, "wrong_type", "/nodes/0/colorClass"),
        ({"nodes__0__isBackwardNode": "perhaps"}, "wrong_type", "/nodes/0/isBackwardNode"),
        ({"edges__0__sourceId": 9}, "unknown_operator", "/edges/0/sourceId"),
        ({"edges__0__destId": 9}, "unknown_operator", "/edges/0/destId"),
        ({"edges__0__destId": 1}, "self_loop", "/edges/0"),
        ({"edges__0__cost": -1}, "out_of_range", "/edges/0/cost"),
        ({"edges__0__cost": None}, "wrong_type", "/edges/0/cost"),
        ({"edges__1__cost": 0.5}, "tensor_transfer_time_mismatch", "/edges/1/cost"),
        ({"edges__1": {"sourceId": "b", "destId": 1, "cost": 1}}, "cycle", "/edges"),
    ],
)
def test_msr_faults_by_the_names_of_the_format(fields, code, pointer):
    assert faults(changed(**fields)) == [(code, pointer)]


def test_msr_tells_all_faults_at_once():
    found = faults(changed(maxFPGAs=-1, nodes__0__cpuLatency=-1, edges__1__cost="x"))
    assert found == [
        ("out_of_range", "/maxFPGAs"),
        ("out_of_range", "/nodes/0/cpuLatency"),
        ("wrong_type", "/edges/1/cost"),
    ]


def test_formats_are_told_apart():
    assert formats.read(json.dumps(WORKLOAD).encode()) == formats.read(json.dumps(WORKLOAD).encode(), "msr")
    assert formats.read(json.dumps(SOUND).encode()) == formats.read(json.dumps(SOUND).encode(), "native")
    assert ("missing_field", "/graph") in faults(WORKLOAD, "native")
    assert ("missing_field", "/nodes") in faults(SOUND, "msr")
    assert faults([], "msr") == [("wrong_type", "")]


@pytest.mark.parametrize(
    "document",
    [
        {"a": "gpu:0", "b": "gpu:1"},
        {"placement": {"a": "gpu:0", "b": "gpu:1"}},
        {"status": "optimal", "placement": {"a": "gpu:0", "b": "gpu:1"}},
        {"id": "1", "result": {"placement": {"a": "gpu:0", "b": "gpu:1"}}},
    ],
)
def test_placements(document):
    assert formats.read_placement(json.dumps(document).encode()) == {"a": "gpu:0", "b": "gpu:1"}


def test_operators_may_be_named_like_the_parts_of_an_answer():
    placement = {"result": "gpu:0", "placement": "gpu:1", "fpgas": "gpu:2"}
    assert formats.read_placement(json.dumps({"placement": placement}).encode()) == placement
    placement = {"fpgas": "gpu:0", "cpus": "gpu:1"}
    assert formats.read_placement(json.dumps(placement).encode()) == placement


def test_splits():
    split = {"fpgas": [{"nodes": [1, "b"]}, {"nodes": []}, {"nodes": [3]}], "cpus": [{"nodes": [4]}]}
    assert formats.read_placement(json.dumps(split).encode()) == {
        "1": "accelerator:0",
        "b": "accelerator:0",
        "3": "accelerator:2",
        "4": "cpu:0",
    }


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ([], [("no_placement", "")]),
        ({}, [("no_placement", "")]),
        (None, [("no_placement", "")]),
        ({"placement": {}}, [("no_placement", "/placement")]),
        ({"a": 1, "b": "gpu:0", "c/d": None}, [("wrong_type", "/a"), ("wrong_type", "/c~1d")]),
        ({"placement": {"a": []}}, [("wrong_type", "/placement/a")]),
        ({"status": "unknown", "placement": None}, [("no_placement", "/placement")]),
        ({"fpgas": [{"nodes": [1, 1]}]}, [("duplicate_assignment", "/fpgas/0/nodes/1")]),
        ({"fpgas": [{"nodes": [1]}], "cpus": [{"nodes": ["1"]}]}, [("duplicate_assignment", "/cpus/0/nodes/0")]),
        ({"fpgas": [{"nodes": [1.5]}]}, [("wrong_type", "/fpgas/0/nodes/0")]),
        ({"fpgas": [{}]}, [("missing_field", "/fpgas/0/nodes")]),
        ({"fpgas": 3}, [("wrong_type", "/fpgas")]),
        ({"id": "1", "status": "running", "result": None}, [("no_placement", "/result")]),
    ],
)
def test_what_is_no_placement(document, found):
    with pytest.raises(InvalidInstance) as caught:
        formats.read_placement(json.dumps(document).encode())
    assert [(issue.code, issue.pointer) for issue in caught.value.issues] == found
    assert all(issue.hint for issue in caught.value.issues)


def test_a_previous_placement_of_nothing_is_kept():
    """With a limit on moves it is not the same as none."""
    document = json.loads(json.dumps(SOUND))
    document["constraints"] = {"previous_placement": {}, "max_moved_operators": 0}
    request = native.from_document(document)
    assert native.from_document(native.request_document(request)) == request
