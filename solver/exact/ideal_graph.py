"""Which items may follow which in the ideal programs, with alike siblings in one order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from solver.compiled import CompiledInstance, Floats, Ints
from solver.exact.ideal_table import WINDOW
from solver.stage_costs import StageCosts

COLLECTOR_REACH = 8
FREEDOM = WINDOW - 20
"""An item that may stand anywhere between two others more places apart is kept out of the window."""


class IdealGraph(NamedTuple):
    """Which items may follow which, and what joins them; by position.

    Attributes:
        successor_first: [I + 1] where each item's entries in ``successors`` begin.
        successors: items that come after an item.
        predecessor_first: [I + 1] likewise.
        predecessors: items that come before an item.
        num_tight: items that have a place in the order; those behind them, mostly loose ones, may join any ideal.
        span: how far behind the last of its predecessors a tight item may stand.
        forward: [T] whether a tensor's producer stands before all consumers.
        first_consumer: [T + 1] where each tensor's entries in ``consumers`` begin.
        consumers: positions of the items that need a tensor.
        collectors: [I + 2] the end of the first prefix, from a position on, that is good to go on from.
        late: [E, 2] edges from these to items that stand before them; the others are in the arrays above.
    """

    successor_first: Ints
    successors: Ints
    predecessor_first: Ints
    predecessors: Ints
    num_tight: int
    span: int
    forward: npt.NDArray[np.bool_]
    first_consumer: Ints
    consumers: Ints
    collectors: Ints
    late: Ints


def loose_last(compiled: CompiledInstance, order: Ints) -> Ints:
    """The order with the items that have no forward operators at its end."""
    is_tight = np.array(compiled.has_forward, dtype=np.bool_)[order]
    return np.concatenate([order[is_tight], order[~is_tight]])


def free_last(compiled: CompiledInstance, order: Ints, room: int) -> tuple[Ints, int]:
    """The order with loose items at its end, and before them tight ones that hardly anything holds in a place.

    Args:
        compiled: the instance.
        order: a topological order, where loose items may stand anywhere.
        room: how many items may stand at the end.

    Returns:
        The order, and how many items stand before its end.
    """
    order = loose_last(compiled, order)
    size, num_tight = len(order), sum(compiled.has_forward)
    position = np.empty(size, dtype=np.int64)
    position[order] = np.arange(size)
    edges = position[np.array(compiled.item_edges, dtype=np.int64).reshape(-1, 2)]
    earliest, latest = np.full(size, -1, dtype=np.int64), np.full(size, size, dtype=np.int64)
    np.maximum.at(earliest, edges[:, 1], edges[:, 0])
    np.minimum.at(latest, edges[:, 0], edges[:, 1])
    freedom = (latest - earliest)[:num_tight]
    freest = np.argsort(-freedom, kind="stable")[: max(0, room - (size - num_tight))]
    is_last = np.arange(size) >= num_tight
    is_last[freest[freedom[freest] > FREEDOM]] = True
    return np.concatenate([order[~is_last], order[is_last]]), size - int(np.count_nonzero(is_last))


def ideal_graph(compiled: CompiledInstance, costs: StageCosts, order: Ints, num_tight: int) -> IdealGraph:
    """Which items may follow which, with alike siblings in one order; the first ``num_tight`` have a place in it."""
    size, count = compiled.num_items, len(compiled.tensors)
    position = np.empty(size, dtype=np.int64)
    position[order] = np.arange(size)
    given = np.array(compiled.item_edges, dtype=np.int64).reshape(-1, 2)
    siblings = np.array(sorted(_order_of_siblings(compiled, position)), dtype=np.int64).reshape(-1, 2)
    edges = np.unique(np.concatenate([position[given], siblings]), axis=0)
    is_late = edges[:, 0] > edges[:, 1]
    late, edges = edges[is_late], edges[~is_late]
    last_predecessor = np.full(size, -1, dtype=np.int64)
    np.maximum.at(last_predecessor, edges[:, 1], edges[:, 0])
    owner = np.repeat(np.arange(count), costs.num_consumers)
    consumers = position[np.array([c for tensor in compiled.tensors for c in tensor.consumers], dtype=np.int64)]
    first_consumer, consumers = _compress(count, owner, consumers)
    earliest, latest = np.full(count, size, dtype=np.int64), np.full(count, -1, dtype=np.int64)
    np.minimum.at(earliest, owner, consumers)
    np.maximum.at(latest, owner, consumers)
    return IdealGraph(
        *_compress(size, edges[:, 0], edges[:, 1]),
        *_compress(size, edges[:, 1], edges[:, 0]),
        num_tight=num_tight,
        span=int((np.arange(size) - last_predecessor)[:num_tight].max(initial=1)),
        # A producer that comes before all consumers can never join a stage after them: what entered stays entered.
        forward=costs.producer < earliest,
        first_consumer=first_consumer,
        consumers=consumers,
        collectors=next_collector(
            size,
            np.minimum(earliest, costs.producer),
            np.maximum(latest, costs.producer),
            np.array([max(tensor.time_ms) for tensor in compiled.tensors]),
        ),
        late=late,
    )


def _compress(size: int, ends: Ints, others: Ints) -> tuple[Ints, Ints]:
    """Pairs as (first index per end, others)."""
    first = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=size))]).astype(np.int64)
    return first, np.ascontiguousarray(others[np.argsort(ends, kind="stable")])


def _order_of_siblings(compiled: CompiledInstance, position: Ints) -> set[tuple[int, int]]:
    """Edges (by position) that make alike siblings enter in one order.

    Siblings are alike when exchanging them changes nothing: same times and memory, the same tensors consumed, tensors
    of the same times and consumers made, the same predecessors and successors.
    """
    before: list[list[int]] = [[] for _ in range(compiled.num_items)]
    after: list[list[int]] = [[] for _ in range(compiled.num_items)]
    for a, b in compiled.item_edges:
        after[a].append(b)
        before[b].append(a)
    alike: dict[object, list[int]] = defaultdict(list)
    for item in range(compiled.num_items):
        alike[tuple(before[item]), tuple(after[item])].append(item)
    chains = (
        sorted(int(position[item]) for item in twins)
        for siblings in alike.values()
        if len(siblings) > 1
        for twins in _split_by_costs(compiled, siblings)
    )
    return {pair for chain in chains for pair in pairwise(chain)}


def _split_by_costs(compiled: CompiledInstance, siblings: list[int]) -> Iterable[list[int]]:
    """Siblings with the same times, memory and tensors."""
    alike: dict[object, list[int]] = defaultdict(list)
    for item in siblings:
        tensors = [(index, compiled.tensors[index]) for index in compiled.tensors_of[item]]
        signature = (
            (compiled.compute_ms[item] if compiled.is_gpipe else compiled.compute_ms[item].sum(axis=1)).tobytes(),
            compiled.memory_bytes[item],
            tuple(index for index, tensor in tensors if tensor.producer != item),
            tuple(
                sorted(
                    (t.consumers, t.time_ms, repr(t.sizes), compiled.is_gpipe and t.pass_index)
                    for _, t in tensors
                    if t.producer == item
                )
            ),
        )
        alike[signature].append(item)
    return alike.values()


def next_collector(size: int, begins: Ints, ends: Ints, times: Floats) -> Ints:
    """Per position, the first one from there on where cutting the order is cheaper than anywhere near.

    Prefixes that end there are good places to go on from, so other ideals are compared with them. ``begins`` and
    ``ends`` are, per tensor, the first and last position that it joins; ``times`` what it costs to cut it.
    """
    change = np.zeros(size + 1)
    np.add.at(change, begins, times)
    np.subtract.at(change, ends, times)
    live = np.cumsum(change)[:size]
    near = sliding_window_view(np.pad(live, COLLECTOR_REACH, mode="edge"), 2 * COLLECTOR_REACH + 1)
    is_low = live <= near.min(axis=1) + 1e-12 * near.max(axis=1)
    following = np.full(size + 2, size, dtype=np.int64)
    following[:size] = np.where(is_low, np.arange(size), size)
    return np.minimum.accumulate(following[::-1])[::-1].copy()
