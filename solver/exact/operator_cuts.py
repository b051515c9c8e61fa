"""A lower bound for every partition: the cheapest set of items that a device holding a given item can hold.

The device that holds item v holds some set S with v in it. Its load — compute, plus each tensor once in and once out —
is a submodular function of S, so the least load over all S with v in it is one minimum cut:

* source → v without limit; each item u → sink with the compute of u;
* per tensor an auxiliary vertex for *out*: producer → out with the transfer time, out → each consumer without limit,
  so that the time is cut when the producer is inside and a consumer is not;
* and one for *in*: each consumer → in without limit, in → producer with the transfer time.

An item whose minimum exceeds the period has to sit on a host, where it pays its compute alone; the period is bounded by
what the hosts can take. Memory and the partition rule are left out, which only lowers
the bound.
Unlike devices are represented by the least of their times. Under overlap the load is a maximum of sums, and at least
their mean.

Source: own; minimum cuts for submodular set costs are textbook matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from ortools.graph.python import max_flow

from solver.compiled import CompiledInstance, Floats
from solver.instance import Overlap

CAPACITY_BITS = 50
UNLIMITED = 2**60
TINIEST_MS = 1e-100

_WEIGHTS = {Overlap.NONE: (1.0, 1.0), Overlap.FULL: (0.5, 0.5), Overlap.DUPLEX: (0.5, 0.25)}
"""Of compute, and of a transfer: coefficients of a mean that the overlap rule's maximum never falls below."""


def bound_by_cuts(compiled: CompiledInstance, found: Callable[[float], None], expired: Callable[[], bool]) -> None:
    """Report ever better lower bounds of the period, in ms; returns when all items are done or time has ``expired``."""
    parts = [(0,), (1,)] if compiled.is_gpipe else [(0, 1)]
    best = [0.0] * len(parts)
    for index, passes in enumerate(parts):
        cuts = Cuts(compiled, passes)
        least: dict[int, float] = {}
        for item in cuts.by_promise():
            # Alone on a device an item costs at least as much as in the best set with it.
            if expired() or cuts.alone[item] <= best[index]:
                break
            least[item] = cuts.least_load(item)
            value = cuts.least_period(least)
            if value > best[index]:
                best[index] = value
                found(sum(best))


