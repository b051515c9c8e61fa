"""Pipelines over unlike devices: an order of the devices is filled along an order of the items, and both are searched.

For a target period each device takes the longest run of items whose load and memory it can bear, with true times from
the devices of earlier runs and the link to the next device for what goes out. How much is placed tells how good an
order of devices is; annealing exchanges, moves and turns devices until everything is.

Source: own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from solver.compiled import CompiledInstance, Ints
from solver.heuristics.cooling import accepts, temperature
from solver.heuristics.device_costs import DeviceCosts, Spending, device_costs, recount, spending
from solver.heuristics.moves import TINIEST_MS, Assignment, period_of
from solver.kernels import kernel
from solver.pipelines import along_pipeline
from solver.stage_costs import load

FILLS, FILLS_PER_PAIR, FILLS_PER_ORDER = 60_000, 500, 50
"""Orders of devices that one round tries at most, and for each pair of devices, and where there are few orders."""
LOWER = 5e-3
"""By how much a period reached is to be beaten."""
HOT, COLD = 0.03, 0.001
"""Temperatures at the start and the end, in parts of all items."""


class Sequences:
    """Rounds of the search on one instance, reduced for the acyclic partition."""

    def __init__(self, compiled: CompiledInstance) -> None:
        self._compiled = compiled
        self._costs = device_costs(compiled, ordered=True)
        self._first = np.concatenate([[0], np.cumsum([c.count for c in compiled.classes])])

    def search(
        self, order: Ints, start: Sequence[int] | None, target_ms: float, floor_ms: float, seed: int, stop: Ints
    ) -> tuple[float, Assignment | None]:
        """One round: the best period reached, and its assignment; ``None`` if nothing could be placed as a whole.

        Args:
            order: a topological order of the items.
            start: numbers of the devices in a first order of them; ``None`` for a random one.
            target_ms: what is to be reached first.
            floor_ms: a period at which there is nothing left to gain.
            seed: of the search.
            stop: ends the round when its first entry is set.
        """
        draws = np.random.default_rng(seed)
        num_devices = self._compiled.num_devices
        sequence = draws.permutation(num_devices) if start is None else np.array(start, dtype=np.int64)
        now = spending(self._costs, np.zeros(self._compiled.num_items, dtype=np.int64))
        best = np.zeros(self._compiled.num_items, dtype=np.int64)
        fills = min(FILLS, FILLS_PER_PAIR * num_devices**2, FILLS_PER_ORDER * math.factorial(num_devices))
        target_ms = max(target_ms, TINIEST_MS)
        value = _search(self._costs, now, order, sequence, best, target_ms, floor_ms, fills, draws, stop)
        if not math.isfinite(value):
            return value, None
        return value, [self._device(int(number)) for number in best]

    def sequence_of(self, assignment: Sequence[tuple[int, int]]) -> list[int] | None:
        """The devices in the order in which an acyclic assignment uses them, and then those left over."""
        used = along_pipeline(self._compiled, [int(self._first[k] + n) for k, n in assignment])
        if used is None:
            return None
        return used + sorted(set(range(self._compiled.num_devices)).difference(used))

    def _device(self, number: int) -> tuple[int, int]:
        index = int(self._costs.class_of[number])
        return index, number - int(self._first[index])


@kernel
def _search(
    costs: DeviceCosts,
    now: Spending,
    order: Ints,
    sequence: Ints,
    best: Ints,
    target: float,
    floor: float,
    fills: int,
    draws: np.random.Generator,
    stop: Ints,
) -> float:
    """The best period of a whole placement, which is left in ``best``; infinite if there is none."""
    size, num_devices = len(order), len(sequence)
    reached = np.inf
    inside = np.zeros(len(costs.producer), dtype=np.int64)
    placed = _fill(costs, now.place, order, sequence, target, inside)
    tried = sequence.copy()
    for number in range(fills):
        if stop[0]:
            break
        if placed == size:
            recount(costs, now)
            value = period_of(now)
            if value < reached:
                reached = value
                best[:] = now.place
            if reached <= floor:
                break
            target = max(min(target, reached) * (1 - LOWER), floor)
            placed = _fill(costs, now.place, order, sequence, target, inside)
            if placed == size:
                continue
        tried[:] = sequence
        one, other = int(draws.random() * num_devices), int(draws.random() * num_devices)
        if one == other:
            continue
        low, high = min(one, other), max(one, other)
        draw = draws.random()
        if draw < 0.5:
            tried[one], tried[other] = tried[other], tried[one]
        elif draw < 0.75:
            moved = tried[low]
            tried[low:high] = sequence[low + 1 : high + 1]
            tried[high] = moved
        elif draw < 0.9:
            moved = tried[high]
            tried[low + 1 : high + 1] = sequence[low:high]
            tried[low] = moved
        else:
            tried[low : high + 1] = sequence[low : high + 1][::-1]
        found = _fill(costs, now.place, order, tried, target, inside)
        if accepts(placed - found, size * temperature(HOT, COLD, number / fills), draws):
            placed = found
            sequence[:] = tried
    return reached


@kernel
def _fill(  # noqa: C901, PLR0912  one loop nest, kept whole for the compiler
    costs: DeviceCosts, place: Ints, order: Ints, sequence: Ints, target: float, inside: Ints
) -> int:
    """How many items are placed when each device takes as many as it can bear; their devices in ``place``."""
    compute, memory, class_of, limits = costs.compute, costs.memory, costs.class_of, costs.limits
    times, size_of, producer, is_host = costs.times, costs.size_of, costs.producer, costs.is_host
    first_consumer, first_touching, touching = costs.first_consumer, costs.first_touching, costs.touching
    size, num_passes = len(order), compute.shape[2]
    limit = target * (1 + 1e-12)
    place[:] = -1
    start = 0
    for stage in range(len(sequence)):
        device = sequence[stage]
        k = class_of[device]
        after = class_of[sequence[stage + 1]] if stage + 1 < len(sequence) else -1
        held = spent = incoming = outgoing = 0.0
        end = longest = start
        while end < size:
            item = order[end]
            for part in range(num_passes):
                spent += compute[item, k, part]
            held += memory[item]
            if spent > limit or held > limits[device]:
                break
            place[item] = device
            for index in range(first_touching[item], first_touching[item + 1]):
                tensor = touching[index]
                maker = place[producer[tensor]]
                row = size_of[tensor]
                onward = times[row, k, 0] if is_host else (times[row, k, after] if after >= 0 else 0.0)
                num_consumers = first_consumer[tensor + 1] - first_consumer[tensor]
                if producer[tensor] == item:
                    if inside[tensor] > 0:
                        incoming -= onward
                    if inside[tensor] < num_consumers:
                        outgoing += onward
                else:
                    inside[tensor] += 1
                    if maker == device:
                        if inside[tensor] == num_consumers:
                            outgoing -= onward
                    elif inside[tensor] == 1:
                        if maker < 0 or is_host:
                            incoming += onward
                        else:
                            incoming += times[row, class_of[maker], k]
            end += 1
            if load(costs.overlap, spent, incoming, outgoing) <= limit:
                longest = end
        for position in range(start, min(end + 1, size)):
            item = order[position]
            if position >= longest:
                place[item] = -1
            for index in range(first_touching[item], first_touching[item + 1]):
                inside[touching[index]] = 0
        start = longest
        if start == size:
            break
    return start
