"""What must not change an answer, and what can only make it better."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from solver.instance import Cluster, DeviceSpec, ForbiddenPlacement, Graph, Partition
from solver.result import Status
from tests.depth import DEPTH
from tests.properties.instances import random_instance, with_extreme_costs

SEEDS = range(40 * DEPTH)
DROWNED = (220, 313, 369, 11032, 11166, 11211, 11442)
"""Seeds at which rounding of sums with 1e12 ms in them once spoilt a bound, or HiGHS gave up with an error."""


def worth(solve, instance):
    """The proved optimum, infinite if there is none."""
    result = solve(instance)
    assert result.status in {Status.OPTIMAL, Status.INFEASIBLE}
    return math.inf if result.objective_value is None else result.objective_value


def same(one, other):
    return one == other or math.isclose(one, other, rel_tol=2e-6, abs_tol=1e-12)


def no_worse(one, other):
    return one <= other * (1 + 2e-6)


def test_other_names_and_another_order_of_everything(solve):
    for seed in SEEDS:
        instance = random_instance(seed)
        source = random.Random(seed)
        name = {operator.id: f"x{source.random()}" for operator in instance.graph.operators}
        new_id = {spec.id: f"d{source.random()}" for spec in instance.cluster.devices}
        device = {}
        for spec in instance.cluster.devices:
            renamed = replace(spec, id=new_id[spec.id])
            device |= {spec.id: renamed.id} | dict(zip(spec.names, renamed.names, strict=True))
        operators = [
            replace(
                operator,
                id=name[operator.id],
                colocation_group=operator.colocation_group and f"group {operator.colocation_group}",
                allowed_devices=operator.allowed_devices and tuple(map(device.get, operator.allowed_devices)),
            )
            for operator in instance.graph.operators
        ]
        edges = [replace(e, source=name[e.source], target=name[e.target]) for e in instance.graph.edges]
        specs = [replace(spec, id=new_id[spec.id]) for spec in instance.cluster.devices]
        for records in (operators, edges, specs):
            source.shuffle(records)
        limits = instance.constraints
        changed = replace(
            instance,
            graph=Graph(tuple(operators), tuple(edges)),
            cluster=replace(instance.cluster, devices=tuple(specs)),
            constraints=replace(
                limits,
                pinned={name[key]: device[value] for key, value in limits.pinned.items()},
                forbidden=tuple(ForbiddenPlacement(name[f.operator], device[f.device]) for f in limits.forbidden),
            ),
        )
        assert same(worth(solve, instance), worth(solve, changed)), seed


@pytest.mark.parametrize("factor", [1e-9, 1 / 3, 1024.0, 1e6])
def test_all_times_in_another_unit(solve, factor):
    for seed in range(40):
        instance = random_instance(seed)
        operators = tuple(
            replace(o, compute_time_ms={kind: time * factor for kind, time in o.compute_time_ms.items()})
            for o in instance.graph.operators
        )
        edges = tuple(
            replace(e, transfer_time_ms=None if e.transfer_time_ms is None else e.transfer_time_ms * factor)
            for e in instance.graph.edges
        )
        wires = instance.cluster.interconnect
        if wires.host_bandwidth_bytes_per_s is not None:
            wires = replace(wires, host_bandwidth_bytes_per_s=wires.host_bandwidth_bytes_per_s / factor)
        specs = tuple(
            replace(
                s, host_bandwidth_bytes_per_s=s.host_bandwidth_bytes_per_s and s.host_bandwidth_bytes_per_s / factor
            )
            for s in instance.cluster.devices
        )
        wires = replace(wires, host_latency_ms=wires.host_latency_ms * factor)
        changed = replace(instance, graph=Graph(operators, edges), cluster=Cluster(specs, wires))
        assert same(worth(solve, instance) * factor, worth(solve, changed)), seed


def test_one_more_device_of_a_kind_is_never_worse(solve):
    for seed in SEEDS:
        instance = random_instance(seed)
        extra = replace(instance.cluster.devices[seed % len(instance.cluster.devices)], id="extra", count=None)
        changed = replace(instance, cluster=replace(instance.cluster, devices=(*instance.cluster.devices, extra)))
        assert no_worse(worth(solve, changed), worth(solve, instance)), seed


def test_more_memory_is_never_worse(solve):
    for seed in SEEDS:
        instance = random_instance(seed)
        before = worth(solve, instance)
        for room in (1, None):
            specs = tuple(
                replace(s, memory_bytes=None if room is None or s.memory_bytes is None else s.memory_bytes + room)
                for s in instance.cluster.devices
            )
            after = worth(solve, replace(instance, cluster=replace(instance.cluster, devices=specs)))
            assert no_worse(after, before), seed
            before = after


def test_fewer_rules_are_never_worse(solve):
    for seed in SEEDS:
        instance = random_instance(seed)
        free, convex, acyclic = (
            worth(solve, replace(instance, objective=replace(instance.objective, partition=partition)))
            for partition in (Partition.FREE, Partition.CONVEX, Partition.ACYCLIC)
        )
        assert no_worse(free, convex), seed
        assert no_worse(convex, acyclic), seed


def test_costs_from_the_very_small_to_the_very_large(solve):
    for seed in (*range(150), *DROWNED):
        worth(solve, with_extreme_costs(random_instance(seed), seed))


def test_all_costs_nothing(solve):
    for seed in range(40):
        instance = random_instance(seed)
        operators = tuple(
            replace(o, compute_time_ms=dict.fromkeys(o.compute_time_ms, 0.0)) for o in instance.graph.operators
        )
        edges = tuple(replace(e, transfer_time_ms=0.0) for e in instance.graph.edges)
        assert worth(solve, replace(instance, graph=Graph(operators, edges))) in {0.0, math.inf}


def test_nothing_is_connected(solve):
    for seed in range(40):
        instance = random_instance(seed)
        instance = replace(instance, graph=Graph(instance.graph.operators))
        partitions = {
            worth(solve, replace(instance, objective=replace(instance.objective, partition=partition)))
            for partition in Partition
        }
        assert all(same(one, max(partitions)) for one in partitions), seed


def test_more_devices_than_operators(solve):
    for seed in range(20):
        instance = random_instance(seed)
        many = DeviceSpec("many", "gpu", None, 40)
        changed = replace(instance, cluster=replace(instance.cluster, devices=(*instance.cluster.devices, many)))
        assert no_worse(worth(solve, changed), worth(solve, instance)), seed


def test_ties(solve):
    """All costs alike, so that many answers are equally good and every bound is met exactly."""
    for seed in range(40):
        instance = random_instance(seed)
        operators = tuple(
            replace(o, compute_time_ms=dict.fromkeys(o.compute_time_ms, 0.1)) for o in instance.graph.operators
        )
        edges = tuple(replace(e, transfer_time_ms=0.1) for e in instance.graph.edges)
        worth(solve, replace(instance, graph=Graph(operators, edges)))


def test_memory_near_the_largest_size(solve):
    """The same question in units of 2**50 bytes, and one byte short of fitting."""
    for seed in SEEDS:
        instance = random_instance(seed)
        unit = 2**49
        operators = tuple(replace(o, memory_bytes=o.memory_bytes * unit) for o in instance.graph.operators)
        for spare, judge in ((0, same), (-1, lambda one, other: no_worse(other, one))):
            specs = tuple(
                replace(s, memory_bytes=None if s.memory_bytes is None else s.memory_bytes * unit + spare)
                for s in instance.cluster.devices
            )
            changed = replace(
                instance,
                graph=replace(instance.graph, operators=operators),
                cluster=replace(instance.cluster, devices=specs),
            )
            assert judge(worth(solve, changed), worth(solve, instance)), seed
