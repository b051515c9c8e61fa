"""Random tiny instances that reach into every corner of the throughput problem over ``host``."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

from solver.instance import (
    Cluster,
    Constraints,
    DeviceSpec,
    Edge,
    ForbiddenPlacement,
    Graph,
    Instance,
    Interconnect,
    Objective,
    Operator,
    Overlap,
    Partition,
    PipelineSchedule,
)

RULES = list(itertools.product(Partition, PipelineSchedule, Overlap))


def random_instance(seed):
    """An instance drawn from ``seed``; the rules (partition, schedule, overlap) go round with it."""
    source = random.Random(seed)
    partition, schedule, overlap = RULES[seed % len(RULES)]
    training = source.random() < 0.5
    num_forward = source.randint(1, 4 if training else 6)
    costs = source.choice(
        [
            lambda: source.choice([0, 0, 1, 2, 3]),
            lambda: source.uniform(0, 10),
            lambda: 10 ** source.uniform(-6, 6),
        ]
    )
    devices = random_devices(source)
    kinds = sorted({spec.kind for spec in devices})
    names = [name for spec in devices for name in spec.names]

    def random_operator(name, *, backward=False, group=None):
        times = {kind: costs() * (10 if kind == "cpu" else 1) for kind in kinds if source.random() < 0.95}
        allowed = None
        if source.random() < 0.08:
            allowed = tuple(source.sample([*names, *(s.id for s in devices if s.names)], k=1))
        return Operator(name, times, source.choice([0, 1, 2, 3]), group, backward, allowed)

    groups = [f"g{source.randrange(3)}" if source.random() < 0.3 else None for _ in range(num_forward)]
    operators = [random_operator(f"f{i}", group=groups[i]) for i in range(num_forward)]
    forward = [o.id for o in operators]
    density = source.choice([0.2, 0.5, 0.8])
    pairs = [(a, b) for a, b in itertools.combinations(forward, 2) if source.random() < density]
    if training:
        twins = []
        for i in reversed(range(num_forward)):
            if source.random() < 0.8:
                group = groups[i] or (f"twin{i}" if source.random() < 0.6 else None)
                if group == f"twin{i}":
                    operators[i] = Operator(
                        operators[i].id, operators[i].compute_time_ms, operators[i].memory_bytes, group
                    )
                operators.append(random_operator(f"b{i}", backward=True, group=group))
                twins.append(i)
        backward = [f"b{i}" for i in twins]
        pairs += [(a, b) for a, b in itertools.combinations(backward, 2) if source.random() < density]
        pairs += [(a, b) for a in forward for b in backward if source.random() < 0.25]
    bandwidth = source.choice([None, 500.0, 2000.0])
    edges = []
    for name in {a: None for a, _ in pairs}:
        targets = [b for a, b in pairs if a == name]
        split = source.random() < 0.2
        for tensor, part in ((None, targets[::2]), ("second", targets[1::2])) if split else ((None, targets),):
            time = costs() if bandwidth is None or source.random() < 0.3 else None
            size = source.randint(0, 4)
            edges += [Edge(name, target, size, tensor, time) for target in part]
    source.shuffle(edges)
    constraints = Constraints(
        pinned={source.choice(operators).id: source.choice(names)} if source.random() < 0.1 else {},
        forbidden=(ForbiddenPlacement(source.choice(operators).id, source.choice(names)),)
        if source.random() < 0.1
        else (),
    )
    wires = Interconnect(overlap=overlap, host_bandwidth_bytes_per_s=bandwidth, host_latency_ms=source.choice([0, 0.5]))
    return Instance(
        Graph(tuple(operators), tuple(edges)),
        Cluster(tuple(devices), wires),
        Objective(partition=partition, schedule=schedule),
        constraints,
    )


def random_devices(source):
    room = source.choice([None, None, 4, 6, 9])
    devices = [DeviceSpec("gpu", "gpu", room, source.randint(1, 3))]
    if source.random() < 0.5:
        devices.append(DeviceSpec("cpu", "cpu", source.choice([None, None, 3]), source.choice([None, 1]), is_host=True))
    if source.random() < 0.25:
        slow = source.choice([None, 700.0])
        devices.append(DeviceSpec("old", "old", source.choice([None, 5]), None, host_bandwidth_bytes_per_s=slow))
    return devices


def with_extreme_costs(instance, seed):
    """The same instance with times from 1e-9 to 1e12 side by side, and some that binary fractions cannot hold."""
    source = random.Random(seed)

    def cost(given):
        return source.choice(
            [
                given,
                given,
                source.uniform(0, 1),
                1e12 * source.random(),
                1e-9 * source.random(),
                source.choice([0.1, 0.2, 0.3, 0.7]),
            ]
        )

    operators = tuple(
        replace(operator, compute_time_ms={kind: cost(time) for kind, time in operator.compute_time_ms.items()})
        for operator in instance.graph.operators
    )
    times = {}
    edges = tuple(
        replace(edge, transfer_time_ms=times.setdefault((edge.source, edge.tensor), cost(edge.transfer_time_ms or 0.0)))
        for edge in instance.graph.edges
    )
    return replace(instance, graph=Graph(operators, edges))


def random_chain_like(seed):
    """Nine or ten forward operators in an order that a pipeline likes: a chain with shortcuts and twigs."""
    source = random.Random(seed)
    size = source.randint(8, 10)
    costs = source.choice([lambda: source.randint(0, 3), lambda: source.uniform(0, 4)])
    kinds = ["gpu", "old"]
    room = source.choice([None, 8, 12])
    operators = [
        Operator(
            f"o{i}",
            {kind: float(costs()) for kind in kinds if kind == "gpu" or source.random() < 0.9},
            source.choice([1, 1, 2]),
        )
        for i in range(size)
    ]
    if source.random() < 0.5:  # alike siblings
        operators = [replace(o, compute_time_ms=operators[0].compute_time_ms, memory_bytes=1) for o in operators]
    reach = source.choice([1, 2, 4, 9])
    pairs = {(source.randint(max(0, i - reach), i - 1), i) for i in range(1, size) if source.random() < 0.9}
    pairs |= {(a, b) for a in range(size) for b in range(a + 2, size) if source.random() < 0.08}
    alike = source.random() < 0.5
    times = {a: 0.5 if alike else source.choice([0.0, 0.25, source.uniform(0, 2)]) for a in range(size)}
    edges = tuple(Edge(f"o{a}", f"o{b}", transfer_time_ms=times[a]) for a, b in sorted(pairs))
    devices = [DeviceSpec("gpu", "gpu", room, source.randint(2, 4))]
    if source.random() < 0.5:
        devices.append(DeviceSpec("old", "old", room, source.randint(1, 2), is_host=source.random() < 0.3))
    return Instance(
        Graph(tuple(operators), edges),
        Cluster(tuple(devices), Interconnect(overlap=source.choice(list(Overlap)))),
    )


def with_decimal_costs(instance, seed):
    """Tenths, whose sums in floating point depend on the order of the terms."""
    source = random.Random(seed)

    def cost():
        return source.randint(1, 9) / 10

    operators = tuple(
        replace(o, compute_time_ms={kind: cost() for kind in o.compute_time_ms}) for o in instance.graph.operators
    )
    times = {}
    edges = tuple(
        replace(edge, transfer_time_ms=times.setdefault((edge.source, edge.tensor), cost()))
        for edge in instance.graph.edges
    )
    return replace(instance, graph=Graph(operators, edges))
