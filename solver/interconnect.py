"""What a transfer costs each of its two ends, in plain Python, for the verifier alone.

The methods that make placements compute transfer times from arrays of their own; import-linter keeps the two apart.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush

from solver.instance import Cluster, Device, Edge, InterconnectModel, Link


@dataclass(frozen=True, slots=True)
class Charge:
    """What one tensor costs: times in ms that its home pays, the time each receiver pays, receivers without a route."""

    outgoing: tuple[float, ...]
    incoming: dict[str, float]
    unreachable: tuple[str, ...] = ()


class Wires:
    """The interconnect of one cluster; answers are remembered."""

    def __init__(self, cluster: Cluster) -> None:
        self._interconnect = cluster.interconnect
        self._devices = {device.name: device for device in cluster.expand()}
        meaning = cluster.resolve()
        self._pairs: dict[tuple[str, str], tuple[int, Link]] = {}
        for index, pair in enumerate(cluster.interconnect.pairs):
            for ends in ((pair.a, pair.b), (pair.b, pair.a)):
                self._pairs.setdefault(ends, (index, pair.link))
        groups = [
            (frozenset(name for reference in group.devices for name in meaning[reference]), group.link)
            for group in cluster.interconnect.groups
        ]
        # Stable: of groups of one size the first listed stays first.
        self._groups = sorted(groups, key=lambda group: len(group[0]))
        self._links: dict[tuple[str, str], Link | None] = {}
        self._routes: dict[tuple[str, int, float | None], dict[str, float]] = {}

    def charge(self, edge: Edge, home: str, receivers: Collection[str]) -> Charge:
        """The times of one tensor, made on ``home`` and needed on the other devices ``receivers``."""
        if self._interconnect.model is InterconnectModel.HOST:
            outgoing = (self._over_host(edge, self._devices[home]),) if receivers else ()
            return Charge(outgoing, {name: self._over_host(edge, self._devices[name]) for name in receivers})
        times = {name: self._over_links(edge, home, name) for name in receivers}
        reached = {name: time for name, time in times.items() if math.isfinite(time)}
        return Charge(tuple(reached.values()), reached, tuple(name for name in times if name not in reached))

    def _over_host(self, edge: Edge, device: Device) -> float:
        """Time of one tensor between ``device`` and host memory; nothing for a device that is host."""
        spec, interconnect = device.spec, self._interconnect
        if spec.is_host:
            return 0.0
        if edge.transfer_time_ms is not None:
            return edge.transfer_time_ms
        latency = interconnect.host_latency_ms if spec.host_latency_ms is None else spec.host_latency_ms
        bandwidth = spec.host_bandwidth_bytes_per_s or interconnect.host_bandwidth_bytes_per_s
        if bandwidth is None:  # Only without bytes: validation asks for a bandwidth otherwise.
            return latency
        return edge.bytes / bandwidth * 1000 + latency

    def _over_links(self, edge: Edge, home: str, receiver: str) -> float:
        """Time between two different devices: over their link, else over the fastest route; infinite without one."""
        link = self._link(home, receiver)
        if link is not None:
            return _over_one(edge, link)
        key = (home, edge.bytes, edge.transfer_time_ms)
        if key not in self._routes:
            self._routes[key] = self._fastest_routes(edge, home)
        return self._routes[key].get(receiver, math.inf)

    def _link(self, one: str, other: str) -> Link | None:
        """A named pair (the first listed), else the smallest group that holds both, else the default."""
        if (one, other) not in self._links:
            self._links[one, other] = self._links[other, one] = self._find_link(one, other)
        return self._links[one, other]

    def _find_link(self, one: str, other: str) -> Link | None:
        named = [
            self._pairs[ends]
            for ends in ((a, b) for a in self._references(one) for b in self._references(other))
            if ends in self._pairs
        ]
        if named:
            return min(named, key=lambda pair: pair[0])[1]
        for members, link in self._groups:
            if one in members and other in members:
                return link
        return self._interconnect.default

    def _references(self, name: str) -> tuple[str, ...]:
        """The ids a document may use for this device."""
        return (name, self._devices[name].spec.id)

    def _fastest_routes(self, edge: Edge, home: str) -> dict[str, float]:
        """The time to every device that can be reached (Dijkstra)."""
        times: dict[str, float] = {}
        waiting = [(0.0, home)]
        while waiting:
            time, name = heappop(waiting)
            if name in times:
                continue
            times[name] = time
            for other, link in self._neighbours(name):
                if other not in times:
                    heappush(waiting, (time + _over_one(edge, link), other))
        return times

    def _neighbours(self, name: str) -> Iterator[tuple[str, Link]]:
        for other in self._devices:
            link = self._link(name, other) if other != name else None
            if link is not None:
                yield other, link


def _over_one(edge: Edge, link: Link) -> float:
    if edge.transfer_time_ms is not None:
        return edge.transfer_time_ms
    return edge.bytes / link.bandwidth_bytes_per_s * 1000 + link.latency_ms
