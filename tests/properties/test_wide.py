"""Methods for wide graphs: orders are topological, moves keep every rule and never lose, and small optima are found."""

from __future__ import annotations

import itertools
import random
import threading
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import wide
from solver.compiled import compile_instance
from solver.exact import spread_flows
from solver.heuristics.bisection import bisected_order
from solver.heuristics.borders import Borders
from solver.heuristics.segments import cut_order, place_segments
from solver.instance import (
    Cluster,
    DeviceSpec,
    Edge,
    Graph,
    Instance,
    Objective,
    Operator,
    Partition,
    PipelineSchedule,
    SolverOptions,
)
from solver.reductions import reduce_instance
from solver.search import Search
from solver.verification import verify
from solver.wide import WideSearch
from tests.properties.enumeration import close, enumerate_optimum
from tests.properties.instances import random_instance

SHAPES = (
    lambda seed: wide.branches(5, 6, 4, seed=seed),
    lambda seed: wide.blocks(3, 4, 2, 4, seed=seed),
    lambda seed: wide.grid(5, 7, 4, seed=seed),
    lambda seed: wide.tree(40, 4, seed=seed),
)


def reduced(instance):
    return reduce_instance(compile_instance(instance), Partition.ACYCLIC)


def acyclic(seed):
    """A random instance with ``1f1b`` and the acyclic partition; classes, memory, hosts, groups and overlap vary."""
    instance = random_instance(seed)
    objective = replace(instance.objective, partition=Partition.ACYCLIC, schedule=PipelineSchedule.ONE_F_ONE_B)
    return replace(instance, objective=objective)


def segments(compiled):
    return list(place_segments(compiled, bound_ms=0.0, seed=0, expired=lambda: False))


def unlike(instance, seed):
    """Two classes of devices, one of them slower and with little memory."""
    source = random.Random(seed)
    operators = tuple(
        replace(o, compute_time_ms={**o.compute_time_ms, "slow": 2 * o.compute_time_ms["accelerator"]}, memory_bytes=m)
        for o, m in ((o, source.randint(1, 9)) for o in instance.graph.operators)
    )
    devices = (DeviceSpec("accelerator", "accelerator", 90, 3), DeviceSpec("slow", "slow", 60, 2))
    return replace(instance, graph=replace(instance.graph, operators=operators), cluster=Cluster(devices))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fewest", [1, 12])
def test_the_order_is_topological(shape, fewest):
    compiled = reduced(shape(1))
    order = bisected_order(compiled, 1, fewest)
    assert sorted(order) == list(range(compiled.num_items))
    position = np.argsort(order)
    assert all(position[a] < position[b] for a, b in compiled.item_edges)


@pytest.mark.parametrize("change", [lambda instance, _: instance, unlike])
def test_moves_keep_the_rules_and_never_lose(change):
    gained = 0
    for seed, shape in itertools.product(range(4), SHAPES):
        instance = change(shape(seed), seed)
        compiled = reduced(instance)
        start = cut_order(compiled, bisected_order(compiled, seed), 0.0, np.inf)
        if start is None:
            continue
        before = verify(instance, compiled.placement(start))
        moved = Borders(compiled).improve(start, 50_000, seed, np.zeros(1, dtype=np.int64))
        after = verify(instance, compiled.placement(moved))
        assert after.violations == (), seed
        assert after.objective_value <= before.objective_value * (1 + 1e-12), seed
        gained += after.objective_value < before.objective_value
    assert gained >= 4


def test_moves_on_random_instances():
    """The optimum is never beaten, and mostly reached."""
    num_reached = num_tried = 0
    for seed in range(120):
        instance = acyclic(seed)
        compiled = reduced(instance)
        found = segments(compiled) if compiled.links is None and compiled.allowed.any(axis=1).all() else []
        if not found:
            continue
        moved = Borders(compiled).improve(found[-1], 20_000, seed, np.zeros(1, dtype=np.int64))
        after = verify(instance, compiled.placement(moved))
        assert after.violations == (), seed
        optimum, _ = enumerate_optimum(instance)
        assert after.objective_value >= optimum * (1 - 1e-9), seed
        num_reached += close(after.objective_value, optimum)
        num_tried += 1
    assert num_tried > 50
    assert num_reached > 0.8 * num_tried


