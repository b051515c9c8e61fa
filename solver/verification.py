"""After: what a placement is really worth, and every rule it breaks.

Plain Python over the instance as given. It shares no code with any method that makes placements, so a slip in a
model cannot hide itself here. The rules carry the names that the formulations and the documentation use.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from heapq import heapify, heappop, heappush

from solver.errors import Issue, UnsupportedInstance
from solver.instance import (
    Device,
    Edge,
    Instance,
    ObjectiveKind,
    Operator,
    Overlap,
    Partition,
    PipelineSchedule,
)
from solver.interconnect import Wires
from solver.result import Placement, Stage
from solver.words import counted

FORWARD, BACKWARD = 0, 1

LIMIT_TOLERANCE = 1e-9
"""Relative amount by which a sum may exceed a limit: three times 0.1 ms do meet a limit of 0.3 ms."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule, with the operators and devices that break it."""

    code: str
    message: str
    operators: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verification:
    """``objective_value``, in ms or per hour, is ``None`` when the placement is too incomplete to have one."""

    objective_value: float | None
    stages: tuple[Stage, ...]
    violations: tuple[Violation, ...]


@dataclass(slots=True)
class _Times:
    """What one device spends in one pass: single times, summed exactly at the end."""

    compute: list[float]
    incoming: list[float]
    outgoing: list[float]


def verify(instance: Instance, placement: Placement) -> Verification:
    """Recompute the objective of ``placement`` and name every violation.

    Args:
        instance: a valid instance with the objective throughput or cost.
        placement: operator id → device name.

    Raises:
        UnsupportedInstance: the objective or a constraint is not one that can be evaluated yet.
    """
    _refuse_unsupported(instance)
    devices = {device.name: device for device in instance.cluster.expand()}
    broken = [*_check_assignment(instance, placement, devices)]
    held: dict[str, list[Operator]] = defaultdict(list)
    for operator in instance.graph.operators:
        if placement.get(operator.id) in devices:
            held[placement[operator.id]].append(operator)
    broken += _check_domains(instance, placement)
    broken += _check_colocation(instance, placement)
    broken += _check_memory(held, devices)
    order = _topological_order(instance)
    broken += _check_partition(instance, placement, order)
    broken += _check_moves(instance, placement)

    measurable = all(
        placement.get(operator.id) in devices and devices[placement[operator.id]].spec.kind in operator.compute_time_ms
        for operator in instance.graph.operators
    )
    if not measurable:
        return Verification(None, (), tuple(broken))
    times, stuck = _measure(instance, placement, held, devices)
    if stuck:
        return Verification(None, (), (*broken, *stuck))
    overlap = instance.cluster.interconnect.overlap
    if instance.objective.schedule is PipelineSchedule.GPIPE:
        loads = [{name: _load(overlap, [passes[p]]) for name, passes in times.items()} for p in (FORWARD, BACKWARD)]
        period = max(loads[FORWARD].values()) + max(loads[BACKWARD].values())
        load_ms = {name: loads[FORWARD][name] + loads[BACKWARD][name] for name in times}
    else:
        load_ms = {name: _load(overlap, passes) for name, passes in times.items()}
        period = max(load_ms.values())
    used = [devices[name] for name in held]
    cost = math.fsum(device.spec.cost_per_hour or 0.0 for device in used)
    broken += _check_limits(instance, period, cost, used)
    stages = tuple(
        Stage(
            device=name,
            operators=tuple(operator.id for operator in held[name]),
            compute_time_ms=math.fsum(time for part in times[name] for time in part.compute),
            transfer_in_ms=math.fsum(time for part in times[name] for time in part.incoming),
            transfer_out_ms=math.fsum(time for part in times[name] for time in part.outgoing),
            load_ms=load_ms[name],
            memory_bytes=sum(operator.memory_bytes for operator in held[name]),
            memory_limit_bytes=devices[name].spec.memory_bytes,
        )
        for name in _pipeline_order(instance, placement, order)
    )
    value = cost if instance.objective.kind is ObjectiveKind.COST else period
    return Verification(value, stages, tuple(broken))


