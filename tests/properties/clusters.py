"""Random tiny instances on real clusters: unlike devices, links, hosts in the pipeline, every constraint, cost."""

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
    InterconnectModel,
    Link,
    LinkGroup,
    LinkPair,
    Objective,
    ObjectiveKind,
    Operator,
    Overlap,
    Partition,
    PipelineSchedule,
)

RULES = list(itertools.product(Partition, PipelineSchedule, Overlap))
OFF = 0.0371
"""Added to limits, so that no sum of the times drawn here meets one up to rounding."""


def random_cluster_instance(seed):
    """An instance drawn from ``seed``; the rules (partition, schedule, overlap) go round with it."""
    source = random.Random(seed)
    partition, schedule, overlap = RULES[seed % len(RULES)]
    devices = draw_devices(source)
    names = [name for spec in devices for name in spec.names]
    graph = draw_graph(source, sorted({spec.kind for spec in devices}), names)
    if source.random() < 0.15:
        wires = Interconnect(overlap=overlap, host_bandwidth_bytes_per_s=2000.0)
    else:
        wires = draw_links(source, overlap, names)
    kind = ObjectiveKind.COST if source.random() < 0.3 else ObjectiveKind.THROUGHPUT
    return Instance(
        graph,
        Cluster(tuple(devices), wires),
        Objective(kind=kind, partition=partition, schedule=schedule),
        draw_constraints(source, graph, names, kind),
    )


def draw_devices(source):
    """Two to five devices of one to three kinds."""
    room = source.choice([None, None, 4, 6, 9])
    price = source.choice([None, 1.0, 2.5])
    devices = [DeviceSpec("big", "big", room, source.randint(1, 3), cost_per_hour=price)]
    if source.random() < 0.7:
        spec = DeviceSpec("small", "small", source.choice([None, 3, 5]), source.choice([None, 1, 2]))
        devices.append(
            DeviceSpec(spec.id, spec.kind, spec.memory_bytes, spec.count, cost_per_hour=source.choice([0.5, 1.0]))
        )
    if source.random() < 0.4 or len(devices) == 1:
        slow = source.choice([None, 700.0])
        devices.append(DeviceSpec("cpu", "cpu", None, is_host=source.random() < 0.7, host_bandwidth_bytes_per_s=slow))
    if source.random() < 0.2 and sum(len(spec.names) for spec in devices) < 5:
        devices.append(DeviceSpec("other", "big", source.choice([None, 7]), cost_per_hour=2.0))
    return devices


def draw_links(source, overlap, names):
    """A default or none, nested groups, named pairs: often with pairs of devices that nothing joins."""

    def link():
        return Link(source.choice([500.0, 1000.0, 4000.0]), source.choice([0.0, 0.0, 0.25, 1.5]))

    default = link() if source.random() < 0.5 else None
    groups = []
    for _ in range(source.choice([0, 1, 1, 2, 3])):
        references = source.sample(names, source.randint(1, len(names)))
        if source.random() < 0.3:
            references[0] = references[0].split(":")[0]
        groups.append(LinkGroup(tuple(references), link()))
    if groups and source.random() < 0.5:  # one inside another, of other speed
        outer = source.choice(groups)
        groups.append(LinkGroup(outer.devices[: max(2, len(outer.devices) - 1)], link()))
    pairs = []
    for _ in range(source.choice([0, 0, 1, 3])):
        a, b = source.choice(names), source.choice(names)
        a = a.split(":")[0] if source.random() < 0.2 else a
        if a != b:
            pairs.append(LinkPair(a, b, link()))
    if default is None and not groups and not pairs and source.random() < 0.8:
        default = link()
    source.shuffle(groups)
    return Interconnect(
        model=InterconnectModel.LINKS, overlap=overlap, default=default, groups=tuple(groups), pairs=tuple(pairs)
    )