class Cuts:
    """Minimum cuts for one compiled instance, over the given passes together.

    Args:
        compiled: the instance.
        passes: whose times count.
        compute: whether compute counts, or transfers alone.
    """

    def __init__(self, compiled: CompiledInstance, passes: tuple[int, ...], *, compute: bool = True) -> None:
        self.compute_weight, transfer_weight = _WEIGHTS[compiled.overlap]
        hosts = np.array([c.is_host for c in compiled.classes])
        times: Floats = np.where(compiled.allowed, compiled.compute_ms[:, :, list(passes)].sum(axis=2), np.inf)
        self.on_host: Floats = times[:, hosts].min(axis=1, initial=np.inf)
        fastest = times[:, ~hosts].min(axis=1, initial=np.inf)
        self.compute: Floats = fastest * self.compute_weight if compute else np.where(fastest < np.inf, 0.0, np.inf)
        self._times: Floats = np.array(
            [
                min((t for t, c in zip(x.time_ms, compiled.classes, strict=True) if not c.is_host), default=0.0)
                if x.pass_index in passes
                else 0.0
                for x in compiled.tensors
            ]
        )
        self._times = self._times * transfer_weight
        self.alone: Floats = self.compute.copy()
        for tensor, time in zip(compiled.tensors, self._times, strict=True):
            for item in (tensor.producer, *tensor.consumers):
                self.alone[item] += time
        self.num_hosts = sum(c.count for c in compiled.classes if c.is_host)
        self._build(compiled)

    def _build(self, compiled: CompiledInstance) -> None:
        size, count = compiled.num_items, len(compiled.tensors)
        # Above every cost and every cut that is finite.
        largest = float(self.compute[np.isfinite(self.compute)].sum() + 2 * self._times.sum())
        self._exponent = CAPACITY_BITS - math.frexp(max(largest, TINIEST_MS))[1]
        ends: list[tuple[int, int, float]] = []
        self._source, self._sink = size + 2 * count, size + 2 * count + 1
        for item in range(size):
            ends.append((item, self._sink, float(self.compute[item])))
            ends.append((self._source, item, 0.0))
        for index, (tensor, time) in enumerate(zip(compiled.tensors, self._times, strict=True)):
            if time <= 0:
                continue
            out, into = size + 2 * index, size + 2 * index + 1
            ends.append((tensor.producer, out, float(time)))
            ends.append((into, tensor.producer, float(time)))
            for item in tensor.consumers:
                ends.append((out, item, math.inf))
                ends.append((item, into, math.inf))
        self._flow = max_flow.SimpleMaxFlow()
        capacities = [
            # Rounded down: the cut then never costs more than in reality.
            min(math.floor(math.ldexp(time, self._exponent)), UNLIMITED) if math.isfinite(time) else UNLIMITED
            for _, _, time in ends
        ]
        arcs = self._flow.add_arcs_with_capacity(
            np.array([a for a, _, _ in ends]), np.array([b for _, b, _ in ends]), np.array(capacities)
        )
        self._sink_arc = {item: int(arcs[2 * item]) for item in range(size)}
        self._source_arc = {item: int(arcs[2 * item + 1]) for item in range(size)}

    def by_promise(self) -> list[int]:
        """Items, the ones that cost most alone first."""
        return sorted(range(len(self.alone)), key=lambda item: (-self.alone[item], item))

    @property
    def num_vertices(self) -> int:
        """Of the network."""
        return self._sink + 1

    @property
    def rounding_ms(self) -> float:
        """By how much the load of a cheapest set may exceed the least there is, for the rounding of capacities."""
        return math.ldexp(self._flow.num_arcs(), -self._exponent)

    def least_load(self, item: int) -> float:
        """The least load, in ms, of a device other than a host that holds ``item``; infinite if none can."""
        if not math.isfinite(self.compute[item]):
            return math.inf
        with self._cut_around((item,)) as is_optimal:
            # Without a solution nothing is claimed.
            return math.ldexp(self._flow.optimal_flow(), -self._exponent) if is_optimal else 0.0

    def cheapest_set(self, item: int) -> tuple[int, ...]:
        """The largest of the sets with the least load that hold ``item``; it alone where none is known."""
        return self.cheapest_around((item,))[1] if math.isfinite(self.compute[item]) else (item,)

    def cheapest_around(self, items: Sequence[int], without: Sequence[int] = ()) -> tuple[float, tuple[int, ...]]:
        """The least load, in ms, of a device other than a host that holds ``items``, and the largest set with it.

        All of ``items`` can sit there, none of ``without`` does. Where no answer is known the load is 0 and the set
        ``items``.
        """
        with self._cut_around(items, without) as is_optimal:
            if not is_optimal:
                return 0.0, tuple(items)
            least = math.ldexp(self._flow.optimal_flow(), -self._exponent)
            outside = set(self._flow.get_sink_side_min_cut())
        return least, tuple(other for other in range(len(self.alone)) if other not in outside)

    @contextmanager
    def _cut_around(self, items: Sequence[int], without: Sequence[int] = ()) -> Iterator[bool]:
        changed = {self._source_arc[item]: UNLIMITED for item in items}
        changed |= {self._sink_arc[item]: UNLIMITED for item in without}
        before = {arc: self._flow.capacity(arc) for arc in changed}
        for arc, capacity in changed.items():
            self._flow.set_arc_capacity(arc, capacity)
        yield self._flow.solve(self._source, self._sink) == self._flow.OPTIMAL
        for arc, capacity in before.items():
            self._flow.set_arc_capacity(arc, capacity)

    def least_period(self, least: dict[int, float]) -> float:
        """Below this period some items would have to sit on hosts that take too long on the hosts there are."""
        # Items leave the other devices in descending order of their least load, as the period falls below it.
        total = largest = 0.0
        bound = math.inf
        for item, value in sorted(least.items(), key=lambda pair: -pair[1]):
            # A period of at least ``value`` leaves only the items before this one to the hosts.
            needed = max(largest, total / self.num_hosts if self.num_hosts else 0.0)
            bound = min(bound, max(value, needed))
            total += float(self.on_host[item])
            largest = max(largest, float(self.on_host[item]))
        return min(bound, max(largest, total / self.num_hosts if self.num_hosts else math.inf))
