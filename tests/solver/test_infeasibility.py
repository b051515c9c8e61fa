"""Every reason of infeasibility alone, with names and amounts."""

from __future__ import annotations

import pytest

from solver import solve as conductor
from solver.instance import DeviceSpec, ForbiddenPlacement, Link, LinkGroup
from solver.result import Status
from tests.small import edges, gpus, host, make, op


def reasons(solve, *args, **kwargs):
    result = solve(make(*args, **kwargs))
    assert result.status is Status.INFEASIBLE
    return result.infeasibility


def the_reason(solve, *args, **kwargs):
    """The only one that can be told without a search; what a search adds follows it."""
    reason, *rest = reasons(solve, *args, **kwargs)
    assert all(other.code in {"conflict", "joint_conflict"} or other.code.startswith("relax_") for other in rest)
    return reason


def changes(solve, *args, **kwargs):
    """Code → reason, of the changes that are enough one by one."""
    found = {reason.code: reason for reason in reasons(solve, *args, **kwargs)}
    assert "conflict" in found
    return {code: reason for code, reason in found.items() if code.startswith("relax_")}


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
def test_memory_that_only_a_search_finds_short(solve, partition):
    """Three of 6 bytes on two devices of 10: 18 of 20 bytes, but no device holds two."""
    question = ([op(name, 1.0, 6) for name in "abc"], (), [gpus(2, 10)])
    assert the_reason(solve, *question, partition=partition).code == "conflict"
    (change,) = changes(solve, *question, partition=partition).values()
    assert (change.code, change.required, change.unit, len(change.devices)) == ("relax_memory", 2, "bytes", 1)
    assert change.message.endswith("; less will not do")


def test_memory_is_asked_for_on_no_more_devices_than_need_it(solve):
    """b would be faster on `fast`, which has no memory for it, but fits where it is slow."""
    operators = [op("a", {"gpu": 1.0}, 5), op("b", {"fast": 1.0, "slow": 4.0}, 3)]
    devices = [DeviceSpec("gpu", "gpu", 0), DeviceSpec("fast", "fast", 0), DeviceSpec("slow", "slow", 3)]
    change = changes(solve, operators, (), devices)["relax_memory"]
    assert change.message == "there is a placement with more memory: 5 bytes on 'gpu'; less will not do"


def test_of_memory_for_several_devices_nothing_is_called_least(solve):
    """Both have to grow; that the larger amount is the least does not make all of them so."""
    operators = [op("a", {"gpu": 1.0}, 5), op("b", {"old": 1.0}, 3)]
    change = changes(solve, operators, (), [DeviceSpec("gpu", "gpu", 0), DeviceSpec("old", "old", 0)])["relax_memory"]
    assert change.message == "there is a placement with more memory: 5 bytes on 'gpu', 3 bytes on 'old'"


def test_without_time_for_trials_only_the_proof_is_told(solve, monkeypatch):
    monkeypatch.setattr(conductor, "CONFLICT_S", 0.0)
    (reason,) = reasons(solve, [op(name, 1.0, 6) for name in "abc"], (), [gpus(2, 10)], partition="convex")
    assert reason.code == "no_assignment"
    assert "the convex partition" in reason.message


def test_a_pipeline_that_memory_forbids(solve):
    """Only {a, d} and {b, c} fit, which feed each other: infeasible as a pipeline, not otherwise."""
    operators = [op("a", 1.0, 6), op("b", 1.0, 5), op("c", 1.0, 5), op("d", 1.0, 4)]
    question = (operators, edges(ab=0.0, cd=0.0), [gpus(2, 10)])
    found = changes(solve, *question)
    assert found.keys() == {"relax_memory", "relax_partition"}
    assert found["relax_memory"].required == 1
    assert "the partition convex instead of acyclic" in found["relax_partition"].message
    assert solve(make(*question, partition="convex")).objective_value == 2.0


def test_a_path_that_only_a_free_partition_may_leave(solve):
    """b cannot run where a and c have to sit."""
    operators = [op("a"), op("b", {"cpu": 1.0}), op("c")]
    found = changes(solve, operators, edges(ab=0.0, bc=0.0), [gpus(1), host()])
    assert found.keys() == {"relax_partition"}
    assert "the partition free instead of acyclic" in found["relax_partition"].message


def test_names_are_not_listed_without_end(solve):
    found = reasons(solve, [op(f"o{i}", 1.0, 7) for i in range(100)], (), [gpus(50, 10)])
    assert found[0].code == "total_memory"
    assert len(found[0].operators) == len(found[0].devices) == 20
    assert found[0].message.startswith("100 operators that can only sit on 50 devices")


