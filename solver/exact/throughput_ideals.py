r"""Throughput, acyclic partition, ``1f1b``: the fewest devices that reach each ideal, for a trial period.

An *ideal* is a set of items that contains all predecessors of its members. The first k stages of a pipeline hold an
ideal, so a pipeline is a chain of ideals, and stage S = J \\ I costs what the set S costs. For a trial period T the
program finds, for each ideal it can reach and each number of devices used of the lesser classes, the fewest devices of
the main class (the most numerous) that reach it with no load above T. If the ideal of all items needs more devices
than there are, T is proved to be below the optimum; otherwise the chain is a placement.

What keeps it small:

* Supersets J of I are enumerated by adding items in ascending position of one topological order, which visits each J
  once. A branch ends when compute plus the transfers that have irrevocably entered exceed T, or memory its limit.
* An ideal is dropped when the compute still to come exceeds what the devices left can take within T. Close to the
  optimum there is little slack, and few ideals survive.
* An ideal is passed over when a larger one takes no more devices and it can be shown that going on from there is never
  worse (:func:`_is_harmless`).
* Alike siblings (same times, same inputs and outputs) are taken in order of their index: whoever has a pipeline can
  exchange them until their stages ascend.
* An ideal is stored exactly: the first position that is missing, and a window of 128 positions behind it. Graphs for
  which that window is too narrow are handed over to other methods, and nothing is claimed.

Source: the recursion over ideals is that of Tarnawski et al. (2020, §5.1); trial periods, counts and pruning are own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from solver.compiled import CompiledInstance, Floats, Ints
from solver.instance import Overlap

Assignment = list[tuple[int, int]]

WINDOW = 128
MAX_SPAN = 1024
MAX_COUNT_STATES = 64
NO_LIMIT = 2**62
"""Bytes; what is held is counted up to here."""
STEPS_PER_CALL = 20_000_000
NUM_COLLECTORS = 3
COLLECTOR_REACH = 8

FINE = 1e-4
FINEST = 2e-7
"""Relative gaps: from ``FINE`` on, trials ask for the last improvement; ``FINEST`` is as good as closed."""

DONE, PAUSED, TABLE_FULL, WINDOW_EXCEEDED = 0, 1, 2, 3


class Verdict(StrEnum):
    """What a trial showed."""

    REACHED = "reached"
    IMPOSSIBLE = "impossible"
    GAVE_UP = "gave up"


@dataclass(frozen=True, slots=True)
class Trial:
    """The outcome for one period; ``assignment`` when it was reached."""

    verdict: Verdict
    assignment: Assignment | None = None
    num_ideals: int = 0


def supports(compiled: CompiledInstance) -> bool:
    """Whether the program covers the instance: one period for both passes, and every item on the ladder of ideals."""
    others = [c.count for c in compiled.classes]
    others.remove(max(others))
    return (
        not compiled.is_gpipe
        and compiled.num_devices <= np.iinfo(np.int16).max
        and all(compiled.has_forward)
        and math.prod(n + 1 for n in others) <= MAX_COUNT_STATES
    )


class IdealProgram:
    """The program for one instance, for any number of trial periods.

    Args:
        compiled: reduced for the acyclic partition, with :func:`supports`.
        order: item at each position of a topological order.
        max_ideals: how many ideals may be stored before the program gives up (fewer with lesser classes to count).
    """

    def __init__(self, compiled: CompiledInstance, order: Ints, max_ideals: int) -> None:
        self.compiled = compiled
        self._max_ideals = max_ideals
        size = compiled.num_items
        self._order = order
        position = np.empty(size, dtype=np.int64)
        position[order] = np.arange(size)
        edges = {(int(position[a]), int(position[b])) for a, b in compiled.item_edges}
        edges |= _order_of_siblings(compiled, position)
        self._successors = _compress(size, sorted(edges))
        self._predecessors = _compress(size, sorted((b, a) for a, b in edges))
        last_predecessor = np.full(size, -1, dtype=np.int64)
        for a, b in edges:
            last_predecessor[b] = max(last_predecessor[b], a)
        self.span = int((np.arange(size) - last_predecessor).max(initial=1))
        main = max(range(len(compiled.classes)), key=lambda k: compiled.classes[k].count)
        self._classes = [main, *(k for k in range(len(compiled.classes)) if k != main)]
        self._counts = np.array([compiled.classes[k].count for k in self._classes], dtype=np.int64)
        compute = np.where(compiled.allowed, compiled.compute_ms.sum(axis=2), np.inf)
        self._compute: Floats = np.ascontiguousarray(compute[order][:, self._classes])
        self._memory = np.array([compiled.memory_bytes[item] for item in order], dtype=np.int64)
        limits = [compiled.classes[k].memory_bytes for k in self._classes]
        self._limits = np.array([NO_LIMIT if limit is None else limit for limit in limits], dtype=np.int64)
        self._tensors = _Tensors(compiled, position, self._classes)
        self._collectors = _next_collector(compiled, position)

    @property
    def fits(self) -> bool:
        """Whether the order keeps ready items near enough for the window."""
        return self.span <= MAX_SPAN

    def try_period(self, period_ms: float, expired: Callable[[], bool], max_steps: float = math.inf) -> Trial:
        """Whether some pipeline has no load above ``period_ms``; gives up when ``expired`` or after ``max_steps``."""
        if not self.fits:
            return Trial(Verdict.GAVE_UP)
        steps_left = max_steps
        table = _Table(1 << 14, int(np.prod(self._counts[1:] + 1)), self.compiled.num_items)
        max_ideals = self._max_ideals // int(np.prod(self._counts[1:] + 1))
        main, share = self._remaining(period_ms)
        while True:
            arguments: tuple[Any, ...] = (
                period_ms,
                self._compute,
                self._memory,
                self._limits,
                self._counts,
                main,
                share,
                *self._successors,
                *self._predecessors,
                self.span,
                *self._tensors.arrays,
                self._collectors,
                {Overlap.NONE: 0, Overlap.FULL: 1, Overlap.DUPLEX: 2}[self.compiled.overlap],
                *table.arrays,
                int(min(STEPS_PER_CALL, steps_left)),
            )
            code = _explore(*arguments)
            if code == DONE:
                break
            if code == PAUSED:
                steps_left -= STEPS_PER_CALL
            if code == WINDOW_EXCEEDED or steps_left <= 0 or expired():
                return Trial(Verdict.GAVE_UP, num_ideals=table.num_ideals)
            if code == TABLE_FULL:
                if table.num_ideals * 2 > max_ideals:
                    return Trial(Verdict.GAVE_UP, num_ideals=table.num_ideals)
                table.grow()
        chain = table.chain_to_all()
        if chain is None:
            return Trial(Verdict.IMPOSSIBLE, num_ideals=table.num_ideals)
        return Trial(Verdict.REACHED, self._assignment(chain), table.num_ideals)

    def _remaining(self, period_ms: float) -> tuple[Floats, Floats]:
        """Per position the main class's compute; per class how much of that one device can take within the period."""
        # What takes longer than the period there cannot be there, and would only drown the others in rounding errors.
        main = np.where(self._compute[:, 0] <= period_ms * (1 + 1e-9), self._compute[:, 0], 0.0)
        share = np.full(len(self._counts), period_ms)
        for k in range(1, len(self._counts)):
            usable = np.isfinite(self._compute[:, k]) & (main > 0) & (self._compute[:, k] <= period_ms)
            with np.errstate(divide="ignore"):
                ratio = float((main[usable] / self._compute[usable, k]).max(initial=0.0))
            # What it can take within the period, and never more than all there is for it.
            share[k] = min(ratio * period_ms, float(main[usable].sum())) if usable.any() else 0.0
        return main, share

    def _assignment(self, chain: list[tuple[npt.NDArray[np.bool_], int]]) -> Assignment:
        """From ideals as masks of positions, in ascending order, with the class of the stage that ends at each."""
        taken = [0] * len(self._classes)
        assignment: Assignment = [(0, 0)] * self.compiled.num_items
        before = np.zeros(self.compiled.num_items, dtype=bool)
        for mask, local in chain:
            index = self._classes[local]
            for position in np.flatnonzero(mask & ~before):
                assignment[int(self._order[position])] = (index, taken[local])
            taken[local] += 1
            before = mask
        return assignment