def draw_graph(source, kinds, names):
    """Up to five operators, some of them backward, with groups, several tensors of one operator, and own times."""
    num_forward = source.randint(1, 4)
    num_backward = source.choice([0, 0, 1, 2]) if num_forward < 4 else 0
    factor = {kind: source.choice([1, 2, 0.5]) for kind in kinds}

    def operator(name, *, backward):
        base = source.choice([0, 1, 2, 3, source.uniform(0, 5)])
        times = {kind: base * factor[kind] + source.choice([0, 0, 0.5]) for kind in kinds if source.random() < 0.93}
        group = f"g{source.randrange(2)}" if source.random() < 0.25 else None
        allowed = tuple(source.sample(names, source.randint(1, len(names)))) if source.random() < 0.07 else None
        return Operator(name, times, source.choice([0, 1, 2, 3]), group, backward, allowed)

    operators = [operator(f"f{i}", backward=False) for i in range(num_forward)]
    operators += [operator(f"b{i}", backward=True) for i in range(num_backward)]
    density = source.choice([0.3, 0.6, 0.9])
    edges = []
    for index, start in enumerate(operators):
        targets = [end for end in operators[index + 1 :] if source.random() < density]
        split = source.random() < 0.2
        for tensor, part in ((None, targets[::2]), ("second", targets[1::2])) if split else ((None, targets),):
            size = source.randint(0, 4)
            time = source.choice([0.0, 0.75, 2.0]) if source.random() < 0.25 else None
            edges += [Edge(start.id, end.id, size, tensor, time) for end in part]
    source.shuffle(edges)
    return Graph(tuple(operators), tuple(edges))


def draw_constraints(source, graph, names, kind):
    """Each limit now and then; with the objective cost mostly a limit of the period."""
    operators = [operator.id for operator in graph.operators]

    def now_and_then(value, share=0.12):
        return value if source.random() < share else None

    previous = max_operators = max_bytes = None
    if source.random() < 0.3:
        kept = [name for name in operators if source.random() < 0.8]
        previous = {name: source.choice([*names, "gone"]) for name in kept}
        max_operators = now_and_then(source.randint(0, 3), 0.7)
        max_bytes = now_and_then(source.randint(0, 5), 0.4)
    period = source.randint(1, 15) + OFF
    return Constraints(
        max_period_ms=now_and_then(period, 0.7 if kind is ObjectiveKind.COST else 0.12),
        min_throughput_per_s=now_and_then(1000 / (source.randint(1, 15) + OFF)),
        max_devices=now_and_then(source.randint(1, 3)),
        max_cost_per_hour=now_and_then(source.choice([0.0, 1.0, 2.0, 3.5])),
        pinned={source.choice(operators): source.choice(names)} if source.random() < 0.1 else {},
        forbidden=(ForbiddenPlacement(source.choice(operators), source.choice(names)),)
        if source.random() < 0.1
        else (),
        previous_placement=previous,
        max_moved_operators=max_operators,
        max_moved_bytes=max_bytes,
    )


def random_training_instance(seed):
    """Three forward operators, each with a backward one on its device; gradients run back along every edge."""
    source = random.Random(seed)
    cluster = random_cluster_instance(seed).cluster
    kinds = sorted({spec.kind for spec in cluster.devices})
    pairs = [("a", "b"), ("b", "c"), ("a", "c")]
    pairs = [pair for pair in pairs if source.random() < 0.8]
    operators = [
        Operator(
            name + mark,
            {kind: source.uniform(0.5, 4) for kind in kinds},
            source.choice([0, 1]),
            colocation_group=name,
            is_backward=bool(mark),
        )
        for mark in ("", "'")
        for name in "abc"
    ]
    edges = [Edge(name, name + "'", tensor="kept") for name in "abc"]
    sizes = {name: source.randint(1, 4) for name in "abc"}
    for first, second in pairs:
        edges.append(Edge(first, second, sizes[first]))
        edges.append(Edge(second + "'", first + "'", source.randint(1, 4), tensor=first))
    return Instance(Graph(tuple(operators), tuple(edges)), cluster)


def random_loose_instance(seed):
    """The same with a backward operator g that exchanges something with one of the others, and may sit anywhere."""
    instance = random_training_instance(seed)
    source = random.Random(seed + 1_000_000)
    kinds = sorted({spec.kind for spec in instance.cluster.devices})
    partner = source.choice("abc")
    loose = Operator("g", {kind: source.uniform(0.5, 4) for kind in kinds}, source.choice([0, 1]), is_backward=True)
    edges = (
        Edge(partner, "g", source.randint(1, 8), tensor="lent"),
        Edge("g", partner + "'", source.randint(1, 8)),
    )
    graph = Graph((*instance.graph.operators, loose), (*instance.graph.edges, *edges))
    return replace(instance, graph=graph)
