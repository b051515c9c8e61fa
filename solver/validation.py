"""Before: what is wrong with an instance, all of it at once.

Each fault is an :class:`~solver.errors.Issue` with a stable code, the path into the native document and a hint.
A valid instance may still be infeasible (an operator no device can run, say): that is an answer, not a fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TypeGuard

from solver.collector import collector_paused
from solver.errors import Issue, Path
from solver.field_checks import check_member, check_number, check_text
from solver.instance import (
    Cluster,
    Constraints,
    DeviceSpec,
    Edge,
    Execution,
    Graph,
    Instance,
    Interconnect,
    InterconnectModel,
    Link,
    Objective,
    ObjectiveKind,
    Overlap,
    Partition,
    PipelineSchedule,
    SolverOptions,
)

MAX_TIME_MS = 1e15
"""Times above this (30,000 years) are taken for a mistake in the unit."""
MAX_BYTES = 2**53 - 1
"""Largest size that every JSON reader tells from its neighbours."""
MAX_RATE = 1e18
MAX_DEVICES = 65_536
MAX_TIME_LIMIT_S = 30 * 86_400.0
MAX_CYCLES_NAMED = 20
MAX_IDS_NAMED = 8


@collector_paused()
def validate(instance: Instance) -> tuple[Issue, ...]:
    """Every fault of the instance, in the order of the document."""
    return (
        *_check_graph(instance.graph),
        *_check_cluster(instance.cluster),
        *_check_references(instance),
        *_check_transfer_times(instance),
        *_check_objective(instance.objective),
        *_check_constraints(instance.constraints),
    )


def validate_options(options: SolverOptions) -> tuple[Issue, ...]:
    """Every fault of the solver options."""
    path: Path = ("solver",)
    issues = [
        *check_number(options.time_limit_s, (*path, "time_limit_s"), high=MAX_TIME_LIMIT_S, positive=True),
        *check_number(options.relative_gap, (*path, "relative_gap"), high=1.0),
        *check_number(options.seed, (*path, "seed"), high=2**31 - 1, whole=True),
    ]
    if options.workers is not None:
        issues += check_number(options.workers, (*path, "workers"), high=1024, whole=True, positive=True)
    if options.memory_limit_bytes is not None:
        limit = (*path, "memory_limit_bytes")
        issues += check_number(options.memory_limit_bytes, limit, high=MAX_BYTES, whole=True, positive=True)
    return tuple(issues)


def _check_graph(graph: Graph) -> Iterator[Issue]:
    operators: Path = ("graph", "operators")
    if not graph.operators:
        yield Issue("empty_graph", "the graph has no operators", operators, "give at least one operator")
    first_index: dict[str, int] = {}
    for index, operator in enumerate(graph.operators):
        path = (*operators, index)
        yield from check_text(operator.id, (*path, "id"))
        if operator.id in first_index:
            yield Issue(
                "duplicate_operator_id",
                f"operator id {operator.id!r} is already used by operator {first_index[operator.id]}",
                (*path, "id"),
                "give every operator an id of its own",
            )
        first_index.setdefault(operator.id, index)
        for kind, time in operator.compute_time_ms.items():
            yield from check_number(time, (*path, "compute_time_ms", kind), high=MAX_TIME_MS)
        yield from check_number(operator.memory_bytes, (*path, "memory_bytes"), high=MAX_BYTES, whole=True)
        if operator.colocation_group is not None:
            yield from check_text(operator.colocation_group, (*path, "colocation_group"))
    yield from _check_edges(graph.edges, first_index)
    yield from _check_cycles(graph.edges, first_index)


def _check_edges(edges: tuple[Edge, ...], operators: Mapping[str, int]) -> Iterator[Issue]:
    first_of_tensor: dict[tuple[str, str | None], Edge] = {}
    for index, edge in enumerate(edges):
        path: Path = ("graph", "edges", index)
        for end, name in (("source", edge.source), ("target", edge.target)):
            if name not in operators:
                yield Issue(
                    "unknown_operator",
                    f"there is no operator {name!r}",
                    (*path, end),
                    "name an operator of graph.operators",
                )
        if edge.source == edge.target:
            yield Issue(
                "self_loop",
                f"operator {edge.source!r} depends on itself",
                path,
                "remove the edge; unroll loops into separate operators",
            )
        yield from check_number(edge.bytes, (*path, "bytes"), high=MAX_BYTES, whole=True)
        if edge.transfer_time_ms is not None:
            yield from check_number(edge.transfer_time_ms, (*path, "transfer_time_ms"), high=MAX_TIME_MS)
        first = first_of_tensor.setdefault((edge.source, edge.tensor), edge)
        for code, what, mine, its in (
            ("tensor_bytes_mismatch", "bytes", edge.bytes, first.bytes),
            ("tensor_transfer_time_mismatch", "transfer_time_ms", edge.transfer_time_ms, first.transfer_time_ms),
        ):
            if mine != its and not (_is_nan(mine) or _is_nan(its)):
                yield Issue(
                    code,
                    f"{edge.source!r} sends the same tensor to {edge.target!r} and to {first.target!r}, "
                    f"but {what} is {_given(mine)} here and {_given(its)} there",
                    (*path, what),
                    "give all edges of one tensor the same size, or name different tensors",
                )


def _given(value: float | None) -> str:
    return "not given" if value is None else f"{value}"


def _is_nan(value: float | None) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _check_cycles(edges: tuple[Edge, ...], operators: Mapping[str, int]) -> Iterator[Issue]:
    predecessors: dict[str, set[str]] = {name: set() for name in operators}
    for edge in edges:
        if edge.source in operators and edge.target in operators and edge.source != edge.target:
            predecessors[edge.target].add(edge.source)
    for _ in range(MAX_CYCLES_NAMED):
        try:
            TopologicalSorter(predecessors).prepare()
        except CycleError as error:
            cycle: list[str] = error.args[1]
        else:
            return
        # The cycle's operators are taken out, so that the next round finds another one.
        members = set(cycle)
        shown = " → ".join([*cycle[:MAX_IDS_NAMED], "…"] if len(cycle) > MAX_IDS_NAMED + 1 else cycle)
        yield Issue(
            "cycle",
            f"the graph has a cycle of {len(members)} operators: {shown}",
            ("graph", "edges"),
            "remove one of the edges between these operators; unroll loops into separate operators",
        )
        predecessors = {name: sources - members for name, sources in predecessors.items() if name not in members}


def _check_cluster(cluster: Cluster) -> Iterator[Issue]:
    devices: Path = ("cluster", "devices")
    seen: set[str] = set()
    num_devices = 0
    for index, spec in enumerate(cluster.devices):
        path = (*devices, index)
        yield from check_text(spec.id, (*path, "id"))
        yield from check_text(spec.kind, (*path, "kind"))
        faults = [] if spec.count is None else list(_check_count(spec, path))
        yield from faults
        num_devices += 1 if spec.count is None or faults else spec.count
        if num_devices <= MAX_DEVICES:
            names = {spec.id, *(() if faults else spec.names)}
            for name in sorted(names & seen):
                yield Issue(
                    "duplicate_device_id",
                    f"device id {name!r} is already used",
                    (*path, "id"),
                    "give every device an id of its own; mind that count names devices id:0, id:1, …",
                )
            seen |= names
        for field, value, high in (
            ("memory_bytes", spec.memory_bytes, MAX_BYTES),
            ("cost_per_hour", spec.cost_per_hour, MAX_RATE),
            ("host_latency_ms", spec.host_latency_ms, MAX_TIME_MS),
        ):
            if value is not None:
                yield from check_number(value, (*path, field), high=high, whole=field == "memory_bytes")
        yield from _check_bandwidth(spec.host_bandwidth_bytes_per_s, path, "host_bandwidth_bytes_per_s")
    if num_devices == 0:
        yield Issue("no_devices", "the cluster has no devices", devices, "give at least one device")
    if num_devices > MAX_DEVICES:
        yield Issue("too_many_devices", f"the cluster has {num_devices} devices", devices, f"at most {MAX_DEVICES}")
    yield from _check_interconnect(cluster.interconnect)


def _check_count(spec: DeviceSpec, path: Path) -> Iterator[Issue]:
    faults = list(check_number(spec.count, (*path, "count"), high=MAX_DEVICES, whole=True))
    yield from faults
    if not faults and not isinstance(spec.count, int):
        yield Issue("wrong_type", "expected an integer, found float", (*path, "count"), "give it without a fraction")


def _has_names(spec: DeviceSpec) -> bool:
    """Whether the count, if there is one, is such that the devices can be named."""
    return spec.count is None or not any(_check_count(spec, ()))


def _check_bandwidth(value: float | None, path: Path, field: str) -> Iterator[Issue]:
    if value is not None:
        yield from check_number(value, (*path, field), high=MAX_RATE, positive=True)


def _check_interconnect(interconnect: Interconnect) -> Iterator[Issue]:
    path: Path = ("cluster", "interconnect")
    yield from check_member(interconnect.model, InterconnectModel, (*path, "model"))
    yield from check_member(interconnect.overlap, Overlap, (*path, "overlap"))
    yield from _check_bandwidth(interconnect.host_bandwidth_bytes_per_s, path, "host_bandwidth_bytes_per_s")
    yield from check_number(interconnect.host_latency_ms, (*path, "host_latency_ms"), high=MAX_TIME_MS)
    for where, link in _links(interconnect):
        yield from _check_bandwidth(link.bandwidth_bytes_per_s, where, "bandwidth_bytes_per_s")
        yield from check_number(link.latency_ms, (*where, "latency_ms"), high=MAX_TIME_MS)
    for index, pair in enumerate(interconnect.pairs):
        if pair.a == pair.b:
            yield Issue(
                "self_link",
                f"device {pair.a!r} is linked to itself",
                (*path, "pairs", index),
                "name two different devices",
            )


def _links(interconnect: Interconnect) -> Iterator[tuple[Path, Link]]:
    """Every link of the document, with its path."""
    path: Path = ("cluster", "interconnect")
    if interconnect.default is not None:
        yield (*path, "default"), interconnect.default
    yield from (((*path, "groups", index), group.link) for index, group in enumerate(interconnect.groups))
    yield from (((*path, "pairs", index), pair.link) for index, pair in enumerate(interconnect.pairs))


def _check_references(instance: Instance) -> Iterator[Issue]:
    """Devices and operators that are named but do not exist."""
    cluster = instance.cluster
    if not all(map(_has_names, cluster.devices)):
        return
    if sum(1 if spec.count is None else spec.count for spec in cluster.devices) > MAX_DEVICES:
        return
    known_devices = cluster.resolve()
    known_operators = {operator.id for operator in instance.graph.operators}

    def check_device(name: str, path: Path) -> Iterator[Issue]:
        if name not in known_devices:
            hint = "name a device of cluster.devices, with its index or without"
            yield Issue("unknown_device", f"there is no device {name!r}", path, hint)

    def check_operator(name: str, path: Path) -> Iterator[Issue]:
        if name not in known_operators:
            hint = "name an operator of graph.operators"
            yield Issue("unknown_operator", f"there is no operator {name!r}", path, hint)

    for index, operator in enumerate(instance.graph.operators):
        for position, name in enumerate(operator.allowed_devices or ()):
            yield from check_device(name, ("graph", "operators", index, "allowed_devices", position))
    for index, group in enumerate(cluster.interconnect.groups):
        for position, name in enumerate(group.devices):
            yield from check_device(name, ("cluster", "interconnect", "groups", index, "devices", position))
    for index, pair in enumerate(cluster.interconnect.pairs):
        yield from check_device(pair.a, ("cluster", "interconnect", "pairs", index, "a"))
        yield from check_device(pair.b, ("cluster", "interconnect", "pairs", index, "b"))
    for operator_id, name in instance.constraints.pinned.items():
        yield from check_operator(operator_id, ("constraints", "pinned", operator_id))
        yield from check_device(name, ("constraints", "pinned", operator_id))
    yield from _check_previous_placement(instance, known_devices)
    for index, forbidden in enumerate(instance.constraints.forbidden):
        yield from check_operator(forbidden.operator, ("constraints", "forbidden", index, "operator"))
        yield from check_device(forbidden.device, ("constraints", "forbidden", index, "device"))


def _check_previous_placement(instance: Instance, known_devices: Mapping[str, tuple[str, ...]]) -> Iterator[Issue]:
    """Devices that are gone may be named, but nothing ever sat on an entry for several of them."""
    for operator_id, name in (instance.constraints.previous_placement or {}).items():
        if name in known_devices and name not in known_devices[name]:
            yield Issue(
                "ambiguous_device",
                f"{name!r} is an entry with a count, not one of its devices",
                ("constraints", "previous_placement", operator_id),
                f"name the device with its index, as in '{name}:0'",
            )


def _check_transfer_times(instance: Instance) -> Iterator[Issue]:
    """Edges with bytes and no time of their own need bandwidth: not too little, and over ``host`` on every device."""
    interconnect = instance.cluster.interconnect
    needing = [edge for edge in instance.graph.edges if edge.transfer_time_ms is None and _is_size(edge.bytes)]
    if not needing:
        return
    first, largest = needing[0], max(needing, key=lambda edge: edge.bytes)
    if interconnect.model is InterconnectModel.LINKS:
        for where, link in _links(interconnect):
            yield from _check_slowness(link.bandwidth_bytes_per_s, largest, (*where, "bandwidth_bytes_per_s"))
        return
    checked: set[Path] = set()
    for index, spec in enumerate(instance.cluster.devices):
        if spec.is_host or spec.count == 0:
            continue
        path: Path = ("cluster", "devices", index, "host_bandwidth_bytes_per_s")
        bandwidth = spec.host_bandwidth_bytes_per_s
        if bandwidth is None:
            bandwidth = interconnect.host_bandwidth_bytes_per_s
            path = path if bandwidth is None else ("cluster", "interconnect", "host_bandwidth_bytes_per_s")
        if path not in checked:
            checked.add(path)
            yield from _check_slowness(bandwidth, largest, path)
        if bandwidth is None:
            yield Issue(
                "missing_bandwidth",
                f"the edge from {first.source!r} to {first.target!r} has bytes but no transfer_time_ms, "
                f"and device {spec.id!r} has no host bandwidth",
                path,
                "give cluster.interconnect.host_bandwidth_bytes_per_s, or transfer_time_ms on every edge",
            )


def _check_slowness(bandwidth: object, largest: Edge, path: Path) -> Iterator[Issue]:
    """No transfer takes longer than any time may."""
    if _is_size(bandwidth) and bandwidth * (MAX_TIME_MS / 1000) < largest.bytes:
        yield Issue(
            "out_of_range",
            f"at {bandwidth:g} bytes a second the {largest.bytes} bytes from {largest.source!r} to "
            f"{largest.target!r} take more than {MAX_TIME_MS:g} ms",
            path,
            "check the units of bytes and bandwidth",
        )


def _is_size(value: object) -> TypeGuard[float]:
    """A number above 0; what is wrong with another is told where its field is checked."""
    return isinstance(value, int | float) and 0 < value < math.inf


def _check_objective(objective: Objective) -> Iterator[Issue]:
    for field, enum in (
        ("kind", ObjectiveKind),
        ("partition", Partition),
        ("schedule", PipelineSchedule),
        ("execution", Execution),
    ):
        yield from check_member(getattr(objective, field), enum, ("objective", field))
    yield from check_number(
        objective.blocks_per_device, ("objective", "blocks_per_device"), high=1_000_000, whole=True, positive=True
    )


def _check_constraints(constraints: Constraints) -> Iterator[Issue]:
    limits: Iterable[tuple[str, float | None, float, bool]] = (
        ("max_period_ms", constraints.max_period_ms, MAX_TIME_MS, False),
        ("min_throughput_per_s", constraints.min_throughput_per_s, MAX_RATE, False),
        ("max_latency_ms", constraints.max_latency_ms, MAX_TIME_MS, False),
        ("max_devices", constraints.max_devices, MAX_DEVICES, True),
        ("max_cost_per_hour", constraints.max_cost_per_hour, MAX_RATE, False),
        ("max_moved_operators", constraints.max_moved_operators, MAX_BYTES, True),
        ("max_moved_bytes", constraints.max_moved_bytes, MAX_BYTES, True),
    )
    for field, value, high, whole in limits:
        if value is not None:
            yield from check_number(value, ("constraints", field), high=high, whole=whole)
    for field in ("max_moved_operators", "max_moved_bytes"):
        if getattr(constraints, field) is not None and constraints.previous_placement is None:
            yield Issue(
                "missing_previous_placement",
                f"{field} limits moves, but there is no placement to move from",
                ("constraints", field),
                "give constraints.previous_placement, or drop the limit",
            )