def close_gap(
    program: IdealProgram,
    *,
    interval: Callable[[], tuple[float, float]],
    found: Callable[[Assignment], object],
    proved: Callable[[float], None],
    expired: Callable[[], bool],
    max_steps: float = math.inf,
) -> None:
    """Try periods until the bound meets the best placement, time is over, or the program gives up.

    Args:
        program: of the instance.
        interval: the best bound and the best value known now, in ms; others may move them meanwhile.
        found: told of every placement reached.
        proved: told of every period, in ms, that was proved to be below the optimum.
        expired: asked often.
        max_steps: for each trial.
    """
    just_below = True  # The first trial asks whether the best placement known, from a good heuristic, is optimal.
    while not expired():
        bound, value = interval()
        if value - bound <= FINEST * value:
            return
        middle = (bound + value) / 2
        period = value * (1 - FINEST / 2) if just_below or value - bound <= FINE * value else middle
        trial = program.try_period(max(period, bound), expired, max_steps)
        if trial.verdict is Verdict.GAVE_UP:
            return
        if trial.assignment is None:
            proved(period)
        else:
            found(trial.assignment)
            if interval()[1] >= value:
                return  # refused, or no better than it was by the verifier's sums: the next trial would be the same
        just_below = False


def span_of(compiled: CompiledInstance, order: Ints) -> int:
    """How far an item stands behind the last of its predecessors, at most; small spans suit the program."""
    if not compiled.item_edges:
        return compiled.num_items
    position = np.empty(compiled.num_items, dtype=np.int64)
    position[order] = np.arange(compiled.num_items)
    edges = position[np.array(compiled.item_edges, dtype=np.int64)]
    last = np.full(compiled.num_items, -1, dtype=np.int64)
    np.maximum.at(last, edges[:, 1], edges[:, 0])
    return int((np.arange(compiled.num_items) - last).max())


