"""Every reason of infeasibility alone, with names and amounts."""

from __future__ import annotations

import pytest

from solver.instance import DeviceSpec, ForbiddenPlacement
from solver.result import Status
from tests.small import edges, gpus, host, make, op


def reasons(solve, *args, **kwargs):
    result = solve(make(*args, **kwargs))
    assert result.status is Status.INFEASIBLE
    return result.infeasibility


def the_reason(solve, *args, **kwargs):
    (reason,) = reasons(solve, *args, **kwargs)
    return reason


def test_no_device_kind(solve):
    reason = the_reason(solve, [op("a"), op("b", {"tpu": 1.0, "fpga": 1.0})])
    assert (reason.code, reason.operators) == ("no_device_kind", ("b",))
    assert reason.message == "operator 'b' has compute times for fpga, tpu, the cluster has gpu"


def test_no_kind_at_all(solve):
    assert "no kind at all" in the_reason(solve, [op("a", {})]).message


def test_an_entry_without_devices_has_no_kind(solve):
    reason = the_reason(solve, [op("a", {"tpu": 1.0})], (), [gpus(), DeviceSpec("tpu", "tpu", count=0)])
    assert reason.code == "no_device_kind"


@pytest.mark.parametrize(
    ("fields", "constraints"),
    [
        ({"allowed_devices": ()}, {}),
        ({"allowed_devices": ("cpu",)}, {}),
        ({"allowed_devices": ("none",)}, {}),
        ({}, {"pinned": {"b": "cpu"}}),
        ({}, {"pinned": {"b": "none"}}),
        ({}, {"forbidden": (ForbiddenPlacement("b", "gpu"),)}),
        ({"allowed_devices": ("gpu:0",)}, {"pinned": {"b": "gpu:1"}}),
        ({"allowed_devices": ("gpu:0",)}, {"forbidden": (ForbiddenPlacement("b", "gpu:0"),)}),
    ],
)
def test_no_allowed_device(solve, fields, constraints):
    devices = [gpus(), host(), DeviceSpec("none", "gpu", count=0)]
    reason = the_reason(solve, [op("a"), op("b", **fields)], (), devices, constraints=constraints)
    assert (reason.code, reason.operators) == ("no_allowed_device", ("b",))


def test_operator_too_large(solve):
    devices = [gpus(2, 10), DeviceSpec("old", "old", 8), DeviceSpec("big", "big", 99)]
    reason = the_reason(solve, [op("a"), op("b", {"gpu": 1.0, "old": 1.0}, 13)], (), devices)
    assert (reason.code, reason.operators, reason.devices) == (
        "operator_too_large",
        ("b",),
        ("gpu:0", "gpu:1", "old"),
    )
    assert (reason.required, reason.available, reason.unit) == (13, 10, "bytes")
    assert "3 too few" in reason.message


def test_an_operator_too_large_for_the_devices_left_to_it(solve):
    devices = [gpus(1, 10), DeviceSpec("big", "gpu", 99)]
    reason = the_reason(solve, [op("b", 1.0, 13, allowed_devices=("gpu",))], (), devices)
    assert (reason.code, reason.required, reason.available) == ("operator_too_large", 13, 10)


def test_group_too_large(solve):
    operators = [op("a", 1.0, 6, colocation_group="w"), op("b", 1.0, 7, colocation_group="w"), op("c", 1.0, 1)]
    reason = the_reason(solve, operators, (), [gpus(2, 10)])
    assert (reason.code, reason.operators, reason.devices) == ("group_too_large", ("a", "b"), ("gpu:0", "gpu:1"))
    assert (reason.required, reason.available, reason.unit) == (13, 10, "bytes")
    assert reason.message.startswith("colocation group 'w' of 2 operators needs 13 bytes on one device")


@pytest.mark.parametrize("partition", ["acyclic", "convex"])
def test_a_group_too_large_with_what_lies_on_its_paths(solve, partition):
    operators = [op("a", 1.0, 4, colocation_group="w"), op("b", 1.0, 4), op("c", 1.0, 4, colocation_group="w")]
    reason = the_reason(solve, operators, edges(ab=0.0, bc=0.0), [gpus(2, 10)], partition=partition)
    assert (reason.code, reason.operators) == ("group_too_large", ("a", "b", "c"))
    assert "which colocation and the partition rule keep together" in reason.message
    assert solve(make(operators, edges(ab=0.0, bc=0.0), [gpus(2, 10)], partition="free")).status is Status.OPTIMAL


