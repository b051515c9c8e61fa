"""What single devices spend, over ``links`` or ``host``: flat arrays for methods that try placement after placement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from solver.compiled import CompiledInstance, Floats, Ints
from solver.kernels import kernel
from solver.stage_costs import NO_LIMIT, OVERLAP_CODES, held_bytes, load

FAR = 1e3
"""Times everything else: the time of a transfer without a route, which no method would choose."""


class DeviceCosts(NamedTuple):
    """I items, D devices, C classes, T tensors, P passes (1, or 2 under ``gpipe``).

    Attributes:
        compute: [I, C, P] ms; infinite where an item may not sit.
        memory: [I] bytes.
        class_of: [D].
        limits: [D] bytes, ``NO_LIMIT`` at most.
        overlap: a code of :mod:`solver.stage_costs`.
        is_host: whether transfers go through host memory: paid once in and once out, by the class alone.
        times: [S, C, C] ms between devices of two classes, for each distinct set of sizes; a very long time where no
            route leads. Over ``host`` the time of the first class.
        size_of: [T] row of ``times``.
        pass_of: [T].
        producer: [T].
        first_consumer, consumers: the consumers of each tensor.
        first_touching, touching: the tensors that each item makes or needs.
        first_before, before: items that must not stand behind each item; first_after, after: and before it.
    """

    compute: Floats
    memory: Ints
    class_of: Ints
    limits: Ints
    overlap: int
    is_host: bool
    times: Floats
    size_of: Ints
    pass_of: Ints
    producer: Ints
    first_consumer: Ints
    consumers: Ints
    first_touching: Ints
    touching: Ints
    first_before: Ints
    before: Ints
    first_after: Ints
    after: Ints


def device_costs(compiled: CompiledInstance, *, ordered: bool) -> DeviceCosts:
    """The arrays of an instance; without ``ordered`` no item stands before another."""
    passes = [[0], [1]] if compiled.is_gpipe else [[0, 1]]
    compute = np.stack([compiled.compute_ms[:, :, p].sum(axis=2) for p in passes], axis=2)
    times, size_of = _distinct_times(compiled)
    edges = compiled.item_edges if ordered else ()
    limits = [NO_LIMIT if c.memory_bytes is None else c.memory_bytes for c in compiled.classes]
    class_of = np.array([k for k, c in enumerate(compiled.classes) for _ in range(c.count)], dtype=np.int64)
    return DeviceCosts(
        np.where(compiled.allowed[:, :, None], compute, np.inf),
        held_bytes(compiled),
        class_of,
        np.array(limits, dtype=np.int64)[class_of],
        OVERLAP_CODES[compiled.overlap],
        compiled.links is None,
        times,
        size_of,
        np.array([t.pass_index if compiled.is_gpipe else 0 for t in compiled.tensors], dtype=np.int64),
        np.array([t.producer for t in compiled.tensors], dtype=np.int64),
        *_rows([t.consumers for t in compiled.tensors]),
        *_rows(compiled.tensors_of),
        *_rows(_neighbours(compiled.num_items, [(b, a) for a, b in edges])),
        *_rows(_neighbours(compiled.num_items, edges)),
    )


def _distinct_times(compiled: CompiledInstance) -> tuple[Floats, Ints]:
    rows: dict[object, int] = {}
    times: list[Floats] = []
    size_of = np.zeros(len(compiled.tensors), dtype=np.int64)
    num_classes = len(compiled.classes)
    for index, tensor in enumerate(compiled.tensors):
        key: object = tensor.time_ms if compiled.links is None else tensor.sizes
        if key not in rows:
            rows[key] = len(times)
            if compiled.links is None:
                own = [0.0 if c.is_host else t for t, c in zip(tensor.time_ms, compiled.classes, strict=True)]
                times.append(np.repeat(np.array(own)[:, None], num_classes, axis=1))
            else:
                times.append(compiled.links.times(tensor.sizes))
        size_of[index] = rows[key]
    all_times = np.array(times).reshape(len(times), num_classes, num_classes)
    finite = np.where(np.isfinite(compiled.compute_ms), compiled.compute_ms, 0.0)
    far = FAR * (1.0 + float(finite.sum()) + float(np.where(np.isfinite(all_times), all_times, 0.0).sum()))
    return np.where(np.isfinite(all_times), all_times, far), size_of


def _neighbours(size: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in range(size)]
    for a, b in pairs:
        found[a].append(b)
    return found


def _rows(lists: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """Lists end to end, and where each begins."""
    first = np.concatenate([[0], np.cumsum([len(row) for row in lists])]).astype(np.int64)
    return first, np.array([value for row in lists for value in row], dtype=np.int64)


class Spending(NamedTuple):
    """What the devices spend now: D devices, P passes.

    Attributes:
        place: [I] device of each item.
        compute, incoming, outgoing, loads: [D, P] ms.
        held: [D] bytes.
        num_held: [D] items.
        seen: [D + 1] stamps of ``charge``; the last entry is the latest stamp.
    """

    place: Ints
    compute: Floats
    incoming: Floats
    outgoing: Floats
    loads: Floats
    held: Floats
    num_held: Ints
    seen: Ints


def spending(costs: DeviceCosts, place: Ints) -> Spending:
    """The arrays for items at ``place``, yet to be filled by :func:`recount`."""
    num_devices, num_passes = len(costs.class_of), costs.compute.shape[2]
    compute, incoming, outgoing, loads = (np.zeros((num_devices, num_passes)) for _ in range(4))
    counts, seen = np.zeros(num_devices, dtype=np.int64), np.zeros(num_devices + 1, dtype=np.int64)
    return Spending(place, compute, incoming, outgoing, loads, np.zeros(num_devices), counts, seen)


@kernel
def recount(costs: DeviceCosts, now: Spending) -> None:
    """Everything from scratch."""
    now.compute[:] = 0.0
    now.incoming[:] = 0.0
    now.outgoing[:] = 0.0
    now.held[:] = 0.0
    now.num_held[:] = 0
    for item in range(len(now.place)):
        device = now.place[item]
        now.num_held[device] += 1
        now.held[device] += costs.memory[item]
        for part in range(now.loads.shape[1]):
            now.compute[device, part] += costs.compute[item, costs.class_of[device], part]
    charge(costs, now, np.arange(len(costs.producer)), 1.0)
    reload(costs, now)


@kernel
def reload(costs: DeviceCosts, now: Spending) -> None:
    """The loads from their parts."""
    for device in range(now.loads.shape[0]):
        for part in range(now.loads.shape[1]):
            now.loads[device, part] = load(
                costs.overlap, now.compute[device, part], now.incoming[device, part], now.outgoing[device, part]
            )


@kernel
def carry(costs: DeviceCosts, now: Spending, items: Ints, home: int, new: int) -> None:
    """Take ``items`` from one device to another; the loads are for :func:`reload`."""
    for item in items:
        tensors = costs.touching[costs.first_touching[item] : costs.first_touching[item + 1]]
        charge(costs, now, tensors, -1.0)
        now.place[item] = new
        charge(costs, now, tensors, 1.0)
        now.held[home] -= costs.memory[item]
        now.held[new] += costs.memory[item]
        for part in range(now.loads.shape[1]):
            now.compute[home, part] -= costs.compute[item, costs.class_of[home], part]
            now.compute[new, part] += costs.compute[item, costs.class_of[new], part]
    now.num_held[home] -= len(items)
    now.num_held[new] += len(items)


@kernel
def charge(costs: DeviceCosts, now: Spending, tensors: Ints, sign: float) -> None:
    """Add what tensors cost the devices, times ``sign``."""
    class_of, times, is_host = costs.class_of, costs.times, costs.is_host
    first, consumers = costs.first_consumer, costs.consumers
    place, incoming, outgoing, seen = now.place, now.incoming, now.outgoing, now.seen
    for tensor in tensors:
        home = place[costs.producer[tensor]]
        own, row, part = class_of[home], costs.size_of[tensor], costs.pass_of[tensor]
        stamp = seen[-1] + 1
        seen[-1] = stamp
        for index in range(first[tensor], first[tensor + 1]):
            device = place[consumers[index]]
            if device == home or seen[device] == stamp:
                continue
            seen[device] = stamp
            if is_host:
                incoming[device, part] += sign * times[row, class_of[device], 0]
                if seen[home] != stamp:
                    seen[home] = stamp
                    outgoing[home, part] += sign * times[row, own, 0]
            else:
                time = times[row, own, class_of[device]]
                incoming[device, part] += sign * time
                outgoing[home, part] += sign * time
