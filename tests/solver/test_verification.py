"""A valid placement that breaks one rule at a time, and gets exactly that violation."""

from __future__ import annotations

import dataclasses

import pytest

from solver.errors import UnsupportedInstance
from solver.instance import Constraints, DeviceSpec, Edge, ForbiddenPlacement, Partition
from solver.verification import verify
from tests.small import edges, gpus, make, op, ops

DEVICES = (gpus(2, 10, cost_per_hour=2.0), DeviceSpec("old", "old", 10, cost_per_hour=1.0))
OPERATORS = (
    op("a", 2.0, 4, allowed_devices=("gpu",)),
    op("b", {"gpu": 3.0, "old": 9.0}, 4, colocation_group="w"),
    op("c", {"gpu": 1.0, "old": 5.0}, 4, colocation_group="w"),
)
GOOD = {"a": "gpu:0", "b": "gpu:1", "c": "gpu:1"}
"""Loads 2 + 1 and 4 + 1, 4 and 8 bytes of 10, 4 an hour."""


def instance(**fields):
    limits = {"pinned": {"a": "gpu"}, "forbidden": (ForbiddenPlacement("c", "old"),), **fields}
    return make(OPERATORS, edges(ab=1.0, bc=7.0), DEVICES, constraints=limits)


def violations(question, placement):
    return [(v.code, v.operators, v.devices) for v in verify(question, placement).violations]


def test_nothing_is_wrong_with_a_good_placement():
    verification = verify(instance(), GOOD)
    assert verification.violations == ()
    assert verification.objective_value == 5.0
    first, second = verification.stages
    assert (first.device, first.operators) == ("gpu:0", ("a",))
    assert (first.compute_time_ms, first.transfer_in_ms, first.transfer_out_ms, first.load_ms) == (2.0, 0.0, 1.0, 3.0)
    assert (first.memory_bytes, first.memory_limit_bytes) == (4, 10)
    assert (second.device, second.operators) == ("gpu:1", ("b", "c"))
    assert (second.compute_time_ms, second.transfer_in_ms, second.transfer_out_ms, second.load_ms) == (4, 1, 0, 5)
    assert (second.memory_bytes, second.memory_limit_bytes) == (8, 10)


def test_a_missing_operator():
    verification = verify(instance(), {"a": "gpu:0", "b": "gpu:1"})
    assert [(v.code, v.operators) for v in verification.violations] == [("assign_once", ("c",))]
    assert verification.objective_value is None
    assert verification.stages == ()


def test_an_operator_too_many():
    assert violations(instance(), {**GOOD, "z": "gpu:0"}) == [("unknown_operator", ("z",), ())]


def test_a_device_that_is_not_there():
    assert violations(make(ops(a=1.0)), {"a": "gpu:2"}) == [("unknown_device", ("a",), ("gpu:2",))]


def test_an_id_without_index_is_no_device():
    assert violations(make(ops(a=1.0)), {"a": "gpu"}) == [("unknown_device", ("a",), ("gpu",))]


def test_a_kind_that_cannot_run_the_operator():
    question = make(ops(a=1.0), (), DEVICES)
    assert violations(question, {"a": "old"}) == [("device_kind", ("a",), ("old",))]
    assert verify(question, {"a": "old"}).objective_value is None


@pytest.mark.parametrize("allowed", [(), ("gpu:0",), ("old",)])
def test_a_device_that_is_not_allowed(allowed):
    question = make([op("a", 1.0, allowed_devices=allowed)], (), DEVICES)
    assert violations(question, {"a": "gpu:1"}) == [("allowed_devices", ("a",), ("gpu:1",))]


@pytest.mark.parametrize("allowed", [None, ("gpu:1",), ("gpu",), ("old", "gpu")])
def test_a_device_that_is_allowed(allowed):
    question = make([op("a", 1.0, allowed_devices=allowed)], (), DEVICES)
    assert violations(question, {"a": "gpu:1"}) == []


def test_pinned_elsewhere():
    assert violations(instance(pinned={"a": "gpu:1"}), GOOD) == [("pinned", ("a",), ("gpu:0",))]


@pytest.mark.parametrize("device", ["gpu", "gpu:0"])
def test_forbidden(device):
    question = instance(forbidden=(ForbiddenPlacement("a", device),))
    assert violations(question, GOOD) == [("forbidden", ("a",), ("gpu:0",))]


def test_a_group_spread_over_devices():
    question = instance()
    placement = {"a": "gpu:0", "b": "gpu:0", "c": "gpu:1"}
    assert violations(question, placement) == [("colocation", ("b", "c"), ("gpu:0", "gpu:1"))]


def test_memory_by_one_byte():
    operators = (op("a", 1.0, 6), op("b", 1.0, 5))
    question = make(operators, (), [gpus(2, 10)])
    assert violations(question, {"a": "gpu:0", "b": "gpu:0"}) == [("memory", ("a", "b"), ("gpu:0",))]
    assert "1 more than its 10" in verify(question, {"a": "gpu:0", "b": "gpu:0"}).violations[0].message
    assert violations(question, {"a": "gpu:0", "b": "gpu:1"}) == []


def test_memory_is_counted_in_whole_bytes_however_large():
    operators = (op("a", 1.0, 2**53 - 1), op("b", 1.0, 2))
    assert violations(make(operators, (), [gpus(1, 2**53 - 1)]), {"a": "gpu:0", "b": "gpu:0"}) == [
        ("memory", ("a", "b"), ("gpu:0",))
    ]


CROSS = ops(a=1.0, b=1.0, c=1.0, d=1.0)


