"""Loose items, backward operators that no forward operator ties to a stage: fewer of them, or each with a place.

Each loose item doubles what the ideal program has to look at, so a relaxation keeps the heaviest. The others lose their
compute, their memory and whatever they send or receive, which makes no load of any placement larger. So they cost
nothing where they are put, and each is put with an item that it exchanges most with.

What a loose item sends cannot be followed along a pipeline, because it may run either way. But the item is on no later
stage than some other one, or on no earlier stage; each is a case of its own, with an edge more, in which the way is
known.

Source: own.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from solver.compiled import CompiledInstance


def drop_light(compiled: CompiledInstance, number: int) -> CompiledInstance:
    """The relaxation in which ``number`` loose items, at least one, are left with what they cost."""
    compute = np.where(np.isfinite(compiled.compute_ms), compiled.compute_ms, np.inf).sum(axis=2).min(axis=1)
    loose = [item for item, has_forward in enumerate(compiled.has_forward) if not has_forward]
    light = sorted(loose, key=lambda item: (compute[item], compiled.memory_bytes[item]))[: max(0, len(loose) - number)]
    if not light:
        return compiled
    partner = _partners(compiled, frozenset(light))
    groups = {item: [item] for item in range(compiled.num_items) if item not in partner}
    for item, other in partner.items():
        groups[other].append(item)
    costs = compiled.compute_ms.copy()
    costs[light] = 0.0
    tensors = (
        replace(tensor, consumers=tuple(other for other in tensor.consumers if other not in partner))
        for tensor in compiled.tensors
        if tensor.producer not in partner
    )
    relaxed = replace(
        compiled,
        compute_ms=costs,
        memory_bytes=tuple(0 if item in partner else need for item, need in enumerate(compiled.memory_bytes)),
        tensors=tuple(tensor for tensor in tensors if tensor.consumers),
    )
    return relaxed.merge(list(groups.values()))


def _partners(compiled: CompiledInstance, light: frozenset[int]) -> dict[int, int]:
    """For each light item another one: of those that it exchanges something with, the one with most."""
    weight: dict[int, dict[int, float]] = {item: {} for item in light}
    for tensor in compiled.tensors:
        ends = (tensor.producer, *tensor.consumers)
        for item in light.intersection(ends):
            for other in ends:
                if other not in light:
                    weight[item][other] = weight[item].get(other, 0.0) + max(tensor.time_ms)
    first = next(item for item in range(compiled.num_items) if item not in light)
    return {
        item: max(others, key=lambda other: (others[other], -other), default=first) for item, others in weight.items()
    }


def cases(compiled: CompiledInstance) -> list[CompiledInstance]:
    """Instances that have, together, the acyclic placements of ``compiled`` and no others; of the same items.

    In each of them every loose item is ordered against the tight one with which it exchanges most, if there is one.
    """
    ways = []
    for item, has_forward in enumerate(compiled.has_forward):
        partner = None if has_forward else _partner_over_links(compiled, item)
        if partner is not None:
            one, other = compiled.members[item][0], compiled.members[partner][0]
            ways.append([(one, other), (other, one)])
    return [replace(compiled, forward_edges=compiled.forward_edges + edges) for edges in itertools.product(*ways)]


def _partner_over_links(compiled: CompiledInstance, item: int) -> int | None:
    """The tight item with the largest sum of times, each over the slowest link, of what both exchange."""
    weight: dict[int, float] = {}
    if compiled.links is None:
        return None
    for tensor in (compiled.tensors[index] for index in compiled.tensors_of[item]):
        times = compiled.links.times(tensor.sizes)
        slowest = float(times.max(initial=0.0, where=np.isfinite(times)))
        for other in tensor.consumers if tensor.producer == item else (tensor.producer,):
            if compiled.has_forward[other]:
                weight[other] = weight.get(other, 0.0) + slowest
    return max(weight, key=lambda other: (weight[other], -other), default=None)