class _Tensors:
    """Transfers in flat arrays, by position."""

    def __init__(self, compiled: CompiledInstance, position: Ints, classes: list[int]) -> None:
        count = len(compiled.tensors)
        producer = np.array([position[t.producer] for t in compiled.tensors], dtype=np.int64)
        num_consumers = np.array([len(t.consumers) for t in compiled.tensors], dtype=np.int64)
        times = np.array(
            [[0.0 if compiled.classes[k].is_host else t.time_ms[k] for k in classes] for t in compiled.tensors]
        ).reshape(count, len(classes))
        # A producer that comes before all consumers can never join a stage after them: what entered stays entered.
        forward = np.array(
            [all(position[t.producer] < position[c] for c in t.consumers) for t in compiled.tensors], dtype=np.bool_
        )
        pairs = [(int(position[i]), t) for t, x in enumerate(compiled.tensors) for i in (x.producer, *x.consumers)]
        first, touching = _compress(compiled.num_items, sorted(pairs))
        ends = [(t, int(position[c])) for t, x in enumerate(compiled.tensors) for c in x.consumers]
        first_consumer, consumers = _compress(count, ends)
        self.arrays: tuple[Any, ...] = (
            producer,
            num_consumers,
            times,
            forward,
            first,
            touching,
            first_consumer,
            consumers,
        )


def _compress(size: int, pairs: list[tuple[int, int]]) -> tuple[Ints, Ints]:
    """Sorted pairs as (first index per vertex, neighbours)."""
    first = np.zeros(size + 1, dtype=np.int64)
    for a, _ in pairs:
        first[a + 1] += 1
    return np.cumsum(first), np.array([b for _, b in pairs], dtype=np.int64)


def _next_collector(compiled: CompiledInstance, position: Ints) -> Ints:
    """Per position, the first one from there on where cutting the order is cheaper than anywhere near.

    Prefixes that end there are good places to go on from, so other ideals are compared with them.
    """
    size = compiled.num_items
    change = np.zeros(size + 1)
    for tensor in compiled.tensors:
        ends = [int(position[item]) for item in (tensor.producer, *tensor.consumers)]
        change[min(ends)] += max(tensor.time_ms)
        change[max(ends)] -= max(tensor.time_ms)
    live = np.cumsum(change)[:size]
    following = np.full(size + 2, size, dtype=np.int64)
    for place in range(size - 1, -1, -1):
        near = live[max(0, place - COLLECTOR_REACH) : place + COLLECTOR_REACH + 1]
        following[place] = place if live[place] <= near.min() + 1e-12 * near.max() else following[place + 1]
    return following


