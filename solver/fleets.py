"""Fleets: how many devices of each class a placement uses, and which fleets the limits of devices and cost allow.

An answer with fewer devices keeps the limits too, so what is allowed is closed downwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solver.compiled import CompiledInstance, Floats, Ints
from solver.instance import Instance, ObjectiveKind

MAX_FLEETS = 200_000
ROOM = 1 + 3e-9
"""A limit of the cost is kept up to what the verifier forgives and sums are rounded."""


def limits_fleets(instance: Instance) -> bool:
    """Whether it counts which devices are used, and not only what they do."""
    limits = instance.constraints
    is_cost = instance.objective.kind is ObjectiveKind.COST
    return is_cost or limits.max_devices is not None or limits.max_cost_per_hour is not None


def num_fleets(compiled: CompiledInstance) -> int:
    """Fleets that there are, allowed or not."""
    return math.prod(c.count + 1 for c in compiled.classes)


def all_counts(compiled: CompiledInstance) -> Ints:
    """[F, C]: devices used of each class in each fleet; the number of the first class changes fastest."""
    sizes = [c.count + 1 for c in compiled.classes]
    strides = np.concatenate([[1], np.cumprod(sizes[:-1])]).astype(np.int64)
    counts: Ints = (np.arange(math.prod(sizes))[:, None] // strides) % np.array(sizes)
    return counts


def costs_of(compiled: CompiledInstance, counts: Ints) -> Floats:
    """[F]: the price of an hour of each fleet."""
    prices = np.array([c.cost_per_hour for c in compiled.classes], dtype=np.float64)
    return np.asarray(counts @ prices, dtype=np.float64)


def keeps_limits(compiled: CompiledInstance, counts: Ints, max_cost: float = math.inf) -> npt.NDArray[np.bool_]:
    """[F]: whether fleets keep the instance's limits of devices and cost, and ``max_cost``."""
    limits = compiled.instance.constraints
    kept = np.ones(len(counts), dtype=np.bool_)
    if limits.max_devices is not None:
        kept &= counts.sum(axis=1) <= limits.max_devices
    if limits.max_cost_per_hour is not None:
        max_cost = min(max_cost, limits.max_cost_per_hour)
    if max_cost < math.inf:
        kept &= costs_of(compiled, counts) <= max_cost * ROOM
    return kept


@dataclass(frozen=True, slots=True)
class Fleets:
    """The fleets that keep the limits and have a device for each item.

    Attributes:
        counts: [F, C] devices used of each class.
        costs: [F].
        sizes: [C] devices that there are.
    """

    counts: Ints
    costs: Floats
    sizes: Ints

    def largest_within(self, max_cost: float) -> npt.NDArray[np.bool_]:
        """[F]: whether a fleet costs so much at most, and no device can be added to it within that and the limits."""
        strides = np.concatenate([[1], np.cumprod(self.sizes[:-1] + 1)]).astype(np.int64)
        numbers = self.counts @ strides
        kept = self.costs <= max_cost * ROOM
        largest = kept.copy()
        for k, stride in enumerate(strides):
            largest &= (self.counts[:, k] == self.sizes[k]) | ~np.isin(numbers + stride, numbers[kept])
        return largest


def find_fleets(compiled: CompiledInstance) -> Fleets | None:
    """All of them, or ``None`` when they are too many to list."""
    if num_fleets(compiled) > MAX_FLEETS:
        return None
    counts = all_counts(compiled)
    kept = keeps_limits(compiled, counts)
    for pattern in np.unique(compiled.allowed, axis=0):
        kept &= counts[:, pattern].sum(axis=1) > 0
    sizes = np.array([c.count for c in compiled.classes], dtype=np.int64)
    return Fleets(counts[kept], costs_of(compiled, counts[kept]), sizes)


def reachable_worth(compiled: CompiledInstance, kept: npt.NDArray[np.bool_], holds: Floats) -> Floats:
    """What the devices that may still be added to each fleet can hold at most; −∞ for fleets that are not ``kept``.

    Args:
        compiled: its classes.
        kept: [F] closed downwards, as numbered by :func:`all_counts`.
        holds: [C] what one device of each class can hold.
    """
    counts = all_counts(compiled)
    sizes = counts.sum(axis=1)
    worth = np.where(kept, 0.0, -np.inf)
    for size in range(int(sizes.max()) - 1, -1, -1):
        fleets = np.flatnonzero((sizes == size) & kept)
        stride = 1
        for k, device_class in enumerate(compiled.classes):
            smaller = fleets[counts[fleets, k] < device_class.count]
            worth[smaller] = np.maximum(worth[smaller], worth[smaller + stride] + holds[k])
            stride *= device_class.count + 1
    return worth
