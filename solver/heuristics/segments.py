"""Near-optimal acyclic pipelines: cut a topological order into segments, one per device, best possible for that order.

Any way to cut a topological order into consecutive segments is an acyclic partition. For one order a dynamic program
finds the best cut: its state is how many items are placed and how many devices of each class are used, its value the
largest load so far. Segments grow item by item, so that loads are kept up to date rather than computed anew.
Several orders are tried.

Under ``gpipe`` the period is divided between the passes: with s of it for the forward pass, a load is the larger of
forward load ÷ s and backward load ÷ (1 − s). A placement is worth no more than the largest of these loads, and as much
for the best s, so a few shares are tried around that of the forward compute.

Source: own; for a path graph this is the classical chain partitioning problem.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from solver.compiled import CompiledInstance, Ints
from solver.heuristics.orders import topological_orders
from solver.kernels import kernel
from solver.stage_costs import NO_LIMIT, StageCosts, crossings, divide_period, load, stage_costs

MAX_STATES = 4096
"""Largest number of used-device counts the program keeps per prefix; beyond it small classes are left aside."""
MAX_STEPS = 2e9
"""Rough limit on the work for all orders together."""
GREEDY_ROUNDS = 60
FEWEST_ROUNDS = 12
MAX_GREEDY_STEPS = 200_000_000
SHARE_STEPS = (0.0, -0.05, 0.05, -0.15, 0.15)
"""How far the forward pass's share of a period is moved towards nothing, or all."""

LEAST_SHARE = 1e-9
"""What a pass gets of a period that takes next to nothing beside the other."""

Assignment = list[tuple[int, int]]


def place_segments(
    compiled: CompiledInstance, *, bound_ms: float, seed: int, expired: Callable[[], bool]
) -> Iterator[Assignment]:
    """Assignments as they are found: greedy ones at once, then the best cut of each order where it is better.

    Args:
        compiled: reduced for the acyclic partition.
        bound_ms: a lower bound of the period; the first limit tried is somewhat above it.
        seed: of the random orders.
        expired: asked between orders.
    """
    tables = _tables(compiled)
    best = math.inf
    steps_left = MAX_STEPS
    for order, table in itertools.product(topological_orders(compiled, seed), tables):
        if math.isinf(best):
            # Also when time is over already: it takes an instant, and an answer is better than none.
            start = place_greedily(compiled, order, bound_ms)
            if start is not None:
                yield start
        if expired():
            return
        steps_left -= table.steps()
        if steps_left < 0:
            return
        value, assignment = table.best_cut(order, bound_ms, best)
        if assignment is not None and value < best:
            best = value
            yield assignment


def cut_order(compiled: CompiledInstance, order: Ints, bound_ms: float, best_ms: float) -> Assignment | None:
    """The best cut of one topological order where it is better than ``best_ms``; a greedy one where it takes too long.

    Args:
        compiled: reduced for the acyclic partition.
        order: all items.
        bound_ms: a lower bound of the period.
        best_ms: a period known already, or infinite.
    """
    table = _tables(compiled)[0]
    if table.steps() > MAX_STEPS:
        return place_greedily(compiled, order, bound_ms)
    return table.best_cut(order, bound_ms, best_ms)[1]