@pytest.mark.parametrize("partition", Partition)
def test_devices_in_a_circle(partition):
    question = make(CROSS, edges(ab=0.0, cd=0.0), partition=partition)
    broken = violations(question, {"a": "gpu:0", "d": "gpu:0", "b": "gpu:1", "c": "gpu:1"})
    expected = [("acyclic_partition", (), ("gpu:0", "gpu:1"))] if partition is Partition.ACYCLIC else []
    assert broken == expected


@pytest.mark.parametrize("partition", Partition)
def test_a_path_that_comes_back(partition):
    """a → b → c → d, with b and c on the other device; the chord a → d alone would do no harm."""
    question = make(CROSS, edges(ab=0.0, bc=0.0, cd=0.0, ad=0.0), partition=partition)
    broken = violations(question, {"a": "gpu:0", "d": "gpu:0", "b": "gpu:1", "c": "gpu:1"})
    expected = {
        Partition.ACYCLIC: [("acyclic_partition", (), ("gpu:0", "gpu:1"))],
        Partition.CONVEX: [("convex_partition", ("a", "c", "d"), ("gpu:0",))],
        Partition.FREE: [],
    }
    assert broken == expected[partition]


def test_a_circle_of_three_devices_names_those_on_it_only():
    operators = ops(a=1.0, b=1.0, c=1.0, d=1.0, e=1.0, f=1.0, x=1.0, y=1.0)
    question = make(operators, edges(ab=0.0, cd=0.0, ef=0.0, xa=0.0, fy=0.0), [gpus(5)])
    placement = {"a": "gpu:0", "b": "gpu:1", "c": "gpu:1", "d": "gpu:2", "e": "gpu:2", "f": "gpu:0"}
    placement |= {"x": "gpu:3", "y": "gpu:4"}
    assert violations(question, placement) == [("acyclic_partition", (), ("gpu:0", "gpu:1", "gpu:2"))]


@pytest.mark.parametrize("partition", Partition)
def test_the_partition_rule_leaves_backward_operators_alone(partition):
    operators = (op("a"), op("b"), op("c", is_backward=True), op("d", is_backward=True))
    question = make(operators, edges(ab=0.0, bc=0.0, cd=0.0), partition=partition)
    assert violations(question, {"a": "gpu:0", "b": "gpu:1", "c": "gpu:0", "d": "gpu:1"}) == []


def test_moves():
    previous = {"a": "gpu:1", "b": "gpu:1", "c": "gpu:0", "gone": "gpu:0"}
    limits = {"previous_placement": previous, "max_moved_operators": 1}
    assert violations(instance(**limits), GOOD) == [("max_moved_operators", ("a", "c"), ())]
    assert violations(instance(**{**limits, "max_moved_operators": 2}), GOOD) == []
    limits = {"previous_placement": previous, "max_moved_bytes": 7}
    assert violations(instance(**limits), GOOD) == [("max_moved_bytes", ("a", "c"), ())]
    assert violations(instance(**{**limits, "max_moved_bytes": 8}), GOOD) == []


@pytest.mark.parametrize(
    ("limit", "kept", "broken"),
    [
        ("max_period_ms", 5.0, 4.999),
        ("min_throughput_per_s", 200.0, 200.1),
        ("max_devices", 2, 1),
        ("max_cost_per_hour", 4.0, 3.9),
    ],
)
def test_limits(limit, kept, broken):
    assert violations(instance(**{limit: kept}), GOOD) == []
    assert [v.code for v in verify(instance(**{limit: broken}), GOOD).violations] == [limit]


def test_several_rules_at_once_are_all_named():
    question = instance(pinned={"a": "gpu:1"}, max_devices=1, max_period_ms=1.0)
    codes = {v.code for v in verify(question, {"a": "gpu:0", "b": "gpu:0", "c": "old", "z": "?"}).violations}
    assert codes == {"pinned", "forbidden", "colocation", "max_devices", "max_period_ms", "unknown_operator"}


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({"kind": "latency"}, ["unsupported_objective"]),
        ({"constraints": {"max_latency_ms": 1.0}}, ["unsupported_constraint"]),
        (
            {"kind": "latency", "constraints": {"max_latency_ms": 1.0}},
            ["unsupported_objective", "unsupported_constraint"],
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused(fields, codes):
    with pytest.raises(UnsupportedInstance) as caught:
        verify(make(ops(a=1.0), **fields), {"a": "gpu:0"})
    assert [issue.code for issue in caught.value.issues] == codes


def test_the_value_does_not_depend_on_the_order_of_the_document():
    costs = [0.1, 0.2, 0.3, 1e-9, 1e12, 0.7]
    operators = [op(f"o{i}", cost) for i, cost in enumerate(costs)]
    connections = [Edge("o0", f"o{i}", tensor=f"t{i}", transfer_time_ms=cost) for i, cost in enumerate(costs) if i]
    placement = {operator.id: "gpu:0" for operator in operators} | {"o4": "gpu:1", "o5": "gpu:1"}
    question = make(operators, connections)
    turned = make(operators[::-1], connections[::-1])
    assert verify(question, placement).objective_value == verify(turned, placement).objective_value


def test_free_stages_of_a_circle_come_by_their_first_operators():
    question = make(CROSS, edges(ab=0.0, cd=0.0), partition="free")
    stages = verify(question, {"c": "gpu:0", "b": "gpu:0", "a": "gpu:1", "d": "gpu:1"}).stages
    assert {stage.device for stage in stages} == {"gpu:0", "gpu:1"}


def test_no_limit_is_no_violation():
    question = dataclasses.replace(instance(), constraints=Constraints())
    assert violations(question, {"a": "gpu:0", "b": "gpu:1", "c": "gpu:1"}) == []
