"""Links between classes of devices as matrices, and the fastest way for each tensor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from solver.instance import Cluster, Device, Link

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Size = tuple[int, float | None]
"""Bytes of a tensor, and its own time over any one link, if it has one."""

NO_LINK = -1


class Links:
    """Which link joins the devices of each two classes; on the diagonal, two devices of one class.

    Args:
        table: the distinct links.
        index: [C, C] symmetric, into ``table``; ``NO_LINK`` where two devices are not joined directly.
        counts: [C] devices of each class.
    """

    def __init__(self, table: Sequence[Link], index: Ints, counts: Sequence[int]) -> None:
        self.table = tuple(table)
        self.index = index
        self.counts = tuple(counts)
        self._times: dict[Size, Floats] = {}

    @cached_property
    def is_complete(self) -> bool:
        """Whether every two devices are joined directly."""
        alone = np.diag(np.array(self.counts) < 2)
        return bool(((self.index != NO_LINK) | alone).all())

    @cached_property
    def reaches(self) -> npt.NDArray[np.bool_]:
        """[C, C]: whether data can get from a device of one class to another device of the other."""
        reached: npt.NDArray[np.bool_] = np.isfinite(self.times(((0, None),)))
        return reached

    def times(self, sizes: Sequence[Size]) -> Floats:
        """[C, C] ms that tensors of these sizes together take from one device to another; infinite without a route."""
        total = np.zeros(self.index.shape)
        for size in sizes:
            if size not in self._times:
                self._times[size] = self._fastest(size)
            total += self._times[size]
        return total

    def least_times(self, sizes: Sequence[Size]) -> Floats:
        """[C] ms that they take a device of each class at least, whichever other device they go to or come from."""
        times = self.times(sizes)
        np.fill_diagonal(times, np.where(np.array(self.counts) < 2, np.inf, np.diag(times)))
        least: Floats = times.min(axis=1, initial=np.inf)
        return np.where(np.isfinite(least), least, 0.0)

    def keep(self, classes: Sequence[int], counts: Sequence[int]) -> Links:
        """The links of a part of the devices; routes may still lead over all of them."""
        return _PartOfLinks(self, classes, counts)

    def _fastest(self, size: Size) -> Floats:
        num_bytes, own_ms = size
        single = [
            num_bytes / link.bandwidth_bytes_per_s * 1000 + link.latency_ms if own_ms is None else own_ms
            for link in self.table
        ]
        hop: Floats = np.array([*single, np.inf])[self.index]
        if self.is_complete:
            return hop
        # Floyd and Warshall between classes. A way never gains by passing through a second device of its own class,
        # which has the same links; so two unjoined devices of one class meet at the nearest device of another.
        way = hop.copy()
        np.fill_diagonal(way, 0.0)
        for middle in range(len(way)):
            np.minimum(way, way[:, middle, None] + way[None, middle, :], out=way)
        apart = hop.copy()
        np.fill_diagonal(apart, np.inf)
        np.fill_diagonal(way, 2 * apart.min(axis=1, initial=np.inf))
        return np.where(self.index == NO_LINK, way, hop)


class _PartOfLinks(Links):
    """Some classes, with some of their devices each, among the devices of ``whole``."""

    def __init__(self, whole: Links, classes: Sequence[int], counts: Sequence[int]) -> None:
        super().__init__(whole.table, whole.index[np.ix_(classes, classes)], counts)
        self._whole = whole
        self._kept = list(classes)

    def _fastest(self, size: Size) -> Floats:
        return self._whole.times((size,))[np.ix_(self._kept, self._kept)]


def classify(
    cluster: Cluster, devices: Sequence[Device], signatures: Sequence[Hashable]
) -> tuple[list[list[Device]], Links]:
    """Devices that can be exchanged without changing anything, and the links between these classes.

    Two devices can be exchanged if their signatures are equal and each third device has equal links to both. This is
    an equivalence, and the links between two classes are all equal.

    Args:
        cluster: with the interconnect ``links``.
        devices: all of them.
        signatures: per device, everything but the links.
    """
    groups = _sorted_groups(cluster)
    roles = _roles(cluster, devices, [members for members, _ in groups])
    first: dict[Hashable, list[int]] = defaultdict(list)
    for number, signature in enumerate(signatures):
        first[signature, roles[number]].append(number)
    members = list(first.values())
    table, index = _link_index(cluster, devices, members, groups)
    kept = _unite_alike(members, [signatures[numbers[0]] for numbers in members], index)
    counts = [sum(len(members[part]) for part in parts) for parts in kept]
    leaders = [parts[0] for parts in kept]
    reduced = index[np.ix_(leaders, leaders)]
    for place, parts in enumerate(kept):
        if len(parts) > 1:
            reduced[place, place] = index[parts[0], parts[1]]
        elif counts[place] == 1:
            reduced[place, place] = NO_LINK
    classes = [[devices[n] for n in sorted(n for part in parts for n in members[part])] for parts in kept]
    return classes, Links(table, reduced, counts)


def _sorted_groups(cluster: Cluster) -> list[tuple[frozenset[str], Link]]:
    """Groups by size; of equals the first listed first."""
    meaning = cluster.resolve()
    groups = [
        (frozenset(name for reference in group.devices for name in meaning[reference]), group.link)
        for group in cluster.interconnect.groups
    ]
    return sorted(groups, key=lambda group: len(group[0]))


def _roles(cluster: Cluster, devices: Sequence[Device], groups: Sequence[frozenset[str]]) -> list[Hashable]:
    """Per device, the groups it is in and the ends of pairs that mean it."""
    named: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for number, pair in enumerate(cluster.interconnect.pairs):
        named[pair.a].append((number, 0))
        named[pair.b].append((number, 1))
    inside: dict[str, list[int]] = defaultdict(list)
    for number, members in enumerate(groups):
        for name in members:
            inside[name].append(number)
    return [
        (tuple(inside[device.name]), tuple(sorted(end for name in _references(device) for end in named[name])))
        for device in devices
    ]


def _references(device: Device) -> tuple[str, ...]:
    """The ids a document may use for the device, each once."""
    return (device.name,) if device.name == device.spec.id else (device.name, device.spec.id)


def _link_index(
    cluster: Cluster,
    devices: Sequence[Device],
    members: Sequence[Sequence[int]],
    groups: Sequence[tuple[frozenset[str], Link]],
) -> tuple[list[Link], Ints]:
    """The distinct links, and which of them joins two devices of each two of the preliminary classes."""
    numbers: dict[Link, int] = {}
    size = len(members)
    interconnect = cluster.interconnect

    def number_of(link: Link) -> int:
        return numbers.setdefault(link, len(numbers))

    default = NO_LINK if interconnect.default is None else number_of(interconnect.default)
    index = np.full((size, size), default, dtype=np.int64)
    class_of = {devices[number].name: place for place, alike in enumerate(members) for number in alike}
    # From the weakest claim to the strongest: large groups, small ones, pairs from the last listed to the first.
    for names, link in reversed(groups):
        held = sorted({class_of[name] for name in names})
        index[np.ix_(held, held)] = number_of(link)
    meaning = cluster.resolve()
    for pair in reversed(interconnect.pairs):
        one, other = ([class_of[name] for name in meaning[end]] for end in (pair.a, pair.b))
        index[np.ix_(one, other)] = number_of(pair.link)
        index[np.ix_(other, one)] = number_of(pair.link)
    return list(numbers), index


def _unite_alike(members: Sequence[Sequence[int]], signatures: Sequence[Hashable], index: Ints) -> list[list[int]]:
    """Preliminary classes whose devices can be exchanged with each other."""
    by_signature: dict[Hashable, list[list[int]]] = defaultdict(list)
    for place, signature in enumerate(signatures):
        for parts in by_signature[signature]:
            if _are_alike(parts[0], place, members, index):
                parts.append(place)
                break
        else:
            by_signature[signature].append([place])
    return sorted((parts for alike in by_signature.values() for parts in alike), key=lambda parts: parts[0])


def _are_alike(one: int, other: int, members: Sequence[Sequence[int]], index: Ints) -> bool:
    differs = index[one] != index[other]
    differs[[one, other]] = False
    if differs.any():
        return False
    inner = [index[place, place] for place in (one, other) if len(members[place]) > 1]
    return all(link == index[one, other] for link in inner)