def place_greedily(compiled: CompiledInstance, order: Ints, bound_ms: float) -> Assignment | None:
    """An answer at once, at any size: fill device after device along ``order`` up to a common limit; bisect the limit.

    Each time the class that gets furthest within the limit comes next, of equals the one with most devices left. So a
    device that something is pinned to waits for what is pinned to it.
    """
    table = _tables(compiled)[0]
    low, high = bound_ms, table.worst
    best: tuple[Ints, Ints] | None = None
    steps = len(order) * len(compiled.classes)
    for _ in range(max(FEWEST_ROUNDS, min(GREEDY_ROUNDS, MAX_GREEDY_STEPS // steps))):
        # Far above the bound, orders of magnitude count; near it, differences do.
        limit = math.sqrt(max(low, high * 1e-9) * high) if high > 4 * low else (low + high) / 2
        ends, classes = table.fill(order, limit)
        if len(ends) and ends[-1] == len(order):
            high, best = limit, (ends, classes)
        else:
            low = limit
        if high - low <= 1e-4 * high:
            break
    if best is None:
        return None
    taken = [0] * len(compiled.classes)
    assignment: Assignment = [(0, 0)] * len(order)
    start = 0
    for end, index in zip(*best, strict=True):
        for item in order[start:end]:
            assignment[item] = (int(index), taken[index])
        taken[index] += 1
        start = int(end)
    return assignment


def _tables(compiled: CompiledInstance) -> list[_Table]:
    """One for ``1f1b``; under ``gpipe`` one for each share, the most promising first."""
    costs = stage_costs(
        compiled, np.arange(compiled.num_items), range(len(compiled.classes)), by_pass=compiled.is_gpipe
    )
    if not compiled.is_gpipe:
        return [_Table(compiled, costs)]
    finite = np.where(compiled.allowed[:, :, None], compiled.compute_ms, 0.0)
    forward, backward = finite.max(axis=1, initial=0.0).sum(axis=0)
    share = float(forward / (forward + backward)) if forward > 0 and backward > 0 else 0.5
    share = min(max(share, LEAST_SHARE), 1 - LEAST_SHARE)
    shares = [share + step * min(share, 1 - share) for step in SHARE_STEPS]
    return [_Table(compiled, divide_period(costs, own)) for own in shares]


class _Table:
    """The instance as flat arrays for the compiled loops."""

    def __init__(self, compiled: CompiledInstance, costs: StageCosts) -> None:
        self.compiled = compiled
        self.costs = costs
        self.counts = self._choose_counts([c.count for c in compiled.classes])
        self.num_states = math.prod(n + 1 for n in self.counts)
        compute, times = self.costs.compute, self.costs.times
        finite = np.where(np.isfinite(compute), compute, 0.0)
        self.worst = float(finite.max(axis=1, initial=0.0).sum() + 2 * times.max(axis=1, initial=0.0).sum()) + 1.0

    @staticmethod
    def _choose_counts(counts: list[int]) -> list[int]:
        """Devices of each class to plan with: all, or those of the larger classes only."""
        kept = [0] * len(counts)
        states = 1
        for index in sorted(range(len(counts)), key=lambda index: -counts[index]):
            if states * (counts[index] + 1) <= MAX_STATES:
                kept[index] = counts[index]
                states *= counts[index] + 1
        return kept

    def steps(self) -> float:
        size = self.compiled.num_items
        return float(size * max(1.0, 4.0 * size / max(1, sum(self.counts))) * self.num_states)

    def fill(self, order: Ints, limit: float) -> tuple[Ints, Ints]:
        """Where segments along ``order`` end, and their classes; without enough devices the rest is left over."""
        counts = np.array([c.count for c in self.compiled.classes], dtype=np.int64)
        ends, classes = _fill(order, counts, self.costs, limit * (1 + 1e-12))
        return ends, classes

    def best_cut(self, order: Ints, bound_ms: float, best_ms: float) -> tuple[float, Assignment | None]:
        """The best cut of ``order``, as long as it is not worse than ``best_ms``."""
        # With a limit, segments end early; it is raised until the order has an answer.
        known = math.isfinite(best_ms)
        limit, ceiling = (best_ms, best_ms) if known else (max(bound_ms * 1.25, 1e-9), self.worst)
        while True:
            value, assignment = self.cut(order, limit)
            if assignment is not None or limit >= ceiling:
                return value, assignment
            limit = min(limit * 1.6, ceiling)

    def cut(self, order: Ints, limit: float) -> tuple[float, Assignment | None]:
        """The best cut of ``order`` with loads up to ``limit``; ``None`` if there is none."""
        strides = np.cumprod([1, *(n + 1 for n in self.counts[:-1])]).astype(np.int64)
        value, starts, classes = _cut(
            order,
            self.costs,
            np.array(self.counts, dtype=np.int64),
            strides,
            self.num_states,
            limit * (1 + 1e-12),
        )
        if not math.isfinite(value):
            return value, None
        taken = [0] * len(self.counts)
        assignment: Assignment = [(0, 0)] * len(order)
        end = len(order)
        for start, index in zip(starts, classes, strict=True):
            for item in order[start:end]:
                assignment[item] = (int(index), taken[index])
            taken[index] += 1
            end = int(start)
        return float(value), assignment


@kernel
def _cut(  # noqa: C901, PLR0912, PLR0915  one loop nest, kept whole for the compiler
    order: Ints,
    costs: StageCosts,
    counts: Ints,
    strides: Ints,
    num_states: int,
    limit: float,
) -> tuple[float, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    compute, memory, limits, overlap, producer, num_consumers, times, first, touching = costs
    size, num_classes = len(order), len(counts)
    num_rows = compute.shape[1]
    num_passes = num_rows // num_classes
    best = np.full((size + 1, num_states), np.inf)
    came_from = np.full((size + 1, num_states), -1, dtype=np.int32)
    by_class = np.zeros((size + 1, num_states), dtype=np.int16)
    best[0, 0] = 0.0
    inside = np.zeros(len(producer), dtype=np.int64)
    home = np.zeros(len(producer), dtype=np.bool_)
    for start in range(size):
        reachable = False
        for state in range(num_states):
            if best[start, state] < np.inf:
                reachable = True
                break
        if not reachable:
            continue
        spent = np.zeros(num_rows)
        incoming = np.zeros(num_rows)
        outgoing = np.zeros(num_rows)
        held = 0
        end = start
        while end < size:
            item = order[end]
            held = min(held + memory[item], NO_LIMIT)
            for index in range(first[item], first[item + 1]):
                tensor = touching[index]
                enters, leaves = crossings(
                    producer[tensor] == item, home[tensor], inside[tensor], num_consumers[tensor]
                )
                if producer[tensor] == item:
                    home[tensor] = True
                else:
                    inside[tensor] += 1
                if enters:
                    for row in range(num_rows):
                        incoming[row] += enters * times[tensor, row]
                if leaves:
                    for row in range(num_rows):
                        outgoing[row] += leaves * times[tensor, row]
            end += 1
            possible = False
            for k in range(num_classes):
                bare = cost = 0.0
                for row in range(k * num_passes, (k + 1) * num_passes):
                    spent[row] += compute[item, row]
                    bare = max(bare, spent[row])
                    cost = max(cost, load(overlap, spent[row], incoming[row], outgoing[row]))
                if counts[k] == 0 or bare > limit or held > limits[k]:
                    continue
                possible = True
                if cost > limit:
                    continue
                for state in range(num_states):
                    value = best[start, state]
                    if value == np.inf or (state // strides[k]) % (counts[k] + 1) == counts[k]:
                        continue
                    value = max(value, cost)
                    if value < best[end, state + strides[k]]:
                        best[end, state + strides[k]] = value
                        came_from[end, state + strides[k]] = start
                        by_class[end, state + strides[k]] = k
            if not possible:
                break
        for position in range(start, end):
            item = order[position]
            for index in range(first[item], first[item + 1]):
                inside[touching[index]] = 0
                home[touching[index]] = False
    state = int(np.argmin(best[size]))
    value = best[size, state]
    starts = np.zeros(size, dtype=np.int64)
    classes = np.zeros(size, dtype=np.int64)
    num_segments = 0
    if value < np.inf:
        position = size
        while position > 0:
            k = by_class[position, state]
            before = came_from[position, state]
            starts[num_segments] = before
            classes[num_segments] = k
            num_segments += 1
            position = before
            state -= strides[k]
    return value, starts[:num_segments], classes[:num_segments]


@kernel
def _fill(
    order: Ints, counts: Ints, costs: StageCosts, limit: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    size = len(order)
    remaining = counts.copy()
    ends = np.zeros(min(size, remaining.sum()), dtype=np.int64)
    classes = np.zeros(len(ends), dtype=np.int64)
    inside = np.zeros(len(costs.producer), dtype=np.int64)
    home = np.zeros(len(costs.producer), dtype=np.bool_)
    num_passes = costs.compute.shape[1] // len(counts)
    start = num_segments = 0
    while start < size and num_segments < len(ends):
        furthest = start
        chosen = -1
        for k in range(len(counts)):
            rows = slice(k * num_passes, (k + 1) * num_passes)
            if remaining[k] == 0 or costs.compute[order[start], rows].max() > limit:
                continue
            end = _reach(order, start, k, costs, limit, home, inside)
            if end > furthest or (end == furthest > start and remaining[k] > remaining[chosen]):
                furthest, chosen = end, k
        if chosen < 0:
            break
        ends[num_segments] = furthest
        classes[num_segments] = chosen
        num_segments += 1
        remaining[chosen] -= 1
        start = furthest
    return ends[:num_segments], classes[:num_segments]


@kernel
def _reach(  # noqa: PLR0912  one loop nest, kept whole for the compiler
    order: Ints, start: int, k: int, costs: StageCosts, limit: float, home: npt.NDArray[np.bool_], inside: Ints
) -> int:
    """The end of the longest segment from ``start`` whose load on class ``k`` is within the limit.

    ``home`` and ``inside`` are blank, and left so.
    """
    compute, memory, limits, overlap, producer, num_consumers, times, first, touching = costs
    num_passes = compute.shape[1] // len(limits)
    rows = range(k * num_passes, (k + 1) * num_passes)
    held = 0
    spent = np.zeros(num_passes)
    incoming = np.zeros(num_passes)
    outgoing = np.zeros(num_passes)
    end = longest = start
    while end < len(order):
        item = order[end]
        held = min(held + memory[item], NO_LIMIT)
        fits = held <= limits[k]
        for p, row in enumerate(rows):
            spent[p] += compute[item, row]
            if spent[p] > limit:
                fits = False
        if not fits:
            break
        for index in range(first[item], first[item + 1]):
            tensor = touching[index]
            enters, leaves = crossings(producer[tensor] == item, home[tensor], inside[tensor], num_consumers[tensor])
            if producer[tensor] == item:
                home[tensor] = True
            else:
                inside[tensor] += 1
            for p, row in enumerate(rows):
                incoming[p] += enters * times[tensor, row]
                outgoing[p] += leaves * times[tensor, row]
        end += 1
        for p in range(num_passes):
            if load(overlap, spent[p], incoming[p], outgoing[p]) > limit:
                fits = False
        if fits:
            longest = end
    for position in range(start, end):
        item = order[position]
        for index in range(first[item], first[item + 1]):
            inside[touching[index]] = 0
            home[touching[index]] = False
    return longest
