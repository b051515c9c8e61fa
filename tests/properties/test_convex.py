"""Convex partitions that are not acyclic: instances where devices feed each other in the best answer."""

from __future__ import annotations

import dataclasses
import random

import pytest

from solver.instance import (
    Cluster,
    DeviceSpec,
    Edge,
    Graph,
    Instance,
    Interconnect,
    Objective,
    Operator,
    Overlap,
    Partition,
    SolverOptions,
)
from solver.result import Status
from solver.solve import solve
from tests.depth import chunks
from tests.properties.enumeration import close, enumerate_optimum


def chains(seed):
    """Short chains with some edges across, cheap transfers, two or three devices: balance pays, order hinders."""
    source = random.Random(seed)
    lengths = source.choice([(2, 2), (2, 2, 2), (3, 3), (2, 3, 1), (4, 2), (3, 2, 2)])
    operators, edges = [], []
    for index, length in enumerate(lengths):
        for step in range(length):
            group = "tied" if source.random() < 0.1 else None
            operators.append(Operator(f"c{index}.{step}", {"gpu": source.uniform(1, 10)}, source.choice([0, 1]), group))
            if step:
                edges.append(Edge(f"c{index}.{step - 1}", f"c{index}.{step}", transfer_time_ms=source.uniform(0, 0.3)))
    for index, length in enumerate(lengths[1:], start=1):
        if source.random() < 0.3:
            edges.append(Edge("c0.0", f"c{index}.{length - 1}", tensor="aside", transfer_time_ms=0.1))
    devices = (DeviceSpec("gpu", "gpu", source.choice([None, None, 4]), source.choice([2, 2, 3])),)
    cluster = Cluster(devices, Interconnect(overlap=source.choice(list(Overlap))))
    return Instance(Graph(tuple(operators), tuple(edges)), cluster, Objective(partition=Partition.CONVEX))


@pytest.mark.parametrize("chunk", chunks(3))
def test_convex_equals_enumeration_where_it_differs_from_the_others(chunk):
    below_acyclic = above_free = 0
    for seed in range(40 * chunk, 40 * chunk + 40):
        instance = chains(seed)
        values = {}
        for partition in Partition:
            variant = dataclasses.replace(instance, objective=Objective(partition=partition))
            optimum, _ = enumerate_optimum(variant)
            result = solve(variant, SolverOptions(workers=1))
            if optimum is None:
                assert result.status is Status.INFEASIBLE, (seed, partition)
                continue
            assert result.status is Status.OPTIMAL, (seed, partition)
            assert close(result.objective_value, optimum), (seed, partition)
            values[partition] = optimum
        if len(values) == len(Partition):
            below_acyclic += values[Partition.CONVEX] < values[Partition.ACYCLIC] * (1 - 1e-6)
            above_free += values[Partition.CONVEX] > values[Partition.FREE] * (1 + 1e-6)
    # Else the test would not be able to tell the three rules apart.
    assert below_acyclic >= 4
    assert above_free >= 4
