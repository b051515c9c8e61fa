"""A place in the pipeline for backward operators that no forward operator ties to one.

Such an operator may sit on any stage, so methods that cut an order into stages do not know where to put it, and methods
that count ideals cannot say which ideals hold it. Here its item is given one: where the gradients run against the
forward edges, between what consumes its tensors and what makes those that it needs. Every pipeline of the result is one
of the original, but not the other way round: it is good for placements and proves nothing.

Source: own.
"""

from __future__ import annotations

from dataclasses import replace

from solver.compiled import CompiledInstance
from solver.reductions import strong_components


def order_backward(compiled: CompiledInstance) -> CompiledInstance:
    """The same items with an edge along the pipeline wherever an item without forward operators sends or receives.

    Edges that would close a cycle are left out.
    """
    if all(compiled.has_forward):
        return compiled
    loose = {item for item, has_forward in enumerate(compiled.has_forward) if not has_forward}
    pairs = {
        (consumer, tensor.producer)
        for tensor in compiled.tensors
        if tensor.pass_index == 1
        for consumer in tensor.consumers
        if tensor.producer in loose or consumer in loose
    }
    components = strong_components(compiled.num_items, [*compiled.item_edges, *pairs])
    component_of = {item: index for index, items in enumerate(components) for item in items}
    heads = [operators[0] for operators in compiled.members]
    kept = sorted(pair for pair in pairs if component_of[pair[0]] != component_of[pair[1]])
    is_forward = list(compiled.is_forward)
    for item in loose:
        is_forward[heads[item]] = True
    return replace(
        compiled,
        forward_edges=(*compiled.forward_edges, *((heads[a], heads[b]) for a, b in kept)),
        is_forward=tuple(is_forward),
    )
