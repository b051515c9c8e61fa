"""A relaxation with few loose items: backward operators that no forward operator ties to a stage.

Each loose item doubles what the ideal program has to look at. Here only the heaviest stay. The others lose their
compute, their memory and whatever they send or receive, which makes no load of any placement larger. So they cost
nothing where they are put, and each is put with an item that it exchanges most with.

Source: own.
"""

from __future__ import annotations

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
