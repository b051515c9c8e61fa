"""What a library user can get wrong that no document can: records with values of the wrong kind."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from solver.errors import InvalidInstance, UnsupportedInstance
from solver.instance import (
    Cluster,
    Constraints,
    DeviceSpec,
    Edge,
    ForbiddenPlacement,
    Graph,
    Instance,
    Interconnect,
    Objective,
    SolverOptions,
)
from solver.solve import solve
from solver.validation import MAX_BYTES, validate, validate_options
from tests.small import edges, gpus, make, op, ops

SOUND = make(ops(a=1.0, b=1.0), edges(ab=0.5))


def faults(instance):
    with pytest.raises(InvalidInstance):
        solve(instance)
    return [(issue.code, issue.pointer) for issue in validate(instance)]


def test_the_sound_instance_is_sound():
    assert validate(SOUND) == ()


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("1", "wrong_type"),
        (None, "wrong_type"),
        (True, "wrong_type"),
        (math.nan, "not_finite"),
        (math.inf, "not_finite"),
        (10**400, "out_of_range"),
        (-(10**400), "out_of_range"),
        (-1, "out_of_range"),
        (1e16, "out_of_range"),
    ],
)
def test_numbers(value, code):
    graph = Graph((op("a", {"gpu": value}),))
    assert faults(replace(SOUND, graph=graph)) == [(code, "/graph/operators/0/compute_time_ms/gpu")]


@pytest.mark.parametrize(
    ("count", "code"),
    [("3", "wrong_type"), (True, "wrong_type"), (1.5, "not_whole"), (math.inf, "not_finite"), (-1, "out_of_range")],
)
def test_counts(count, code):
    found = faults(replace(SOUND, cluster=Cluster((DeviceSpec("gpu", "gpu", None, count),))))
    assert found == [(code, "/cluster/devices/0/count")]


def test_a_whole_count_may_not_be_a_float():
    """``range`` would refuse it."""
    assert faults(replace(SOUND, cluster=Cluster((gpus(2.0),)))) == [("wrong_type", "/cluster/devices/0/count")]


@pytest.mark.parametrize("text", [3, None, b"a"])
def test_ids(text):
    found = validate(replace(SOUND, graph=Graph((op(text),))))
    assert [(issue.code, issue.pointer) for issue in found] == [("wrong_type", "/graph/operators/0/id")]


@pytest.mark.parametrize("field", ["kind", "partition", "schedule", "execution"])
def test_objective_words_must_be_members_of_their_enums(field):
    """The text alone, compared by identity further on, would be taken for another mode."""
    value = str(getattr(Objective(), field).value)
    assert faults(replace(SOUND, objective=replace(Objective(), **{field: value}))) == [
        ("wrong_type", f"/objective/{field}")
    ]


@pytest.mark.parametrize("field", ["model", "overlap"])
def test_interconnect_words_must_be_members_of_their_enums(field):
    wires = replace(Interconnect(), **{field: str(getattr(Interconnect(), field).value)})
    cluster = replace(SOUND.cluster, interconnect=wires)
    assert faults(replace(SOUND, cluster=cluster)) == [("wrong_type", f"/cluster/interconnect/{field}")]


@pytest.mark.parametrize(
    ("num_bytes", "bandwidth", "sound"),
    [
        (1000, 1e-320, False),
        (MAX_BYTES, 1e-9, False),
        (MAX_BYTES, 1e6, True),
        (0, 1e-320, True),
        (1, 1.0, True),
    ],
)
def test_a_transfer_may_not_take_longer_than_any_time_given(num_bytes, bandwidth, sound):
    """Else a period could be infinite."""
    connections = (Edge("a", "b", num_bytes),)
    for devices, wires, pointer in (
        ((gpus(),), {"host_bandwidth_bytes_per_s": bandwidth}, "/cluster/interconnect/host_bandwidth_bytes_per_s"),
        ((gpus(host_bandwidth_bytes_per_s=bandwidth),), {}, "/cluster/devices/0/host_bandwidth_bytes_per_s"),
    ):
        instance = make(ops(a=1.0, b=1.0), connections, devices, wires=wires)
        if sound:
            assert validate(instance) == ()
        else:
            assert faults(instance) == [("out_of_range", pointer)]


def test_a_bandwidth_that_nobody_uses_may_be_slow():
    wires = {"host_bandwidth_bytes_per_s": 1e-320}
    devices = (gpus(host_bandwidth_bytes_per_s=1e9), DeviceSpec("cpu", "cpu", is_host=True))
    assert validate(make(ops(a=1.0, b=1.0), [Edge("a", "b", 1000)], devices, wires=wires)) == ()
    assert validate(make(ops(a=1.0, b=1.0), [Edge("a", "b", 1000, None, 1.0)], wires=wires)) == ()


def test_sizes_stop_where_json_readers_stop_being_exact():
    assert MAX_BYTES == 2**53 - 1
    assert validate(make([op("a", 1.0, 2**53 - 1)])) == ()
    assert [issue.code for issue in validate(make([op("a", 1.0, 2**53)]))] == ["out_of_range"]


@pytest.mark.parametrize(
    ("options", "code", "pointer"),
    [
        (SolverOptions(time_limit_s=0), "out_of_range", "/solver/time_limit_s"),
        (SolverOptions(time_limit_s=-1), "out_of_range", "/solver/time_limit_s"),
        (SolverOptions(time_limit_s=math.nan), "not_finite", "/solver/time_limit_s"),
        (SolverOptions(time_limit_s="30"), "wrong_type", "/solver/time_limit_s"),
        (SolverOptions(time_limit_s=1e9), "out_of_range", "/solver/time_limit_s"),
        (SolverOptions(relative_gap=-0.1), "out_of_range", "/solver/relative_gap"),
        (SolverOptions(relative_gap=1.1), "out_of_range", "/solver/relative_gap"),
        (SolverOptions(workers=0), "out_of_range", "/solver/workers"),
        (SolverOptions(workers=1.5), "not_whole", "/solver/workers"),
        (SolverOptions(workers=2000), "out_of_range", "/solver/workers"),
        (SolverOptions(seed=-1), "out_of_range", "/solver/seed"),
        (SolverOptions(seed=2**31), "out_of_range", "/solver/seed"),
        (SolverOptions(seed=0.5), "not_whole", "/solver/seed"),
        (SolverOptions(memory_limit_bytes=0), "out_of_range", "/solver/memory_limit_bytes"),
        (SolverOptions(memory_limit_bytes=True), "wrong_type", "/solver/memory_limit_bytes"),
    ],
)
def test_options(options, code, pointer):
    with pytest.raises(InvalidInstance) as caught:
        solve(SOUND, options)
    assert [(issue.code, issue.pointer) for issue in caught.value.issues] == [(code, pointer)]
    assert validate_options(options) == caught.value.issues


def test_all_options_at_once_and_the_instance_as_well():
    with pytest.raises(InvalidInstance) as caught:
        solve(Instance(Graph(()), Cluster(())), SolverOptions(time_limit_s=0, relative_gap=2, workers=0, seed=-1))
    assert [issue.code for issue in caught.value.issues] == ["empty_graph", "no_devices", *["out_of_range"] * 4]


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"objective": {"kind": "latency"}}, "unsupported_objective", "/objective/kind"),
        ({"constraints": {"max_latency_ms": 1}}, "unsupported_constraint", "/constraints/max_latency_ms"),
    ],
)
def test_what_is_not_supported_is_refused_rather_than_ignored(change, code, pointer):
    change = dict(change)
    instance = make(ops(a=1.0), **change.pop("objective", {}), **change)
    assert validate(instance) == ()
    with pytest.raises(UnsupportedInstance) as caught:
        solve(instance)
    assert [(issue.code, issue.pointer) for issue in caught.value.issues] == [(code, pointer)]
    assert caught.value.issues[0].hint


def test_constraints_are_checked_against_the_graph_and_the_cluster():
    limits = Constraints(pinned={"z": "tpu"}, forbidden=(ForbiddenPlacement("y", "gpu:9"),))
    assert faults(replace(SOUND, constraints=limits)) == [
        ("unknown_operator", "/constraints/pinned/z"),
        ("unknown_device", "/constraints/pinned/z"),
        ("unknown_operator", "/constraints/forbidden/0/operator"),
        ("unknown_device", "/constraints/forbidden/0/device"),
    ]
