"""Why a placement is worth what it is: by hand, and against the verifier on whatever was changed."""

import math
import random
from dataclasses import replace

import pytest

from solver import explanation as module
from solver.errors import InvalidInstance, UnsupportedInstance
from solver.explanation import Part, Pass, explain
from solver.instance import Edge, Link, LinkGroup, LinkPair, ObjectiveKind, PipelineSchedule
from solver.verification import verify
from tests.properties.clusters import random_cluster_instance
from tests.small import edges, gpus, host, make, op, ops

FORK = {"a": "gpu:0", "b": "gpu:0", "c": "gpu:1"}


def fork(devices=None, **fields):
    """``a`` and ``b`` on one device feed ``c`` on the other."""
    operators = (op("a", 4.0, 3), op("b", 1.0, 4), op("c", 2.0, 8))
    return make(operators, edges(ac=0.5, bc=0.25), devices, **fields)


def changes_of(explanation):
    return {change.message: change.period_ms for change in explanation.changes}


def test_every_number_of_a_small_placement():
    found = explain(fork(), FORK)
    assert (found.period_ms, found.cost_per_hour) == (5.75, None)
    first, second = found.loads
    assert (first.device, first.in_pass, first.is_bottleneck) == ("gpu:0", Pass.BOTH, True)
    assert (first.compute_time_ms, first.transfer_in_ms, first.transfer_out_ms) == (5.0, 0.0, 0.75)
    assert (first.load_ms, first.slack_ms, first.bound_by) == (5.75, 0.0, (Part.COMPUTE, Part.OUTGOING))
    assert (second.device, second.is_bottleneck, second.load_ms, second.slack_ms) == ("gpu:1", False, 2.75, 3.0)
    assert second.bound_by == (Part.COMPUTE, Part.INCOMING)
    assert [(t.producer, t.device, t.transfer_out_ms, t.transfer_in_ms) for t in found.tensors] == [
        ("a", "gpu:0", 0.5, {"gpu:1": 0.5}),
        ("b", "gpu:0", 0.25, {"gpu:1": 0.25}),
    ]
    assert [
        (move.operators, move.device, [(d.device, d.period_ms, d.violations) for d in move.destinations])
        for move in found.moves
    ] == [(("a",), "gpu:0", [("gpu:1", 6.25, ())]), (("b",), "gpu:0", [("gpu:1", 4.5, ())])]
    assert [(change.message, change.pointer, change.period_ms) for change in found.changes] == [
        ("device 'gpu:0' twice as fast", "/cluster/devices/0", 3.25),
        ("the 2 used devices of 'gpu' twice as fast", "/cluster/devices/0", 3.25),
        ("every transfer twice as fast", "/cluster/interconnect", 5.375),
    ]
    assert (found.num_tensors, found.num_moves_not_tried, found.num_changes_not_tried) == (2, 0, 0)


@pytest.mark.parametrize(
    ("overlap", "transfer", "bound_by"),
    [
        ("none", 9.0, ["compute", "incoming", "outgoing"]),
        ("none", 0.0, ["compute"]),
        ("full", 1.0, ["compute"]),
        ("full", 1.5, ["compute", "incoming", "outgoing"]),
        ("full", 2.0, ["incoming", "outgoing"]),
        ("duplex", 2.0, ["compute"]),
        ("duplex", 3.0, ["compute", "incoming", "outgoing"]),
        ("duplex", 4.0, ["incoming", "outgoing"]),
    ],
)
def test_what_binds_follows_the_overlap(overlap, transfer, bound_by):
    chain = make(ops(a=0.1, b=3.0, c=0.1), edges(ab=transfer, bc=transfer), (gpus(3),), wires={"overlap": overlap})
    loads = {load.device: load for load in explain(chain, {"a": "gpu:0", "b": "gpu:1", "c": "gpu:2"}).loads}
    assert list(loads["gpu:1"].bound_by) == bound_by


def test_room_is_asked_for_where_memory_alone_forbids_a_better_place():
    found = explain(fork((gpus(2, 10),)), FORK)
    to_second = found.moves[1].destinations[0]
    assert (to_second.period_ms, [v.code for v in to_second.violations]) == (4.5, ["memory"])
    room = [change for change in found.changes if change.code == "more_memory"]
    assert [(c.operators, c.device, c.memory_bytes, c.period_ms) for c in room] == [(("b",), "gpu:1", 2, 4.5)]


