"""A lower bound for every partition: what a device has to pay that holds several of the items that take longest.

Of m items, n devices and h that hosts can take, some device other than a host holds at least k = ⌈(m − h) ÷ n⌉. Its
load is at least that of the cheapest set with any k of the m items in it. All such sets are searched, item by item: the
cheapest set around some items is one minimum cut, and adding an item never makes it cheaper, so that a choice that
costs as much as the best period known already is not followed further; nor is one whose cheapest set holds k items
anyway. If nothing is left, the period known cannot be beaten.

Unlike the averages of :mod:`solver.formulations.throughput_bottleneck_highs` this rounds up, and it is computed in
whole numbers. For what the cuts leave out, and for unlike devices and overlap, see :mod:`solver.exact.operator_cuts`.

Source: own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from solver.compiled import CompiledInstance
from solver.exact.operator_cuts import Cuts

MAX_COUNT = 12
"""Most items that one device is asked to hold; beyond it averages say as much."""
MAX_STEPS = 20_000_000
"""Minimum cuts in one search, times the vertices of each; some ten seconds."""
ROOM = 1 + 1e-9
"""For the rounding of sums."""


def bound_by_counted_cuts(
    compiled: CompiledInstance, value_ms: float, found: Callable[[float], object], expired: Callable[[], bool]
) -> None:
    """Report lower bounds of the period, in ms, each better than the last, up to ``value_ms``.

    Args:
        compiled: reduced for its partition.
        value_ms: the best period known; the bounds hold for all that is not worse.
        found: told of each better bound.
        expired: asked often.
    """
    cuts = Cuts(compiled, (0, 1))
    num_devices = sum(c.count for c in compiled.classes if not c.is_host)
    best = 0.0
    for count in range(2, MAX_COUNT + 1):
        if expired() or best >= value_ms or not num_devices:
            return
        items = _longest(cuts, num_devices * (count - 1) + 1, value_ms)
        if items is None:
            return
        least = _Choice(cuts, items, count, value_ms, expired).least()
        if least is None:
            return
        if least > best:
            best = least
            found(best)


def _longest(cuts: Cuts, number: int, value_ms: float) -> list[int] | None:
    """The fewest of the items that take longest of which hosts have to leave at least ``number``."""
    items = [item for item in range(len(cuts.compute)) if 0 < cuts.compute[item] < math.inf]
    items.sort(key=lambda item: (-cuts.compute[item], item))
    size = number
    while size <= len(items):
        left = size - _taken_by_hosts(cuts, items[:size], value_ms)
        if left >= number:
            return items[:size]
        size += number - left
    return None


def _taken_by_hosts(cuts: Cuts, items: list[int], value_ms: float) -> int:
    """At most so many of ``items`` the hosts can take, each and together, within ``value_ms``."""
    room = cuts.num_hosts * value_ms * ROOM
    taken = 0
    for time in sorted(float(cuts.on_host[item]) for item in items):
        room -= time
        if time > value_ms * ROOM or room < 0:
            break
        taken += 1
    return taken


class _Choice:
    """The search for the cheapest set with ``count`` of ``items`` in it, below ``value_ms``."""

    def __init__(self, cuts: Cuts, items: list[int], count: int, value_ms: float, expired: Callable[[], bool]) -> None:
        self._cuts = cuts
        self._items = items
        self._count = count
        self._least = value_ms
        self._expired = expired
        self._cuts_left = MAX_STEPS // cuts.num_vertices

    def least(self) -> float | None:
        """Its load in ms, at most ``value_ms``; ``None`` when the search was given up."""
        return self._least if self._extend((), 0) else None

    def _extend(self, chosen: tuple[int, ...], start: int) -> bool:
        for index in range(start, len(self._items) - (self._count - len(chosen)) + 1):
            if self._cuts_left <= 0 or self._expired():
                return False
            self._cuts_left -= 1
            more = (*chosen, self._items[index])
            load, cheapest = self._cuts.cheapest_around(more)
            if load >= self._least:
                continue
            if len(more) == self._count or len(set(cheapest).intersection(self._items)) >= self._count:
                self._least = load
            elif not self._extend(more, index + 1):
                return False
        return True