def test_group_without_device(solve):
    operators = [op("a", {"gpu": 1.0}, colocation_group="w"), op("b", {"cpu": 1.0}, colocation_group="w")]
    reason = the_reason(solve, operators, (), [gpus(), host()])
    assert (reason.code, reason.operators) == ("group_without_device", ("a", "b"))


def test_a_group_pinned_apart(solve):
    operators = [op("a", colocation_group="w"), op("b", colocation_group="w")]
    reason = the_reason(solve, operators, constraints={"pinned": {"a": "gpu:0", "b": "gpu:1"}})
    assert (reason.code, reason.operators) == ("group_without_device", ("a", "b"))


def test_total_memory(solve):
    operators = [op("a", 1.0, 7), op("b", 1.0, 7), op("c", 1.0, 7)]
    reason = the_reason(solve, operators, (), [gpus(2, 10)])
    assert (reason.code, reason.operators, reason.devices) == ("total_memory", ("a", "b", "c"), ("gpu:0", "gpu:1"))
    assert (reason.required, reason.available, reason.unit) == (21, 20, "bytes")
    assert "1 more than the 20 there are" in reason.message


def test_total_memory_of_some_devices_only(solve):
    """a, b and c need a gpu; the host has room for anything else."""
    both = {"gpu": 1.0, "cpu": 1.0}
    operators = [op("a", 1.0, 7), op("b", 1.0, 7), op("c", 1.0, 7), op("d", both, 1000)]
    reason = the_reason(solve, operators, (), [gpus(2, 10), host()])
    assert (reason.code, reason.operators, reason.required) == ("total_memory", ("a", "b", "c"), 21)


def test_several_reasons_at_once(solve):
    found = reasons(solve, [op("a", {}), op("b", 1.0, 99), op("c", 1.0, 5), op("d", 1.0, 6)], (), [gpus(1, 10)])
    assert [(reason.code, reason.operators) for reason in found] == [
        ("no_device_kind", ("a",)),
        ("operator_too_large", ("b",)),
        ("total_memory", ("c", "d")),
    ]


@pytest.mark.parametrize("partition", ["acyclic", "convex", "free"])
def test_what_only_a_search_can_tell(solve, partition):
    """Three of 6 bytes on two devices of 10: 18 of 20 bytes, but no device holds two."""
    reason = the_reason(solve, [op(name, 1.0, 6) for name in "abc"], (), [gpus(2, 10)], partition=partition)
    assert reason.code == "no_assignment"
    assert f"the {partition} partition" in reason.message


def test_a_pipeline_that_memory_forbids(solve):
    """Only {a, d} and {b, c} fit, which feed each other: infeasible as a pipeline, not otherwise."""
    operators = [op("a", 1.0, 6), op("b", 1.0, 5), op("c", 1.0, 5), op("d", 1.0, 4)]
    question = (operators, edges(ab=0.0, cd=0.0), [gpus(2, 10)])
    assert the_reason(solve, *question).code == "no_assignment"
    assert solve(make(*question, partition="convex")).objective_value == 2.0


def test_names_are_not_listed_without_end(solve):
    found = reasons(solve, [op(f"o{i}", 1.0, 7) for i in range(100)], (), [gpus(50, 10)])
    assert found[0].code == "total_memory"
    assert len(found[0].operators) == len(found[0].devices) == 20
    assert found[0].message.startswith("100 operators that can only sit on 50 devices")


@pytest.mark.parametrize("limit", [{"max_period_ms": 2.5}, {"min_throughput_per_s": 400.0}])
def test_a_limit_below_what_is_proved(solve, limit):
    """Two devices share 6 ms, so 3 ms is the least; with a limit just above that the same question has an answer."""
    operators = [op("a", 3.0), op("b", 3.0)]
    reason = the_reason(solve, operators, constraints=limit)
    assert (reason.code, reason.available, reason.unit) == ("period_too_short", 2.5, "ms")
    assert reason.required == pytest.approx(3.0)
    enough = make(operators, constraints={"max_period_ms": reason.required * (1 + 1e-6)})
    assert solve(enough).status is Status.OPTIMAL
