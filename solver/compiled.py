"""A throughput instance as arrays: what the methods compute with.

An *item* is a set of operators that share one device in every placement; straight from :func:`compile_instance` each
operator is an item of its own, and :mod:`solver.reductions` merges them. Devices that no constraint can tell apart form
a *class*; methods reason about classes and their counts, and concrete devices are picked at the very end.

Over ``links``, ``Tensor.time_ms`` is optimistic: what a transfer costs a device at least, whichever other device it
goes to or comes from. Each receiver pays once and each sender at least once, so to a method that reads these arrays as
those of a ``host`` interconnect every placement seems at most as long as it is, and its bounds hold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from solver.alike_devices import find_exclusions, find_signatures
from solver.instance import (
    Device,
    DeviceSpec,
    Instance,
    Interconnect,
    InterconnectModel,
    Overlap,
    Partition,
    PipelineSchedule,
)
from solver.links import Links, Size, classify
from solver.result import Placement

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NUM_PASSES = 2
"""Index 0 is the forward pass, index 1 the backward pass."""


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """Devices alike in every respect: times, memory, transfers, and which operators may use them.

    ``is_host`` tells whether they pay nothing for transfers, which over ``links`` no device does.
    """

    devices: tuple[str, ...]
    is_host: bool
    memory_bytes: int | None
    cost_per_hour: float = 0.0

    @property
    def count(self) -> int:
        """How many devices the class has."""
        return len(self.devices)


@dataclass(frozen=True, slots=True)
class Tensor:
    """Data that leaves an item: ``time_ms[c]`` is one transfer, in or out, on a device of class ``c``.

    ``pass_index`` is the pass of the operator that makes it; ``consumers`` are items other than the producer, sorted.
    Over ``links``, ``sizes`` are those of the tensors united in this one, for :meth:`solver.links.Links.times`.
    """

    producer: int
    consumers: tuple[int, ...]
    pass_index: int
    time_ms: tuple[float, ...]
    sizes: tuple[Size, ...] = ()


@dataclass(frozen=True)
class CompiledInstance:
    """See the module. I items, C device classes, N operators.

    Attributes:
        members: per item, the indices of its operators, its head first.
        compute_ms: [I, C, 2], per pass; infinite where an item may not use a class.
        memory_bytes: per item.
        tensors: transfers between items; the ones that cost nothing anywhere are left out.
        forward_edges: pairs of operators joined by a forward edge.
        is_forward: [N], whether the partition rule concerns the operator.
        links: between the classes; ``None`` over ``host``.
    """

    instance: Instance
    classes: tuple[DeviceClass, ...]
    members: tuple[tuple[int, ...], ...]
    compute_ms: Floats
    memory_bytes: tuple[int, ...]
    tensors: tuple[Tensor, ...]
    forward_edges: tuple[tuple[int, int], ...]
    is_forward: tuple[bool, ...]
    links: Links | None = None

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self.members)

    @property
    def num_devices(self) -> int:
        """Number of devices over all classes."""
        return sum(device_class.count for device_class in self.classes)

    @property
    def overlap(self) -> Overlap:
        """How compute and transfers add up."""
        return self.instance.cluster.interconnect.overlap

    @property
    def partition(self) -> Partition:
        """The partition rule."""
        return self.instance.objective.partition

    @property
    def is_gpipe(self) -> bool:
        """Whether the two passes have a maximum each."""
        return self.instance.objective.schedule is PipelineSchedule.GPIPE

    @cached_property
    def runs(self) -> npt.NDArray[np.bool_]:
        """[I, C]: whether a class has a compute time for all of an item."""
        finite: npt.NDArray[np.bool_] = np.isfinite(self.compute_ms)
        return np.logical_and(finite[:, :, 0], finite[:, :, 1])

    @cached_property
    def allowed(self) -> npt.NDArray[np.bool_]:
        """[I, C]: whether an item may sit on a class, memory included."""
        fits = self.runs.copy()
        for index, device_class in enumerate(self.classes):
            limit = device_class.memory_bytes
            if limit is not None:
                fits[:, index] &= np.array([need <= limit for need in self.memory_bytes], dtype=bool)
        return fits

    @cached_property
    def item_of(self) -> tuple[int, ...]:
        """Per operator, its item."""
        item_of = [0] * len(self.is_forward)
        for item, operators in enumerate(self.members):
            for operator in operators:
                item_of[operator] = item
        return tuple(item_of)

    @cached_property
    def has_forward(self) -> tuple[bool, ...]:
        """Per item, whether the partition rule concerns it."""
        return tuple(any(self.is_forward[operator] for operator in operators) for operators in self.members)

    @cached_property
    def item_edges(self) -> tuple[tuple[int, int], ...]:
        """Forward edges between different items, each once, sorted."""
        item_of = self.item_of
        pairs = {(item_of[source], item_of[target]) for source, target in self.forward_edges}
        return tuple(sorted((source, target) for source, target in pairs if source != target))

    @cached_property
    def tensors_of(self) -> tuple[tuple[int, ...], ...]:
        """Per item, the tensors that it makes or needs."""
        touching: list[list[int]] = [[] for _ in range(self.num_items)]
        for index, tensor in enumerate(self.tensors):
            for item in (tensor.producer, *tensor.consumers):
                touching[item].append(index)
        return tuple(tuple(indices) for indices in touching)

    def merge(self, groups: Sequence[Sequence[int]]) -> CompiledInstance:
        """The same question with each group of items merged into one; ``groups`` is a partition of the items.

        The first item of a group becomes the head of the new one.
        """
        if len(groups) == self.num_items:
            return self
        new_item = [0] * self.num_items
        for index, group in enumerate(groups):
            for item in group:
                new_item[item] = index
        compute = np.zeros((len(groups), *self.compute_ms.shape[1:]))
        np.add.at(compute, new_item, self.compute_ms)
        memory = [0] * len(groups)
        for item, need in enumerate(self.memory_bytes):
            memory[new_item[item]] += need
        return CompiledInstance(
            instance=self.instance,
            classes=self.classes,
            members=tuple(tuple(o for item in group for o in self.members[item]) for group in groups),
            compute_ms=compute,
            memory_bytes=tuple(memory),
            tensors=unite_tensors(
                (
                    (new_item[t.producer], [new_item[c] for c in t.consumers], t.pass_index, t.time_ms, t.sizes)
                    for t in self.tensors
                ),
                self.links,
            ),
            forward_edges=self.forward_edges,
            is_forward=self.is_forward,
            links=self.links,
        )

    def unite_classes(self, groups: Sequence[Sequence[int]]) -> CompiledInstance:
        """A relaxation over ``host``: each group of classes as one, as fast and as roomy as the best of them.

        With groups of one class each it is the optimistic reading of ``links``; see the module.
        """
        united = []
        for group in groups:
            members = [self.classes[k] for k in group]
            limits = [c.memory_bytes for c in members if c.memory_bytes is not None]
            united.append(
                DeviceClass(
                    tuple(name for c in members for name in c.devices),
                    any(c.is_host for c in members),
                    max(limits) if len(limits) == len(members) else None,
                    min(c.cost_per_hour for c in members),
                )
            )
        return replace(
            self,
            classes=tuple(united),
            compute_ms=np.stack([self.compute_ms[:, list(group)].min(axis=1) for group in groups], axis=1),
            tensors=tuple(
                replace(t, time_ms=tuple(min(t.time_ms[k] for k in group) for group in groups), sizes=())
                for t in self.tensors
            ),
            links=None,
        )

    def keep_devices(self, names: Collection[str]) -> CompiledInstance:
        """The same question for placements that use no device but those of ``names``."""
        kept = [k for k, c in enumerate(self.classes) if any(name in names for name in c.devices)]
        classes = tuple(
            replace(self.classes[k], devices=tuple(name for name in self.classes[k].devices if name in names))
            for k in kept
        )
        links = None if self.links is None else self.links.keep(kept, [c.count for c in classes])
        tensors = tuple(
            replace(
                t,
                time_ms=tuple(t.time_ms[k] for k in kept)
                if links is None
                else tuple(map(float, links.least_times(t.sizes))),
            )
            for t in self.tensors
        )
        return replace(self, classes=classes, compute_ms=self.compute_ms[:, kept], tensors=tensors, links=links)

    def forbid(self, banned: npt.NDArray[np.bool_]) -> CompiledInstance:
        """The same question with each item kept away from the classes of its row in ``banned``, [I, C]."""
        return replace(self, compute_ms=np.where(banned[:, :, None], np.inf, self.compute_ms))

    def placement(self, assignment: Sequence[tuple[int, int]]) -> Placement:
        """Operator id → device name, from each item's (class, number of the device within the class)."""
        operators = self.instance.graph.operators
        return {
            operators[operator].id: self.classes[class_index].devices[number]
            for item, (class_index, number) in enumerate(assignment)
            for operator in self.members[item]
        }

    def gather(self, placement: Placement) -> list[tuple[int, int]]:
        """Each item's (class, number): where ``placement`` has the item's head."""
        where = {name: (k, n) for k, c in enumerate(self.classes) for n, name in enumerate(c.devices)}
        operators = self.instance.graph.operators
        return [where[placement[operators[members[0]].id]] for members in self.members]

    def assignment_of(self, placement: Placement) -> list[tuple[int, int]] | None:
        """Each item's (class, number), or ``None`` if the placement splits an item or uses other devices."""
        names = {name for device_class in self.classes for name in device_class.devices}
        if not names.issuperset(placement.values()):
            return None
        assignment = self.gather(placement)
        return assignment if self.placement(assignment) == placement else None


