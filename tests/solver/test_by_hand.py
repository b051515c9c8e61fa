"""Instances whose answers one can work out in the head."""

from __future__ import annotations

import pytest

from solver.instance import Cluster, DeviceSpec, Edge, ForbiddenPlacement
from solver.result import Status, StopReason
from solver.verification import verify
from tests.small import edges, gpus, host, make, op, ops


def value(solve, *args, **kwargs):
    """The proved optimum."""
    result = solve(make(*args, **kwargs))
    assert result.status is Status.OPTIMAL
    assert result.stop_reason is StopReason.PROVED
    assert result.best_bound == pytest.approx(result.objective_value, rel=1e-6)
    return result.objective_value


def period(instance, placement):
    verification = verify(instance, placement)
    assert not verification.violations
    return verification.objective_value


def test_one_operator(solve):
    result = solve(make(ops(a=3.0)))
    assert result.objective_value == 3.0
    assert result.placement in ({"a": "gpu:0"}, {"a": "gpu:1"})
    assert len(result.stages) == 1


def test_two_operators_are_spread_where_the_transfer_is_cheap(solve):
    assert value(solve, ops(a=2.0, b=3.0), edges(ab=0.5)) == 3.5


def test_two_operators_stay_together_where_the_transfer_is_dear(solve):
    assert value(solve, ops(a=2.0, b=3.0), edges(ab=10.0)) == 5.0


def test_a_chain_is_cut_in_the_middle(solve):
    result = solve(make(ops(a=1.0, b=2.0, c=1.0, d=2.0), edges(ab=0.5, bc=0.25, cd=0.5)))
    assert result.objective_value == 3.25
    assert [stage.operators for stage in result.stages] == [("a", "b"), ("c", "d")]
    assert [stage.transfer_out_ms for stage in result.stages] == [0.25, 0.0]
    assert [stage.transfer_in_ms for stage in result.stages] == [0.0, 0.25]


def test_stages_come_in_pipeline_order_whatever_the_order_of_the_document(solve):
    result = solve(make(ops(d=2.0, c=2.0, b=2.0, a=2.0), edges(ab=0.1, bc=0.1, cd=0.1), [gpus(4)]))
    assert [stage.operators for stage in result.stages] == [("a",), ("b",), ("c",), ("d",)]
    assert result.objective_value == pytest.approx(2.2)


@pytest.mark.parametrize(("partition", "best"), [("acyclic", 6.0), ("convex", 5.0), ("free", 5.0)])
def test_two_devices_may_feed_each_other_only_if_convex(solve, partition, best):
    """Two pairs a → b and c → d of 4, 3, 2 and 1: only {a, d} and {b, c} are equal, 5 and 5.

    There a goes over to b and c comes back to d, on two devices that feed each other: no pipeline, but neither set has
    a path that leaves it and comes back to it. The next best split, {a, c} and {b, d} of 6 and 4, is a pipeline.
    """
    assert value(solve, ops(a=4.0, b=3.0, c=2.0, d=1.0), edges(ab=0.0, cd=0.0), partition=partition) == best


@pytest.mark.parametrize(("partition", "best"), [("acyclic", 4.0), ("convex", 4.0), ("free", 3.0)])
def test_a_path_may_come_back_only_if_free(solve, partition, best):
    """a → b → c in a row, 1 + 3 + 2 on two devices: {a, c} and {b} are equal, but the path comes back."""
    assert value(solve, ops(a=1.0, b=3.0, c=2.0), edges(ab=0.0, bc=0.0), partition=partition) == best


def test_a_tensor_needed_by_several_operators_of_a_device_moves_there_once(solve):
    connections = (Edge("a", "b", transfer_time_ms=1.0), Edge("a", "c", transfer_time_ms=1.0))
    instance = make(ops(a=10.0, b=4.0, c=5.0), connections)
    assert period(instance, {"a": "gpu:0", "b": "gpu:1", "c": "gpu:1"}) == 11.0
    stages = {stage.device: stage for stage in verify(instance, {"a": "gpu:0", "b": "gpu:1", "c": "gpu:1"}).stages}
    assert stages["gpu:1"].transfer_in_ms == 1.0
    assert stages["gpu:1"].load_ms == 10.0
    assert solve(instance).objective_value == 11.0


