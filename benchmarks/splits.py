"""The splits people use today, as placements of the same instances, for the verifier to judge.

All but one cut a topological order into as many pieces as there are accelerators; what no accelerator can run goes to a
host. None looks at transfers, and most not at memory, so a split may break a rule: the verifier says which.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from solver.bounds import bound_period
from solver.compiled import CompiledInstance, compile_instance
from solver.heuristics.orders import topological_orders
from solver.heuristics.segments import place_segments
from solver.instance import Instance, Partition
from solver.reductions import reduce_instance
from solver.result import Placement

Device = tuple[int, int]
"""Class, and number within the class."""


def compile_units(instance: Instance) -> CompiledInstance:
    """Operators that must stay together in any pipeline are one item."""
    return reduce_instance(compile_instance(instance), Partition.ACYCLIC)


def first_fit_by_memory(compiled: CompiledInstance) -> Placement | None:
    """Fill device after device along the graph until its memory is full, as device maps and layer offloading do."""
    devices, index, held = _accelerators(compiled), 0, 0
    home: dict[int, Device] = {}
    for item in _depth_first(compiled):
        if not _runs_on(compiled, item, devices):
            continue
        need = compiled.memory_bytes[item]
        while index < len(devices) and held + need > _room(compiled, devices[index]):
            index, held = index + 1, 0
        if index == len(devices):
            return None
        home[item] = devices[index]
        held += need
    return _assign(compiled, home)


def equal_memory(compiled: CompiledInstance) -> Placement | None:
    """The same share of the memory needed on every device, as balanced device maps do."""
    return _cut(compiled, _depth_first(compiled), compiled.memory_bytes)


def equal_counts(compiled: CompiledInstance) -> Placement | None:
    """The same number of units on every device, as equal layer splits do."""
    return _cut(compiled, _depth_first(compiled), [1] * compiled.num_items)


def speed_proportional(compiled: CompiledInstance) -> Placement | None:
    """As much compute for each device as its speed is part of the speed of all."""
    compute = np.where(compiled.runs, compiled.compute_ms.sum(axis=2), 0.0)
    total = compute.sum(axis=0)
    total[total == 0] = 1.0
    classes = sorted({k for k, _ in _accelerators(compiled)})
    # The share of the whole that an item is, on average over the classes: speeds differ, shares hardly do.
    weights = [float(sum(compute[item, k] / total[k] for k in classes)) for item in range(compiled.num_items)]
    return _cut(compiled, _depth_first(compiled), weights, [1 / total[k] for k, _ in _accelerators(compiled)])


def segments_alone(compiled: CompiledInstance) -> Placement | None:
    """The best cut of a few topological orders, without any proof."""
    best = None
    for assignment in place_segments(compiled, bound_ms=bound_period(compiled), seed=0, expired=lambda: False):
        best = compiled.placement(assignment)
    return best


SPLITS: dict[str, Callable[[CompiledInstance], Placement | None]] = {
    "first fit by memory": first_fit_by_memory,
    "equal memory": equal_memory,
    "equal counts": equal_counts,
    "speed-proportional": speed_proportional,
    "segments alone": segments_alone,
}


def _accelerators(compiled: CompiledInstance) -> list[Device]:
    """Devices that are no hosts, in the order of the document; all devices where there are only hosts."""
    name_of = {name: (k, n) for k, c in enumerate(compiled.classes) for n, name in enumerate(c.devices)}
    devices = [name_of[device.name] for device in compiled.instance.cluster.expand()]
    return [device for device in devices if not compiled.classes[device[0]].is_host] or devices


def _depth_first(compiled: CompiledInstance) -> list[int]:
    return [int(item) for item in next(iter(topological_orders(compiled, 0)))]


def _room(compiled: CompiledInstance, device: Device) -> float:
    limit = compiled.classes[device[0]].memory_bytes
    return float("inf") if limit is None else limit


def _runs_on(compiled: CompiledInstance, item: int, devices: Iterable[Device]) -> bool:
    return any(compiled.runs[item, k] for k, _ in devices)


def _cut(
    compiled: CompiledInstance, order: Sequence[int], weights: Sequence[float], speeds: Sequence[float] | None = None
) -> Placement | None:
    """Each device's share of the weights, in proportion to its speed; an item goes where its middle falls."""
    devices = _accelerators(compiled)
    order = [item for item in order if _runs_on(compiled, item, devices)]
    ends = list(itertools.accumulate(speeds or [1.0] * len(devices)))
    total = sum(weights[item] for item in order) or 1
    home: dict[int, Device] = {}
    index, done = 0, 0.0
    for item in order:
        middle = (done + weights[item] / 2) / total * ends[-1]
        while index < len(devices) - 1 and middle >= ends[index]:
            index += 1
        home[item] = devices[index]
        done += weights[item]
    return _assign(compiled, home)


def _assign(compiled: CompiledInstance, home: dict[int, Device]) -> Placement | None:
    """Items without a home go to the first host that can run them."""
    hosts = [(k, 0) for k, device_class in enumerate(compiled.classes) if device_class.is_host]
    for item in range(compiled.num_items):
        if item not in home:
            able = [host for host in hosts if compiled.runs[item, host[0]]]
            if not able:
                return None
            home[item] = able[0]
    return compiled.placement([home[item] for item in range(compiled.num_items)])
