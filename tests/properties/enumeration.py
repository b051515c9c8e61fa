"""All placements of a tiny instance, judged from the text of the problem alone.

Written for obviousness, and from the definitions rather than from the verifier or any model: paths are found by
enumeration of the transitive closure, numberings of devices by trying all of them.
"""

from __future__ import annotations

import functools
import itertools
import math

from solver.instance import InterconnectModel, ObjectiveKind, Overlap, Partition, PipelineSchedule
from solver.result import Status


def enumerate_feasible(instance):
    """Every feasible placement: {operator: device}."""
    operators = instance.graph.operators
    devices = instance.cluster.expand()
    for choice in itertools.product(devices, repeat=len(operators)):
        placement = dict(zip((operator.id for operator in operators), choice, strict=True))
        if is_feasible(instance, placement):
            yield placement


def enumerate_optimum(instance):
    """(value, placement) of the best feasible placement, or (None, None) if there is none."""
    best, best_placement = None, None
    for placement in enumerate_feasible(instance):
        value = worth(instance, placement)
        if best is None or value < best:
            best, best_placement = value, {name: device.name for name, device in placement.items()}
    return best, best_placement


def check_optimum(instance, result, seed):
    """Fail unless ``result`` says what the best of all placements is worth, or that there is none."""
    optimum, _ = enumerate_optimum(instance)
    if optimum is None:
        assert result.status is Status.INFEASIBLE, seed
    else:
        assert result.status is Status.OPTIMAL, seed
        assert close(result.objective_value, optimum), seed
        assert result.best_bound <= optimum * (1 + 1e-9), seed


def means(reference, device):
    return reference in (device.name, device.spec.id)


def is_feasible(instance, placement):  # noqa: PLR0911  one rule after the other, as the text has them
    groups = {}
    for operator in instance.graph.operators:
        device = placement[operator.id]
        if device.spec.kind not in operator.compute_time_ms:
            return False
        if operator.allowed_devices is not None and not any(means(r, device) for r in operator.allowed_devices):
            return False
        group = operator.colocation_group
        if group is not None and groups.setdefault(group, device) != device:
            return False
    for name, reference in instance.constraints.pinned.items():
        if not means(reference, placement[name]):
            return False
    for rule in instance.constraints.forbidden:
        if means(rule.device, placement[rule.operator]):
            return False
    for device in set(placement.values()):
        held = sum(o.memory_bytes for o in instance.graph.operators if placement[o.id] == device)
        if device.spec.memory_bytes is not None and held > device.spec.memory_bytes:
            return False
    return keeps_partition(instance, placement) and keeps_limits(instance, placement)


def keeps_limits(instance, placement):
    limits = instance.constraints
    time, used = period(instance, placement), set(placement.values())
    moved = [o for o in instance.graph.operators if (limits.previous_placement or {}).get(o.id) is not None]
    moved = [o for o in moved if limits.previous_placement[o.id] != placement[o.id].name]
    return (
        time < math.inf
        and (limits.max_period_ms is None or time <= limits.max_period_ms)
        and (limits.min_throughput_per_s is None or time == 0 or 1000 / time >= limits.min_throughput_per_s)
        and (limits.max_devices is None or len(used) <= limits.max_devices)
        and (limits.max_cost_per_hour is None or cost(used) <= limits.max_cost_per_hour)
        and (limits.max_moved_operators is None or len(moved) <= limits.max_moved_operators)
        and (limits.max_moved_bytes is None or sum(o.memory_bytes for o in moved) <= limits.max_moved_bytes)
    )


def cost(devices):
    return sum(device.spec.cost_per_hour or 0 for device in devices)


def worth(instance, placement):
    if instance.objective.kind is ObjectiveKind.COST:
        return cost(set(placement.values()))
    return period(instance, placement)


def keeps_partition(instance, placement):
    partition = instance.objective.partition
    if partition is Partition.FREE:
        return True
    forward = [o.id for o in instance.graph.operators if not o.is_backward]
    edges = {(e.source, e.target) for e in instance.graph.edges if e.source in forward and e.target in forward}
    if partition is Partition.ACYCLIC:
        used = sorted({placement[name].name for name in forward})
        return any(
            all(numbers[placement[a].name] <= numbers[placement[b].name] for a, b in edges)
            for order in itertools.permutations(range(len(used)))
            for numbers in [dict(zip(used, order, strict=True))]
        )
    return not any(
        placement[start] == placement[end] != placement[middle]
        for start, middle, end in ways(tuple(forward), frozenset(edges))
    )


@functools.cache
def ways(names, edges):
    """All (start, middle, end) such that a path leads from each to the next."""
    paths = set(edges)
    triples = list(itertools.product(names, repeat=3))
    for middle, start, end in triples:
        if (start, middle) in paths and (middle, end) in paths:
            paths.add((start, end))
    return [
        (start, middle, end) for start, middle, end in triples if (start, middle) in paths and (middle, end) in paths
    ]


def period(instance, placement):
    """Infinite where data has no way to go."""
    if instance.objective.schedule is PipelineSchedule.GPIPE:
        return largest_load(instance, placement, {False}) + largest_load(instance, placement, {True})
    return largest_load(instance, placement, {False, True})