def _order_of_siblings(compiled: CompiledInstance, position: Ints) -> set[tuple[int, int]]:
    """Edges (by position) that make alike siblings enter in one order.

    Siblings are alike when exchanging them changes nothing: same times and memory, the same tensors consumed, tensors
    of the same times and consumers made, the same predecessors and successors.
    """
    consumed: dict[int, list[int]] = defaultdict(list)
    made: dict[int, list[object]] = defaultdict(list)
    for index, tensor in enumerate(compiled.tensors):
        made[tensor.producer].append((tensor.consumers, tensor.time_ms))
        for item in tensor.consumers:
            consumed[item].append(index)
    before: dict[int, list[int]] = defaultdict(list)
    after: dict[int, list[int]] = defaultdict(list)
    for a, b in compiled.item_edges:
        after[a].append(b)
        before[b].append(a)
    alike: dict[object, list[int]] = defaultdict(list)
    for item in range(compiled.num_items):
        signature = (
            compiled.compute_ms[item].sum(axis=1).tobytes(),
            compiled.memory_bytes[item],
            tuple(consumed[item]),
            tuple(sorted(map(repr, made[item]))),
            tuple(before[item]),
            tuple(after[item]),
        )
        alike[signature].append(int(position[item]))
    chains = (sorted(positions) for positions in alike.values())
    return {pair for chain in chains for pair in pairwise(chain)}


class _Table:
    """All ideals found so far: a hash table of exact keys, a queue by size, and the best way to each."""

    def __init__(self, capacity: int, num_states: int, num_items: int) -> None:
        self._num_states = num_states
        self._num_items = num_items
        self.slots = np.full(capacity * 2, -1, dtype=np.int32)
        self.low = np.zeros(capacity, dtype=np.int32)
        self.mask = np.zeros((capacity, 2), dtype=np.uint64)
        self.done = np.zeros(capacity)
        self.following = np.full(capacity, -1, dtype=np.int32)
        self.fewest = np.full((capacity, num_states), -1, dtype=np.int16)
        self.parent = np.full((capacity, num_states), -1, dtype=np.int32)
        self.parent_state = np.zeros((capacity, num_states), dtype=np.int8)
        self.by_class = np.zeros((capacity, num_states), dtype=np.int8)
        self.queue = np.full(num_items + 1, -1, dtype=np.int32)
        # [ideals stored, size being processed, ideal to go on with]
        self.cursor = np.array([1, 0, -1], dtype=np.int64)
        self.fewest[0, 0] = 0
        self.queue[0] = 0
        _insert(self.slots, self.low, self.mask, 0)

    @property
    def arrays(self) -> tuple[Any, ...]:
        return (
            self.slots,
            self.low,
            self.mask,
            self.done,
            self.following,
            self.fewest,
            self.parent,
            self.parent_state,
            self.by_class,
            self.queue,
            self.cursor,
        )

    @property
    def num_ideals(self) -> int:
        return int(self.cursor[0])

    def grow(self) -> None:
        """Twice the room."""
        for name in ("low", "mask", "done", "following", "fewest", "parent", "parent_state", "by_class"):
            old = getattr(self, name)
            fill = -1 if name in {"following", "fewest", "parent"} else 0
            setattr(self, name, np.concatenate([old, np.full_like(old, fill)]))
        self.slots = np.full(len(self.slots) * 2, -1, dtype=np.int32)
        for index in range(self.num_ideals):
            _insert(self.slots, self.low, self.mask, index)

    def chain_to_all(self) -> list[tuple[npt.NDArray[np.bool_], int]] | None:
        """The ideals on the way to the one of all items, each with the class of its last stage."""
        last = int(self.queue[self._num_items])
        if last < 0:
            return None
        state = next(s for s in range(self._num_states) if self.fewest[last, s] >= 0)
        chain = []
        index = last
        while index != 0:
            mask = np.zeros(self._num_items, dtype=bool)
            low = int(self.low[index])
            mask[:low] = True
            bits = int(self.mask[index, 0]) | int(self.mask[index, 1]) << 64
            for offset in range(WINDOW):
                if bits >> offset & 1:
                    mask[low + 1 + offset] = True
            chain.append((mask, int(self.by_class[index, state])))
            index, state = int(self.parent[index, state]), int(self.parent_state[index, state])
        chain.reverse()
        return chain


