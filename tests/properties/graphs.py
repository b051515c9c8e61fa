"""Larger random graphs of the shapes that neural networks have, and training graphs that mirror them."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

from solver.instance import Cluster, DeviceSpec, Edge, Graph, Instance, Interconnect, Operator, Overlap


def branches(source, num_blocks, num_branches):
    """Blocks of parallel branches between a split and a concatenation, as in an inception network."""
    pairs, names = [], ["stem"]
    last = "stem"
    for block in range(num_blocks):
        ends = []
        for branch in range(num_branches):
            previous = last
            for step in range(source.randint(1, 3)):
                name = f"b{block}.{branch}.{step}"
                pairs.append((previous, name))
                names.append(name)
                previous = name
            ends.append(previous)
        last = f"concat{block}"
        names.append(last)
        pairs += [(end, last) for end in ends]
    return names, pairs


def grid(source, num_rows, num_columns):
    """Layers that run along a sequence, as in a recurrent network: each cell feeds the one above and the next."""
    cell = {(r, c): f"r{r}.c{c}" for r in range(num_rows) for c in range(num_columns)}
    pairs = [(cell[r, c], cell[r + 1, c]) for r in range(num_rows - 1) for c in range(num_columns)]
    pairs += [(cell[r, c], cell[r, c + 1]) for r in range(num_rows) for c in range(num_columns - 1)]
    pairs += [(cell[r, c], cell[r + 2, c]) for r, c in cell if r + 2 < num_rows and source.random() < 0.3]
    return list(cell.values()), pairs


def tree(source, num_leaves, _depth):
    """Towers that are joined two by two, as in a recommender."""
    names = [f"t{i}" for i in range(num_leaves)]
    roots, pairs = list(names), []
    while len(roots) > 1:
        source.shuffle(roots)
        name = f"t{len(names)}"
        names.append(name)
        pairs += [(roots.pop(), name), (roots.pop(), name)]
        roots.append(name)
    return names, pairs


def chain(source, length, _width):
    """Deep and narrow, with residuals."""
    names = [f"d{i}" for i in range(length)]
    pairs = list(itertools.pairwise(names))
    pairs += [(names[i], names[i + 3]) for i in range(length - 3) if source.random() < 0.4]
    return names, pairs


def islands(source, num_parts, length):
    """Graphs that nothing joins."""
    names, pairs = [], []
    for part in range(num_parts):
        own = [f"i{part}.{step}" for step in range(source.randint(1, length))]
        names += own
        pairs += list(itertools.pairwise(own))
    return names, pairs


def fork(source, _width, _depth):
    """One operator feeds two, and perhaps a third joins them: small enough to try every placement."""
    names = ["a", "b", "c"]
    pairs = [("a", "b"), ("a", "c")]
    if source.random() < 0.5:
        pairs.append(("b", "c"))
    return names, pairs


SHAPES = {
    "fork": (fork, 0, 0),
    "branches": (branches, 3, 4),
    "grid": (grid, 5, 6),
    "tree": (tree, 12, 0),
    "chain": (chain, 30, 0),
    "islands": (islands, 6, 5),
}


def shaped(shape, seed, *, times=lambda source: source.uniform(0.5, 5), num_devices=4, room=None, host=False):
    """An inference graph of one of the ``SHAPES``.

    ``room`` times the memory that the devices need on average is what each of them has; ``None`` is no limit.
    """
    source = random.Random(seed)
    build, *sizes = SHAPES[shape]
    names, pairs = build(source, *sizes)
    operators = tuple(
        Operator(name, {"gpu": time, "cpu": 8 * time}, source.randint(1, 9))
        for name, time in ((name, times(source)) for name in names)
    )
    moves = {name: 0.3 * times(source) for name in names}
    edges = tuple(Edge(a, b, transfer_time_ms=moves[a]) for a, b in pairs)
    needed = sum(operator.memory_bytes for operator in operators)
    memory = None if room is None else int(room * needed / num_devices)
    devices = [DeviceSpec("gpu", "gpu", memory, num_devices)]
    if host:
        devices.append(DeviceSpec("cpu", "cpu", is_host=True))
    overlap = source.choice([Overlap.NONE, Overlap.NONE, Overlap.FULL, Overlap.DUPLEX])
    return Instance(Graph(operators, edges), Cluster(tuple(devices), Interconnect(overlap=overlap)))


def mirrored(instance, seed, *, twins=1.0, gathers=False):
    """The training graph of an inference graph.

    Every forward operator gets a backward one that shares its device (with probability ``twins``) and whose edges run
    against the forward ones. With ``gathers``, gradients of an operator with several consumers are first added up by
    an operator of its own, which belongs to no forward operator.
    """
    source = random.Random(seed)
    forward = instance.graph.operators
    tied = {operator.id for operator in forward if source.random() < twins}
    consumers = {o.id: [e.target for e in instance.graph.edges if e.source == o.id] for o in forward}
    operators = [replace(o, colocation_group=o.id if o.id in tied else None) for o in forward]
    edges = list(instance.graph.edges)
    time_of = {edge.source: edge.transfer_time_ms for edge in edges}

    def backward(name, like, factor, group=None):
        times = {kind: factor * time for kind, time in like.compute_time_ms.items()}
        return Operator(name, times, like.memory_bytes if factor > 0.5 else 0, group, is_backward=True)

    for operator in forward:
        name = operator.id
        operators.append(
            backward(f"{name}.grad", operator, source.uniform(0.6, 2), name if name in tied else None),
        )
        target = f"{name}.grad"
        if gathers and len(consumers[name]) > 1:
            target = f"{name}.sum"
            operators.append(backward(target, operator, 0.1))
            edges.append(Edge(target, f"{name}.grad", tensor="sum", transfer_time_ms=time_of[name]))
        # One tensor per input: a gradient is as large as what it is the gradient of.
        edges += [Edge(f"{c}.grad", target, tensor=name, transfer_time_ms=time_of[name]) for c in consumers[name]]
        edges += [
            Edge(name, f"{c}.grad", transfer_time_ms=time_of[name]) for c in consumers[name] if source.random() < 0.3
        ]
    return replace(instance, graph=Graph(tuple(operators), tuple(edges)))