def test_links_level_by_level():
    near = LinkGroup(("gpu:0", "gpu:1"), Link(1e6, 1.0))
    wires = {"model": "links", "default": Link(1e3, 7.0), "groups": (near,)}
    instance = make(ops(a=1.0, b=1.0), (Edge("a", "b", 1000),), (gpus(3),), wires=wires)
    found = explain(instance, {"a": "gpu:0", "b": "gpu:1"})
    assert found.period_ms == 3.0  # 1 ms of compute, 1 ms for the bytes, 1 ms of latency, at both ends
    assert [load.is_bottleneck for load in found.loads] == [True, True]
    assert changes_of(found) == {
        "the links of group 0 (gpu:0, gpu:1) without latency": 2.0,
        "every transfer twice as fast": 2.0,
        "the links of group 0 (gpu:0, gpu:1) with twice the bandwidth": 2.5,
        "the 2 bottlenecks twice as fast": 2.5,
        "the 2 used devices of 'gpu' twice as fast": 2.5,
        "device 'gpu:0' twice as fast": 3.0,
        "device 'gpu:1' twice as fast": 3.0,
        "the default link with twice the bandwidth": 3.0,
        "the default link without latency": 3.0,
    }
    groups = [change.pointer for change in found.changes if "group" in change.message]
    assert groups == ["/cluster/interconnect/groups/0"] * 2


def test_each_pair_on_a_route():
    pairs = (LinkPair("gpu:0", "gpu:1", Link(1e6)), LinkPair("gpu:1", "gpu:2", Link(5e5)))
    instance = make(ops(a=1.0, b=1.0), (Edge("a", "b", 1000),), (gpus(3),), wires={"model": "links", "pairs": pairs})
    found = explain(instance, {"a": "gpu:0", "b": "gpu:2"})
    assert found.period_ms == 4.0  # 1 ms of compute, 1 ms to the device between, 2 ms from there
    by_pointer = {change.pointer: change.period_ms for change in found.changes if change.code == "faster_link"}
    assert by_pointer == {
        "/cluster/interconnect": 2.5,
        "/cluster/interconnect/pairs/1": 3.0,
        "/cluster/interconnect/pairs/0": 3.5,
    }


def test_host_links_entry_by_entry():
    wires = {"host_bandwidth_bytes_per_s": 1e6, "host_latency_ms": 1.0}
    quick = replace(gpus(1), id="quick", host_bandwidth_bytes_per_s=2e6, host_latency_ms=0.0)
    instance = make(ops(a=1.0, b=1.0), (Edge("a", "b", 1000),), (gpus(1), quick, host()), wires=wires)
    found = explain(instance, {"a": "gpu:0", "b": "quick:0"})
    assert found.period_ms == 3.0
    assert changes_of(found) == {
        "the host link of 'gpu' without latency": 2.0,
        "every transfer twice as fast": 2.0,
        "the host link of 'gpu' with twice the bandwidth": 2.5,
        "device 'gpu:0' twice as fast": 2.5,
        "the host link of 'quick' with twice the bandwidth": 3.0,
    }


def test_each_pass_of_gpipe_has_its_own_bottleneck():
    operators = (*ops(a=5.0, b=1.0), op("c", 7.0, is_backward=True), op("d", 2.0, is_backward=True))
    instance = make(operators, edges(ab=0.5, bc=0.25, cd=1.0), schedule="gpipe")
    found = explain(instance, {"a": "gpu:0", "b": "gpu:1", "c": "gpu:1", "d": "gpu:0"})
    assert found.period_ms == 13.5
    assert [(o.device, o.in_pass, o.load_ms, o.slack_ms, o.is_bottleneck) for o in found.loads] == [
        ("gpu:0", Pass.FORWARD, 5.5, 0.0, True),
        ("gpu:1", Pass.FORWARD, 1.5, 4.0, False),
        ("gpu:0", Pass.BACKWARD, 3.0, 5.0, False),
        ("gpu:1", Pass.BACKWARD, 8.0, 0.0, True),
    ]
    assert changes_of(found)["device 'gpu:0' twice as fast"] == 11.0
    assert changes_of(found)["device 'gpu:1' twice as fast"] == 10.0


def test_the_operators_at_the_rim_are_moved_first():
    chain = make(ops(a=1.0, b=9.0, c=8.0, d=2.0, e=1.0), edges(ab=0.1, bc=0.1, cd=0.1, de=0.1, be=0.1))
    moves = explain(chain, dict.fromkeys("abcd", "gpu:0") | {"e": "gpu:1"}).moves
    assert [move.operators for move in moves] == [("d",), ("a",), ("b",)]
    weighted = (op("w", 0.0, colocation_group="g"), op("b", 9.0, colocation_group="g"), *ops(a=1.0, c=8.0, d=2.0))
    chain = make(weighted, edges(wb=0.1, ab=0.1, bc=0.1, cd=0.1))
    moves = explain(chain, dict.fromkeys("wabcd", "gpu:0")).moves
    assert [move.operators for move in moves] == [("d",), ("a",), ("w", "b")]


