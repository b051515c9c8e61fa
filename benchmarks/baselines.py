"""The splits people use today, as placements of the same instances, for the verifier to judge."""

from __future__ import annotations

from collections.abc import Callable
from graphlib import TopologicalSorter

from solver.bounds import bound_period
from solver.compiled import CompiledInstance, compile_instance
from solver.heuristics.orders import topological_orders
from solver.heuristics.segments import place_segments
from solver.instance import Device, Instance, Partition
from solver.reductions import reduce_instance
from solver.result import Placement


def _units(instance: Instance) -> tuple[CompiledInstance, list[int]]:
    """Operators that must stay together, in a topological order."""
    compiled = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
    return compiled, [int(item) for item in next(iter(topological_orders(compiled, 0)))]


def _accelerators(instance: Instance) -> list[Device]:
    return [device for device in instance.cluster.expand() if not device.spec.is_host]


def _assign(compiled: CompiledInstance, home: dict[int, Device]) -> Placement:
    operators = compiled.instance.graph.operators
    return {operators[o].id: home[item].name for item, members in enumerate(compiled.members) for o in members}


def first_fit_by_memory(instance: Instance) -> Placement | None:
    """Fill device after device along the graph until its memory is full, as device maps and layer offloading do."""
    compiled, order = _units(instance)
    devices, home, index, held = _accelerators(instance), {}, 0, 0
    for item in order:
        need = compiled.memory_bytes[item]
        while index < len(devices) and held + need > (devices[index].spec.memory_bytes or float("inf")):
            index, held = index + 1, 0
        if index == len(devices):
            return None
        home[item] = devices[index]
        held += need
    return _assign(compiled, home)


def equal_memory(instance: Instance) -> Placement | None:
    """The same share of the memory needed on every device, as balanced device maps do."""
    compiled, order = _units(instance)
    return _equal_shares(instance, compiled, order, [compiled.memory_bytes[item] for item in order])


def equal_counts(instance: Instance) -> Placement | None:
    """The same number of units on every device, as equal layer splits do."""
    compiled, order = _units(instance)
    return _equal_shares(instance, compiled, order, [1] * len(order))


def _equal_shares(
    instance: Instance, compiled: CompiledInstance, order: list[int], weights: list[int]
) -> Placement | None:
    devices, total, done = _accelerators(instance), sum(weights) or 1, 0
    home = {}
    for item, weight in zip(order, weights, strict=True):
        home[item] = devices[min(len(devices) - 1, done * len(devices) // total)]
        done += weight
    return _assign(compiled, home)


def segments_alone(instance: Instance) -> Placement | None:
    """The best cut of a few topological orders, without any proof."""
    compiled, _ = _units(instance)
    best = None
    for assignment in place_segments(compiled, bound_ms=bound_period(compiled), seed=0, expired=lambda: False):
        best = compiled.placement(assignment)
    return best


def breadth_first_counts(instance: Instance) -> Placement | None:
    """Equal counts along a breadth-first order, which ignores how branches hang together."""
    compiled, _ = _units(instance)
    predecessors: dict[int, set[int]] = {item: set() for item in range(compiled.num_items)}
    for source, target in compiled.item_edges:
        predecessors[target].add(source)
    order = list(TopologicalSorter(predecessors).static_order())
    return _equal_shares(instance, compiled, order, [1] * len(order))


BASELINES: dict[str, Callable[[Instance], Placement | None]] = {
    "first fit by memory": first_fit_by_memory,
    "equal memory": equal_memory,
    "equal counts": equal_counts,
    "equal counts, breadth first": breadth_first_counts,
    "segments alone": segments_alone,
}
