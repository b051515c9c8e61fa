"""A lower bound for every partition of a large graph: so much has to be transferred, whatever the parts look like.

*Network.* Vertices are the items, and a hub per tensor with m ≥ 2 consumers. A tensor with one consumer and transfer
time t is an edge of capacity 2t between its ends. Any other is an edge of capacity 2t from its producer to its hub, and
one of 2t ÷ (m − 1) from the hub to each consumer. A path through a tensor goes from one of its items to another, and
*crosses* if these are in different parts of a partition. No more flow crosses than the tensor costs, which is
(1 + r) · t if r ≥ 1 devices other than the producer's need it. For every crossing path has an end on one of these r,
whose edges carry 2t together if some consumer sits with the producer. If none does and r = 1, every such path uses the
producer's edge, which carries 2t. Else it uses two edges, so that at most half of all capacity crosses, which is
(1 + m ÷ (m − 1)) · t ≤ 3t.

*Flows.* For some items v let S be a set of items around v, and send w(u) · y units of flow from v to each u in S, w
being compute and y ≥ 0 a weight of v. A device whose load is within the period T computes at most T, so at least
w(S) − T of S is elsewhere than v, and as much flow, times y, crosses some tensor. If no edge carries more than θ times
its capacity, transfers cost all devices together at least (A − B · T) ÷ θ with A = Σ y · w(S) and B = Σ y. The loads of
n devices add up to compute and transfers, so n · T ≥ W + (A − B · T) ÷ θ, and

    T ≥ (W + A ÷ θ) ÷ (n + B ÷ θ).

Any flows give a bound. Good ones are found by routing along shortest paths, with lengths that grow exponentially with
what an edge carries already, and by fading out what was sent at first.

Unlike devices are represented by the least of their times. Over ``links`` a transfer costs at least as much. The
argument needs loads that are sums and no hosts, see :func:`supports`. The partition rule and memory are left out.

Source: own application of spreading metrics (Even, Naor, Rao, Schieber, *Fast approximate graph partitioning
algorithms*, 1999), whose dual these flows are, solved in the manner of Garg and Könemann (1998).
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

import numpy as np

from solver.compiled import CompiledInstance, Floats, Ints
from solver.instance import Overlap
from solver.kernels import kernel

ROUNDS = 1000
SOURCES_PER_ROUND = 0.05
"""Part of the items that send flow in each round."""
FADING = 0.985
"""What is left of earlier flows after each round."""
STEEPNESS = 12.0
"""Lengths grow by e to this power from an edge without flow to the fullest one."""
PREFERENCE = 8.0
"""Power of what a unit of length gains, in the weight of a source."""
ROUNDING = 1e-9


def supports(compiled: CompiledInstance) -> bool:
    """Whether loads are sums, every device pays for transfers, and every item has a device."""
    return (
        compiled.overlap is Overlap.NONE
        and not any(c.is_host for c in compiled.classes)
        and bool(compiled.allowed.any(axis=1).all())
    )


def bound_by_flows(compiled: CompiledInstance, seed: int, found: Callable[[float], object], stop: Ints) -> None:
    """Report ever better lower bounds of the period, in ms.

    Args:
        compiled: with :func:`supports`.
        seed: of the choice of sources.
        found: told of each better bound.
        stop: ends the search when its first entry is set.
    """
    network = Network(compiled)
    draws = np.random.default_rng(seed)
    best = network.total_ms / compiled.num_devices
    for _ in range(ROUNDS):
        if stop[0]:
            return
        network.send(best, draws, stop)
        value = network.least_period()
        if value > best:
            best = value
            found(best * (1 - ROUNDING))


class Network:
    """The network of one instance and the flows sent so far."""

    def __init__(self, compiled: CompiledInstance) -> None:
        compute = np.where(compiled.allowed, compiled.compute_ms.sum(axis=2), np.inf)
        self.weights: Floats = np.concatenate([compute.min(axis=1), np.zeros(len(compiled.tensors))])
        self.total_ms = float(self.weights.sum())
        self._num_items, self._num_devices = compiled.num_items, compiled.num_devices
        ends, capacities = _edges(compiled)
        self._first, self._others, self._edge_of = _incidence(ends, len(self.weights))
        self._capacities = capacities
        self._flows = np.zeros(len(capacities))
        self._sums = np.zeros(3)
        """A, B, and the mean gain per length."""

    def send(self, period_ms: float, draws: np.random.Generator, stop: Ints) -> None:
        """Flow from some items to what is around them, by the present lengths."""
        self._flows *= FADING
        self._sums[:2] *= FADING
        fullness = self._flows / self._capacities
        lengths = np.exp(STEEPNESS * fullness / max(fullness.max(initial=0.0), 1e-300)) / self._capacities
        count = max(1, int(SOURCES_PER_ROUND * self._num_items))
        sources = draws.permutation(self._num_items)[:count]
        _send(
            sources,
            period_ms,
            self.weights,
            self._first,
            self._others,
            self._edge_of,
            lengths,
            self._flows,
            self._sums,
            stop,
        )

    def least_period(self) -> float:
        """The bound that the flows prove."""
        congestion = float((self._flows / self._capacities).max(initial=0.0))
        if congestion <= 0:
            return 0.0
        gained, per_ms = self._sums[0] / congestion, self._sums[1] / congestion
        return float((self.total_ms + gained) / (self._num_devices + per_ms))


def _edges(compiled: CompiledInstance) -> tuple[Ints, Floats]:
    ends: list[tuple[int, int]] = []
    capacities: list[float] = []
    for index, tensor in enumerate(compiled.tensors):
        time, number = min(tensor.time_ms), len(tensor.consumers)
        if time <= 0:
            continue
        if number == 1:
            ends.append((tensor.producer, tensor.consumers[0]))
            capacities.append(2 * time)
            continue
        hub = compiled.num_items + index
        ends.append((tensor.producer, hub))
        capacities.append(2 * time)
        ends.extend((hub, item) for item in tensor.consumers)
        capacities.extend([2 / (number - 1) * time] * number)
    return np.array(ends, dtype=np.int64).reshape(-1, 2), np.array(capacities)


def _incidence(ends: Ints, size: int) -> tuple[Ints, Ints, Ints]:
    """Per vertex the other ends and the numbers of its edges."""
    near = np.concatenate([ends[:, 0], ends[:, 1]])
    far = np.concatenate([ends[:, 1], ends[:, 0]])
    order = np.argsort(near, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(near, minlength=size))]).astype(np.int64)
    return first, far[order], (order % max(1, len(ends))).astype(np.int64)


@kernel
def _send(  # noqa: PLR0912, PLR0915  one loop nest, kept whole for the compiler
    sources: Ints,
    period: float,
    weights: Floats,
    first: Ints,
    others: Ints,
    edge_of: Ints,
    lengths: Floats,
    flows: Floats,
    sums: Floats,
    stop: Ints,
) -> None:
    size = len(weights)
    distance = np.full(size, np.inf)
    settled = np.zeros(size, dtype=np.bool_)
    parent = np.empty(size, dtype=np.int64)
    through = np.empty(size, dtype=np.int64)
    below = np.zeros(size)
    order = np.empty(size, dtype=np.int64)
    reached = np.empty(size, dtype=np.int64)
    for source in sources:
        if stop[0]:
            return
        if weights[source] <= 0:
            continue
        ready = [(0.0, np.int64(source))]
        distance[source] = 0.0
        reached[0] = source
        num_reached, num_settled = 1, 0
        held = cost = 0.0
        while len(ready) > 0:
            away, vertex = heappop(ready)
            if settled[vertex]:
                continue
            # As long as gain per length rises: it does while the next vertex is nearer than what a unit costs so far.
            if held > period and away * (held - period) >= cost:
                break
            settled[vertex] = True
            order[num_settled] = vertex
            num_settled += 1
            held += weights[vertex]
            cost += weights[vertex] * away
            for pointer in range(first[vertex], first[vertex + 1]):
                other = others[pointer]
                if settled[other]:
                    continue
                longer = away + lengths[edge_of[pointer]]
                if longer < distance[other]:
                    if distance[other] == np.inf:
                        reached[num_reached] = other
                        num_reached += 1
                    distance[other] = longer
                    parent[other] = vertex
                    through[other] = edge_of[pointer]
                    heappush(ready, (longer, other))
        if held > period:
            ratio = (held - period) / cost if cost > 0 else 0.0
            sums[2] = ratio if sums[2] == 0.0 else 0.99 * sums[2] + 0.01 * ratio
            y = min(10.0, (ratio / sums[2]) ** PREFERENCE) * weights[source] if sums[2] > 0 else 0.0
            sums[0] += y * held
            sums[1] += y
            for index in range(num_settled - 1, 0, -1):
                vertex = order[index]
                below[vertex] += y * weights[vertex]
                flows[through[vertex]] += below[vertex]
                below[parent[vertex]] += below[vertex]
                below[vertex] = 0.0
            below[source] = 0.0
        for index in range(num_reached):
            distance[reached[index]] = np.inf
            settled[reached[index]] = False