def _refuse_unsupported(instance: Instance) -> None:
    issues = []
    if instance.objective.kind is ObjectiveKind.LATENCY:
        message = "objective 'latency' cannot be evaluated yet"
        issues.append(Issue("unsupported_objective", message, ("objective", "kind"), "use throughput or cost"))
    if instance.constraints.max_latency_ms is not None:
        message = "the constraint max_latency_ms cannot be evaluated yet"
        issues.append(Issue("unsupported_constraint", message, ("constraints", "max_latency_ms"), "remove it"))
    if issues:
        raise UnsupportedInstance(tuple(issues))


def _check_assignment(instance: Instance, placement: Placement, devices: Mapping[str, Device]) -> Iterator[Violation]:
    """``assign_once``: every operator of the graph, and nothing else, sits on a device of the cluster."""
    known = {operator.id for operator in instance.graph.operators}
    for operator in instance.graph.operators:
        if operator.id not in placement:
            yield Violation("assign_once", f"operator {operator.id!r} is not placed", (operator.id,))
    for operator_id, name in placement.items():
        if operator_id not in known:
            yield Violation("unknown_operator", f"the graph has no operator {operator_id!r}", (operator_id,))
        elif name not in devices:
            yield Violation("unknown_device", f"the cluster has no device {name!r}", (operator_id,), (name,))


def _check_domains(instance: Instance, placement: Placement) -> Iterator[Violation]:
    """``device_kind``, ``allowed_devices``, ``pinned``, ``forbidden``: may this operator sit on this device?"""
    meaning = instance.cluster.resolve()
    kinds = {device.name: device.spec.kind for device in instance.cluster.expand()}
    for operator in instance.graph.operators:
        name = placement.get(operator.id)
        if name not in kinds or name is None:
            continue
        if kinds[name] not in operator.compute_time_ms:
            message = f"operator {operator.id!r} has no compute time on kind {kinds[name]!r}"
            yield Violation("device_kind", message, (operator.id,), (name,))
        if operator.allowed_devices is not None and not _names(name, operator.allowed_devices, meaning):
            message = f"operator {operator.id!r} is not allowed on {name!r}"
            yield Violation("allowed_devices", message, (operator.id,), (name,))
    for operator_id, wanted in instance.constraints.pinned.items():
        name = placement.get(operator_id)
        if name in kinds and name is not None and not _names(name, (wanted,), meaning):
            message = f"operator {operator_id!r} is pinned to {wanted!r}, not {name!r}"
            yield Violation("pinned", message, (operator_id,), (name,))
    for forbidden in instance.constraints.forbidden:
        name = placement.get(forbidden.operator)
        if name in kinds and name is not None and _names(name, (forbidden.device,), meaning):
            message = f"operator {forbidden.operator!r} is forbidden on {forbidden.device!r}"
            yield Violation("forbidden", message, (forbidden.operator,), (name,))


def _names(device: str, references: Iterable[str], meaning: Mapping[str, tuple[str, ...]]) -> bool:
    return any(reference == device or device in meaning.get(reference, ()) for reference in references)


def _check_colocation(instance: Instance, placement: Placement) -> Iterator[Violation]:
    """``colocation``: one device per colocation group."""
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for operator in instance.graph.operators:
        if operator.colocation_group is not None and operator.id in placement:
            groups[operator.colocation_group][placement[operator.id]].append(operator.id)
    for group, parts in groups.items():
        if len(parts) > 1:
            message = f"colocation group {group!r} is spread over {len(parts)} devices"
            members = tuple(operator_id for part in parts.values() for operator_id in part)
            yield Violation("colocation", message, members, tuple(parts))


def _check_memory(held: Mapping[str, list[Operator]], devices: Mapping[str, Device]) -> Iterator[Violation]:
    """``memory``: what a device holds fits into it."""
    for name, operators in held.items():
        limit = devices[name].spec.memory_bytes
        needed = sum(operator.memory_bytes for operator in operators)
        if limit is not None and needed > limit:
            message = f"device {name!r} holds {counted(needed, 'byte')}, {needed - limit:,} more than its {limit:,}"
            yield Violation("memory", message, tuple(operator.id for operator in operators), (name,))