def compile_instance(instance: Instance) -> CompiledInstance:
    """Arrays for a valid instance with the objective throughput or cost, one item per operator."""
    operators = instance.graph.operators
    index_of = {operator.id: index for index, operator in enumerate(operators)}
    devices = instance.cluster.expand()
    excluded = find_exclusions(instance, devices, index_of)
    is_links = instance.cluster.interconnect.model is InterconnectModel.LINKS
    signatures = find_signatures(instance, devices, excluded)
    links: Links | None = None
    if is_links:
        members, links = classify(instance.cluster, devices, signatures)
    else:
        by_signature: dict[object, list[Device]] = defaultdict(list)
        for device, signature in zip(devices, signatures, strict=True):
            by_signature[signature].append(device)
        members = list(by_signature.values())

    compute = np.full((len(operators), len(members), NUM_PASSES), np.inf)
    for class_index, alike in enumerate(members):
        kind, banned = alike[0].spec.kind, excluded[alike[0].name]
        for index, operator in enumerate(operators):
            if kind in operator.compute_time_ms and index not in banned:
                compute[index, class_index, :] = 0.0
                compute[index, class_index, int(operator.is_backward)] = operator.compute_time_ms[kind]

    consumers: dict[tuple[int, str | None], list[int]] = defaultdict(list)
    sizes: dict[tuple[int, str | None], Size] = {}
    forward_edges = []
    for edge in instance.graph.edges:
        source, target = index_of[edge.source], index_of[edge.target]
        consumers[source, edge.tensor].append(target)
        sizes[source, edge.tensor] = (edge.bytes, edge.transfer_time_ms)
        if not (operators[source].is_backward or operators[target].is_backward):
            forward_edges.append((source, target))
    specs = [alike[0].spec for alike in members]

    @cache
    def host_times(size: Size) -> tuple[float, ...]:
        return tuple(_transfer_ms(spec, instance.cluster.interconnect, size) for spec in specs)

    tensors = (
        (
            key[0],
            targets,
            int(operators[key[0]].is_backward),
            () if is_links else host_times(sizes[key]),
            (sizes[key],) if is_links else (),
        )
        for key, targets in consumers.items()
    )
    return CompiledInstance(
        instance=instance,
        classes=tuple(
            DeviceClass(
                tuple(device.name for device in alike),
                alike[0].spec.is_host and not is_links,
                alike[0].spec.memory_bytes,
                alike[0].spec.cost_per_hour or 0.0,
            )
            for alike in members
        ),
        members=tuple((index,) for index in range(len(operators))),
        compute_ms=compute,
        memory_bytes=tuple(operator.memory_bytes for operator in operators),
        tensors=unite_tensors(tensors, links),
        forward_edges=tuple(dict.fromkeys(forward_edges)),
        is_forward=tuple(not operator.is_backward for operator in operators),
        links=links,
    )


