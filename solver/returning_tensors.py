"""Gradients that run back along the pipeline, turned around so that all transfers run one way.

A tensor with one consumer costs the device of its producer and that of its consumer the same: one transfer. So it makes
no difference which of the two makes it, where what comes in and what goes out are added up. Where the consumer has to
come first in a pipeline, it is taken for the producer here: methods that go along a pipeline stage by stage then know
where a transfer leads to when they meet its second end. What one item sends to another for the same reason becomes one
tensor. Every placement keeps its loads.

Source: own.
"""

from __future__ import annotations

from dataclasses import replace

from solver.compiled import CompiledInstance, unite_tensors
from solver.instance import Overlap


def turn_around(compiled: CompiledInstance) -> CompiledInstance:
    """The same instance with no tensor, or fewer of them, against its forward edges."""
    if compiled.overlap is Overlap.DUPLEX or all(compiled.is_forward):
        return compiled
    following = set(compiled.item_edges)

    def ends(producer: int, consumers: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        if len(consumers) == 1 and (consumers[0], producer) in following:
            return consumers[0], (producer,)
        return producer, consumers

    tensors = (
        (*ends(t.producer, t.consumers), t.pass_index if compiled.is_gpipe else 0, t.time_ms, t.sizes)
        for t in compiled.tensors
    )
    return replace(compiled, tensors=unite_tensors(tensors, compiled.links))