@numba.njit(cache=True, nogil=True)
def _hash(low: int, first: np.uint64, second: np.uint64) -> np.uint64:
    value = np.uint64(low) * np.uint64(0x9E3779B97F4A7C15)
    value ^= first * np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(29)
    value ^= second * np.uint64(0x94D049BB133111EB)
    value ^= value >> np.uint64(32)
    value *= np.uint64(0xD6E8FEB86659FD93)
    return value ^ (value >> np.uint64(31))


@numba.njit(cache=True, nogil=True)
def _find(
    slots: npt.NDArray[np.int32],
    low: npt.NDArray[np.int32],
    mask: npt.NDArray[np.uint64],
    key_low: int,
    first: np.uint64,
    second: np.uint64,
) -> int:
    """The slot of a key: the ideal's own, or the empty one where it belongs."""
    last = len(slots) - 1
    slot = int(np.int64(_hash(key_low, first, second) & np.uint64(last)))
    while True:
        index = slots[slot]
        if index < 0 or (low[index] == key_low and mask[index, 0] == first and mask[index, 1] == second):
            return slot
        slot = (slot + 1) & last


@numba.njit(cache=True, nogil=True)
def _insert(slots: npt.NDArray[np.int32], low: npt.NDArray[np.int32], mask: npt.NDArray[np.uint64], index: int) -> None:
    slots[_find(slots, low, mask, low[index], mask[index, 0], mask[index, 1])] = index


@numba.njit(cache=True, nogil=True)
def _superset(
    slots: npt.NDArray[np.int32],
    low: npt.NDArray[np.int32],
    mask: npt.NDArray[np.uint64],
    index: int,
    first: int,
    last: int,
) -> int:
    """The stored ideal of ``index`` and one more item (first = last), or of all positions up to ``last``; or −1."""
    one = np.uint64(1)
    if first < last or first == low[index]:
        key_low, key_first, key_second = last + 1, mask[index, 0], mask[index, 1]
        if first < last:
            key_first = key_second = np.uint64(0)
        else:
            while True:
                bit = key_first & one
                key_first = (key_first >> one) | (key_second << np.uint64(63))
                key_second >>= one
                if not bit:
                    break
                key_low += 1
        return int(slots[_find(slots, low, mask, key_low, key_first, key_second)])
    offset = first - low[index] - 1
    if offset >= WINDOW:
        return -1
    key_first, key_second = mask[index, 0], mask[index, 1]
    if offset < 64:
        key_first |= one << np.uint64(offset)
    else:
        key_second |= one << np.uint64(offset - 64)
    return int(slots[_find(slots, low, mask, low[index], key_first, key_second)])


@numba.njit(cache=True, nogil=True)
def _is_harmless(  # noqa: C901, PLR0912  one loop nest, kept whole for the compiler
    start: int,
    end: int,
    overlap: int,
    included: npt.NDArray[np.bool_],
    joining: npt.NDArray[np.bool_],
    surplus: Floats,
    compute: Floats,
    producer: Ints,
    times: Floats,
    first_consumer: Ints,
    consumers: Ints,
    touching_first: Ints,
    touching: Ints,
) -> bool:
    """Whether going on from I ∪ B is never worse than going on from I, for the items B = ``joining`` in start … end.

    Take any way on from I and move all of B to the stages before. A later stage R that held A ⊆ B loses the compute of
    A and the tensors that came in for A alone. It gains, at most, the tensors of A that R's other items need (or A
    needs of them). Gains never exceed losses, for any A, if a flow exists that covers what each item may cause: out of
    its own compute, and out of its inputs (each credited to its last consumer, and only if nobody outside I ∪ B needs
    it), whose supply inside B is what their producer has left. Items are visited in topological order, so one pass
    finds a flow.
    """
    for k in range(compute.shape[1]):
        for position in range(start, end):
            if not joining[position]:
                continue
            left = compute[position, k] if overlap == 0 else 0.0
            caused = 0.0
            for index in range(touching_first[position], touching_first[position + 1]):
                tensor = touching[index]
                source = producer[tensor]
                last = -1
                open_end = False
                for pointer in range(first_consumer[tensor], first_consumer[tensor + 1]):
                    other = consumers[pointer]
                    if other < end and joining[other]:
                        last = max(last, other)
                    elif other >= start and not included[other]:
                        open_end = True
                time = times[tensor, k]
                if source == position:
                    if open_end:
                        caused += time
                elif source >= end or (source >= start and not included[source] and not joining[source]):
                    if overlap == 2 and time > 0:
                        return False  # What R would send counts apart from what it no longer receives.
                    caused += time
                elif not open_end and last == position:
                    if source < start or included[source]:
                        left += time
                    elif source < position:
                        supply = min(time, surplus[source])
                        surplus[source] -= supply
                        left += supply
            surplus[position] = left - caused
            if surplus[position] < 0:
                return False
    return True


