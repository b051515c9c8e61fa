"""Better placements from a given one: operators and devices change places, by annealing towards a target period.

A move takes an item, and what hangs on it, to a neighbouring device of the pipeline; or lets two devices take each
other's place in it, with all they hold; or gives an idle device another place. What counts is by how much loads exceed
the target, and memory its limits; when nothing does, the target is lowered below the period reached. Over all moves the
order of the devices is kept, so an acyclic placement stays acyclic.

Source: own; :mod:`~solver.heuristics.cooling` says what is shared with other walks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from solver.compiled import CompiledInstance, Ints
from solver.heuristics.cooling import accepts, temperature
from solver.heuristics.device_costs import DeviceCosts, Spending, carry, device_costs, recount, reload, spending
from solver.instance import Partition
from solver.kernels import kernel
from solver.pipelines import along_pipeline

Assignment = list[tuple[int, int]]

STEPS = 150_000
"""Moves of one round, some tenths of a second."""
STEPS_PER_CHOICE, STEPS_PER_ASSIGNMENT = 400, 4
"""Fewer moves where there are few items and devices, and hardly any where one could as well try all assignments."""
TINIEST_MS = 1e-100
LOWER = 1e-3
"""By how much a period reached is to be beaten."""
HOT, COLD = 0.03, 0.0005
"""Temperatures at the start and the end of a round; an excess of 1 is one device at twice the target."""
MEMORY_PRICE = 3.0
"""Excess of memory, in parts of a device's memory, against excess of load."""
EVENNESS = 0.01
"""Under ``gpipe`` a single device makes each maximum; what the squares of all loads weigh against it."""
SWAPS, STROLLS = 0.06, 0.04
"""Shares of the moves that exchange devices, and that place idle ones elsewhere."""
FROM_FULL, NEARBY, TRIES = 0.65, 0.8, 8
"""How often an item is sought on a device that carries too much, in how many tries, and goes next door."""
ROUND = 4096


class Annealing:
    """Rounds of moves on one instance, with loads kept up to date."""

    def __init__(self, compiled: CompiledInstance) -> None:
        self._compiled = compiled
        self._ordered = compiled.partition is not Partition.FREE
        self._costs = device_costs(compiled, ordered=self._ordered)
        self._first = np.concatenate([[0], np.cumsum([c.count for c in compiled.classes])])

    def improve(
        self, start: Sequence[tuple[int, int]], target_ms: float, floor_ms: float, seed: int, stop: Ints
    ) -> tuple[float, Assignment | None]:
        """One round: the best period reached at or below ``target_ms``, and its assignment; ``None`` if none is.

        Args:
            start: an assignment that keeps the partition, if nothing else; convex ones must be acyclic.
            target_ms: what is to be reached first.
            floor_ms: a period at which there is nothing left to gain.
            seed: of the moves.
            stop: ends the round when its first entry is set.
        """
        place = np.array([self._first[k] + n for k, n in start], dtype=np.int64)
        at, best = self._order(place), place.copy()
        num_items, num_devices = self._compiled.num_items, self._compiled.num_devices
        steps = min(STEPS, STEPS_PER_CHOICE * num_items * num_devices, STEPS_PER_ASSIGNMENT * num_devices**num_items)
        draws = np.random.default_rng(seed)
        now = spending(self._costs, place)
        value = _anneal(self._costs, now, at, best, max(target_ms, TINIEST_MS), floor_ms, steps, draws, stop)
        if not math.isfinite(value):
            return value, None
        return value, [self._device(int(number)) for number in best]

    def _device(self, number: int) -> tuple[int, int]:
        index = int(self._costs.class_of[number])
        return index, number - int(self._first[index])

    def _order(self, place: Ints) -> Ints:
        """The devices along the pipeline; idle ones last."""
        used = along_pipeline(self._compiled, place.tolist()) if self._ordered else list(dict.fromkeys(place.tolist()))
        if used is None:
            raise ValueError("not a pipeline")
        idle = sorted(set(range(self._compiled.num_devices)).difference(used))
        return np.array(used + idle, dtype=np.int64)


@kernel
def _excess(costs: DeviceCosts, now: Spending, target: float) -> float:
    """By how much loads exceed the target, and memory its limits."""
    num_devices, num_passes = now.loads.shape
    total = 0.0
    if num_passes == 1:
        for device in range(num_devices):
            total += max(0.0, now.loads[device, 0] / target - 1)
    else:
        over = period_of(now) / target - 1
        if over > 0:
            total += over
            for part in range(num_passes):
                for device in range(num_devices):
                    total += EVENNESS * (now.loads[device, part] / target) ** 2
    for device in range(num_devices):
        if now.held[device] > costs.limits[device]:
            total += MEMORY_PRICE * (now.held[device] - costs.limits[device]) / max(costs.limits[device], 1)
    return total


@kernel
def period_of(now: Spending) -> float:
    """The largest load, or the sum of the largest of each pass."""
    total = 0.0
    for part in range(now.loads.shape[1]):
        total += now.loads[:, part].max()
    return total


