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
from collections.abc import Container
from dataclasses import replace

from solver.compiled import CompiledInstance


def drop_light(compiled: CompiledInstance, number: int) -> CompiledInstance:
    """The relaxation in which ``number`` loose items, at least one, are left with what they cost."""
    compute = compiled.compute_ms.sum(axis=2).min(axis=1)
    loose = [item for item, has_forward in enumerate(compiled.has_forward) if not has_forward]
    light = sorted(loose, key=lambda item: (compute[item], compiled.memory_bytes[item]))[: max(0, len(loose) - number)]
    if not light:
        return compiled
    dropped = frozenset(light)
    groups = {item: [item] for item in range(compiled.num_items) if item not in dropped}
    for item in light:
        partner = _partner(compiled, item, groups)
        groups[next(iter(groups)) if partner is None else partner].append(item)
    costs = compiled.compute_ms.copy()
    costs[light] = 0.0
    tensors = (
        replace(tensor, consumers=tuple(other for other in tensor.consumers if other not in dropped))
        for tensor in compiled.tensors
        if tensor.producer not in dropped
    )
    relaxed = replace(
        compiled,
        compute_ms=costs,
        memory_bytes=tuple(0 if item in dropped else need for item, need in enumerate(compiled.memory_bytes)),
        tensors=tuple(tensor for tensor in tensors if tensor.consumers),
    )
    return relaxed.merge(list(groups.values()))


def cases(compiled: CompiledInstance) -> list[CompiledInstance]:
    """Instances that have, together, the acyclic placements of ``compiled`` and no others; of the same items.

    In each of them every loose item is ordered against the tight one with which it exchanges most, if there is one.
    """
    ways = []
    tight = {item for item, has_forward in enumerate(compiled.has_forward) if has_forward}
    for item in range(compiled.num_items):
        partner = None if item in tight else _partner(compiled, item, tight)
        if partner is not None:
            one, other = compiled.members[item][0], compiled.members[partner][0]
            ways.append([(one, other), (other, one)])
    return [replace(compiled, forward_edges=compiled.forward_edges + edges) for edges in itertools.product(*ways)]


def _partner(compiled: CompiledInstance, item: int, others: Container[int]) -> int | None:
    """Of ``others``, the item with the largest sum of times of what both exchange, if there is one."""
    weight: dict[int, float] = {}
    for tensor in (compiled.tensors[index] for index in compiled.tensors_of[item]):
        for other in tensor.consumers if tensor.producer == item else (tensor.producer,):
            if other in others:
                weight[other] = weight.get(other, 0.0) + max(tensor.time_ms)
    return max(weight, key=lambda other: (weight[other], -other), default=None)