def test_a_colocation_group_moves_as_one():
    instance = make((op("a", 3.0, colocation_group="g"), op("b"), op("c", 2.0, colocation_group="g")))
    [move] = explain(instance, dict.fromkeys("abc", "gpu:0"), "c").moves
    assert move.operators == ("a", "c")
    assert [(d.device, d.period_ms) for d in move.destinations] == [("gpu:1", 5.0)]


@pytest.mark.parametrize("kind", [ObjectiveKind.THROUGHPUT, ObjectiveKind.COST])
def test_every_number_is_what_the_verifier_says(kind):
    """Random clusters, every rule, any placement; nothing below shares a line with the explanation."""
    explained = 0
    for seed in range(400):
        drawn = random_cluster_instance(seed)
        instance = replace(drawn, objective=replace(drawn.objective, kind=kind))
        source = random.Random(seed)
        names = [device.name for device in instance.cluster.expand()]
        placement = {o.id: source.choice(names) for o in instance.graph.operators}
        found = explain(instance, placement, source.choice([None, *placement]))
        verification = verify(instance, placement)
        assert (found is None) == (verification.objective_value is None)
        if found is None:
            continue
        explained += 1
        by_time = replace(instance, objective=replace(instance.objective, kind=ObjectiveKind.THROUGHPUT))
        by_price = replace(instance, objective=replace(instance.objective, kind=ObjectiveKind.COST))
        assert found.period_ms == verify(by_time, placement).objective_value
        _check_loads(instance, verification, found)
        for move in found.moves:
            assert {d.device for d in move.destinations} >= set(names) - {placement[o] for o in move.operators}
            for destination in move.destinations:
                moved = {**placement, **dict.fromkeys(move.operators, destination.device)}
                then = verify(by_time, moved)
                assert (destination.period_ms, destination.violations) == (then.objective_value, then.violations)
                if kind is ObjectiveKind.COST:
                    assert destination.cost_per_hour == verify(by_price, moved).objective_value
        periods = [change.period_ms for change in found.changes]
        assert periods == sorted(periods)
        assert all(period <= found.period_ms * (1 + 1e-9) for period in periods)
    assert explained > 200


def _check_loads(instance, verification, found):
    passes = {load.in_pass for load in found.loads}
    largest = [max(load.load_ms for load in found.loads if load.in_pass is p) for p in passes]
    assert found.period_ms == pytest.approx(sum(largest))
    assert len(passes) == (2 if instance.objective.schedule is PipelineSchedule.GPIPE else 1)
    for stage in verification.stages:
        loads = [load for load in found.loads if load.device == stage.device]
        for field in ("compute_time_ms", "transfer_in_ms", "transfer_out_ms", "load_ms"):
            assert sum(getattr(load, field) for load in loads) == pytest.approx(getattr(stage, field))
        sent = math.fsum(t.transfer_out_ms for t in found.tensors if t.device == stage.device)
        taken = math.fsum(t.transfer_in_ms.get(stage.device, 0.0) for t in found.tensors)
        assert (sent, taken) == (pytest.approx(stage.transfer_out_ms), pytest.approx(stage.transfer_in_ms))


def test_what_is_not_tried_is_counted(monkeypatch):
    instance, placement = fork((gpus(40),)), FORK
    whole = explain(instance, placement)
    monkeypatch.setattr(module, "MAX_WORK", 5 * 12)  # twelve times the verifier
    part = explain(instance, placement)
    assert sum(len(move.destinations) for move in part.moves) == 6
    assert part.num_moves_not_tried == 2 * 39 - 6
    assert len(part.changes) + part.num_changes_not_tried == len(whole.changes)
    assert all("gpu:1" in {d.device for d in move.destinations} for move in part.moves)  # where their data go


def test_what_cannot_be_explained():
    assert explain(fork(), {"a": "gpu:0"}) is None
    with pytest.raises(InvalidInstance, match="no operator 'ghost'"):
        explain(fork(), FORK, "ghost")
    with pytest.raises(UnsupportedInstance, match="latency"):
        explain(fork(kind="latency"), FORK)
    idle = explain(make(ops(a=0.0)), {"a": "gpu:0"})
    assert (idle.period_ms, idle.moves, idle.loads[0].is_bottleneck) == (0.0, (), False)
