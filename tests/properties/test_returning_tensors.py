"""Gradients turned around: every placement keeps its loads."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from solver.compiled import compile_instance
from solver.instance import Objective, Overlap, Partition, PipelineSchedule
from solver.reductions import reduce_instance
from solver.returning_tensors import turn_around
from tests.properties.clusters import random_training_instance
from tests.properties.instances import random_instance


def transfers(compiled, assignment):
    """Per pass and device, the time of what comes in and goes out; one pass for both unless they count apart."""
    spent = Counter()
    for tensor in compiled.tensors:
        maker = assignment[tensor.producer]
        part = tensor.pass_index if compiled.is_gpipe else 0
        takers = {assignment[consumer] for consumer in tensor.consumers} - {maker}
        for taker in takers:
            if compiled.links is not None:
                time = compiled.links.times(tensor.sizes)[maker[0], taker[0]]
                spent[part, maker] += time
                spent[part, taker] += time
            elif not compiled.classes[taker[0]].is_host:
                spent[part, taker] += tensor.time_ms[taker[0]]
        if takers and compiled.links is None and not compiled.classes[maker[0]].is_host:
            spent[part, maker] += tensor.time_ms[maker[0]]
    return spent


def against(compiled):
    """Tensors for one consumer that has to come before their producer."""
    edges = set(compiled.item_edges)
    return [t for t in compiled.tensors if len(t.consumers) == 1 and (t.consumers[0], t.producer) in edges]


@pytest.mark.parametrize("schedule", PipelineSchedule)
@pytest.mark.parametrize("draw", [random_instance, random_training_instance])
def test_every_placement_keeps_its_loads(draw, schedule):
    turned_around = 0
    for seed in range(300):
        instance = replace(draw(seed), objective=Objective(schedule=schedule))
        reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
        turned = turn_around(reduced)
        if instance.cluster.interconnect.overlap is Overlap.DUPLEX:
            assert turned is reduced
            continue
        turned_around += len(against(reduced))
        assert against(turned) == []
        source = random.Random(seed)
        devices = [(k, n) for k, c in enumerate(reduced.classes) for n in range(c.count)]
        for _ in range(5):
            assignment = [source.choice(devices) for _ in range(reduced.num_items)]
            assert transfers(turned, assignment) == pytest.approx(transfers(reduced, assignment))
    assert turned_around > 10