def _transfer_ms(spec: DeviceSpec, interconnect: Interconnect, size: Size) -> float:
    """One transfer between a device and host memory."""
    num_bytes, time_ms = size
    if spec.is_host:
        return 0.0
    if time_ms is not None:
        return time_ms
    latency = interconnect.host_latency_ms if spec.host_latency_ms is None else spec.host_latency_ms
    bandwidth = spec.host_bandwidth_bytes_per_s or interconnect.host_bandwidth_bytes_per_s
    return latency if bandwidth is None else num_bytes / bandwidth * 1000 + latency


def unite_tensors(
    tensors: Iterable[tuple[int, Sequence[int], int, tuple[float, ...], tuple[Size, ...]]], links: Links | None
) -> tuple[Tensor, ...]:
    """Tensors that always travel together become one; those that stay inside an item or cost nothing vanish."""
    united: dict[tuple[int, tuple[int, ...], int], list[tuple[tuple[float, ...], tuple[Size, ...]]]] = defaultdict(list)
    for producer, consumers, pass_index, time_ms, sizes in tensors:
        outside = tuple(sorted(set(consumers) - {producer}))
        if outside and (any(time_ms) or (links is not None and links.times(sizes).any())):
            united[producer, outside, pass_index].append((time_ms, sizes))
    result = []
    for (producer, consumers, pass_index), parts in united.items():
        if links is None:
            time_ms = tuple(float(sum(column)) for column in zip(*(times for times, _ in parts), strict=True))
            sizes = ()
        else:
            sizes = tuple(size for _, own in parts for size in own)
            time_ms = tuple(map(float, links.least_times(sizes)))
        result.append(Tensor(producer, consumers, pass_index, time_ms, sizes))
    return tuple(result)
