"""Cuts of one topological order, against all cuts of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from solver.absorption import absorb
from solver.bounds import bound_period
from solver.compiled import compile_instance
from solver.heuristics.orders import topological_orders
from solver.heuristics.segments import cut_order, place_segments
from solver.instance import Objective, Partition, PipelineSchedule
from solver.reductions import reduce_instance
from solver.verification import verify
from tests.properties.enumeration import close, enumerate_feasible, largest_load, period
from tests.properties.instances import random_instance


def cases(seeds, schedule):
    for seed in seeds:
        instance = replace(random_instance(seed), objective=Objective(schedule=schedule))
        reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
        if reduced.allowed.any(axis=1).all():
            yield seed, instance, absorb(reduced, Partition.ACYCLIC)


def placed(instance, compiled, assignment):
    devices = {device.name: device for device in instance.cluster.expand()}
    return {operator: devices[name] for operator, name in compiled.placement(assignment).items()}


def all_cuts(compiled, order):
    """Assignments of consecutive parts of ``order`` to devices of one class, which is the only one."""
    size, count = compiled.num_items, compiled.classes[0].count
    for num_parts in range(1, min(size, count) + 1):
        for ends in itertools.combinations(range(1, size), num_parts - 1):
            stage = np.zeros(size, dtype=int)
            stage[order] = np.searchsorted(ends, np.arange(size), side="right")
            yield [(0, int(number)) for number in stage]


@pytest.mark.parametrize("schedule", PipelineSchedule)
def test_the_best_cut_of_an_order_is_found(schedule):
    """Under gpipe for the share of the forward compute."""
    covered = 0
    for seed, instance, compiled in cases(range(600), schedule):
        if len(compiled.classes) > 1 or compiled.num_items < 3:
            continue
        order = next(iter(topological_orders(compiled, seed)))
        feasible = [set(p.items()) for p in enumerate_feasible(instance)]

        def worth(assignment, instance=instance, compiled=compiled, feasible=feasible):
            placement = placed(instance, compiled, assignment)
            if set(placement.items()) not in feasible:
                return math.inf
            if schedule is not PipelineSchedule.GPIPE:
                return period(instance, placement)
            sums = compiled.compute_ms[:, 0].sum(axis=0)
            share = sums[0] / sums.sum() if sums.all() else 0.5
            return max(largest_load(instance, placement, {b}) / part for b, part in ((False, share), (True, 1 - share)))

        best = min(map(worth, all_cuts(compiled, order)))
        found = cut_order(compiled, order, bound_period(compiled), math.inf)
        assert (found is None) == math.isinf(best), seed
        if found is not None:
            assert close(worth(found), best), seed
            covered += 1
    assert covered > 20


@pytest.mark.parametrize("schedule", PipelineSchedule)
def test_segments_are_pipelines(schedule):
    found = 0
    for seed, instance, compiled in cases(range(150), schedule):
        for assignment in place_segments(compiled, bound_ms=bound_period(compiled), seed=seed, expired=lambda: False):
            assert verify(instance, compiled.placement(assignment)).violations == (), seed
            found += 1
    assert found > 50