@pytest.mark.parametrize("limit", [{"max_period_ms": 2.5}, {"min_throughput_per_s": 400.0}])
def test_a_limit_below_what_is_proved(solve, limit):
    """Two devices share 6 ms, so 3 ms is the least; with a limit just above that the same question has an answer."""
    operators = [op(name, 1.5) for name in "abcd"]
    reason = the_reason(solve, operators, constraints=limit)
    assert (reason.code, reason.available, reason.unit) == ("period_too_short", 2.5, "ms")
    assert reason.required == pytest.approx(3.0)
    enough = make(operators, constraints={"max_period_ms": reason.required * (1 + 1e-6)})
    assert solve(enough).status is Status.OPTIMAL
    (change,) = changes(solve, operators, constraints=limit).values()
    assert (change.code, change.required, change.available) == ("relax_period", 3.0, 2.5)
    assert change.message == "there is a placement with a period of 3 ms instead of 2.5; less will not do"


def test_operator_too_slow(solve):
    devices = [gpus(1), DeviceSpec("old", "old")]
    operators = [op("a", {"gpu": 3.0, "old": 4.0}), op("b", 1.0)]
    reason = the_reason(solve, operators, (), devices, constraints={"max_period_ms": 2.5})
    assert (reason.code, reason.operators, reason.devices) == ("operator_too_slow", ("a",), ("gpu:0", "old"))
    assert (reason.required, reason.available, reason.unit) == (3.0, 2.5, "ms")


def test_a_group_too_slow(solve):
    operators = [op("a", 2.0, colocation_group="w"), op("b", 2.0, colocation_group="w")]
    reason = the_reason(solve, operators, constraints={"max_period_ms": 2.5})
    assert (reason.code, reason.operators, reason.required) == ("operator_too_slow", ("a", "b"), 4.0)
    assert reason.message.startswith("operators 'a', 'b', which share a device, take 4 ms")


ISLANDS = {"model": "links", "groups": (LinkGroup(("gpu",), Link(1e9)), LinkGroup(("old",), Link(1e9)))}


def test_no_route(solve):
    question = ([op("a"), op("b", {"old": 1.0})], edges(ab=1.0), [gpus(2), DeviceSpec("old", "old", count=2)])
    reason = the_reason(solve, *question, wires=ISLANDS)
    assert (reason.code, reason.operators) == ("no_route", ("a", "b"))
    assert reason.devices == ("gpu:0", "gpu:1", "old:0", "old:1")
    (change,) = changes(solve, *question, wires=ISLANDS).values()
    assert (change.code, change.operators, len(change.devices)) == ("relax_routes", ("a", "b"), 2)


def test_too_few_devices(solve):
    operators = [op(name, 1.0, 6) for name in "abc"]
    question = (operators, (), [gpus(3, 10), DeviceSpec("old", "old", 1)])
    reason = the_reason(solve, *question, constraints={"max_devices": 1})
    assert (reason.code, reason.required, reason.available, reason.unit) == ("too_few_devices", 2, 1, "devices")
    change = changes(solve, *question, constraints={"max_devices": 1})["relax_devices"]
    assert (change.required, change.available) == (3, 1)
    assert change.message.endswith("; less will not do")


def test_no_devices_at_all_may_be_used(solve):
    assert the_reason(solve, [op("a")], constraints={"max_devices": 0}).required == 1


def test_cost_too_low(solve):
    """12 bytes: 10 on the cheap device for 1 an hour, the other 2 of 10 on a dear one for 4 make 1.8 at least."""
    devices = [gpus(1, 10, cost_per_hour=4.0), DeviceSpec("old", "old", 10, cost_per_hour=1.0)]
    operators = [op(name, {"gpu": 1.0, "old": 1.0}, 6) for name in "ab"]
    reason = the_reason(solve, operators, (), devices, constraints={"max_cost_per_hour": 1.5})
    assert (reason.code, reason.required, reason.available) == ("cost_too_low", 1.8, 1.5)
    change = changes(solve, operators, (), devices, constraints={"max_cost_per_hour": 1.5})["relax_cost"]
    assert (change.required, change.available, change.unit) == (5.0, 1.5, "per hour")