def test_a_tensor_leaves_its_device_once_however_many_devices_need_it(solve):
    connections = (Edge("a", "b", transfer_time_ms=1.0), Edge("a", "c", transfer_time_ms=1.0))
    instance = make(ops(a=10.0, b=10.0, c=10.0), connections, [gpus(3)])
    assert period(instance, {"a": "gpu:0", "b": "gpu:1", "c": "gpu:2"}) == 11.0
    assert solve(instance).objective_value == 11.0


def test_two_tensors_of_one_operator_move_one_by_one(solve):
    connections = (
        Edge("a", "b", tensor="x", transfer_time_ms=1.0),
        Edge("a", "c", tensor="y", transfer_time_ms=2.0),
    )
    instance = make(ops(a=10.0, b=4.0, c=5.0), connections)
    assert period(instance, {"a": "gpu:0", "b": "gpu:1", "c": "gpu:1"}) == 13.0
    assert period(instance, {"a": "gpu:0", "b": "gpu:0", "c": "gpu:1"}) == 16.0
    assert solve(instance).objective_value == 13.0


def test_a_named_tensor_and_the_unnamed_one_are_two(solve):
    connections = (Edge("a", "b", transfer_time_ms=1.0), Edge("a", "b", tensor="y", transfer_time_ms=2.0))
    assert value(solve, ops(a=10.0, b=10.0), connections) == 13.0


def test_hosts_pay_nothing_for_transfers(solve):
    operators = (op("a", {"cpu": 1.0}), op("b", {"gpu": 1.0}))
    result = solve(make(operators, edges(ab=5.0), [gpus(1), host()]))
    assert result.objective_value == 6.0
    assert {stage.device: stage.load_ms for stage in result.stages} == {"cpu": 1.0, "gpu:0": 6.0}


def test_between_two_hosts_nothing_is_paid_at_all(solve):
    operators = (op("a", {"cpu": 2.0}), op("b", {"cpu": 2.0}))
    assert value(solve, operators, edges(ab=100.0), [host(2)]) == 2.0


def test_bytes_take_the_bandwidth_of_the_device_and_its_latency(solve):
    """4,000 bytes at 1,000,000 a second are 4 ms; the old device is half as fast and answers 1 ms later."""
    operators = (op("a", {"gpu": 10.0}), op("b", {"old": 1.0}))
    devices = (gpus(1), DeviceSpec("old", "old", host_bandwidth_bytes_per_s=5e5, host_latency_ms=1.5))
    wires = {"host_bandwidth_bytes_per_s": 1e6, "host_latency_ms": 0.5}
    instance = make(operators, [Edge("a", "b", 4000)], devices, wires=wires)
    result = solve(instance)
    loads = {stage.device: (stage.transfer_in_ms, stage.transfer_out_ms) for stage in result.stages}
    assert loads == {"gpu:0": (0.0, 4.5), "old": (9.5, 0.0)}
    assert result.objective_value == 14.5


@pytest.mark.parametrize("kind", ["throughput", "cost"])
def test_a_proof_that_needs_no_method_has_a_name(solve, kind):
    """Nothing costs or takes anything here: less than nothing cannot be had."""
    result = solve(make([op("a", 0.0)], kind=kind))
    assert (result.objective_value, result.solver.proved_by) == (0.0, "non-negativity")


def test_a_latency_of_zero_of_a_device_counts_against_that_of_the_interconnect(solve):
    devices = (gpus(2, host_latency_ms=0.0),)
    wires = {"host_bandwidth_bytes_per_s": 1e6, "host_latency_ms": 7.0}
    assert value(solve, ops(a=10.0, b=10.0), [Edge("a", "b", 1000)], devices, wires=wires) == 11.0


def test_an_edge_without_bytes_still_costs_the_latency(solve):
    assert value(solve, ops(a=10.0, b=10.0), [Edge("a", "b")], wires={"host_latency_ms": 0.5}) == 10.5


def test_a_given_transfer_time_takes_the_place_of_bytes_and_latency(solve):
    wires = {"host_bandwidth_bytes_per_s": 1.0, "host_latency_ms": 7.0}
    assert value(solve, ops(a=10.0, b=10.0), [Edge("a", "b", 10**6, None, 0.25)], wires=wires) == 10.25


