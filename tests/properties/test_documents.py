"""Native documents of any instance, whole and damaged."""

from __future__ import annotations

import json
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solver import formats
from solver.errors import InvalidInstance, UnreadableDocument
from solver.formats import native
from solver.instance import Request, SolverOptions
from tests.properties.instances import random_chain_like, random_instance
from tests.solver.documents import SOUND

COMMON = {"deadline": None, "database": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**320), 10**320)
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(["\ud800", "gpu", "gpu:0", "a", "", "\x00", "convex", 2**53, 1e308, 5e-324, -0.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=400, **COMMON)
@given(st.integers(0, 10**6), st.booleans())
def test_a_request_is_read_back_as_it_was(seed, chain):
    instance = random_chain_like(seed) if chain else random_instance(seed)
    request = Request(instance, SolverOptions(time_limit_s=1.5, relative_gap=0.25, workers=3, seed=seed))
    text = json.dumps(native.request_document(request), allow_nan=False)
    assert formats.read(text.encode()) == request


def places(value, path=()):
    """Paths of all values in a document."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    if isinstance(value, list):
        for index in range(len(value)):
            yield from places(value[index], (*path, index))


WORKLOAD = {
    "maxFPGAs": 2,
    "maxCPUs": 1,
    "maxSizePerFPGA": 10.5,
    "nodes": [
        {"id": 1, "supportedOnFpga": 1, "cpuLatency": 2, "fpgaLatency": 1.5, "isBackwardNode": 0, "size": 3},
        {"id": "b", "supportedOnFpga": 1, "cpuLatency": 2, "fpgaLatency": 1.5, "colorClass": 1, "size": 0.5},
    ],
    "edges": [{"sourceId": 1, "destId": "b", "cost": 0.5, "size": 3}],
}
SPLIT = {"fpgas": [{"nodes": [1, "b"]}], "cpus": [{"nodes": [3]}]}


def damaged(document, data):
    """A copy with up to three values replaced, removed or added."""
    document = json.loads(json.dumps(document))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(places(document))))
        if not path:
            continue
        parent = document
        for part in path[:-1]:
            parent = parent[part]
        change = data.draw(st.sampled_from(["replace", "remove", "add", "swap"]))
        if change == "remove":
            del parent[path[-1]]
        elif change == "add" and isinstance(parent, dict):
            parent[data.draw(st.text(max_size=3))] = data.draw(VALUES)
        elif change == "swap":
            parent[path[-1]] = json.loads(json.dumps(data.draw(st.sampled_from([*document.values(), document]))))
        else:
            parent[path[-1]] = data.draw(VALUES)
    return json.dumps(document).encode()


def read_or_refuse(read, data):
    """Anything but the two errors a caller is told of is a crash."""
    try:
        return read(data)
    except UnreadableDocument as error:
        said, issues = str(error), ()
    except InvalidInstance as error:
        said, issues = str(error), error.issues
        if not issues:
            raise
    assert said
    for issue in issues:
        assert issue.code
        assert issue.hint
        json.dumps([issue.message, issue.pointer])
    return None


@settings(max_examples=400, **COMMON)
@given(st.data())
def test_damaged_native_documents(data):
    request = read_or_refuse(formats.read, damaged(SOUND, data))
    if request is not None:
        assert native.from_document(native.request_document(request)) == request


@settings(max_examples=400, **COMMON)
@given(st.data())
def test_damaged_workloads_of_the_msr_format(data):
    request = read_or_refuse(formats.read, damaged(WORKLOAD, data))
    if request is not None:
        assert native.from_document(native.request_document(request)) == request


@settings(max_examples=400, **COMMON)
@given(st.data(), st.sampled_from([SPLIT, {"placement": {"a": "gpu:0"}}, {"a": "gpu:0"}]))
def test_damaged_placements(data, document):
    placement = read_or_refuse(formats.read_placement, damaged(document, data))
    if placement is not None:
        assert all(isinstance(part, str) for pair in placement.items() for part in pair)


@settings(max_examples=400, **COMMON)
@given(st.integers(0, 10**9))
def test_damaged_bytes(seed):
    source = random.Random(seed)
    data = bytearray(json.dumps(SOUND).encode())
    for _ in range(source.randint(1, 4)):
        place = source.randrange(len(data))
        data[place : place + source.randint(0, 20)] = source.randbytes(source.randint(0, 3))
    read_or_refuse(formats.read, bytes(data))
