"""Whoever follows what an infeasible answer says gets a feasible instance; enumeration judges."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from solver.instance import Link, ObjectiveKind, Partition
from solver.result import Status
from tests.depth import chunks
from tests.properties.clusters import random_cluster_instance
from tests.properties.enumeration import enumerate_optimum
from tests.properties.instances import random_instance

A_LITTLE = 1e-9
NUMBERS = {
    "relax_period": "max_period_ms",
    "operator_too_slow": "max_period_ms",
    "relax_devices": "max_devices",
    "too_few_devices": "max_devices",
    "relax_cost": "max_cost_per_hour",
    "cost_too_low": "max_cost_per_hour",
    "relax_moved_operators": "max_moved_operators",
    "relax_moved_bytes": "max_moved_bytes",
}
LIMITS = {*NUMBERS.values(), "min_throughput_per_s"}
DOMAIN = {"operator_too_slow", "too_few_devices", "cost_too_low", "must_move"}


def follow(instance, reason):  # noqa: PLR0911  one change after the other
    """The instance with the change made that ``reason`` tells."""
    limits, graph, cluster = instance.constraints, instance.graph, instance.cluster
    if reason.code in NUMBERS:
        allowed = math.ceil(reason.required) if reason.unit in {"devices", "operators", "bytes"} else reason.required
        changed = {NUMBERS[reason.code]: allowed * (1 if isinstance(allowed, int) else 1 + A_LITTLE)}
        if reason.code == "relax_period":
            changed["min_throughput_per_s"] = None
        return replace(instance, constraints=replace(limits, **changed))
    if reason.code == "relax_pinned":
        kept = {name: device for name, device in limits.pinned.items() if name not in reason.operators}
        return replace(instance, constraints=replace(limits, pinned=kept))
    if reason.code == "relax_forbidden":
        kept = tuple(rule for rule in limits.forbidden if rule.operator not in reason.operators)
        return replace(instance, constraints=replace(limits, forbidden=kept))
    if reason.code in {"relax_allowed_devices", "relax_colocation"}:
        field = "allowed_devices" if reason.code == "relax_allowed_devices" else "colocation_group"
        changed = tuple(replace(o, **{field: None}) if o.id in reason.operators else o for o in graph.operators)
        return replace(instance, graph=replace(graph, operators=changed))
    if reason.code == "relax_memory":
        devices = tuple(
            replace(spec, memory_bytes=spec.memory_bytes + reason.required)
            if set(spec.names) & set(reason.devices)
            else spec
            for spec in cluster.devices
        )
        return replace(instance, cluster=replace(cluster, devices=devices))
    if reason.code == "relax_partition":
        partition = Partition.CONVEX if "partition convex" in reason.message else Partition.FREE
        return replace(instance, objective=replace(instance.objective, partition=partition))
    assert reason.code == "relax_routes"
    fast = replace(cluster.interconnect, default=Link(1e15))
    return replace(instance, cluster=replace(cluster, interconnect=fast))


def is_feasible(instance):
    return enumerate_optimum(instance)[1] is not None


def check(solve, instance):
    """Solve an infeasible instance, follow the answer; the codes."""
    result = solve(instance)
    assert result.status is Status.INFEASIBLE
    codes = {reason.code for reason in result.infeasibility}
    for reason in result.infeasibility:
        check_numbers(instance, reason)
    changes = [reason for reason in result.infeasibility if reason.code.startswith("relax_")]
    if "no_device_kind" in codes:
        assert not changes
    elif "conflict" in codes:
        assert changes
        assert all(is_feasible(follow(instance, change)) for change in changes)
    else:
        assert "joint_conflict" in codes
        assert len(changes) > 1
        for change in changes:
            assert not is_feasible(follow(instance, change))
        changed = instance
        for change in changes:
            changed = follow(changed, change)
        assert is_feasible(changed)
    return codes


def check_numbers(instance, reason):
    """Where less is said not to do, it does not, even if no other limit stands."""
    least = "less will not do" in reason.message
    if reason.code not in DOMAIN and not least:
        return
    unit_less = {"devices": 1, "operators": 1, "bytes": 1}.get(reason.unit, reason.required * 1e-5)
    below = replace(reason, required=reason.required - unit_less)
    if reason.code == "relax_memory":
        assert len(reason.devices) == 1
        if below.required > 0:
            every = replace(below, devices=tuple(name for spec in instance.cluster.devices for name in spec.names))
            bounded = tuple(spec for spec in instance.cluster.devices if spec.memory_bytes is not None)
            every = replace(every, devices=tuple(name for spec in bounded for name in spec.names))
            assert not is_feasible(follow(instance, every))
        return
    field = NUMBERS.get(reason.code) or f"max_moved_{reason.unit}"
    cleared = {} if least else dict.fromkeys(LIMITS)
    limits = replace(instance.constraints, **{**cleared, "min_throughput_per_s": None, field: below.required})
    assert below.required < 0 or not is_feasible(replace(instance, constraints=limits))


@pytest.mark.parametrize("chunk", chunks(6))
def test_what_is_told_of_random_clusters(solve, chunk):
    for seed in range(5000 + chunk * 20, 5000 + chunk * 20 + 20):
        instance = random_cluster_instance(seed)
        if not is_feasible(instance):
            check(solve, instance)


@pytest.mark.parametrize("chunk", chunks(4))
def test_what_is_told_of_a_period_that_cannot_be(solve, chunk):
    """A feasible instance, with the limit set below its optimum."""
    for seed in range(6000 + chunk * 10, 6000 + chunk * 10 + 10):
        instance = random_cluster_instance(seed)
        instance = replace(instance, objective=replace(instance.objective, kind=ObjectiveKind.THROUGHPUT))
        optimum, _ = enumerate_optimum(instance)
        if optimum:
            limits = replace(instance.constraints, max_period_ms=0.9 * optimum)
            assert "relax_period" in check(solve, replace(instance, constraints=limits)), seed


@pytest.mark.parametrize("chunk", chunks(4))
def test_what_is_told_over_host(solve, chunk):
    for seed in range(chunk * 40, chunk * 40 + 40):
        instance = random_instance(seed)
        if not is_feasible(instance):
            check(solve, instance)
