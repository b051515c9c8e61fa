"""A throughput instance as arrays: what the methods compute with.

An *item* is a set of operators that share one device in every placement; straight from :func:`compile_instance` each
operator is an item of its own, and :mod:`solver.reductions` merges them. Devices that no constraint can tell apart form
a *class*; methods reason about classes and their counts, and concrete devices are picked at the very end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from solver.instance import (
    Device,
    DeviceSpec,
    Instance,
    Interconnect,
    Overlap,
    Partition,
    PipelineSchedule,
)
from solver.result import Placement

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NUM_PASSES = 2
"""Index 0 is the forward pass, index 1 the backward pass."""


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """Devices alike in every respect: times, memory, transfers, and which operators may use them."""

    devices: tuple[str, ...]
    is_host: bool
    memory_bytes: int | None

    @property
    def count(self) -> int:
        """How many devices the class has."""
        return len(self.devices)


@dataclass(frozen=True, slots=True)
class Tensor:
    """Data that leaves an item: ``time_ms[c]`` is one transfer, in or out, on a device of class ``c``.

    ``pass_index`` is the pass of the operator that makes it; ``consumers`` are items other than the producer, sorted.
    """

    producer: int
    consumers: tuple[int, ...]
    pass_index: int
    time_ms: tuple[float, ...]


@dataclass(frozen=True)
class CompiledInstance:
    """See the module. I items, C device classes, N operators.

    Attributes:
        members: per item, the indices of its operators.
        compute_ms: [I, C, 2], per pass; infinite where an item may not use a class.
        memory_bytes: per item.
        tensors: transfers between items; the ones that cost nothing anywhere are left out.
        forward_edges: pairs of operators joined by a forward edge.
        is_forward: [N], whether the partition rule concerns the operator.
    """

    instance: Instance
    classes: tuple[DeviceClass, ...]
    members: tuple[tuple[int, ...], ...]
    compute_ms: Floats
    memory_bytes: tuple[int, ...]
    tensors: tuple[Tensor, ...]
    forward_edges: tuple[tuple[int, int], ...]
    is_forward: tuple[bool, ...]

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
        """The same question with each group of items merged into one; ``groups`` is a partition of the items."""
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
            members=tuple(tuple(sorted(o for item in group for o in self.members[item])) for group in groups),
            compute_ms=compute,
            memory_bytes=tuple(memory),
            tensors=_unite(
                (new_item[t.producer], [new_item[c] for c in t.consumers], t.pass_index, t.time_ms)
                for t in self.tensors
            ),
            forward_edges=self.forward_edges,
            is_forward=self.is_forward,
        )

    def placement(self, assignment: Sequence[tuple[int, int]]) -> Placement:
        """Operator id → device name, from each item's (class, number of the device within the class)."""
        operators = self.instance.graph.operators
        return {
            operators[operator].id: self.classes[class_index].devices[number]
            for item, (class_index, number) in enumerate(assignment)
            for operator in self.members[item]
        }

    def assignment_of(self, placement: Placement) -> list[tuple[int, int]] | None:
        """Each item's (class, number), or ``None`` if the placement splits an item."""
        where = {name: (k, n) for k, c in enumerate(self.classes) for n, name in enumerate(c.devices)}
        operators = self.instance.graph.operators
        homes = [{where[placement[operators[operator].id]] for operator in members} for members in self.members]
        return None if any(len(home) > 1 for home in homes) else [home.pop() for home in homes]