@pytest.mark.parametrize(("overlap", "best"), [("none", 10.0), ("full", 6.0), ("duplex", 4.0)])
def test_overlap(solve, overlap, best):
    """The middle one of three computes 4, takes in 2 and gives out 4; the others do less."""
    operators = [op("a", 1.0), op("b", 4.0), op("c", 1.0)]
    constraints = {"pinned": {"a": "gpu:0", "b": "gpu:1", "c": "gpu:2"}}
    connections = edges(ab=2.0, bc=4.0)
    assert value(solve, operators, connections, [gpus(3)], wires={"overlap": overlap}, constraints=constraints) == best


TRAINING = (
    op("a", 1.0, colocation_group="a"),
    op("b", 3.0, colocation_group="b"),
    op("B", 2.0, colocation_group="b", is_backward=True),
    op("A", 4.0, colocation_group="a", is_backward=True),
)
"""Forward 1 and 3, backward 4 and 2: each device has 5 in all, the slowest passes are 3 and 4."""


@pytest.mark.parametrize(("schedule", "spread"), [("1f1b", 5.0), ("gpipe", 7.0)])
def test_schedules(solve, schedule, spread):
    instance = make(TRAINING, edges(ab=0.0, bB=0.0, BA=0.0), schedule=schedule)
    assert period(instance, {"a": "gpu:0", "A": "gpu:0", "b": "gpu:1", "B": "gpu:1"}) == spread
    assert solve(instance).objective_value == spread


@pytest.mark.parametrize(("schedule", "worth"), [("1f1b", 15.0), ("gpipe", 17.0)])
def test_a_backward_tensor_counts_to_the_backward_pass(schedule, worth):
    """Device 0 forward 1, backward 4 + 10 in; device 1 forward 3, backward 2 + 10 out."""
    instance = make(TRAINING, edges(ab=0.0, bB=0.0, BA=10.0), schedule=schedule)
    assert period(instance, {"a": "gpu:0", "A": "gpu:0", "b": "gpu:1", "B": "gpu:1"}) == worth


@pytest.mark.parametrize(("schedule", "worth"), [("1f1b", 15.0), ("gpipe", 17.0)])
def test_a_forward_tensor_counts_to_the_forward_pass(schedule, worth):
    """Device 0 forward 1 + 10 out, backward 4; device 1 forward 3 + 10 in, backward 2."""
    instance = make(TRAINING, edges(ab=10.0, bB=0.0, BA=0.0), schedule=schedule)
    assert period(instance, {"a": "gpu:0", "A": "gpu:0", "b": "gpu:1", "B": "gpu:1"}) == worth


@pytest.mark.parametrize(("schedule", "worth"), [("1f1b", 6.0), ("gpipe", 7.0)])
def test_a_forward_tensor_with_a_backward_consumer_counts_to_the_forward_pass(schedule, worth):
    """Device 0 forward 1 + 1 out, backward 3; device 1 forward 3 + 1 in, backward 2."""
    operators = (*TRAINING[:3], op("A", 3.0, colocation_group="a", is_backward=True))
    instance = make(operators, [Edge("a", "B", transfer_time_ms=1.0)], schedule=schedule)
    assert period(instance, {"a": "gpu:0", "A": "gpu:0", "b": "gpu:1", "B": "gpu:1"}) == worth


def test_colocated_operators_share_a_device(solve):
    operators = (op("a", 2.0, colocation_group="w"), op("b", 3.0), op("c", 2.0, colocation_group="w"))
    assert value(solve, operators, partition="free") == 4.0
    # The path a → b → c would come back, so b has to stay with them.
    assert value(solve, operators, edges(ab=0.0, bc=0.0), partition="convex") == 7.0


def test_a_backward_operator_without_group_goes_anywhere(solve):
    """Backward operators are free: A may sit away from a although the path a → b → A comes back to b's device."""
    operators = (op("a", 3.0), op("b", 1.0), op("A", 2.0, is_backward=True))
    assert value(solve, operators, edges(ab=0.0, bA=0.0)) == 3.0


def test_memory_forces_the_worse_split(solve):
    operators = (op("a", 1.0, 5), op("b", 1.0, 5), op("c", 4.0, 5))
    connections = edges(ab=0.0, bc=0.0)
    assert value(solve, operators, connections, [gpus(2, 10)]) == 4.0
    assert value(solve, (op("a", 1.0, 8), op("b", 1.0, 5), op("c", 4.0, 5)), connections, [gpus(2, 10)]) == 5.0