def test_a_device_without_memory_limit_is_the_cheapest(solve):
    devices = [gpus(1, 10, cost_per_hour=4.0), DeviceSpec("old", "old", cost_per_hour=3.0)]
    operators = [op(name, {"gpu": 1.0, "old": 1.0}, 6) for name in "ab"]
    reason = the_reason(solve, operators, (), devices, constraints={"max_cost_per_hour": 2.5})
    assert (reason.code, reason.required) == ("cost_too_low", 3.0)


@pytest.mark.parametrize(
    ("limit", "unit", "required"), [("max_moved_operators", "operators", 2), ("max_moved_bytes", "bytes", 7)]
)
def test_must_move(solve, limit, unit, required):
    """a was on a device that is gone; b and c, of 3 and 4 bytes, share a device but did not before."""
    operators = [op("a", 1.0, 4), op("b", 1.0, 3, colocation_group="w"), op("c", 1.0, 4, colocation_group="w")]
    constraints = {"previous_placement": {"a": "gone", "b": "gpu:0", "c": "gpu:1"}, limit: 1}
    reason = the_reason(solve, operators, constraints=constraints)
    assert (reason.code, reason.operators, reason.unit) == ("must_move", ("a", "b", "c"), unit)
    assert (reason.required, reason.available) == (required, 1)
    change = changes(solve, operators, constraints=constraints)[f"relax_moved_{unit}"]
    assert (change.required, change.available) == (required, 1)


def test_what_has_no_device_at_all_is_not_told_to_move(solve):
    """a could stay where it was; its group cannot be anywhere."""
    operators = [op("a", 1.0, 10, colocation_group="w"), op("b", 1.0, colocation_group="w", allowed_devices=())]
    constraints = {"previous_placement": {"a": "gpu:0"}, "max_moved_bytes": 5}
    assert "must_move" not in {reason.code for reason in reasons(solve, operators, constraints=constraints)}


def test_the_pins_in_the_way_are_singled_out(solve):
    """Of four pins to one device that holds two, two have to go; the one elsewhere may stay."""
    operators = [op(name, 1.0, 5) for name in "abcd"] + [op("e", 1.0, 5)]
    pinned = dict.fromkeys("abcd", "gpu:0") | {"e": "gpu:1"}
    change = changes(solve, operators, (), [gpus(4, 10)], constraints={"pinned": pinned})["relax_pinned"]
    assert len(change.operators) == 2
    assert set(change.operators) < set("abcd")


def test_a_pin_that_is_forbidden(solve):
    constraints = {"pinned": {"a": "gpu:0"}, "forbidden": (ForbiddenPlacement("a", "gpu:0"),)}
    found = changes(solve, [op("a"), op("b")], constraints=constraints)
    assert found.keys() == {"relax_pinned", "relax_forbidden"}
    assert found["relax_pinned"].operators == found["relax_forbidden"].operators == ("a",)
    assert "pinned to 'gpu:0', forbidden on 'gpu:0'" in the_reason(solve, [op("a")], constraints=constraints).message


def test_a_pin_outside_what_is_allowed(solve):
    operators = [op("a", allowed_devices=("gpu:1",))]
    found = changes(solve, operators, constraints={"pinned": {"a": "gpu:0"}})
    assert found.keys() == {"relax_pinned", "relax_allowed_devices"}


def test_a_pin_against_colocation_names_the_pins(solve):
    operators = [op("a", colocation_group="w"), op("b", colocation_group="w")]
    constraints = {"pinned": {"a": "gpu:0", "b": "gpu:1"}}
    assert (
        "'a' is pinned to 'gpu:0'; 'b' is pinned to 'gpu:1'"
        in the_reason(solve, operators, constraints=constraints).message
    )
    found = changes(solve, operators, constraints=constraints)
    assert found.keys() == {"relax_pinned", "relax_colocation"}
    assert len(found["relax_pinned"].operators) == 1


def test_what_stands_in_the_way_only_together(solve):
    """In 3.5 ms it takes two devices: the limit of devices forbids that, and so do the pins."""
    constraints = {"pinned": {"a": "gpu:0", "b": "gpu:0"}, "max_period_ms": 3.5, "max_devices": 1}
    found = reasons(solve, [op("a", 3.0, 6), op("b", 3.0, 6)], (), [gpus(2, 10)], constraints=constraints)
    together = {reason.code: reason for reason in found}
    assert {"joint_conflict", "relax_devices", "relax_pinned"} <= together.keys()
    assert "relax_memory" not in together
    assert len(together["relax_pinned"].operators) == 1
    assert all("with the other changes" in reason.message for reason in found if reason.code.startswith("relax_"))
