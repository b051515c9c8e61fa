"""A topological order for wide graphs: halve the items again and again where little is transferred.

Of a set of items, which contains whatever lies between its members, several topological orders are tried; each is cut
where, near the middle, the tensors that cross take the least time. The first part never needs anything of the second,
so the parts one after another are a topological order. The middle is chosen for halves of the devices first, so that
stages cut from the order are nearly such parts. Along rows, columns or branches a stage is only as compact as these
are; halves of halves become compact by themselves, as the blocks of a grid do.

Source: own; recursive bisection is textbook matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solver.compiled import CompiledInstance, Floats, Ints
from solver.kernels import kernel
from solver.stage_costs import StageCosts, stage_costs

ROOM = 0.3
"""How far from the middle a cut may lie, in parts of the compute of one device."""
NARROW = 0.25
"""And in parts of the compute of the set."""
FEWEST, PARTS_PER_DEVICE = 12, 8
"""Where halving ends: at so many items, or at this part of what one of the devices would hold."""
NUM_ENDS, NUM_RANDOM = 4, 2
"""Orders of each set from either end: along distances, and depth first with random priorities."""


class ItemGraph(NamedTuple):
    """Item edges as rows: what stands behind and before each item."""

    first_after: Ints
    after: Ints
    first_before: Ints
    before: Ints


def item_graph(compiled: CompiledInstance) -> ItemGraph:
    """The forward edges between items."""
    edges = np.array(compiled.item_edges, dtype=np.int64).reshape(-1, 2)
    return ItemGraph(*rows(edges, compiled.num_items), *rows(edges[:, ::-1], compiled.num_items))


def rows(pairs: Ints, size: int) -> tuple[Ints, Ints]:
    """The second of each pair, in the order of the first, and where each first's begin."""
    first = np.concatenate([[0], np.cumsum(np.bincount(pairs[:, 0], minlength=size))]).astype(np.int64)
    return first, np.ascontiguousarray(pairs[np.argsort(pairs[:, 0], kind="stable"), 1])