def flow_bound(compiled):
    """The best bound of a few rounds in which half of the items send flow, or 0."""
    network, draws, best = spread_flows.Network(compiled), np.random.default_rng(0), 0.0
    for _ in range(30):
        network.send(max(best, network.total_ms / compiled.num_devices), draws, np.zeros(1, dtype=np.int64))
        best = max(best, network.least_period())
    return best


@pytest.mark.parametrize("chunk", range(6))
def test_flows_never_claim_more_than_the_optimum(chunk):
    """In all partitions and schedules; and often more than the average."""
    num_better = 0
    for seed in range(100 * chunk, 100 * chunk + 100):
        instance = random_instance(seed)
        compiled = reduce_instance(compile_instance(instance), instance.objective.partition)
        if compiled.links is not None or not spread_flows.supports(compiled):
            continue
        optimum, _ = enumerate_optimum(instance)
        bound = flow_bound(compiled)
        assert optimum is None or bound <= optimum * (1 + 1e-9), seed
        num_better += bound > compiled.compute_ms.sum(axis=2).min(axis=1).sum() / compiled.num_devices * (1 + 1e-6)
    assert num_better > 0


def test_flows_on_shared_tensors():
    """Small graphs with few large fans, free partition: where the hubs of tensors matter."""
    num_better = 0
    for seed in range(150):
        source = random.Random(seed)
        size = source.randint(3, 7)
        names = [f"o{i}" for i in range(size)]
        operators = tuple(Operator(name, {"gpu": source.choice([1.0, 1.0, 2.0])}) for name in names)
        edges = tuple(
            Edge(names[a], names[b], transfer_time_ms=0.1 + a / 10)
            for a, b in itertools.combinations(range(size), 2)
            if source.random() < 0.7
        )
        objective = Objective(partition=Partition.FREE)
        cluster = Cluster((DeviceSpec("gpu", "gpu", count=source.randint(2, 3)),))
        instance = Instance(Graph(operators, edges), cluster, objective)
        compiled = reduce_instance(compile_instance(instance), Partition.FREE)
        optimum, _ = enumerate_optimum(instance)
        bound = flow_bound(compiled)
        assert bound <= optimum * (1 + 1e-9), seed
        num_better += bound > sum(o.compute_time_ms["gpu"] for o in operators) / compiled.num_devices + 1e-6
    assert num_better > 75


def test_a_stopped_round_gives_its_start_back():
    compiled = reduced(wide.grid(5, 7, 4))
    start = segments(compiled)[-1]
    assert Borders(compiled).improve(start, 10**12, 0, np.ones(1, dtype=np.int64)) == start


def test_rounds_are_the_same_each_time():
    """The first offer of moves ends the search."""
    instance = wide.grid(6, 6, 4)
    compiled = reduced(instance)
    values = []
    for _ in range(2):
        stop = threading.Event()
        seen = []

        def note(progress, seen=seen, stop=stop):
            seen.append(progress.incumbent.objective_value)
            if progress.incumbent.found_by == "borders":
                stop.set()

        search = Search(instance, SolverOptions(time_limit_s=60), note, stop)
        methods = []
        WideSearch(search, compiled, compiled, 1, methods).run()
        assert methods == ["bisection", "borders", "flows"]
        values.append(seen)
    assert values[0] == values[1]
    assert len(values[0]) >= 2


def test_an_error_in_the_bound_is_heard(monkeypatch):
    """Beside the moves, in a thread of its own."""

    stop = threading.Event()

    def fail(*_):
        stop.set()
        raise ZeroDivisionError

    monkeypatch.setattr(spread_flows, "bound_by_flows", fail)
    compiled = reduced(wide.grid(6, 6, 4))
    search = Search(compiled.instance, SolverOptions(time_limit_s=3600), None, stop)
    with pytest.raises(ZeroDivisionError):
        WideSearch(search, compiled, compiled, 2, []).run()
