"""What ignoring the mix of a cluster costs: the splits of other tools on unlike devices, for the verifier to judge.

Each split is tried on two topological orders and two orders of the devices (as in the document, and node by node), and
the best counts. As the tools do, it cuts the order into one piece a device, without a look at transfers. Where every
such cut breaks a rule there is a second attempt, kinder than that of most tools: no device is filled beyond its memory.
Every device has a memory limit and can run every operator, as on the clusters of this benchmark.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.splits import compile_units
from benchmarks.tables import number
from solver.compiled import CompiledInstance
from solver.heuristics.orders import topological_orders
from solver.instance import Instance
from solver.result import Placement
from solver.verification import verify

Device = tuple[int, int]
"""Class, and number within the class."""
Quotas = Callable[[CompiledInstance, Sequence[Device]], tuple[Sequence[float], Sequence[float]]]
"""The weight of each item, and of each device the part it should take."""
Home = list[int]
"""Item → position of its device."""

LOOSER = 1.05
"""How the shares of a second attempt grow until everything has a place."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The best a split does: its period in ms, and which rules the plain cut breaks where there is no good one."""

    value: float | None
    broken: tuple[str, ...] = ()

    def cell(self, ours: float | None) -> str:
        """For the table: the period as a multiple of ours, after what the plain cut breaks."""
        said = f"breaks {', '.join(self.broken)}; then " if self.broken else ""
        if self.value is None:
            return said + "does not fit"
        return said + number(self.value) + (f" ({self.value / ours:.2f}×)" if ours else "")


def try_split(instance: Instance, name: str) -> Trial:
    """The better of all orders, as the verifier sees it; the second attempt only where no plain cut keeps the rules."""
    compiled = compile_units(instance)
    value, broken = _best(instance, _cuts(compiled, name))
    if value is not None:
        return Trial(value)
    return Trial(_best(instance, _fillings(compiled, name))[0], broken)


def memory_proportional(compiled: CompiledInstance, devices: Sequence[Device]) -> tuple[list[float], list[float]]:
    """Memory needed in proportion to the memory of the device, as device maps and layer offloading do."""
    return [float(size) for size in compiled.memory_bytes], [_room(compiled, device) for device in devices]


def equal_layers(compiled: CompiledInstance, devices: Sequence[Device]) -> tuple[list[float], list[float]]:
    """As many units on every device, as pipeline engines do."""
    return [1.0] * compiled.num_items, [1.0] * len(devices)


def speed_proportional(compiled: CompiledInstance, devices: Sequence[Device]) -> tuple[list[float], list[float]]:
    """Compute in proportion to the speed of the device."""
    compute = np.where(compiled.runs, compiled.compute_ms.sum(axis=2), 0.0)
    part = compute / np.maximum(compute.sum(axis=0), np.finfo(float).tiny)
    # The share of the whole that an item is, on average over the kinds: speeds differ, shares hardly do.
    return part.mean(axis=1).tolist(), [1 / max(float(compute[:, k].sum()), 1e-12) for k, _ in devices]


def first_fit(compiled: CompiledInstance, devices: Sequence[Device]) -> tuple[list[float], list[float]]:
    """No share at all: a device is left when it is full."""
    return [0.0] * compiled.num_items, [1.0] * len(devices)


FIRST_FIT = "first fit by memory"
SPLITS: dict[str, Quotas] = {
    "memory-proportional": memory_proportional,
    "equal layers": equal_layers,
    "speed-proportional": speed_proportional,
    FIRST_FIT: first_fit,
}


def _best(instance: Instance, placements: Iterator[Placement | None]) -> tuple[float | None, tuple[str, ...]]:
    """The least period of those that keep every rule; else the rules that the one of fewest violations breaks."""
    values: list[float] = []
    faults: list[list[str]] = []
    for placement in placements:
        if placement is None:
            faults.append(["memory"])
            continue
        verification = verify(instance, placement)
        if verification.violations:
            faults.append([violation.code for violation in verification.violations])
        elif verification.objective_value is not None:
            values.append(verification.objective_value)
    if values:
        return min(values), ()
    fewest: list[str] = min(faults, key=len)
    return None, tuple(sorted(set(fewest)))