def _check_moves(instance: Instance, placement: Placement) -> Iterator[Violation]:
    """``max_moved_operators``, ``max_moved_bytes``: how far the previous placement is disturbed."""
    constraints = instance.constraints
    previous = constraints.previous_placement
    if previous is None:
        return
    moved = [o for o in instance.graph.operators if o.id in previous and placement.get(o.id) != previous[o.id]]
    names = tuple(operator.id for operator in moved)
    moved_bytes = sum(operator.memory_bytes for operator in moved)
    if constraints.max_moved_operators is not None and len(moved) > constraints.max_moved_operators:
        message = f"{counted(len(moved), 'operator')} moved, the limit is {constraints.max_moved_operators:,}"
        yield Violation("max_moved_operators", message, names)
    if constraints.max_moved_bytes is not None and moved_bytes > constraints.max_moved_bytes:
        message = f"{counted(moved_bytes, 'byte')} moved, the limit is {constraints.max_moved_bytes:,}"
        yield Violation("max_moved_bytes", message, names)


def _check_limits(instance: Instance, period: float, cost: float, used: list[Device]) -> Iterator[Violation]:
    """``max_period_ms``, ``min_throughput_per_s``, ``max_devices``, ``max_cost_per_hour``."""
    constraints = instance.constraints
    names = tuple(device.name for device in used)
    room = 1 + LIMIT_TOLERANCE
    if constraints.max_period_ms is not None and period > constraints.max_period_ms * room:
        message = f"the period is {period:g} ms, the limit is {constraints.max_period_ms:g} ms"
        yield Violation("max_period_ms", message)
    if constraints.min_throughput_per_s is not None and period * constraints.min_throughput_per_s > 1000 * room:
        message = f"the period is {period:g} ms, too long for {constraints.min_throughput_per_s:g} samples a second"
        yield Violation("min_throughput_per_s", message)
    if constraints.max_devices is not None and len(used) > constraints.max_devices:
        message = f"{counted(len(used), 'device')} used, the limit is {constraints.max_devices:,}"
        yield Violation("max_devices", message, (), names)
    if constraints.max_cost_per_hour is not None and cost > constraints.max_cost_per_hour * room:
        message = f"the devices cost {cost:g} an hour, the limit is {constraints.max_cost_per_hour:g}"
        yield Violation("max_cost_per_hour", message, (), names)


def _topological_order(instance: Instance) -> dict[str, int]:
    """Operator id → its position in one topological order of the graph."""
    predecessors: dict[str, list[str]] = {operator.id: [] for operator in instance.graph.operators}
    for edge in instance.graph.edges:
        predecessors[edge.target].append(edge.source)
    return {name: position for position, name in enumerate(TopologicalSorter(predecessors).static_order())}


def _forward_edges(instance: Instance) -> Iterator[Edge]:
    backward = {operator.id for operator in instance.graph.operators if operator.is_backward}
    return (e for e in instance.graph.edges if e.source not in backward and e.target not in backward)


def _device_edges(instance: Instance, placement: Placement) -> dict[str, set[str]]:
    """Device → the devices that forward edges lead to from it."""
    successors: dict[str, set[str]] = defaultdict(set)
    for edge in _forward_edges(instance):
        source, target = placement.get(edge.source), placement.get(edge.target)
        if source is not None and target is not None and source != target:
            successors[source].add(target)
    return successors


def _pipeline_order(instance: Instance, placement: Placement, order: Mapping[str, int]) -> list[str]:
    """The used devices, along the forward edges where these allow it, else by the first operator they hold."""
    first: dict[str, int] = {}
    for operator in instance.graph.operators:
        name, position = placement[operator.id], order[operator.id]
        # Backward operators come last, so that they do not decide where a stage stands.
        key = position + len(order) if operator.is_backward else position
        first[name] = min(first.get(name, key), key)
    successors = _device_edges(instance, placement)
    waiting = dict.fromkeys(first, 0)
    for targets in successors.values():
        for target in targets:
            waiting[target] += 1
    ready = [(first[name], name) for name, count in waiting.items() if count == 0]
    heapify(ready)
    done: list[str] = []
    while ready:
        _, name = heappop(ready)
        done.append(name)
        for target in successors.get(name, ()):
            waiting[target] -= 1
            if waiting[target] == 0:
                heappush(ready, (first[target], target))
    if len(done) < len(first):
        return sorted(first, key=lambda name: (first[name], name))
    return done