def compile_instance(instance: Instance) -> CompiledInstance:
    """Arrays for a valid throughput instance over the ``host`` interconnect, one item per operator."""
    operators = instance.graph.operators
    index_of = {operator.id: index for index, operator in enumerate(operators)}
    devices = instance.cluster.expand()
    excluded = _exclusions(instance, devices, index_of)
    by_signature: dict[object, list[Device]] = defaultdict(list)
    for device in devices:
        by_signature[_signature(device, excluded[device.name])].append(device)
    members = list(by_signature.values())

    compute = np.full((len(operators), len(members), NUM_PASSES), np.inf)
    for class_index, alike in enumerate(members):
        kind, banned = alike[0].spec.kind, excluded[alike[0].name]
        for index, operator in enumerate(operators):
            if kind in operator.compute_time_ms and index not in banned:
                compute[index, class_index, :] = 0.0
                compute[index, class_index, int(operator.is_backward)] = operator.compute_time_ms[kind]

    consumers: dict[tuple[int, str | None], list[int]] = defaultdict(list)
    sizes: dict[tuple[int, str | None], tuple[float | None, int]] = {}
    forward_edges = []
    for edge in instance.graph.edges:
        source, target = index_of[edge.source], index_of[edge.target]
        consumers[source, edge.tensor].append(target)
        sizes[source, edge.tensor] = (edge.transfer_time_ms, edge.bytes)
        if not (operators[source].is_backward or operators[target].is_backward):
            forward_edges.append((source, target))
    specs = [alike[0].spec for alike in members]
    tensors = (
        (
            key[0],
            targets,
            int(operators[key[0]].is_backward),
            tuple(_transfer_ms(spec, instance.cluster.interconnect, *sizes[key]) for spec in specs),
        )
        for key, targets in consumers.items()
    )
    return CompiledInstance(
        instance=instance,
        classes=tuple(
            DeviceClass(tuple(device.name for device in alike), alike[0].spec.is_host, alike[0].spec.memory_bytes)
            for alike in members
        ),
        members=tuple((index,) for index in range(len(operators))),
        compute_ms=compute,
        memory_bytes=tuple(operator.memory_bytes for operator in operators),
        tensors=_unite(tensors),
        forward_edges=tuple(dict.fromkeys(forward_edges)),
        is_forward=tuple(not operator.is_backward for operator in operators),
    )


def _exclusions(
    instance: Instance, devices: Sequence[Device], index_of: Mapping[str, int]
) -> dict[str, frozenset[int]]:
    """Device name → operators kept away from it by ``allowed_devices``, ``pinned`` and ``forbidden``."""
    meaning = instance.cluster.resolve()
    banned: dict[str, set[int]] = {device.name: set() for device in devices}

    @cache
    def outside(references: tuple[str, ...]) -> list[str]:
        inside = {name for reference in references for name in meaning[reference]}
        return [name for name in banned if name not in inside]

    for index, operator in enumerate(instance.graph.operators):
        if operator.allowed_devices is not None:
            for name in outside(operator.allowed_devices):
                banned[name].add(index)
    for operator_id, reference in instance.constraints.pinned.items():
        for name in outside((reference,)):
            banned[name].add(index_of[operator_id])
    for forbidden in instance.constraints.forbidden:
        for name in meaning[forbidden.device]:
            banned[name].add(index_of[forbidden.operator])
    return {name: frozenset(operators) for name, operators in banned.items()}


def _signature(device: Device, banned: frozenset[int]) -> object:
    spec = device.spec
    speeds = None if spec.is_host else (spec.host_bandwidth_bytes_per_s, spec.host_latency_ms)
    return (spec.kind, spec.is_host, spec.memory_bytes, speeds, banned)


def _transfer_ms(spec: DeviceSpec, interconnect: Interconnect, time_ms: float | None, num_bytes: int) -> float:
    if spec.is_host:
        return 0.0
    if time_ms is not None:
        return time_ms
    latency = interconnect.host_latency_ms if spec.host_latency_ms is None else spec.host_latency_ms
    bandwidth = spec.host_bandwidth_bytes_per_s or interconnect.host_bandwidth_bytes_per_s
    return latency if bandwidth is None else num_bytes / bandwidth * 1000 + latency


def _unite(tensors: Iterable[tuple[int, Sequence[int], int, tuple[float, ...]]]) -> tuple[Tensor, ...]:
    """Tensors that always travel together become one; those that stay inside an item or cost nothing vanish."""
    united: dict[tuple[int, tuple[int, ...], int], list[tuple[float, ...]]] = defaultdict(list)
    for producer, consumers, pass_index, time_ms in tensors:
        outside = tuple(sorted(set(consumers) - {producer}))
        if outside and any(time_ms):
            united[producer, outside, pass_index].append(time_ms)
    return tuple(
        Tensor(producer, consumers, pass_index, tuple(float(sum(column)) for column in zip(*times, strict=True)))
        for (producer, consumers, pass_index), times in united.items()
    )
