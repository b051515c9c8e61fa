r"""Throughput over ``links``, acyclic partition, ``1f1b``: which devices can reach each ideal, for a trial period.

As in :mod:`solver.exact.throughput_ideals` a pipeline is a chain of ideals. Here the *state* of an ideal is how many
devices of each class have been used, all classes counted, because whom a device talks to depends on it: what comes in
comes from a device that has been used, what goes out goes to one that has not. So a transfer into the stage S = J \\ I
on a device of class k takes at least the time over the best link from a used class, and one out of it at least that
over the best link to a class with a device left. That is a relaxation: IMPOSSIBLE is proved for the instance, while a
chain that is REACHED keeps the period only if its transfers do use the best links. Tensors whose producer does not
stand before all consumers take their least time over any link.

Items are worth something at prices of load and memory; a state from which the devices left cannot hold what is left is
dropped. States beyond the limits of devices and cost are left out, and only devices that the limits still allow count
as left. Over ``host``, where a transfer takes a device the same time wherever it goes, the program is exact. Per step
(class, best link in, best link out) the states in which it can be taken are a set of bits, so that all states of an
ideal advance together.

Source: own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from solver.compiled import CompiledInstance, Floats, Ints
from solver.exact.ideal_graph import ideal_graph
from solver.exact.ideal_table import WINDOW
from solver.exact.link_ideal_kernel import (
    DONE,
    PAUSED,
    TABLE_FULL,
    WINDOW_EXCEEDED,
    LinkCosts,
    LinkTable,
    Order,
    Steps,
    explore,
    grown,
    table_of,
)
from solver.exact.throughput_ideals import MAX_SPAN, STEPS_PER_CALL, Assignment, Trial, Verdict
from solver.fleets import all_counts, keeps_limits, num_fleets, reachable_worth
from solver.stage_costs import stage_costs

MAX_STATES = 20_000
MAX_BYTES = 1_500_000_000
"""Of the table; the program gives up rather than take more."""


def supports(compiled: CompiledInstance) -> bool:
    """Whether the program covers the instance: one period for both passes, every item on the ladder."""
    return not compiled.is_gpipe and all(compiled.has_forward) and num_fleets(compiled) <= MAX_STATES


class LinkIdealProgram:
    """The program for one instance, for any number of trial periods.

    Args:
        compiled: reduced for the acyclic partition, with :func:`supports`.
        order: item at each position of a topological order.
        prices: of load and memory per class, ≥ 0.
    """

    def __init__(self, compiled: CompiledInstance, order: Ints, prices: tuple[Floats, Floats]) -> None:
        self.compiled = compiled
        self._order = order
        self._counts = np.array([c.count for c in compiled.classes], dtype=np.int64)
        self._strides = np.concatenate([[1], np.cumprod(self._counts[:-1] + 1)]).astype(np.int64)
        self._num_states = num_fleets(compiled)
        self._costs = stage_costs(compiled, order, range(len(compiled.classes)))
        self._graph = ideal_graph(compiled, self._costs, order)
        self._prices = (prices[0], np.where([c.memory_bytes is None for c in compiled.classes], 0.0, prices[1]))
        columns, self._class_compute = np.unique(self._costs.compute, axis=1, return_inverse=True)
        self._compute = np.ascontiguousarray(columns)
        # Used devices of each class, per state.
        self._used = all_counts(compiled)
        self._pair_times, self._size_of = _pair_times(compiled)
        self._columns: list[Floats] = []
        self._column_of: dict[bytes, int] = {}
        self._least = [self._column(k, None) for k in range(len(compiled.classes))]
        self.limit_cost(math.inf)

    def limit_cost(self, max_cost: float) -> None:
        """From now on, look only for placements that cost so much at most, whatever else the instance allows."""
        self._kept = keeps_limits(self.compiled, self._used, max_cost)
        self._steps = self._build_steps()
        self._times = np.ascontiguousarray(
            np.array(self._columns).T.reshape(len(self.compiled.tensors), len(self._columns))
        )

    @property
    def fits(self) -> bool:
        """Whether the order keeps ready items near enough for the window."""
        return self._graph.span <= MAX_SPAN

    def try_period(self, period_ms: float, expired: Callable[[], bool], max_steps: float, stop: Ints) -> Trial:
        """Whether some chain of ideals has no load above ``period_ms``; see the module for what that means.

        Gives up when ``expired``, which is asked between ideals, at once when ``stop[0]`` is set, or after
        ``max_steps``.
        """
        if not self.fits:
            return Trial(Verdict.GAVE_UP)
        steps, num_words = self._steps, (self._num_states + 63) // 64
        worth, holds = self._values(period_ms)
        costs, order = self._link_costs(worth), Order(*self._graph[:5])
        table = table_of(1 << 10, 1 << 14, num_words, self.compiled.num_items)
        left = max_steps
        while True:
            code = explore(
                period_ms, costs, order, steps._replace(holds=holds), table, int(min(STEPS_PER_CALL, left)), stop
            )
            if code == DONE:
                break
            left -= STEPS_PER_CALL if code == PAUSED else 0
            too_large = code == TABLE_FULL and 2 * sum(array.nbytes for array in table) > MAX_BYTES
            if code == WINDOW_EXCEEDED or too_large or left <= 0 or stop[0] or expired():
                return Trial(Verdict.GAVE_UP, num_ideals=int(table.cursor[0]))
            if code == TABLE_FULL:
                table = grown(table)
        chain = _chain(table, steps.stride, self.compiled.num_items)
        num_ideals = int(table.cursor[0])
        if chain is None:
            return Trial(Verdict.IMPOSSIBLE, num_ideals=num_ideals)
        return Trial(Verdict.REACHED, self._assignment(chain), num_ideals)

    def _build_steps(self) -> Steps:
        """Per class and pair of best links the states in which a device of the class can be added."""
        of_class, incoming, outgoing, sources = [], [], [], []
        left = self._counts - self._used
        bits = 1 << np.arange(len(self._counts))
        for k in range(len(self._counts)):
            later = left.copy()
            later[:, k] -= 1
            senders = ((self._used > 0) * bits).sum(axis=1)
            receivers = ((later > 0) * bits).sum(axis=1)
            is_possible = left[:, k] > 0
            is_possible[is_possible] = self._kept[np.flatnonzero(is_possible) + self._strides[k]]
            possible = np.flatnonzero(is_possible)
            sets: dict[tuple[int, int], npt.NDArray[np.bool_]] = {}
            for pair in np.unique(np.stack([senders, receivers], axis=1)[possible], axis=0):
                way = self._column(k, int(pair[0])), self._column(k, int(pair[1]))
                inside = is_possible & (senders == pair[0]) & (receivers == pair[1])
                sets[way] = sets.get(way, np.zeros(self._num_states, dtype=bool)) | inside
            for way, inside in sets.items():
                of_class.append(k)
                incoming.append(way[0])
                outgoing.append(way[1])
                sources.append(_words(inside))
        return Steps(
            np.array(of_class, dtype=np.int64),
            np.array(incoming, dtype=np.int64),
            np.array(outgoing, dtype=np.int64),
            self._strides[np.array(of_class, dtype=np.int64)],
            np.array(sources, dtype=np.uint64).reshape(len(of_class), (self._num_states + 63) // 64),
            np.zeros(self._num_states),
        )

    def _column(self, k: int, partners: int | None) -> int:
        """The column of least times between a device of class k and one of the classes in ``partners`` (bits)."""
        column = self._costs.times[:, k]
        if partners is not None and self.compiled.links is not None:
            members = [other for other in range(len(self._counts)) if partners >> other & 1]
            least = self._pair_times[:, k, members].min(axis=1, initial=np.inf)
            column = np.where(self._graph.forward, least[self._size_of], column)
        key = column.tobytes()
        if key not in self._column_of:
            self._column_of[key] = len(self._columns)
            self._columns.append(column)
        return self._column_of[key]

    def _values(self, period_ms: float) -> tuple[Floats, Floats]:
        """What each item is worth, by position, and what the idle devices of each state can hold within the period."""
        compute = self._costs.compute
        usable = compute <= period_ms * (1 + 1e-9)
        worth = np.where(usable, np.where(usable, compute, 0.0) * self._prices[0], np.inf)
        worth = (worth + self._prices[1] * self._costs.memory[:, None]).min(axis=1)
        # What no device can take within the period is left to the loop to find.
        worth = np.where(np.isfinite(worth), worth, 0.0)
        holds = self._prices[0] * period_ms + self._prices[1] * self._costs.limits
        holds = np.minimum(holds, [worth[column].sum() for column in usable.T])
        return worth, reachable_worth(self.compiled, self._kept, holds)

    def _link_costs(self, worth: Floats) -> LinkCosts:
        costs = self._costs
        return LinkCosts(
            self._compute,
            costs.memory,
            worth,
            self._times,
            costs.producer,
            costs.num_consumers,
            self._graph.forward,
            costs.first,
            costs.touching,
            costs.overlap,
            self._class_compute.reshape(-1).astype(np.int64),
            np.array(self._least, dtype=np.int64),
            costs.limits,
        )

    def _assignment(self, chain: list[tuple[npt.NDArray[np.bool_], int]]) -> Assignment:
        taken = [0] * len(self._counts)
        assignment: Assignment = [(0, 0)] * self.compiled.num_items
        before = np.zeros(self.compiled.num_items, dtype=bool)
        for mask, step in chain:
            index = int(self._steps.of_class[step])
            for position in np.flatnonzero(mask & ~before):
                assignment[int(self._order[position])] = (index, taken[index])
            taken[index] += 1
            before = mask
        return assignment


def _pair_times(compiled: CompiledInstance) -> tuple[Floats, Ints]:
    """Times between classes for each distinct set of sizes, and which of them each tensor has."""
    rows = {sizes: row for row, sizes in enumerate(dict.fromkeys(tensor.sizes for tensor in compiled.tensors))}
    num_classes = len(compiled.classes)
    if compiled.links is None:
        return np.zeros((0, num_classes, num_classes)), np.zeros(0, dtype=np.int64)
    times = [compiled.links.times(sizes) for sizes in rows]
    size_of = np.array([rows[tensor.sizes] for tensor in compiled.tensors], dtype=np.int64)
    return np.array(times).reshape(len(rows), num_classes, num_classes), size_of


def _words(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """Bits of 64-bit words, the first state in the lowest bit of the first word."""
    padded = np.zeros((len(inside) + 63) // 64 * 64, dtype=bool)
    padded[: len(inside)] = inside
    packed: npt.NDArray[np.uint64] = np.packbits(padded, bitorder="little").view("<u8").astype(np.uint64)
    return packed


def _chain(table: LinkTable, strides: Ints, num_items: int) -> list[tuple[npt.NDArray[np.bool_], int]] | None:
    """The ideals on the way to the one of all items, each with its last step; ``None`` if that was not reached."""
    index = int(table.queue[num_items])
    if index < 0:
        return None
    log = table.log[: int(table.length[0])]
    state = int(log[np.flatnonzero(log[:, 0] == index)[0], 1])
    chain = []
    while index:
        _, _, before, step = log[np.flatnonzero((log[:, 0] == index) & (log[:, 1] == state))[0]]
        chain.append((_members(table, index, num_items), int(step)))
        index, state = int(before), state - int(strides[step])
    chain.reverse()
    return chain


def _members(table: LinkTable, index: int, num_items: int) -> npt.NDArray[np.bool_]:
    low = int(table.low[index])
    members = np.zeros(num_items + 2 * WINDOW, dtype=bool)
    members[:low] = True
    bits = int(table.mask[index, 0]) | int(table.mask[index, 1]) << 64
    members[low + 1 : low + 1 + WINDOW] = [bits >> offset & 1 for offset in range(WINDOW)]
    return members[:num_items]