def _check_partition(instance: Instance, placement: Placement, order: Mapping[str, int]) -> Iterator[Violation]:
    """``acyclic_partition``, ``convex_partition``: the rule on the forward operators of each device."""
    partition = instance.objective.partition
    if partition is Partition.FREE:
        return
    cyclic = _devices_on_cycles(_device_edges(instance, placement))
    if not cyclic:
        return  # An acyclic partition is also convex.
    if partition is Partition.ACYCLIC:
        message = f"devices {', '.join(cyclic)} feed each other in a circle"
        yield Violation("acyclic_partition", message, (), cyclic)
        return
    edges = sorted(_forward_edges(instance), key=lambda edge: order[edge.source])
    for name in cyclic:
        outside: dict[str, str] = {}  # operator elsewhere → the operator of this device it can be reached from
        for edge in edges:
            origin = edge.source if placement.get(edge.source) == name else outside.get(edge.source)
            if origin is None:
                continue
            if placement.get(edge.target) != name:
                outside.setdefault(edge.target, origin)
            elif edge.source in outside:
                message = f"a path leaves device {name!r} at {origin!r} and comes back to it at {edge.target!r}"
                yield Violation("convex_partition", message, (origin, edge.source, edge.target), (name,))
                break


def _devices_on_cycles(successors: Mapping[str, set[str]]) -> tuple[str, ...]:
    """What is left after devices without predecessors, and then those without successors, are taken away."""
    remaining = set(successors) | {target for targets in successors.values() for target in targets}
    edges = {(source, target) for source, targets in successors.items() for target in targets}
    for end in (1, 0):
        touching: dict[str, list[tuple[str, str]]] = defaultdict(list)
        degree: dict[str, int] = dict.fromkeys(remaining, 0)
        for edge in edges:
            touching[edge[1 - end]].append(edge)
            degree[edge[end]] += 1
        peeled = [name for name, count in degree.items() if count == 0]
        for name in peeled:  # grows while it is read
            for edge in touching[name]:
                degree[edge[end]] -= 1
                if degree[edge[end]] == 0:
                    peeled.append(edge[end])
        remaining -= set(peeled)
        edges = {edge for edge in edges if edge[0] in remaining and edge[1] in remaining}
    return tuple(sorted(remaining))


def _measure(
    instance: Instance, placement: Placement, held: Mapping[str, list[Operator]], devices: Mapping[str, Device]
) -> tuple[dict[str, list[_Times]], list[Violation]]:
    """Device → its forward and its backward times. A tensor's transfers count to the pass of its producer.

    ``no_route``: devices that exchange data are joined, directly or over others.
    """
    times = {name: [_Times([], [], []), _Times([], [], [])] for name in held}
    backward = {operator.id for operator in instance.graph.operators if operator.is_backward}
    for name, operators in held.items():
        kind = devices[name].spec.kind
        for operator in operators:
            times[name][operator.id in backward].compute.append(operator.compute_time_ms[kind])
    wires = Wires(instance.cluster)
    stuck = []
    for (source, _), edges in _tensors(instance).items():
        home = placement[source]
        receivers = dict.fromkeys(placement[edge.target] for edge in edges if placement[edge.target] != home)
        charge = wires.charge(edges[0], home, receivers)
        times[home][source in backward].outgoing.extend(charge.outgoing)
        for name, time in charge.incoming.items():
            times[name][source in backward].incoming.append(time)
        for name in charge.unreachable:
            message = f"operator {source!r} on {home!r} has data for {name!r}, to which no route leads"
            targets = tuple(edge.target for edge in edges if placement[edge.target] == name)
            stuck.append(Violation("no_route", message, (source, *targets), (home, name)))
    return times, stuck


def _tensors(instance: Instance) -> dict[tuple[str, str | None], list[Edge]]:
    tensors: dict[tuple[str, str | None], list[Edge]] = defaultdict(list)
    for edge in instance.graph.edges:
        tensors[edge.source, edge.tensor].append(edge)
    return tensors


def _load(overlap: Overlap, passes: Iterable[_Times]) -> float:
    """Compute C, incoming I and outgoing O of the passes together, by the overlap rule."""
    parts = list(passes)
    compute = [time for part in parts for time in part.compute]
    incoming = [time for part in parts for time in part.incoming]
    outgoing = [time for part in parts for time in part.outgoing]
    if overlap is Overlap.NONE:
        return math.fsum(compute + incoming + outgoing)
    if overlap is Overlap.FULL:
        return max(math.fsum(compute), math.fsum(incoming + outgoing))
    return max(math.fsum(compute), math.fsum(incoming), math.fsum(outgoing))
