"""Topological orders of the items, the raw material of methods that cut an order into stages."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush

import numpy as np

from solver.compiled import CompiledInstance, Ints

NUM_RANDOM_ORDERS = 12


def topological_orders(compiled: CompiledInstance, seed: int) -> Iterator[Ints]:
    """Orders of the items along the forward edges: by document, depth first, by level, and some at random."""
    size = compiled.num_items
    successors: list[list[int]] = [[] for _ in range(size)]
    predecessors: list[list[int]] = [[] for _ in range(size)]
    for source, target in compiled.item_edges:
        successors[source].append(target)
        predecessors[target].append(source)
    forward = [item for item in range(size) if compiled.has_forward[item]]
    orders = _Orders(forward, successors, predecessors)
    level = orders.levels()
    ancestors_last = orders.depth_first(list(range(size)))
    followers = _followers(compiled)
    for order in (
        ancestors_last,
        orders.by_priority(list(range(size))),
        orders.by_priority([level[item] * size + item for item in range(size)]),
        orders.depth_first([-item for item in range(size)]),
    ):
        yield _insert(order, followers)
    generator = random.Random(seed)  # noqa: S311  no secrets here
    for _ in range(NUM_RANDOM_ORDERS):
        yield _insert(orders.depth_first([generator.random() for _ in range(size)]), followers)


class _Orders:
    def __init__(self, items: list[int], successors: list[list[int]], predecessors: list[list[int]]) -> None:
        self._items = items
        self._successors = successors
        self._predecessors = predecessors

    def by_priority(self, priority: Sequence[float]) -> list[int]:
        """Of the items whose predecessors are done, always the one of least priority."""
        waiting = [len(sources) for sources in self._predecessors]
        ready = [(priority[item], item) for item in self._items if waiting[item] == 0]
        heapify(ready)
        order = []
        while ready:
            _, item = heappop(ready)
            order.append(item)
            for target in self._successors[item]:
                waiting[target] -= 1
                if waiting[target] == 0:
                    heappush(ready, (priority[target], target))
        return order

    def depth_first(self, priority: Sequence[float]) -> list[int]:
        """Each item right after the last of its predecessors where possible, so that branches stay together."""
        waiting = [len(sources) for sources in self._predecessors]
        stack = sorted((item for item in self._items if waiting[item] == 0), key=lambda item: priority[item])
        stack.reverse()
        # Sources feed one consumer more often than not; they are fetched when that consumer needs them.
        order: list[int] = []
        done: set[int] = set()
        while stack:
            item = stack.pop()
            if item in done:
                continue
            done.add(item)
            order.append(item)
            freed = []
            for target in self._successors[item]:
                waiting[target] -= 1
                if waiting[target] == 0:
                    freed.append(target)
            stack.extend(sorted(freed, key=lambda target: -priority[target]))
        return order

    def levels(self) -> list[int]:
        """Length of the longest path to each item."""
        level = [0] * len(self._successors)
        for item in self.by_priority([0.0] * len(level)):
            for target in self._successors[item]:
                level[target] = max(level[target], level[item] + 1)
        return level


def _followers(compiled: CompiledInstance) -> dict[int, list[int]]:
    """Items the partition rule does not concern, under the item they exchange most with (−1: none)."""
    weight: dict[int, dict[int, float]] = {i: {} for i in range(compiled.num_items) if not compiled.has_forward[i]}
    for tensor in compiled.tensors:
        for item in (tensor.producer, *tensor.consumers):
            if item in weight:
                for other in (tensor.producer, *tensor.consumers):
                    if compiled.has_forward[other]:
                        weight[item][other] = weight[item].get(other, 0.0) + max(tensor.time_ms)
    followers: dict[int, list[int]] = {}
    for item, partners in weight.items():
        leader = max(partners, key=lambda other: (partners[other], -other)) if partners else -1
        followers.setdefault(leader, []).append(item)
    return followers


def _insert(order: Sequence[int], followers: dict[int, list[int]]) -> Ints:
    complete: list[int] = []
    for item in order:
        complete.append(item)
        complete.extend(followers.get(item, ()))
    complete.extend(followers.get(-1, ()))
    return np.array(complete, dtype=np.int64)