def bisected_order(compiled: CompiledInstance, seed: int, fewest: int = FEWEST) -> Ints:
    """A topological order that is good to cut anywhere.

    Args:
        compiled: reduced for the acyclic partition.
        seed: of the random orders.
        fewest: sets of so many items, or of so small a part of one device's share, stay as the last order has them.
    """
    main = max(range(len(compiled.classes)), key=lambda k: compiled.classes[k].count)
    costs = stage_costs(compiled, np.arange(compiled.num_items), [main])
    compute = np.where(np.isfinite(costs.compute[:, 0]), costs.compute[:, 0], 0.0)
    room = ROOM * float(compute.sum()) / compiled.num_devices
    graph, draws = item_graph(compiled), np.random.default_rng(seed)
    inside = np.zeros(compiled.num_items, dtype=np.bool_)
    counts = np.zeros((2, len(compiled.tensors)), dtype=np.int64)
    fewest = max(fewest, compiled.num_items // (PARTS_PER_DEVICE * compiled.num_devices))
    parts: list[Ints] = []
    todo = [(np.arange(compiled.num_items), compiled.num_devices)]
    while todo:
        items, num_devices = todo.pop()
        if len(items) <= fewest:
            parts.append(items)
            continue
        total = float(compute[items].sum())
        middle = total * (num_devices // 2 / num_devices if num_devices > 1 else 0.5)
        inside[items] = True
        near = min(room, NARROW * total)
        cuts = [
            (*_cheapest_cut(order, compute, costs, counts, middle, near), order)
            for order in _orders(graph, items, inside, draws)
        ]
        inside[items] = False
        _, end, order = min(cuts, key=lambda cut: cut[0])
        todo.append((order[end:], max(1, num_devices - num_devices // 2)))
        todo.append((order[:end], max(1, num_devices // 2)))
    return np.concatenate(parts)


def _orders(graph: ItemGraph, items: Ints, inside: npt.NDArray[np.bool_], draws: np.random.Generator) -> Iterator[Ints]:
    """Topological orders of ``items``: along distances from far ends, and depth first, from either end."""
    reverse = ItemGraph(graph.first_before, graph.before, graph.first_after, graph.after)
    for way, turn in ((graph, 1), (reverse, -1)):
        start = items[0]
        for _ in range(NUM_ENDS):
            distance = _distances(way, items, inside, start)
            start = items[np.argmax(distance[items])]
            yield _by_priority(way, items, inside, distance)[::turn]
        yield _depth_first(way, items, inside, np.zeros(len(inside)))[::turn]
        for _ in range(NUM_RANDOM):
            yield _depth_first(way, items, inside, draws.random(len(inside)))[::turn]


@kernel
def _distances(graph: ItemGraph, items: Ints, inside: npt.NDArray[np.bool_], start: int) -> Floats:
    """Steps from ``start``, whichever way edges lead; where none leads, the number of items."""
    distance = np.full(len(inside), float(len(items)))
    queue = np.empty(len(items), dtype=np.int64)
    distance[start] = 0.0
    queue[0] = start
    done, size = 0, 1
    while done < size:
        item = queue[done]
        done += 1
        for pointer in range(graph.first_after[item], graph.first_after[item + 1]):
            other = graph.after[pointer]
            if inside[other] and distance[other] == len(items):
                distance[other] = distance[item] + 1
                queue[size] = other
                size += 1
        for pointer in range(graph.first_before[item], graph.first_before[item + 1]):
            other = graph.before[pointer]
            if inside[other] and distance[other] == len(items):
                distance[other] = distance[item] + 1
                queue[size] = other
                size += 1
    return distance


@kernel
def _waiting(graph: ItemGraph, items: Ints, inside: npt.NDArray[np.bool_]) -> Ints:
    waiting = np.zeros(len(inside), dtype=np.int64)
    for item in items:
        for pointer in range(graph.first_before[item], graph.first_before[item + 1]):
            waiting[item] += inside[graph.before[pointer]]
    return waiting


@kernel
def _by_priority(graph: ItemGraph, items: Ints, inside: npt.NDArray[np.bool_], priority: Floats) -> Ints:
    """Of the items whose predecessors are done always the one of least priority."""
    waiting = _waiting(graph, items, inside)
    ready = [(0.0, np.int64(0)) for _ in range(0)]
    for item in items:
        if waiting[item] == 0:
            heappush(ready, (priority[item], item))
    order = np.empty(len(items), dtype=np.int64)
    size = 0
    while len(ready) > 0:
        _, item = heappop(ready)
        order[size] = item
        size += 1
        for pointer in range(graph.first_after[item], graph.first_after[item + 1]):
            other = graph.after[pointer]
            if inside[other]:
                waiting[other] -= 1
                if waiting[other] == 0:
                    heappush(ready, (priority[other], other))
    return order


@kernel
def _depth_first(graph: ItemGraph, items: Ints, inside: npt.NDArray[np.bool_], priority: Floats) -> Ints:
    """Each item right after the last of its predecessors where possible; of several the one of least priority first."""
    waiting = _waiting(graph, items, inside)
    order = np.empty(len(items), dtype=np.int64)
    stack = np.empty(len(items), dtype=np.int64)
    height = size = 0
    for item in items[np.argsort(-priority[items])]:
        if waiting[item] == 0:
            stack[height] = item
            height += 1
    while height > 0:
        height -= 1
        item = stack[height]
        order[size] = item
        size += 1
        start = height
        for pointer in range(graph.first_after[item], graph.first_after[item + 1]):
            other = graph.after[pointer]
            if inside[other]:
                waiting[other] -= 1
                if waiting[other] == 0:
                    stack[height] = other
                    height += 1
        freed = stack[start:height].copy()
        stack[start:height] = freed[np.argsort(-priority[freed])]
    return order


@kernel
def _cheapest_cut(
    order: Ints, compute: Floats, costs: StageCosts, counts: Ints, middle: float, room: float
) -> tuple[float, int]:
    """The least time of the tensors that cross, with compute about ``middle`` before the cut, and where that is.

    Only what is exchanged inside the set counts. Without a cut within ``room`` of the middle it is the nearest one, and
    the time infinite. ``counts`` are blank, and left so.
    """
    times, first, touching = costs.times, costs.first, costs.touching
    total, before = counts
    for item in order:
        for index in range(first[item], first[item + 1]):
            total[touching[index]] += 1
    crossing = spent = 0.0
    best, least, off = len(order), np.inf, np.inf
    for position in range(len(order) - 1):
        item = order[position]
        spent += compute[item]
        for index in range(first[item], first[item + 1]):
            tensor = touching[index]
            before[tensor] += 1
            if before[tensor] == 1 and total[tensor] > 1:
                crossing += times[tensor, 0]
            if before[tensor] == total[tensor] and total[tensor] > 1:
                crossing -= times[tensor, 0]
        away = abs(spent - middle)
        if (away <= room and (crossing < least or off > room)) or (off > room and away < off):
            best, least, off = position + 1, crossing, away
    for item in order:
        for index in range(first[item], first[item + 1]):
            total[touching[index]] = 0
            before[touching[index]] = 0
    return least if off <= room else np.inf, best