def test_memory_may_be_filled_to_the_last_byte(solve):
    most = 2**53 - 1
    fitting, too_much = (op("a", 1.0, 2**52), op("b", 1.0, 2**52 - 1)), (op("a", 1.0, 2**52), op("b", 1.0, 2**52))
    assert value(solve, fitting, edges(ab=9.0), [gpus(2, most)]) == 2.0
    assert value(solve, too_much, edges(ab=9.0), [gpus(2, most)]) == 10.0
    assert solve(make(too_much, edges(ab=9.0), [gpus(1, most)])).status is Status.INFEASIBLE


def test_pins_with_and_without_index(solve):
    result = solve(make(ops(a=1.0, b=1.0), constraints={"pinned": {"a": "gpu:1", "b": "gpu"}}))
    assert result.placement == {"a": "gpu:1", "b": "gpu:0"}


def test_forbidden_with_and_without_index(solve):
    devices = [gpus(2), host()]
    operators = (op("a", {"gpu": 1.0, "cpu": 9.0}), op("b", {"gpu": 1.0, "cpu": 9.0}))
    rules = (ForbiddenPlacement("a", "gpu"), ForbiddenPlacement("b", "gpu:0"), ForbiddenPlacement("b", "cpu"))
    assert solve(make(operators, (), devices, constraints={"forbidden": rules})).placement == {"a": "cpu", "b": "gpu:1"}


def test_allowed_devices_with_and_without_index(solve):
    operators = (op("a", 1.0, allowed_devices=("gpu:1",)), op("b", 1.0, allowed_devices=("gpu",)))
    assert solve(make(operators)).placement == {"a": "gpu:1", "b": "gpu:0"}


def test_previous_placement_alone_limits_nothing(solve):
    constraints = {"previous_placement": {"a": "gpu:1", "gone": "elsewhere"}}
    assert value(solve, ops(a=1.0, b=1.0), constraints=constraints) == 1.0


def test_faster_kinds_are_chosen(solve):
    operators = (op("a", {"gpu": 8.0, "new": 2.0}), op("b", {"gpu": 3.0, "new": 3.0}))
    result = solve(make(operators, edges(ab=0.0), [gpus(1), DeviceSpec("new", "new")]))
    assert result.objective_value == 3.0
    assert result.placement == {"a": "new", "b": "gpu:0"}


def test_an_answer_worth_nothing_is_optimal(solve):
    result = solve(make(ops(a=0.0, b=0.0), edges(ab=0.0)))
    assert result.objective_value == result.best_bound == result.relative_gap == 0.0


def test_an_entry_without_devices_is_no_device(solve):
    operators = (op("a", {"gpu": 5.0, "new": 1.0}),)
    devices = [gpus(1), DeviceSpec("new", "new", count=0)]
    assert value(solve, operators, (), devices) == 5.0


def test_unicode_and_odd_names(solve):
    operators = (op("ä/~ \U0001f600", {"gpu": 1.0}), op("\x00", {"gpu": 1.0}))
    devices = (DeviceSpec("gpu:0", "gpu"), DeviceSpec("gpu", "gpu"))
    result = solve(make(operators, [Edge("\x00", operators[0].id, transfer_time_ms=0.0)], devices))
    assert result.objective_value == 1.0
    assert set(result.placement.values()) == {"gpu", "gpu:0"}


def test_names_are_expanded_in_the_order_of_the_document():
    cluster = Cluster((gpus(2), host(), DeviceSpec("none", "gpu", count=0)))
    assert [device.name for device in cluster.expand()] == ["gpu:0", "gpu:1", "cpu"]
    assert cluster.resolve() == {
        "gpu": ("gpu:0", "gpu:1"),
        "gpu:0": ("gpu:0",),
        "gpu:1": ("gpu:1",),
        "cpu": ("cpu",),
        "none": (),
    }


@pytest.mark.parametrize(("forward", "backward"), [(1.0, 1e-20), (1e15, 5e-324), (5e-324, 1.0)])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_pass_that_takes_next_to_nothing(solve, forward, backward):
    result = solve(make([op("a", forward), op("b", backward, is_backward=True)], schedule="gpipe"))
    assert (result.status, result.objective_value) == (Status.OPTIMAL, forward + backward)
