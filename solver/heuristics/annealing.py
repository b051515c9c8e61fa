"""Simulated annealing for free partitions: move items, or clusters of neighbours, between devices.

The search is for an assignment in which no load exceeds a target period. What it walks down is the sum of the squared
relative excesses of load and memory over all devices, plus a little of the loads themselves, so that needless transfers
go also where nothing exceeds. The target is set just below the best period known, and again whenever it is met.

A move takes an item and, for the larger part, neighbours of it on the same device, to the device of a neighbour or any
other; sometimes an item comes back in exchange. Loads are kept up to date item by item.

Source: own; :mod:`~solver.heuristics.cooling` says what is shared with other walks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solver.compiled import CompiledInstance, Floats, Ints
from solver.heuristics.cooling import accepts
from solver.kernels import kernel
from solver.stage_costs import StageCosts, crossings, load, stage_costs

Assignment = list[tuple[int, int]]

NAME = "annealing"
MAX_CELLS = 20_000_000
"""Tensors × devices that are counted; beyond this other methods are better."""
SHORTEST_CALL, LONGEST_CALL = 40, 500
"""Moves per item from one look at the clock to the next; each round is twice as long as the last, up to the longest."""
MAX_MOVES = 200_000
CALLS_PER_ROUND = 12
HOTTEST, COLDEST = 3e-3, 1e-7
"""Temperatures, in squared relative excess."""
MAX_CLUSTER = 64
CLUSTERS, NEARBY, EXCHANGES = 0.6, 0.8, 0.3
"""Parts of the moves that take more than one item, that go to where a neighbour is, that take something back."""
SLOPE = 1e-5
"""What a device may add without exceeding anything: its load, so that needless transfers go there too."""


def supports(compiled: CompiledInstance) -> bool:
    """Whether the loads are those that are kept here, and small enough to keep."""
    return not compiled.is_gpipe and len(compiled.tensors) * compiled.num_devices <= MAX_CELLS


def anneal(
    compiled: CompiledInstance,
    start: Assignment,
    *,
    target: Callable[[], float],
    seed: int,
    expired: Callable[[], bool],
    num_rounds: float = math.inf,
) -> Iterator[Assignment]:
    """Assignments of a free partition with no load above what ``target`` said, as they are found.

    Args:
        compiled: reduced for the free partition, with :func:`supports`.
        start: any assignment.
        target: the period to reach, in ms; asked often.
        seed: of the moves.
        expired: asked often.
        num_rounds: how many times to cool down; a round takes some seconds at most.
    """
    devices = [(k, n) for k, c in enumerate(compiled.classes) for n in range(c.count)]
    number = {device: index for index, device in enumerate(devices)}
    question = _ask(compiled)
    where = np.array([number[device] for device in start], dtype=np.int64)
    best = where.copy()
    random = np.random.default_rng(seed)
    for round_number in itertools.count():
        if round_number >= num_rounds:
            return
        # Every other round goes on from where the last one ended.
        if round_number % 2 == 0:
            where[:] = best
        hottest = HOTTEST * 10.0 ** -random.uniform(0, 2)
        heats = np.geomspace(hottest, COLDEST, CALLS_PER_ROUND + 1)
        moves_per_item = min(SHORTEST_CALL << min(round_number, 32), LONGEST_CALL)
        # Where there are hardly more assignments than moves, there is little to search.
        num_moves = min(moves_per_item * compiled.num_items, MAX_MOVES, len(devices) ** compiled.num_items)
        for heat, cool in itertools.pairwise(heats):
            if expired():
                return
            if _walk(question, where, random, target(), heat, cool, num_moves):
                best[:] = where
                yield [devices[device] for device in where]


class _Question(NamedTuple):
    """The instance, for the compiled loops: I items, D devices, T tensors."""

    costs: StageCosts  # positions are items, all classes in their order
    class_of: Ints  # [D]
    consumers_at: Ints  # [T + 1]: where each tensor's entries in ``consumers`` begin
    consumers: Ints


class _Answer(NamedTuple):
    """One assignment, and what each device has to bear under it."""

    where: Ints  # [I]
    held: npt.NDArray[np.int32]  # [T, D]: how many consumers of a tensor sit on a device
    times: Floats  # [3, D]: compute, incoming, outgoing
    bytes_held: Ints  # [D]


def _ask(compiled: CompiledInstance) -> _Question:
    consumers = [t.consumers for t in compiled.tensors]
    return _Question(
        costs=stage_costs(compiled, np.arange(compiled.num_items), range(len(compiled.classes))),
        class_of=np.array([k for k, c in enumerate(compiled.classes) for _ in range(c.count)], dtype=np.int64),
        consumers_at=np.concatenate([[0], np.cumsum([len(items) for items in consumers])]).astype(np.int64),
        consumers=np.array([item for items in consumers for item in items], dtype=np.int64),
    )


@kernel
def _walk(  # noqa: C901, PLR0912, PLR0915  one loop nest, kept whole for the compiler
    question: _Question,
    where: Ints,
    random: np.random.Generator,
    target_ms: float,
    heat: float,
    cool: float,
    num_moves: int,
) -> bool:
    """Walk; ``where`` is changed in place. True as soon as nothing exceeds: then ``where`` is what was reached."""
    compute, class_of = question.costs.compute, question.class_of
    num_items, num_devices = len(where), len(class_of)
    answer = _tell(question, where)
    excess = np.zeros(num_devices)
    num_exceeding = 0
    for device in range(num_devices):
        excess[device] = _excess(question, answer, target_ms, device)
        num_exceeding += excess[device] > SLOPE
    moved = np.empty(MAX_CLUSTER, dtype=np.int64)
    cooling = (cool / heat) ** (1.0 / num_moves)
    for _ in range(num_moves):
        heat *= cooling
        item = int(random.random() * num_items)
        here = where[item]
        near = random.random() < NEARBY
        there = where[_neighbour(question, random, item)] if near else int(random.random() * num_devices)
        if there == here:
            continue
        size = 1
        if random.random() < CLUSTERS:
            # Sizes are spread evenly over their logarithm.
            size = int(np.exp(random.random() * np.log(MAX_CLUSTER)))
        count = 0
        current = item
        for _ in range(3 * size):
            if where[current] == here and np.isfinite(compute[current, class_of[there]]):
                _move(question, answer, current, there)
                moved[count] = current
                count += 1
                if count == size:
                    break
            following = _neighbour(question, random, moved[int(random.random() * count)] if count else item)
            if where[following] == here:
                current = following
        if count == 0:
            continue
        back = -1
        if random.random() < EXCHANGES:
            near = random.random() < NEARBY
            back = _neighbour(question, random, item) if near else int(random.random() * num_items)
            allowed = where[back] == there and np.isfinite(compute[back, class_of[here]])
            for index in range(count):
                allowed = allowed and moved[index] != back
            if allowed:
                _move(question, answer, back, here)
            else:
                back = -1
        excess_here = _excess(question, answer, target_ms, here)
        excess_there = _excess(question, answer, target_ms, there)
        change = excess_here + excess_there - excess[here] - excess[there]
        if accepts(change, heat, random):
            num_exceeding += (excess_here > SLOPE) - (excess[here] > SLOPE)
            num_exceeding += (excess_there > SLOPE) - (excess[there] > SLOPE)
            excess[here], excess[there] = excess_here, excess_there
            if num_exceeding == 0:
                return True
        else:
            if back >= 0:
                _move(question, answer, back, there)
            for index in range(count):
                _move(question, answer, moved[index], here)
    return False


@kernel
def _tell(question: _Question, where: Ints) -> _Answer:
    """What an assignment makes each device bear."""
    costs = question.costs
    num_devices, num_tensors = len(question.class_of), len(costs.producer)
    held = np.zeros((num_tensors, num_devices), dtype=np.int32)
    times = np.zeros((3, num_devices))
    bytes_held = np.zeros(num_devices, dtype=np.int64)
    for item in range(len(where)):
        times[0, where[item]] += costs.compute[item, question.class_of[where[item]]]
        bytes_held[where[item]] += costs.memory[item]
    for t in range(num_tensors):
        home = where[costs.producer[t]]
        for index in range(question.consumers_at[t], question.consumers_at[t + 1]):
            held[t, where[question.consumers[index]]] += 1
        for device in range(num_devices):
            if device != home and held[t, device] > 0:
                times[1, device] += costs.times[t, question.class_of[device]]
        if held[t, home] < costs.num_consumers[t]:
            times[2, home] += costs.times[t, question.class_of[home]]
    return _Answer(where, held, times, bytes_held)


@kernel
def _neighbour(question: _Question, random: np.random.Generator, item: int) -> int:
    """An item that shares a tensor with ``item``, or ``item`` itself where none does."""
    costs = question.costs
    num_touching = costs.first[item + 1] - costs.first[item]
    if num_touching == 0:
        return item
    t = costs.touching[costs.first[item] + int(random.random() * num_touching)]
    if costs.producer[t] != item:
        return int(costs.producer[t])
    return int(question.consumers[question.consumers_at[t] + int(random.random() * costs.num_consumers[t])])


@kernel
def _move(question: _Question, answer: _Answer, item: int, there: int) -> None:
    """Put ``item`` on device ``there`` and keep the loads; no device but the two it is about is concerned."""
    costs, held, times = question.costs, answer.held, answer.times
    here = answer.where[item]
    here_class, there_class = question.class_of[here], question.class_of[there]
    answer.where[item] = there
    times[0, here] -= costs.compute[item, here_class]
    times[0, there] += costs.compute[item, there_class]
    answer.bytes_held[here] -= costs.memory[item]
    answer.bytes_held[there] += costs.memory[item]
    for index in range(costs.first[item], costs.first[item + 1]):
        t = costs.touching[index]
        home = answer.where[costs.producer[t]]
        makes = costs.producer[t] == item
        if not makes:
            held[t, here] -= 1
        incoming, outgoing = crossings(makes, here == home, held[t, here], costs.num_consumers[t])
        times[1, here] -= incoming * costs.times[t, here_class]
        times[2, here] -= outgoing * costs.times[t, here_class]
        incoming, outgoing = crossings(makes, there == home, held[t, there], costs.num_consumers[t])
        times[1, there] += incoming * costs.times[t, there_class]
        times[2, there] += outgoing * costs.times[t, there_class]
        if not makes:
            held[t, there] += 1


@kernel
def _excess(question: _Question, answer: _Answer, target_ms: float, device: int) -> float:
    """What one device adds to the sum that the walk goes down; at most ``SLOPE`` while nothing exceeds."""
    costs, times = question.costs, answer.times
    relative = load(costs.overlap, times[0, device], times[1, device], times[2, device]) / target_ms
    value = SLOPE * min(relative, 1.0)
    if relative > 1:
        # The step at the target keeps "nothing exceeds" apart from "hardly anything does".
        value += SLOPE + (relative - 1) ** 2
    limit = costs.limits[question.class_of[device]]
    if answer.bytes_held[device] > limit:
        value += 2 * SLOPE + (answer.bytes_held[device] / max(limit, 1) - 1) ** 2
    return value