@numba.njit(cache=True, nogil=True)
def _explore(  # noqa: C901, PLR0912, PLR0915  one loop nest, kept whole for the compiler
    period: float,
    compute: Floats,
    memory: Ints,
    limits: Ints,
    counts: Ints,
    main_compute: Floats,
    share: Floats,
    successor_first: Ints,
    successors: Ints,
    predecessor_first: Ints,
    predecessors: Ints,
    span: int,
    producer: Ints,
    num_consumers: Ints,
    times: Floats,
    forward: npt.NDArray[np.bool_],
    touching_first: Ints,
    touching: Ints,
    first_consumer: Ints,
    consumers: Ints,
    collectors: Ints,
    overlap: int,
    slots: npt.NDArray[np.int32],
    low: npt.NDArray[np.int32],
    mask: npt.NDArray[np.uint64],
    done: Floats,
    following: npt.NDArray[np.int32],
    fewest: npt.NDArray[np.int16],
    parent: npt.NDArray[np.int32],
    parent_state: npt.NDArray[np.int8],
    by_class: npt.NDArray[np.int8],
    queue: npt.NDArray[np.int32],
    cursor: Ints,
    max_steps: int,
) -> int:
    """Process ideals by ascending size until all are done, steps run out, or the table is full."""
    size, num_classes = compute.shape
    num_states = fewest.shape[1]
    capacity = len(low)
    one = np.uint64(1)
    # Room for rounding of running sums; every cost that counts is at most twice the period (see ``cost`` below).
    limit = period * (1 + 1e-10)
    ceiling = 2 * period + 1e-300
    total = main_compute.sum()
    # Room for rounding where what is done is taken from the total, which may dwarf what is left.
    slack = 1e-9 * limit + 1e-12 * total
    strides = np.ones(num_classes, dtype=np.int64)
    for k in range(2, num_classes):
        strides[k] = strides[k - 1] * (counts[k - 1] + 1)
    inside = np.zeros(len(producer), dtype=np.int64)
    home = np.zeros(len(producer), dtype=np.bool_)
    included = np.zeros(size + 1, dtype=np.bool_)
    joining = np.zeros(size + 1, dtype=np.bool_)
    surplus = np.zeros(size + 1)

    max_depth = 256
    width = 512
    spent = np.zeros((max_depth + 1, num_classes))
    incoming = np.zeros((max_depth + 1, num_classes))
    outgoing = np.zeros((max_depth + 1, num_classes))
    settled = np.zeros((max_depth + 1, num_classes))
    held = np.zeros(max_depth + 1, dtype=np.int64)
    reached = np.zeros(max_depth + 1)
    key_low = np.zeros(max_depth + 1, dtype=np.int64)
    key_first = np.zeros(max_depth + 1, dtype=np.uint64)
    key_second = np.zeros(max_depth + 1, dtype=np.uint64)
    added = np.zeros(max_depth + 1, dtype=np.int64)
    ready_items = np.zeros((max_depth + 1, width), dtype=np.int64)
    num_ready = np.zeros(max_depth + 1, dtype=np.int64)
    next_ready = np.zeros(max_depth + 1, dtype=np.int64)
    budget = np.full(num_states, -np.inf)
    steps = 0

    while cursor[1] < size:
        if cursor[2] < 0:
            cursor[2] = queue[cursor[1]]
        while cursor[2] >= 0:
            origin = cursor[2]
            if steps > max_steps:
                return PAUSED
            start = low[origin]
            # What must be done at the very least once this stage is over, per state: all that the rest cannot take.
            alive = False
            for state in range(num_states):
                budget[state] = -np.inf
                used = fewest[origin, state]
                if used < 0:
                    continue
                rest = (counts[0] - used) * limit
                for k in range(1, num_classes):
                    rest += (counts[k] - (state // strides[k]) % (counts[k] + 1)) * share[k]
                budget[state] = rest + slack
                if total - done[origin] <= budget[state]:
                    alive = True
            if alive:
                for offset in range(WINDOW):
                    word = mask[origin, 0] if offset < 64 else mask[origin, 1]
                    if (word >> np.uint64(offset & 63)) & one:
                        included[start + 1 + offset] = True
                count = 0
                for position in range(start, min(size, start + 1 + WINDOW + span)):
                    if included[position]:
                        continue
                    ready = True
                    for index in range(predecessor_first[position], predecessor_first[position + 1]):
                        before = predecessors[index]
                        if before >= start and not included[before]:
                            ready = False
                            break
                    if ready:
                        if count == width:
                            return WINDOW_EXCEEDED
                        ready_items[0, count] = position
                        count += 1
                num_ready[0] = count
                next_ready[0] = 0
                highest = start - 1
                for position in range(min(size, start + 1 + WINDOW) - 1, start, -1):
                    if included[position]:
                        highest = position
                        break
                # Is there a larger ideal, reached with no more devices, from which it is never worse to go on?
                last = highest
                for choice in range(NUM_COLLECTORS + count):
                    if choice < NUM_COLLECTORS:
                        first, last = start, collectors[min(last + 1, size)]
                        if last >= size:
                            continue
                    else:
                        first = last = ready_items[0, choice - NUM_COLLECTORS]
                    other = _superset(slots, low, mask, origin, first, last)
                    if other < 0:
                        continue
                    better = True
                    for state in range(num_states):
                        if budget[state] > -np.inf and (
                            fewest[other, state] < 0 or fewest[other, state] > fewest[origin, state]
                        ):
                            better = False
                            break
                    if not better:
                        continue
                    for position in range(first, last + 1):
                        joining[position] = not included[position]
                    harmless = _is_harmless(
                        start,
                        last + 1,
                        overlap,
                        included,
                        joining,
                        surplus,
                        compute,
                        producer,
                        times,
                        first_consumer,
                        consumers,
                        touching_first,
                        touching,
                    )
                    for position in range(first, last + 1):
                        joining[position] = False
                    if harmless:
                        alive = False
                        break
                if not alive:
                    num_ready[0] = 0
                spent[0, :] = 0.0
                incoming[0, :] = 0.0
                outgoing[0, :] = 0.0
                settled[0, :] = 0.0
                held[0] = 0
                reached[0] = done[origin]
                key_low[0] = start
                key_first[0] = mask[origin, 0]
                key_second[0] = mask[origin, 1]
                depth = 0
                failure = 0
                while depth >= 0:
                    if next_ready[depth] >= num_ready[depth]:
                        # Leave this node: take its item out again.
                        if depth > 0:
                            position = added[depth]
                            included[position] = False
                            for index in range(touching_first[position], touching_first[position + 1]):
                                tensor = touching[index]
                                if producer[tensor] == position:
                                    home[tensor] = False
                                else:
                                    inside[tensor] -= 1
                        depth -= 1
                        continue
                    position = ready_items[depth, next_ready[depth]]
                    next_ready[depth] += 1
                    steps += 1
                    new = depth + 1
                    possible = False
                    held[new] = min(held[depth] + memory[position], NO_LIMIT)
                    for k in range(num_classes):
                        spent[new, k] = spent[depth, k] + min(compute[position, k], ceiling)
                        if (
                            spent[new, k] + (settled[depth, k] if overlap == 0 else 0.0) <= limit
                            and held[new] <= limits[k]
                        ):
                            possible = True
                    if not possible:
                        continue
                    # The ideal's key with this position set.
                    key_low[new] = key_low[depth]
                    key_first[new] = key_first[depth]
                    key_second[new] = key_second[depth]
                    offset = position - key_low[depth] - 1
                    if offset >= WINDOW:
                        failure = WINDOW_EXCEEDED
                        break
                    if offset >= 0:
                        if offset < 64:
                            key_first[new] |= one << np.uint64(offset)
                        else:
                            key_second[new] |= one << np.uint64(offset - 64)
                    else:
                        while True:
                            bit = key_first[new] & one
                            key_first[new] = (key_first[new] >> one) | (key_second[new] << np.uint64(63))
                            key_second[new] >>= one
                            key_low[new] += 1
                            if not bit:
                                break
                    if new == max_depth:
                        failure = WINDOW_EXCEEDED
                        break
                    for k in range(num_classes):
                        incoming[new, k] = incoming[depth, k]
                        outgoing[new, k] = outgoing[depth, k]
                        settled[new, k] = settled[depth, k]
                    for index in range(touching_first[position], touching_first[position + 1]):
                        tensor = touching[index]
                        entered = (not home[tensor]) and inside[tensor] > 0
                        left = home[tensor] and inside[tensor] < num_consumers[tensor]
                        if producer[tensor] == position:
                            home[tensor] = True
                        else:
                            inside[tensor] += 1
                        enters = (not home[tensor]) and inside[tensor] > 0
                        leaves = home[tensor] and inside[tensor] < num_consumers[tensor]
                        if enters != entered:
                            for k in range(num_classes):
                                cost = min(times[tensor, k], ceiling)
                                incoming[new, k] += cost if enters else -cost
                                if forward[tensor]:
                                    settled[new, k] += cost
                        if leaves != left:
                            for k in range(num_classes):
                                cost = min(times[tensor, k], ceiling)
                                outgoing[new, k] += cost if leaves else -cost
                    included[position] = True
                    added[new] = position
                    reached[new] = reached[depth] + main_compute[position]
                    # All items that may come next, in ascending order; those before ``position`` were passed over.
                    count = 0
                    first_new = 0
                    for index in range(num_ready[depth]):
                        other = ready_items[depth, index]
                        if other != position:
                            ready_items[new, count] = other
                            count += 1
                            if other < position:
                                first_new = count
                    for index in range(successor_first[position], successor_first[position + 1]):
                        after = successors[index]
                        ready = True
                        for other in range(predecessor_first[after], predecessor_first[after + 1]):
                            before = predecessors[other]
                            if before >= start and not included[before]:
                                ready = False
                                break
                        if ready:
                            if count == width:
                                failure = WINDOW_EXCEEDED
                                break
                            place = count
                            while place > 0 and ready_items[new, place - 1] > after:
                                ready_items[new, place] = ready_items[new, place - 1]
                                place -= 1
                            ready_items[new, place] = after
                            count += 1
                    if failure:
                        break
                    # Land here with each class whose load fits.
                    slot = -1
                    hopeful = False
                    for k in range(num_classes):
                        if held[new] > limits[k]:
                            continue
                        if overlap == 0:
                            load = spent[new, k] + incoming[new, k] + outgoing[new, k]
                        elif overlap == 1:
                            load = max(spent[new, k], incoming[new, k] + outgoing[new, k])
                        else:
                            load = max(spent[new, k], incoming[new, k], outgoing[new, k])
                        bare = spent[new, k] + (settled[new, k] if overlap == 0 else 0.0)
                        if bare <= limit:
                            hopeful = True
                        if load > limit:
                            continue
                        for state in range(num_states):
                            if budget[state] == -np.inf:
                                continue
                            used = fewest[origin, state]
                            target = state
                            if k == 0:
                                used += 1
                                if used > counts[0]:
                                    continue
                                rest = budget[state] - limit
                            else:
                                if (state // strides[k]) % (counts[k] + 1) == counts[k]:
                                    continue
                                target = state + strides[k]
                                rest = budget[state] - share[k]
                            if total - reached[new] > rest:
                                continue
                            if slot < 0:
                                slot = _find(slots, low, mask, key_low[new], key_first[new], key_second[new])
                                if slots[slot] < 0:
                                    landed = cursor[0]
                                    if landed == capacity:
                                        return TABLE_FULL
                                    cursor[0] += 1
                                    slots[slot] = landed
                                    low[landed] = key_low[new]
                                    mask[landed, 0] = key_first[new]
                                    mask[landed, 1] = key_second[new]
                                    done[landed] = reached[new]
                                    length = cursor[1] + new
                                    following[landed] = queue[length]
                                    queue[length] = landed
                            landed = slots[slot]
                            if fewest[landed, target] < 0 or used < fewest[landed, target]:
                                fewest[landed, target] = used
                                parent[landed, target] = origin
                                parent_state[landed, target] = state
                                by_class[landed, target] = k
                    num_ready[new] = count
                    next_ready[new] = first_new if hopeful else count
                    depth = new
                if failure:
                    return failure
                for offset in range(WINDOW):
                    if start + 1 + offset < size:
                        included[start + 1 + offset] = False
            cursor[2] = following[origin]
        cursor[1] += 1
        cursor[2] = -1
    return DONE
