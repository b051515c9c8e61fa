"""Every partition, all devices other than hosts alike: who of the leading items shares a device with whom.

The items that take longest, and too long for any host, can be divided among n devices in so many ways. In each of them
two kinds of minimum cuts bound the period from below:

* a device that holds a group of them, and none of the others, costs at least the cheapest set of that kind;
* all devices together bear the compute that hosts cannot take, and each what its group's transfers cost at least; one
  of them bears the average.

Ways that cost as much as the best period known, or more, are dropped at once, item by item. Where a few dozen ways are
left, a model of each is much easier than a model of all: with its leading items fixed, its linear relaxation is one of
multiway cuts, and strong.

Source: own; isolating cuts after Dahlhaus et al. (1994).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from solver.compiled import CompiledInstance
from solver.exact.operator_cuts import Cuts
from solver.shares import compute_weights, share_of_a_device

MAX_CASES = 256
LEADING_SHARE = 0.5
"""Of the compute that leading items have to make up: with less of it fixed, a case is hardly easier than the whole."""
Groups = tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class Case:
    """One way to divide the leading items: the groups that share a device.

    Its period is at least ``bound_ms``; up to ``searched_ms`` nothing is left to be found.
    """

    groups: Groups
    bound_ms: float
    searched_ms: float = 0.0

    def is_open(self, target_ms: float) -> bool:
        """Whether there may be something to find up to ``target_ms``."""
        return max(self.bound_ms, self.searched_ms) < target_ms


def divide_leading_items(
    compiled: CompiledInstance, value_ms: float, expired: Callable[[], bool]
) -> tuple[Case, ...] | None:
    """All cases in which the period may be less than ``value_ms``.

    Args:
        compiled: reduced for its partition; all devices other than hosts alike.
        value_ms: the best period known.
        expired: asked often.

    Returns:
        Every placement better than ``value_ms`` belongs to one of them, up to the names of devices. ``None`` when the
        leading items say too little, or time has ``expired``.
    """
    cuts = Cuts(compiled, (0, 1))
    division = _Division(compiled, cuts, value_ms)
    leading = [item for item in division.by_compute if cuts.on_host[item] > value_ms]
    cases = [Case((), 0.0)]
    fixed = 0.0
    for item in leading:
        extended: list[Case] = []
        for case in cases:
            if expired():
                return None
            extended.extend(division.extend(case, item))
        if len(extended) > MAX_CASES:
            break
        cases = extended
        fixed += division.weights[item]
    return tuple(cases) if fixed >= LEADING_SHARE * float(division.weights.sum()) else None


class _Division:
    def __init__(self, compiled: CompiledInstance, cuts: Cuts, value_ms: float) -> None:
        self._cuts = cuts
        self._transfers = Cuts(compiled, (0, 1), compute=False)
        self._num_devices = sum(c.count for c in compiled.classes if not c.is_host)
        self._value_ms = value_ms
        self.weights = compute_weights(compiled, value_ms)
        self._share_ms = cuts.compute_weight * share_of_a_device(compiled, self.weights, value_ms)
        self.by_compute = sorted(
            (item for item in range(compiled.num_items) if 0 < cuts.compute[item] < math.inf),
            key=lambda item: (-cuts.compute[item], item),
        )

    def extend(self, case: Case, item: int) -> Iterator[Case]:
        """``case`` with ``item`` in each of its groups, and in a new one, where that may still be better."""
        places = range(min(len(case.groups) + 1, self._num_devices))
        for place in places:
            groups = [*case.groups, *([()] if place == len(case.groups) else [])]
            groups[place] = (*groups[place], item)
            bound = max(case.bound_ms, self._bound(groups))
            if bound < self._value_ms:
                yield Case(tuple(groups), bound)

    def _bound(self, groups: list[tuple[int, ...]]) -> float:
        largest = transfers = 0.0
        for group in groups:
            others = [item for other in groups if other is not group for item in other]
            largest = max(largest, self._cuts.cheapest_around(group, without=others)[0])
            if largest >= self._value_ms:
                return largest
            transfers += self._transfers.cheapest_around(group, without=others)[0]
        return max(largest, self._share_ms + transfers / self._num_devices)