def largest_load(instance, placement, passes):
    """Over all devices; ``passes`` are those that count, the backward one as true."""
    backward = {o.id: o.is_backward for o in instance.graph.operators}
    overlap = instance.cluster.interconnect.overlap

    def load(device):
        compute = sum(
            o.compute_time_ms[device.spec.kind]
            for o in instance.graph.operators
            if placement[o.id] == device and o.is_backward in passes
        )
        incoming = outgoing = 0.0
        for source, tensor in {(e.source, e.tensor) for e in instance.graph.edges}:
            if backward[source] not in passes:
                continue
            edges = [e for e in instance.graph.edges if (e.source, e.tensor) == (source, tensor)]
            targets = {placement[e.target] for e in edges}
            if instance.cluster.interconnect.model is InterconnectModel.LINKS:
                if placement[source] == device:
                    outgoing += sum(between(instance.cluster, edges[0], device, other) for other in targets - {device})
                elif device in targets:
                    incoming += between(instance.cluster, edges[0], placement[source], device)
                continue
            if device.spec.is_host:
                continue
            if placement[source] == device and targets != {device}:
                outgoing += transfer(instance, edges[0], device)
            if placement[source] != device and device in targets:
                incoming += transfer(instance, edges[0], device)
        if overlap is Overlap.NONE:
            return compute + incoming + outgoing
        if overlap is Overlap.FULL:
            return max(compute, incoming + outgoing)
        return max(compute, incoming, outgoing)

    return max(load(device) for device in set(placement.values()))


def transfer(instance, edge, device):
    if edge.transfer_time_ms is not None:
        return edge.transfer_time_ms
    wires = instance.cluster.interconnect
    bandwidth = device.spec.host_bandwidth_bytes_per_s or wires.host_bandwidth_bytes_per_s
    latency = wires.host_latency_ms if device.spec.host_latency_ms is None else device.spec.host_latency_ms
    return (edge.bytes / bandwidth * 1000 if edge.bytes else 0.0) + latency


@functools.cache
def between(cluster, edge, start, end):
    """Over the link of the two, or the best of all ways over other devices."""
    direct = hop(cluster, edge, start, end)
    if direct is not None:
        return direct
    others = [device for device in cluster.expand() if device not in {start, end}]
    best = math.inf
    for length in range(1, len(others) + 1):
        for way in itertools.permutations(others, length):
            hops = [hop(cluster, edge, a, b) for a, b in itertools.pairwise((start, *way, end))]
            if None not in hops:
                best = min(best, sum(hops))
    return best


def hop(cluster, edge, one, other):
    """The time over the one link that joins two devices directly; None if there is none."""
    wires = cluster.interconnect
    pairs = [
        p.link
        for p in wires.pairs
        if (means(p.a, one) and means(p.b, other)) or (means(p.a, other) and means(p.b, one))
    ]
    groups = []
    for group in wires.groups:
        inside = [device for device in cluster.expand() if any(means(name, device) for name in group.devices)]
        if one in inside and other in inside:
            groups.append((len(inside), group.link))
    if pairs:
        link = pairs[0]
    elif groups:
        size = min(size for size, _ in groups)
        link = next(link for own, link in groups if own == size)
    else:
        link = wires.default
    if link is None:
        return None
    if edge.transfer_time_ms is not None:
        return edge.transfer_time_ms
    return edge.bytes / link.bandwidth_bytes_per_s * 1000 + link.latency_ms


def close(one, other, tolerance=1e-6):
    return math.isclose(one, other, rel_tol=tolerance, abs_tol=1e-9)


def enumerate_pipelines(instance):
    """Optimum of an acyclic 1f1b instance of forward operators without groups or constraints; infinite if none.

    For instances too long to try all placements: all sets closed under predecessors, and from each every stage.
    """
    names = [operator.id for operator in instance.graph.operators]
    before = {name: {e.source for e in instance.graph.edges if e.target == name} for name in names}
    closed = [frozenset()]
    for name in _sorted_by_edges(names, before):
        closed += [ideal | {name} for ideal in closed if before[name] <= ideal]
    specs = instance.cluster.devices
    loads = {}

    def load(stage, spec):
        if (stage, spec.id) not in loads:
            loads[stage, spec.id] = _stage_load(instance, stage, spec)
        return loads[stage, spec.id]

    best = {(frozenset(), (0,) * len(specs)): 0.0}
    for ideal in sorted(closed, key=len):
        states = [(used, value) for (reached, used), value in best.items() if reached == ideal]
        if not states:
            continue
        for larger in closed:
            if not ideal < larger:
                continue
            for index, spec in enumerate(specs):
                cost = load(larger - ideal, spec)
                for used, value in states:
                    if used[index] < len(spec.names) and math.isfinite(cost):
                        state = larger, (*used[:index], used[index] + 1, *used[index + 1 :])
                        best[state] = min(best.get(state, math.inf), max(value, cost))
    return min((value for (reached, _), value in best.items() if len(reached) == len(names)), default=math.inf)


def _sorted_by_edges(names, before):
    order = []
    while len(order) < len(names):
        order += [name for name in names if name not in order and before[name] <= set(order)][:1]
    return order


def _stage_load(instance, stage, spec):
    held = [operator for operator in instance.graph.operators if operator.id in stage]
    if any(spec.kind not in operator.compute_time_ms for operator in held):
        return math.inf
    if spec.memory_bytes is not None and sum(operator.memory_bytes for operator in held) > spec.memory_bytes:
        return math.inf
    compute = sum(operator.compute_time_ms[spec.kind] for operator in held)
    incoming = outgoing = 0.0
    for source in {edge.source for edge in instance.graph.edges}:
        edges = [edge for edge in instance.graph.edges if edge.source == source]
        inside = {edge.target in stage for edge in edges}
        if not spec.is_host and source in stage and False in inside:
            outgoing += edges[0].transfer_time_ms
        if not spec.is_host and source not in stage and True in inside:
            incoming += edges[0].transfer_time_ms
    overlap = instance.cluster.interconnect.overlap
    if overlap is Overlap.NONE:
        return compute + incoming + outgoing
    if overlap is Overlap.FULL:
        return max(compute, incoming + outgoing)
    return max(compute, incoming, outgoing)
