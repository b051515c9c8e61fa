"""Merges that some optimum agrees with: to move everything to its head keeps a placement feasible and no worse."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from solver.absorption import absorb
from solver.compiled import compile_instance
from solver.instance import Edge, Graph, Objective, Operator, Partition
from solver.reductions import reduce_instance
from solver.verification import verify
from tests.depth import chunks
from tests.properties.enumeration import close, enumerate_optimum
from tests.properties.graphs import mirrored, shaped
from tests.properties.instances import random_instance
from tests.properties.test_enumeration import random_placement
from tests.small import edges, gpus, host, make, op, ops


def absorbed(instance):
    partition = instance.objective.partition
    reduced = reduce_instance(compile_instance(instance), partition)
    return reduced, absorb(reduced, partition)


def with_small_costs(instance, seed):
    """Half of the compute times become nothing or little, so that many items may move."""
    source = random.Random(seed)
    operators = tuple(
        replace(o, compute_time_ms={kind: time * factor for kind, time in o.compute_time_ms.items()})
        for o, factor in ((o, source.choice([0, 0, 0.01, 1])) for o in instance.graph.operators)
    )
    return replace(instance, graph=replace(instance.graph, operators=operators))


def check_moves(instance, seed, placements):
    """How many placements were not yet as the merges have them."""
    _, merged = absorbed(instance)
    changed = 0
    for placement in placements:
        before = verify(instance, placement)
        if before.violations:
            continue
        moved = merged.placement(merged.gather(placement))
        after = verify(instance, moved)
        assert after.violations == (), seed
        assert after.objective_value <= before.objective_value * (1 + 1e-12), seed
        changed += moved != placement
    return changed


@pytest.mark.parametrize("chunk", chunks(6))
def test_moving_to_the_head_is_never_worse(chunk):
    """In all partitions, schedules and overlaps."""
    changed = 0
    for seed in range(60 * chunk, 60 * chunk + 60):
        instance = with_small_costs(random_instance(seed), seed)
        if seed % 2:
            operators = tuple(replace(o, memory_bytes=0) for o in instance.graph.operators)
            instance = replace(instance, graph=replace(instance.graph, operators=operators))
        source = random.Random(seed)
        placements = (random_placement(instance, source) for _ in range(60))
        named = ({o: device.name for o, device in p.items()} for p in placements if p is not None)
        changed += check_moves(instance, seed, named)
    assert changed > 50


@pytest.mark.parametrize("chunk", chunks(5))
def test_the_optimum_stays(chunk):
    merged = 0
    for seed in range(40 * chunk, 40 * chunk + 40):
        instance = with_small_costs(random_instance(seed), seed)
        reduced, smaller = absorbed(instance)
        optimum, _ = enumerate_optimum(instance)
        if optimum is None or smaller.num_items == reduced.num_items:
            continue
        merged += 1
        best = min(
            (
                verification.objective_value
                for choice in itertools.product(
                    [(k, n) for k, c in enumerate(smaller.classes) for n in range(c.count)], repeat=smaller.num_items
                )
                for verification in [verify(instance, smaller.placement(choice))]
                if not verification.violations
            ),
        )
        assert close(best, optimum), seed
    assert merged > 3


@pytest.mark.parametrize("partition", Partition)
def test_larger_graphs_solved_with_and_without(solve, partition, monkeypatch):
    for seed, shape in enumerate(["branches", "grid", "chain", "fork"]):
        instance = with_small_costs(mirrored(shaped(shape, seed, num_devices=2), seed, twins=0.8), seed)
        instance = replace(instance, objective=Objective(partition=partition))
        with monkeypatch.context() as patch:
            patch.setattr("solver.host_search.absorb", lambda compiled, _: compiled)
            without = solve(instance, time_limit_s=1.0)
        within = solve(instance, time_limit_s=1.0)
        for one, other in ((within, without), (without, within)):
            if other.placement is not None:  # there was time for one
                assert one.best_bound <= other.objective_value * (1 + 1e-9)


def num_items(instance):
    return absorbed(instance)[1].num_items


def test_weights_join_the_operator_that_reads_them():
    instance = make(ops(w=0.0, a=1.0, v=0.0, b=1.0), edges(wa=0.3, ab=0.5, vb=0.2))
    assert num_items(instance) == 2


def test_an_output_that_nobody_reads_joins_its_producer():
    instance = make(ops(a=1.0, s=0.0, b=1.0), edges(**{"as": 0.1, "ab": 0.1}))
    assert num_items(instance) == 2


def test_a_chain_that_is_dearer_to_cut_than_to_compute_becomes_one():
    costs = {"ab": 1.0, "bc": 2.0, "cd": 4.0}
    assert num_items(make(ops(a=0.5, b=0.5, c=0.5, d=9.0), edges(**costs))) == 1
    assert num_items(make(ops(a=0.5, b=1.7, c=0.5, d=9.0), edges(**costs))) == 2  # a and b: 2.2 > 2


@pytest.mark.parametrize(
    "instance",
    [
        make(ops(a=1.0, b=1.0), edges(ab=0.9)),  # worth cutting
        make([op("w", 0.0, 5), op("a", 1.0, 5)], edges(wa=1.0), [gpus(2, memory_bytes=9)]),  # memory binds
        make([op("w", 0.0, allowed_devices=("gpu:0",)), op("a", 2.0)], edges(wa=1.0)),  # w may not follow a
        make([op("w", {"gpu": 0.0, "cpu": 1.0}), op("a", {"gpu": 1.0, "cpu": 9.0})], edges(wa=1.0), [gpus(1), host()]),
        make(ops(w=0.0, a=1.0, b=1.0), edges(wa=1.0, wb=1.0)),  # two readers, which an order may part
    ],
)
def test_what_has_a_reason_to_be_apart_stays_apart(instance):
    assert num_items(instance) == len(instance.graph.operators)


def test_a_shared_output_may_join_either_reader_where_no_order_binds():
    instance = make(ops(w=0.0, a=3.0, b=3.0), edges(wa=1.0, wb=1.0), partition="free")
    assert num_items(instance) == 2


def test_convex_needs_a_way_on_from_every_operator():
    """Both parts of u share a device; the one that nothing follows could close a detour through another device."""
    operators = [op("u1", 0.0, colocation_group="u"), op("u2", 0.0, colocation_group="u"), *ops(v=1.0, b=1.0, w=1.0)]
    data = [Edge("u1", "v", transfer_time_ms=9.0), Edge("b", "w", transfer_time_ms=1.0)]
    data += [Edge("v", "b", transfer_time_ms=9.0), Edge("w", "u2", transfer_time_ms=0.0)]
    instance = make(operators, data, [gpus(3)], partition="convex")
    optimum, _ = enumerate_optimum(instance)
    _, merged = absorbed(instance)
    values = [
        verification.objective_value
        for choice in itertools.product([(0, n) for n in range(3)], repeat=merged.num_items)
        for verification in [verify(instance, merged.placement(choice))]
        if not verification.violations
    ]
    assert close(min(values), optimum)


def test_every_other_item_of_a_long_chain():
    size = 20_000
    operators = tuple(Operator(f"o{i}", {"gpu": 0.0 if i % 2 else 1.0}) for i in range(size))
    links = tuple(Edge(f"o{i}", f"o{i + 1}", transfer_time_ms=0.5) for i in range(size - 1))
    instance = make(operators, links)
    assert num_items(replace(instance, graph=Graph(operators, links))) == size // 2