def _cuts(compiled: CompiledInstance, name: str) -> Iterator[Placement | None]:
    for order, devices in _orders(compiled):
        weights, shares = SPLITS[name](compiled, devices)
        home = _walk(compiled, order, devices) if name == FIRST_FIT else _cut(order, weights, shares)
        yield None if home is None else compiled.placement([devices[place] for place in home])


def _fillings(compiled: CompiledInstance, name: str) -> Iterator[Placement | None]:
    """Shares as they are, then larger and larger ones, until each item finds a device that has room for it."""
    for order, devices in _orders(compiled):
        weights, shares = SPLITS[name](compiled, devices)
        factor, home = 1.0, None
        while home is None and factor < 2 * sum(shares) / min(shares):
            quotas = [factor * sum(weights) * share / sum(shares) for share in shares]
            home = _fill(compiled, order, devices, weights, quotas)
            factor *= LOOSER
        yield None if home is None else compiled.placement([devices[place] for place in home])


def _orders(compiled: CompiledInstance) -> Iterator[tuple[list[int], list[Device]]]:
    name_of = {name: (k, n) for k, c in enumerate(compiled.classes) for n, name in enumerate(c.devices)}
    names = [device.name for device in compiled.instance.cluster.expand()]
    groups = [group.devices for group in compiled.instance.cluster.interconnect.groups]
    node_of = {name: max((g for g in groups if name in g), key=len, default=()) for name in names}
    nodes = list(dict.fromkeys(node_of.values()))
    node_by_node = sorted(names, key=lambda name: nodes.index(node_of[name]))
    for order in itertools.islice(topological_orders(compiled, 0), 2):
        for devices in (names, node_by_node):
            yield [int(item) for item in order], [name_of[name] for name in devices]


def _cut(order: Sequence[int], weights: Sequence[float], shares: Sequence[float]) -> Home:
    """An item goes to the device in whose share its middle falls."""
    ends = list(itertools.accumulate(shares))
    total = sum(weights) or 1.0
    home = [0] * len(weights)
    place, done = 0, 0.0
    for item in order:
        while place < len(shares) - 1 and (done + weights[item] / 2) / total * ends[-1] >= ends[place]:
            place += 1
        home[item] = place
        done += weights[item]
    return home


def _walk(compiled: CompiledInstance, order: Sequence[int], devices: Sequence[Device]) -> Home | None:
    """One device after the other, each until the next item does not fit; there is no way back."""
    home = [0] * len(order)
    place, held = 0, 0
    for item in order:
        need = int(compiled.memory_bytes[item])
        while held + need > _room(compiled, devices[place]):
            place, held = place + 1, 0
            if place == len(devices):
                return None
        home[item] = place
        held += need
    return home


def _fill(
    compiled: CompiledInstance,
    order: Sequence[int],
    devices: Sequence[Device],
    weights: Sequence[float],
    quotas: Sequence[float],
) -> Home | None:
    """Each item on the first device, from those of its predecessors on, that has share and memory left for it."""
    earliest = [0] * len(order)
    targets: list[list[int]] = [[] for _ in order]
    for source, target in compiled.item_edges:
        targets[source].append(target)
    room = [_room(compiled, device) for device in devices]
    left = list(quotas)
    home = [0] * len(order)
    for item in order:
        need = int(compiled.memory_bytes[item])
        for place in range(earliest[item], len(devices)):
            if need <= room[place] and weights[item] / 2 <= left[place]:
                break
        else:
            return None
        home[item] = place
        room[place] -= need
        left[place] -= weights[item]
        for target in targets[item]:
            earliest[target] = max(earliest[target], place)
    return home


def _room(compiled: CompiledInstance, device: Device) -> float:
    limit = compiled.classes[device[0]].memory_bytes
    return float("inf") if limit is None else float(limit)
