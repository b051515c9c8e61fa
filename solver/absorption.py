r"""Merges that some optimum agrees with: items that may always move to the device of a neighbour.

``apply`` is :func:`absorb`. The way back is :meth:`CompiledInstance.placement`; a placement that splits an item is
brought into line by :meth:`CompiledInstance.gather`, which moves everything to the item's head and never makes
it worse.

*Claim.* Let u and v be items that meet the conditions below. Then every feasible placement with u on a device A and v
on another device B stays feasible when u moves to B, and no load rises. So some optimum has both on one device.

*Loads.* Of the tensors that touch u, call *inner* those between u and v alone, *outer* those that do not touch v, and
*shared* the rest.

* An inner tensor that u makes no longer leaves A nor enters B; one that v makes no longer leaves B nor enters A.
* An outer tensor that u needs may now have to enter B, and to leave A if it is made there. One that u makes may now
  have to leave B, and to enter A if it is needed there.
* A shared tensor that u makes left A and entered B; now it may have to leave B and to enter A instead. Any other shared
  tensor has to travel between A and B, or to B, for v as it is, so that u's move can only spare something.
* B computes u, and A no longer does. No other device sees a difference, except that it may have to send less.

So at A and at B what goes in one direction rises by at most *outer inputs − inner outputs − shared outputs*, and in
the other by at most *outer outputs + shared outputs − inner inputs* (inputs and outputs as u sees them). No load rises
if

* ``none``: compute + outer ≤ inner at B, and outer ≤ inner + compute at A;
* ``full``: compute = 0 and outer ≤ inner;
* ``duplex``: compute = 0 and neither direction rises;

for every class that B or A may be of, and for each pass by itself under ``gpipe``. Hosts pay for compute alone.

*Rules.* B may hold u: u is allowed wherever v is, and memory is no question (u needs none, or every device has room for
everything). The partition is kept if it is ``free``, if u has no forward operator, or if u has no forward edges. Else

* ``acyclic``: all forward edges that leave u go to v, and A comes before B; what precedes u then stays before it. Or
  all that enter u come from v, likewise.
* ``convex``: the same, and every forward operator in u has a successor (or a predecessor). A path that now left B and
  came back through u would, prolonged to v, have done so before. A path that now left A through u would have gone on to
  v, and left A before.

Several merges are made at once, as long as nothing that has taken something in is itself taken in: what is added to v
only turns outer tensors of others into shared or inner ones, and shared into inner ones.

Source: own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from solver.compiled import NUM_PASSES, CompiledInstance, Floats
from solver.instance import Overlap, Partition

MAX_NEIGHBOURS = 32
"""Items with more are left alone: few of them could move, and looking takes long."""
ROUNDING = 1 + 1e-9


def absorb(compiled: CompiledInstance, partition: Partition) -> CompiledInstance:
    """Merge items into neighbours that they may always sit with, until nothing changes."""
    while True:
        groups = _Round(compiled, partition).groups()
        if len(groups) == compiled.num_items:
            return compiled
        compiled = compiled.merge(groups)


class _Round:
    """One look at every item."""

    def __init__(self, compiled: CompiledInstance, partition: Partition) -> None:
        self._compiled = compiled
        self._partition = partition
        hosts = [device_class.is_host for device_class in compiled.classes]
        times = np.array([tensor.time_ms for tensor in compiled.tensors]).reshape(-1, len(hosts))
        self._times: Floats = np.where(hosts, 0.0, times)
        everything = sum(compiled.memory_bytes)
        self._is_roomy = all(c.memory_bytes is None or c.memory_bytes >= everything for c in compiled.classes)
        self._after: list[set[int]] = [set() for _ in range(compiled.num_items)]
        self._before: list[set[int]] = [set() for _ in range(compiled.num_items)]
        for source, target in compiled.item_edges:
            self._after[source].add(target)
            self._before[target].add(source)
        self._with_successor = {source for source, _ in compiled.forward_edges}
        self._with_predecessor = {target for _, target in compiled.forward_edges}

    def groups(self) -> list[list[int]]:
        """A partition of the items; the head of each group comes first."""
        compiled = self._compiled
        home = list(range(compiled.num_items))
        groups = [[item] for item in home]
        for item in self._promising():
            if len(groups[item]) > 1 or (compiled.memory_bytes[item] and not self._is_roomy):
                continue
            head = next((other for other in self._neighbours(item) if self._may_join(item, other)), item)
            while home[head] != head:
                head = home[head]
            if head != item:
                home[item] = head
                groups[head].append(item)
        return [group for item, group in enumerate(groups) if home[item] == item]

    def _promising(self) -> list[int]:
        """Items that could meet the condition on loads with some neighbour, by a necessary part of it.

        With the tensors that have one consumer alone: compute + all of them ≤ 2 · those with the one neighbour.
        """
        compiled = self._compiled
        size = compiled.num_items
        pairs = np.array(
            [(t.producer, t.consumers[0]) for t in compiled.tensors if len(t.consumers) == 1], dtype=np.int64
        ).reshape(-1, 2)
        times = self._times[[len(tensor.consumers) == 1 for tensor in compiled.tensors]]
        needed = np.where(compiled.allowed, compiled.compute_ms.sum(axis=2), np.inf)
        np.add.at(needed, pairs[:, 0], times)
        np.add.at(needed, pairs[:, 1], times)
        keys, pair_of = np.unique(
            np.concatenate([pairs[:, 0] * size + pairs[:, 1], pairs[:, 1] * size + pairs[:, 0]]), return_inverse=True
        )
        inner = np.zeros((len(keys), times.shape[1]))
        np.add.at(inner, pair_of, np.concatenate([times, times]))
        is_promising: npt.NDArray[np.bool_] = np.array((needed <= 0).any(axis=1))
        owners = keys // size
        is_promising[owners[(needed[owners] <= 2 * ROUNDING * inner).any(axis=1)]] = True
        return [int(item) for item in np.flatnonzero(is_promising)]

    def _neighbours(self, item: int) -> list[int]:
        neighbours = self._after[item] | self._before[item]
        for index in self._compiled.tensors_of[item]:
            tensor = self._compiled.tensors[index]
            neighbours |= {tensor.producer, *tensor.consumers[: MAX_NEIGHBOURS + 1]}
        neighbours.discard(item)
        return sorted(neighbours) if len(neighbours) <= MAX_NEIGHBOURS else []

    def _may_join(self, item: int, other: int) -> bool:
        allowed = self._compiled.allowed
        return (
            bool(allowed[item][allowed[other]].all())
            and self._keeps_partition(item, other)
            and self._keeps_loads(item, other)
        )

    def _keeps_partition(self, item: int, other: int) -> bool:
        compiled = self._compiled
        after, before = self._after[item], self._before[item]
        if self._partition is Partition.FREE or not compiled.has_forward[item] or not (after or before):
            return True
        forward = [operator for operator in compiled.members[item] if compiled.is_forward[operator]]
        is_convex = self._partition is Partition.CONVEX
        return (after == {other} and (not is_convex or self._with_successor.issuperset(forward))) or (
            before == {other} and (not is_convex or self._with_predecessor.issuperset(forward))
        )

    def _keeps_loads(self, item: int, other: int) -> bool:
        compiled = self._compiled
        for part in range(NUM_PASSES if compiled.is_gpipe else 1):
            passes = (part,) if compiled.is_gpipe else tuple(range(NUM_PASSES))
            for index in np.flatnonzero(compiled.allowed[item]):
                one_way, other_way = self._changes(item, other, int(index), passes)
                compute = [float(compiled.compute_ms[item, index, p]) for p in passes]
                if compiled.overlap is not Overlap.NONE:
                    if any(compute):
                        return False
                    if compiled.overlap is Overlap.DUPLEX and not (_falls(one_way) and _falls(other_way)):
                        return False
                changes = [*one_way, *other_way]
                if not _falls([*changes, *(-time for time in compute)]):
                    return False
                if compiled.allowed[other, index] and not _falls([*changes, *compute]):
                    return False
        return True

    def _changes(self, item: int, other: int, index: int, passes: Sequence[int]) -> tuple[list[float], list[float]]:
        """What the move adds to (or, below zero, takes from) transfers in either direction on a class, at most."""
        one_way, other_way = [], []
        for number in self._compiled.tensors_of[item]:
            tensor, time = self._compiled.tensors[number], float(self._times[number, index])
            if tensor.pass_index not in passes:
                continue
            touches = other == tensor.producer or other in tensor.consumers
            if tensor.producer == item:
                if touches:
                    one_way.append(-time)
                if tensor.consumers != (other,):
                    other_way.append(time)
            elif not touches:
                one_way.append(time)
            elif tensor.producer == other and tensor.consumers == (item,):
                other_way.append(-time)
        return one_way, other_way


def _falls(changes: Sequence[float]) -> bool:
    """Whether a sum is not above zero; its sign is exact."""
    return math.fsum(changes) <= 0