@kernel
def _anneal(
    costs: DeviceCosts,
    now: Spending,
    at: Ints,
    best: Ints,
    target: float,
    floor: float,
    steps: int,
    draws: np.random.Generator,
    stop: Ints,
) -> float:
    """The best period reached, with its places in ``best``; infinite if the target is never reached."""
    num_devices = len(at)
    rank = np.empty(num_devices, dtype=np.int64)
    for position in range(num_devices):
        rank[at[position]] = position
    moved = np.zeros(len(now.place), dtype=np.int64)
    is_moved = np.zeros(len(now.place), dtype=np.bool_)
    reached = np.inf
    energy = np.inf
    for step in range(steps + 1):
        if step % ROUND == 0:
            if stop[0]:
                break
            recount(costs, now)  # Running sums drift.
            energy = _excess(costs, now, target)
        if energy == 0.0:
            reached = period_of(now)
            best[:] = now.place
            if reached <= floor:
                break
            target = max(reached * (1 - LOWER), floor)
            energy = _excess(costs, now, target)
        heat = temperature(HOT, COLD, step / steps)
        draw = draws.random()
        if draw < SWAPS:
            energy = _swap(costs, now, at, rank, target, energy, heat, draws)
        elif draw < SWAPS + STROLLS:
            _stroll(now, at, rank, draws)
        else:
            energy = _move(costs, now, at, rank, target, energy, heat, draws, moved, is_moved)
    return reached


@kernel
def _swap(
    costs: DeviceCosts,
    now: Spending,
    at: Ints,
    rank: Ints,
    target: float,
    energy: float,
    heat: float,
    draws: np.random.Generator,
) -> float:
    """Let two devices take each other's place in the pipeline, with all they hold; the excess afterwards."""
    one, other = at[int(draws.random() * len(at))], at[int(draws.random() * len(at))]
    if costs.class_of[one] == costs.class_of[other] or now.num_held[one] + now.num_held[other] == 0:
        return energy
    for item in range(len(now.place)):
        if now.place[item] == one or now.place[item] == other:
            new = other if now.place[item] == one else one
            if costs.compute[item, costs.class_of[new]].max() == np.inf:
                return energy
    _exchange(now.place, one, other)
    recount(costs, now)
    changed = _excess(costs, now, target)
    if accepts(changed - energy, heat, draws):
        rank[one], rank[other] = rank[other], rank[one]
        at[rank[one]], at[rank[other]] = one, other
        return changed
    _exchange(now.place, one, other)
    recount(costs, now)
    return energy


@kernel
def _exchange(place: Ints, one: int, other: int) -> None:
    for item in range(len(place)):
        if place[item] == one:
            place[item] = other
        elif place[item] == other:
            place[item] = one


@kernel
def _stroll(now: Spending, at: Ints, rank: Ints, draws: np.random.Generator) -> None:
    """Give an idle device another place of the pipeline, which costs nothing."""
    device = at[int(draws.random() * len(at))]
    if now.num_held[device]:
        return
    new = int(draws.random() * len(at))
    position = rank[device]
    while position < new:
        at[position] = at[position + 1]
        position += 1
    while position > new:
        at[position] = at[position - 1]
        position -= 1
    at[new] = device
    for position in range(len(at)):
        rank[at[position]] = position


@kernel
def _move(
    costs: DeviceCosts,
    now: Spending,
    at: Ints,
    rank: Ints,
    target: float,
    energy: float,
    heat: float,
    draws: np.random.Generator,
    moved: Ints,
    is_moved: npt.NDArray[np.bool_],
) -> float:
    """Take an item, and what hangs on it, to another device; the excess afterwards."""
    item = int(draws.random() * len(now.place))
    if draws.random() < FROM_FULL:
        for _ in range(TRIES):
            device = now.place[item]
            if now.held[device] > costs.limits[device] or now.loads[device].max() > target:
                break
            item = int(draws.random() * len(now.place))
    home = now.place[item]
    new = at[int(draws.random() * len(at))]
    if draws.random() < NEARBY:
        position = rank[home] + (1 if draws.random() < 0.5 else -1)
        if position < 0 or position >= len(at):
            return energy
        new = at[position]
    if new == home:
        return energy
    num_moved = _gather(costs, now.place, rank, item, new, moved, is_moved)
    if num_moved == 0:
        return energy
    items = moved[:num_moved]
    carry(costs, now, items, home, new)
    reload(costs, now)
    changed = _excess(costs, now, target)
    if accepts(changed - energy, heat, draws):
        return changed
    carry(costs, now, items, new, home)
    reload(costs, now)
    return energy


@kernel
def _gather(
    costs: DeviceCosts, place: Ints, rank: Ints, item: int, new: int, moved: Ints, is_moved: npt.NDArray[np.bool_]
) -> int:
    """The item, and what stands between it and the new device on its own, into ``moved``; 0 if that is forbidden."""
    home = place[item]
    forth = rank[new] > rank[home]
    first, others = (costs.first_after, costs.after) if forth else (costs.first_before, costs.before)
    moved[0] = item
    is_moved[item] = True
    num_moved, done = 1, 0
    possible = True
    while done < num_moved and possible:
        mover = moved[done]
        done += 1
        possible = costs.compute[mover, costs.class_of[new]].max() < np.inf
        for index in range(first[mover], first[mover + 1]):
            other = others[index]
            if place[other] == home:
                if not is_moved[other]:
                    moved[num_moved] = other
                    is_moved[other] = True
                    num_moved += 1
            elif (rank[place[other]] < rank[new]) == forth and rank[place[other]] != rank[new]:
                possible = False
    for number in range(num_moved):
        is_moved[moved[number]] = False
    return num_moved if possible else 0
