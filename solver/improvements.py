"""A cluster with one thing better: a device or a link that is twice as fast, a link without latency.

Every improvement is a changed instance, for the verifier to judge; nothing is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from solver.instance import Cluster, Instance, InterconnectModel, Link
from solver.result import Placement


class ImprovementCode(StrEnum):
    """What is made better."""

    FASTER_DEVICE = "faster_device"
    FASTER_LINK = "faster_link"
    NO_LATENCY = "no_latency"
    MORE_MEMORY = "more_memory"


@dataclass(frozen=True, slots=True)
class Improvement:
    """One thing made better, at ``pointer`` of the request; ``apply`` gives the instance with it."""

    code: ImprovementCode
    message: str
    pointer: str
    apply: Callable[[Instance], Instance]


@dataclass(frozen=True, slots=True)
class _Level:
    """A link that is stated once and joins ``devices`` (empty: any), and how a cluster gets another one for it."""

    pointer: str
    words: str
    devices: frozenset[str]
    link: Link
    put: Callable[[Cluster, Link], Cluster]


def improvements(instance: Instance, placement: Placement, bottlenecks: Collection[str]) -> Iterator[Improvement]:
    """What may shorten the period of ``placement`` on better hardware, what touches a bottleneck first."""
    if instance.graph.edges:
        words = "every transfer twice as fast"
        yield Improvement(ImprovementCode.FASTER_LINK, words, "/cluster/interconnect", _halve_transfers)
    yield from _faster_devices(instance, placement, bottlenecks)
    # A given transfer time belongs to no one link.
    if any(edge.transfer_time_ms is None for edge in instance.graph.edges):
        for level in sorted(_levels(instance.cluster), key=lambda level: _is_apart(level, bottlenecks)):
            yield from _better_link(level)


def _is_apart(level: _Level, bottlenecks: Collection[str]) -> bool:
    return bool(level.devices) and level.devices.isdisjoint(bottlenecks)


def _faster_devices(instance: Instance, placement: Placement, bottlenecks: Collection[str]) -> Iterator[Improvement]:
    """Each bottleneck twice as fast, all of them, and each entry with one. No other device shortens the period."""
    used = set(placement.values())
    if len(bottlenecks) > 1:
        words = f"the {len(bottlenecks)} bottlenecks twice as fast"
        apply = _speed_up(placement, bottlenecks)
        yield Improvement(ImprovementCode.FASTER_DEVICE, words, "/cluster/devices", apply)
    for index, spec in enumerate(instance.cluster.devices):
        changes: list[tuple[str, tuple[str, ...]]] = [
            (f"device {name!r} twice as fast", (name,)) for name in spec.names if name in bottlenecks
        ]
        together = tuple(name for name in spec.names if name in used)
        if changes and len(together) > 1:
            changes.append((f"the {len(together)} used devices of {spec.id!r} twice as fast", together))
        for words, names in changes:
            pointer = f"/cluster/devices/{index}"
            yield Improvement(ImprovementCode.FASTER_DEVICE, words, pointer, _speed_up(placement, names))


def _speed_up(placement: Placement, devices: Collection[str]) -> Callable[[Instance], Instance]:
    """Half the compute time of what sits on ``devices``: for this placement the same as devices twice as fast."""

    def apply(instance: Instance) -> Instance:
        operators = tuple(
            replace(operator, compute_time_ms={kind: time / 2 for kind, time in operator.compute_time_ms.items()})
            if placement[operator.id] in devices
            else operator
            for operator in instance.graph.operators
        )
        return replace(instance, graph=replace(instance.graph, operators=operators))

    return apply


def _better_link(level: _Level) -> Iterator[Improvement]:
    def put(link: Link) -> Callable[[Instance], Instance]:
        return lambda instance: replace(instance, cluster=level.put(instance.cluster, link))

    bandwidth, latency = level.link.bandwidth_bytes_per_s, level.link.latency_ms
    if math.isfinite(bandwidth):
        words = f"{level.words} with twice the bandwidth"
        yield Improvement(ImprovementCode.FASTER_LINK, words, level.pointer, put(Link(2 * bandwidth, latency)))
    if latency > 0:
        words = f"{level.words} without latency"
        yield Improvement(ImprovementCode.NO_LATENCY, words, level.pointer, put(Link(bandwidth)))


def _halve_transfers(instance: Instance) -> Instance:
    """Twice the bandwidth and half the latency of every link, and half of every given transfer time."""
    cluster = instance.cluster
    for level in _levels(cluster):
        cluster = level.put(cluster, Link(2 * level.link.bandwidth_bytes_per_s, level.link.latency_ms / 2))
    edges = tuple(
        edge if edge.transfer_time_ms is None else replace(edge, transfer_time_ms=edge.transfer_time_ms / 2)
        for edge in instance.graph.edges
    )
    return replace(instance, cluster=cluster, graph=replace(instance.graph, edges=edges))


def _levels(cluster: Cluster) -> Iterator[_Level]:
    """Every link that the request states: those of the entries to host memory, or default, groups and pairs."""
    if cluster.interconnect.model is InterconnectModel.HOST:
        yield from _host_levels(cluster)
        return
    meaning, wires = cluster.resolve(), cluster.interconnect
    pointer = "/cluster/interconnect"
    if wires.default is not None:
        yield _Level(f"{pointer}/default", "the default link", frozenset(), wires.default, _put_default)
    for index, group in enumerate(wires.groups):
        devices = frozenset(name for reference in group.devices for name in meaning[reference])
        words = f"the links of group {index} ({_named(group.devices)})"
        yield _Level(f"{pointer}/groups/{index}", words, devices, group.link, _put_group(index))
    for index, pair in enumerate(wires.pairs):
        devices = frozenset((*meaning[pair.a], *meaning[pair.b]))
        words = f"the link between {pair.a!r} and {pair.b!r}"
        yield _Level(f"{pointer}/pairs/{index}", words, devices, pair.link, _put_pair(index))


def _host_levels(cluster: Cluster) -> Iterator[_Level]:
    wires = cluster.interconnect
    for index, spec in enumerate(cluster.devices):
        if spec.is_host:
            continue
        bandwidth = spec.host_bandwidth_bytes_per_s or wires.host_bandwidth_bytes_per_s
        latency = wires.host_latency_ms if spec.host_latency_ms is None else spec.host_latency_ms
        link = Link(math.inf if bandwidth is None else bandwidth, latency)  # None: there are no bytes to move
        words = f"the host link of {spec.id!r}"
        yield _Level(f"/cluster/devices/{index}", words, frozenset(spec.names), link, _put_host_link(index))


def _put_default(cluster: Cluster, link: Link) -> Cluster:
    return replace(cluster, interconnect=replace(cluster.interconnect, default=link))


def _put_group(index: int) -> Callable[[Cluster, Link], Cluster]:
    def put(cluster: Cluster, link: Link) -> Cluster:
        groups = list(cluster.interconnect.groups)
        groups[index] = replace(groups[index], link=link)
        return replace(cluster, interconnect=replace(cluster.interconnect, groups=tuple(groups)))

    return put


def _put_pair(index: int) -> Callable[[Cluster, Link], Cluster]:
    def put(cluster: Cluster, link: Link) -> Cluster:
        pairs = list(cluster.interconnect.pairs)
        pairs[index] = replace(pairs[index], link=link)
        return replace(cluster, interconnect=replace(cluster.interconnect, pairs=tuple(pairs)))

    return put


def _put_host_link(index: int) -> Callable[[Cluster, Link], Cluster]:
    def put(cluster: Cluster, link: Link) -> Cluster:
        devices = list(cluster.devices)
        spec = replace(devices[index], host_latency_ms=link.latency_ms)
        if math.isfinite(link.bandwidth_bytes_per_s):
            spec = replace(spec, host_bandwidth_bytes_per_s=link.bandwidth_bytes_per_s)
        devices[index] = spec
        return replace(cluster, devices=tuple(devices))

    return put


def _named(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (" …" if len(names) > 4 else "")
