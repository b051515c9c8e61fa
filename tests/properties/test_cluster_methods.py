"""Bounds and moves on real clusters: no bound exceeds the optimum, and what annealing says it reached is reached."""

from __future__ import annotations

import dataclasses
import math
import random

import numpy as np
import pytest

from solver.bounds import bound_period
from solver.clusters import unite_similar
from solver.compiled import compile_instance
from solver.exact import link_ideals
from solver.exact.link_cases import LinkCases
from solver.exact.operator_cuts import bound_by_cuts
from solver.exact.throughput_ideals import IdealProgram, Verdict, supports
from solver.formulations.fractional_assignment_glop import Prices, bound_by_prices, find_prices
from solver.heuristics.moves import Annealing
from solver.heuristics.orders import topological_orders
from solver.heuristics.sequences import Sequences
from solver.instance import (
    Constraints,
    DeviceSpec,
    Edge,
    Link,
    LinkGroup,
    Objective,
    ObjectiveKind,
    Operator,
    Overlap,
    Partition,
)
from solver.loose_items import drop_light
from solver.reductions import reduce_instance
from solver.symmetries import renamings
from solver.verification import verify
from tests.depth import chunks
from tests.properties.clusters import random_cluster_instance, random_loose_instance, random_training_instance
from tests.properties.enumeration import close, enumerate_optimum
from tests.small import gpus, make, op

ROUNDING = 1 + 1e-9


def throughput_instances(chunk, size=50):
    """Without limits, so that there is an optimum more often than not."""
    for seed in range(chunk * size, chunk * size + size):
        instance = random_cluster_instance(seed)
        objective = dataclasses.replace(instance.objective, kind=ObjectiveKind.THROUGHPUT)
        instance = dataclasses.replace(instance, objective=objective, constraints=Constraints())
        reduced = reduce_instance(compile_instance(instance), instance.objective.partition)
        if reduced.allowed.any(axis=1).all():
            yield seed, instance, reduced, enumerate_optimum(instance)[0]


@pytest.mark.parametrize("chunk", chunks(5))
def test_bounds_over_links_stay_below_the_optimum(chunk):
    tight = 0
    for seed, _, reduced, optimum in throughput_instances(chunk):
        if optimum is None:
            continue
        coarse = unite_similar(reduced)
        source = random.Random(seed)
        shape = len(coarse.classes)
        prices = [Prices(*(np.array([source.random() for _ in range(shape)]) for _ in range(2))), find_prices(coarse)]
        bounds = [bound_by_prices(coarse, some) for some in prices if some is not None]
        bounds.append(bound_period(coarse))
        bound_by_cuts(coarse, bounds.append, lambda: False)
        assert max(bounds) <= optimum * ROUNDING, seed
        tight += max(bounds) >= optimum * (1 - 1e-6)
    assert tight > 5


@pytest.mark.parametrize("chunk", chunks(4))
def test_what_the_optimistic_ideal_program_calls_impossible_is(chunk):
    impossible = 0
    for seed, drawn, _, _ in throughput_instances(chunk):
        instance = dataclasses.replace(drawn, objective=Objective())
        optimum = enumerate_optimum(instance)[0]
        reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
        coarse = unite_similar(reduced)
        if not optimum or not supports(coarse, 2048):
            continue
        prices = find_prices(coarse)
        program = IdealProgram(
            coarse,
            next(iter(topological_orders(coarse, seed))),
            100_000,
            None if prices is None else (prices.of_load, prices.of_memory),
        )
        assert program.try_period(optimum * ROUNDING, lambda: False).verdict is Verdict.REACHED, seed
        for factor in (0.95, 0.7):
            impossible += program.try_period(optimum * factor, lambda: False).verdict is Verdict.IMPOSSIBLE
    assert impossible > 20


@pytest.mark.parametrize("chunk", chunks(4))
def test_annealing_reaches_what_it_says_and_often_the_optimum(chunk):
    met = total = 0
    for seed, instance, drawn, optimum in throughput_instances(chunk):
        if optimum is None:
            continue
        is_convex = instance.objective.partition is Partition.CONVEX
        reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC) if is_convex else drawn
        start = starting_point(reduced)
        if start is None:
            continue
        annealing = Annealing(reduced)
        value, found = annealing.improve(start, 1e4, 0.0, seed, np.zeros(1, dtype=np.int64))
        total += 1
        if found is None:
            continue
        verification = verify(instance, reduced.placement(found))
        assert verification.violations == (), seed
        assert close(verification.objective_value, value), seed
        met += value <= optimum * 1.01 + 1e-9
    assert met > 0.8 * total


def starting_point(reduced):
    """Everything on one device, if one can run it all; memory and all else apart."""
    for index in range(len(reduced.classes)):
        if np.isfinite(reduced.compute_ms[:, index].sum()) and reduced.allowed[:, index].all():
            return [(index, 0)] * reduced.num_items
    return None


def test_annealing_never_calls_an_infinite_time_a_period():
    for _, _, reduced, _ in throughput_instances(0):
        start = starting_point(reduced)
        if start is not None:
            value, found = Annealing(reduced).improve(start, 1e-9, 0.0, 0, np.zeros(1, dtype=np.int64))
            assert found is None or math.isfinite(value)


@pytest.mark.parametrize("chunk", chunks(4))
def test_what_the_ideal_program_over_links_calls_impossible_is(chunk):
    impossible = 0
    stop = np.zeros(1, dtype=np.int64)
    for seed, drawn, _, _ in throughput_instances(chunk):
        instance = dataclasses.replace(drawn, objective=Objective())
        reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
        prices = find_prices(reduced)
        if not link_ideals.supports(reduced) or prices is None:
            continue
        optimum = enumerate_optimum(instance)[0]
        if not optimum:
            continue
        order = next(iter(topological_orders(reduced, seed)))
        values = prices.of_load, prices.of_memory
        program = link_ideals.LinkIdealProgram(reduced, order, values)
        for factor in (ROUNDING, 1.3):
            trial = program.try_period(optimum * factor, lambda: False, math.inf, stop)
            assert trial.verdict is Verdict.REACHED, (seed, factor)
        for factor in (0.999, 0.9, 0.7):
            verdict = program.try_period(optimum * factor, lambda: False, math.inf, stop).verdict
            assert verdict in {Verdict.IMPOSSIBLE, Verdict.REACHED}, seed
            impossible += verdict is Verdict.IMPOSSIBLE
    assert impossible > 20


@pytest.mark.parametrize("chunk", range(6))
def test_the_ideal_program_that_follows_all_tensors_is_exact(chunk):
    exact = impossible = 0
    stop = np.zeros(1, dtype=np.int64)
    for seed, drawn, _, _ in throughput_instances(chunk):
        instance = dataclasses.replace(drawn, objective=Objective(), constraints=Constraints())
        if any(operator.is_backward for operator in instance.graph.operators):
            continue
        reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
        optimum = enumerate_optimum(instance)[0]
        prices = find_prices(reduced)
        if not link_ideals.supports(reduced) or reduced.links is None or prices is None or not optimum:
            continue
        order = next(iter(topological_orders(reduced, seed)))
        program = link_ideals.LinkIdealProgram(reduced, order, (prices.of_load, prices.of_memory))
        for follow_ms in ((math.inf,), (0.0,), (math.inf, optimum / 4, 0.0)):
            for factor in (1.3, ROUNDING):
                trial = program.try_period(optimum * factor, lambda: False, math.inf, stop, follow_ms=follow_ms)
                assert trial.verdict is Verdict.REACHED, (seed, follow_ms, factor)
            below = program.try_period(optimum * 0.999, lambda: False, math.inf, stop, follow_ms=follow_ms)
            impossible += below.verdict is Verdict.IMPOSSIBLE
        assert below.verdict is Verdict.IMPOSSIBLE, seed
        verification = verify(instance, reduced.placement(trial.assignment))
        assert verification.violations == (), seed
        assert verification.objective_value <= optimum * ROUNDING * ROUNDING, seed
        exact += 1
    assert exact > 5
    assert impossible > 2 * exact


def linked_training(chunk, draw):
    """Random training instances over links: reduced, with the optimum, and what the programs are made of."""
    for seed in range(chunk * 30, chunk * 30 + 30):
        instance = draw(seed)
        reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
        optimum, prices = enumerate_optimum(instance)[0], find_prices(reduced)
        if optimum and prices is not None and link_ideals.supports(reduced):
            order = next(iter(topological_orders(reduced, seed)))
            yield seed, instance, optimum, (reduced, order, (prices.of_load, prices.of_memory))


def check_trials(program, seed, instance, optimum):
    """Whatever is followed, the optimum is reached; if all tensors can be, nothing shorter is. Returns if they can."""
    stop = np.zeros(1, dtype=np.int64)
    for follow_ms in ((math.inf,), (0.0,), (math.inf, optimum / 4, 0.0)):
        for factor in (1.3, ROUNDING):
            trial = program.try_period(optimum * factor, lambda: False, math.inf, stop, follow_ms=follow_ms)
            assert trial.verdict is Verdict.REACHED, (seed, follow_ms, factor)
    if instance.cluster.interconnect.overlap is Overlap.DUPLEX:
        return False
    placement = program.compiled.placement(trial.assignment)
    assert verify(instance, placement).objective_value == pytest.approx(optimum), seed
    below = program.try_period(optimum * 0.999, lambda: False, math.inf, stop, follow_ms=(0.0,))
    assert below.verdict is Verdict.IMPOSSIBLE, seed
    return True


@pytest.mark.parametrize("chunk", chunks(3))
def test_the_ideal_program_that_follows_gradients_is_exact(chunk):
    exact = 0
    for seed, instance, optimum, parts in linked_training(chunk, random_training_instance):
        exact += check_trials(link_ideals.LinkIdealProgram(*parts), seed, instance, optimum)
    assert exact > 5


@pytest.mark.parametrize("freedom", [0, 2])
@pytest.mark.parametrize("chunk", chunks(2))
def test_items_kept_out_of_the_window_change_nothing(chunk, freedom, monkeypatch):
    """As if the window were so short that every item, or most of them, had to be kept out of it."""
    monkeypatch.setattr("solver.exact.ideal_graph.FREEDOM", freedom)
    exact = 0
    draws = random_loose_instance, random_training_instance
    for seed, instance, optimum, parts in linked_training(chunk, lambda seed: draws[seed % 2](seed)):
        exact += check_trials(LinkCases(*parts), seed, instance, optimum)
    assert exact > 5


@pytest.mark.parametrize("chunk", chunks(3))
def test_the_cases_of_a_loose_item_are_exact_together(chunk):
    """What it exchanges can only be followed in the cases; without them some period too short is reached."""
    exact = sharper = 0
    stop = np.zeros(1, dtype=np.int64)
    for seed, instance, optimum, parts in linked_training(chunk, random_loose_instance):
        if check_trials(LinkCases(*parts), seed, instance, optimum):
            without = link_ideals.LinkIdealProgram(*parts)
            below = without.try_period(optimum * 0.999, lambda: False, math.inf, stop, follow_ms=(0.0,))
            sharper += below.verdict is Verdict.REACHED
            exact += 1
    assert exact > 5
    assert sharper > 0


@pytest.mark.parametrize("chunk", chunks(4))
def test_few_loose_items_are_easier_to_place_over_links(chunk):
    covered = 0
    stop = np.zeros(1, dtype=np.int64)
    for seed, drawn, _, _ in throughput_instances(chunk):
        instance = dataclasses.replace(drawn, objective=Objective())
        reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
        relaxed, prices = drop_light(reduced, 1), find_prices(reduced)
        if all(reduced.has_forward) or not link_ideals.supports(relaxed) or prices is None:
            continue
        optimum = enumerate_optimum(instance)[0]
        if not optimum:
            continue
        order = next(iter(topological_orders(relaxed, seed)))
        program = LinkCases(relaxed, order, (prices.of_load, prices.of_memory))
        for follow_ms in ((math.inf,), (math.inf, 0.0)):
            for factor in (1.3, ROUNDING):
                trial = program.try_period(optimum * factor, lambda: False, math.inf, stop, follow_ms=follow_ms)
                assert trial.verdict is Verdict.REACHED, (seed, follow_ms, factor)
        covered += 1
    assert covered > 2


@pytest.mark.parametrize("seed", range(12))
def test_two_nodes_with_the_same_contents_are_one_question(seed):
    """Random graphs on two nodes of a fast and a slow device each; renaming them must lose nothing."""
    source = random.Random(seed)
    names = "abcdef"
    operators = [Operator(n, {"fast": source.uniform(1, 9), "slow": source.uniform(5, 20)}, 1) for n in names]
    connections = [
        Edge(a, b, size)
        for a in names
        for size in [source.randint(1, 9)]
        for b in names
        if a < b and source.random() < 0.5
    ]
    devices = [DeviceSpec("fast", "fast", 3, 2), DeviceSpec("slow", "slow", 2, 2)]
    groups = tuple(LinkGroup((f"fast:{i}", f"slow:{i}"), Link(8000.0)) for i in (0, 1))
    wires = {"model": "links", "default": Link(1600.0), "groups": groups, "overlap": source.choice(list(Overlap))}
    instance = make(operators, connections, devices, wires=wires)
    reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
    optimum = enumerate_optimum(instance)[0]
    assert len(renamings(reduced)) == 2
    assert optimum
    order, stop = next(iter(topological_orders(reduced, seed))), np.zeros(1, dtype=np.int64)
    program = link_ideals.LinkIdealProgram(reduced, order, (np.full(4, 0.1), np.zeros(4)))
    for factor in (1.3, ROUNDING):
        trial = program.try_period(optimum * factor, lambda: False, math.inf, stop, follow_ms=(math.inf, 0.0))
    assert trial.verdict is Verdict.REACHED
    assert verify(instance, reduced.placement(trial.assignment)).objective_value == pytest.approx(optimum)
    below = program.try_period(optimum * 0.999, lambda: False, math.inf, stop, follow_ms=(0.0,))
    assert below.verdict is Verdict.IMPOSSIBLE


def test_a_pipeline_through_two_nodes_crosses_between_them():
    """Four operators of 10 ms on four devices: 1 ms within a pair, 5 ms between the pairs; one stage pays 1 + 5."""
    groups = tuple(LinkGroup((f"gpu:{i}", f"gpu:{i + 1}"), Link(8000.0)) for i in (0, 2))
    wires = {"model": "links", "default": Link(1600.0), "groups": groups}
    operators = [op(name, 10.0, 1) for name in "abcd"]
    connections = [Edge(a, b, 8) for a, b in ("ab", "bc", "cd")]
    instance = make(operators, connections, [gpus(4, 1)], wires=wires)
    assert enumerate_optimum(instance)[0] == 16.0
    reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
    order, stop = np.arange(4), np.zeros(1, dtype=np.int64)
    optimistic = IdealProgram(unite_similar(reduced), order, 1000)
    assert optimistic.try_period(12.0, lambda: False).verdict is Verdict.REACHED
    values = np.full(2, 0.1), np.zeros(2)
    program = link_ideals.LinkIdealProgram(reduced, order, values)
    assert program.try_period(15.9, lambda: False, math.inf, stop).verdict is Verdict.IMPOSSIBLE
    assert program.try_period(16.0, lambda: False, math.inf, stop).verdict is Verdict.REACHED


@pytest.mark.parametrize("follow_ms", [(math.inf,), (0.0,), (math.inf, 0.0)])
def test_a_gradient_between_branches_may_go_back_to_a_used_device(follow_ms):
    """The gradient of a goes to b: c and b are on x, before a on y, and the link from y to z is far too slow."""

    def at(home, name, **fields):
        return op(name, {kind: 1.0 if kind == home else 100.0 for kind in "xyz"}, **fields)

    operators = [
        at("x", "c"),
        at("y", "a", colocation_group="a"),
        at("x", "b", colocation_group="b"),
        at("z", "d"),
        at("y", "a'", colocation_group="a", is_backward=True),
        at("x", "b'", colocation_group="b", is_backward=True),
    ]
    connections = [Edge("c", "a"), Edge("a", "a'"), Edge("b", "b'"), Edge("a'", "b'", 8)]
    groups = tuple(LinkGroup(pair, Link(speed)) for pair, speed in ((("x", "y"), 80_000.0), (("y", "z"), 160.0)))
    devices = [DeviceSpec(kind, kind) for kind in "xyz"]
    wires = {"model": "links", "groups": groups, "default": Link(80_000.0)}
    instance = make(operators, connections, devices, wires=wires)
    assert enumerate_optimum(instance)[0] == 3.1
    reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
    names = [instance.graph.operators[members[0]].id for members in reduced.members]
    order, stop = np.array([names.index(name) for name in "cabd"]), np.zeros(1, dtype=np.int64)
    program = link_ideals.LinkIdealProgram(reduced, order, (np.full(3, 0.1), np.zeros(3)))
    trial = program.try_period(3.2, lambda: False, math.inf, stop, follow_ms=follow_ms)
    assert trial.verdict is Verdict.REACHED


@pytest.mark.parametrize("chunk", chunks(4))
def test_orders_of_devices_make_the_placements_they_say(chunk):
    met = total = 0
    stop = np.zeros(1, dtype=np.int64)
    for seed, drawn, _, _ in throughput_instances(chunk):
        instance = dataclasses.replace(
            drawn, objective=dataclasses.replace(drawn.objective, partition=Partition.ACYCLIC)
        )
        optimum = enumerate_optimum(instance)[0]
        reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
        if not optimum:
            continue
        order = next(iter(topological_orders(reduced, seed)))
        value, found = Sequences(reduced).search(order, None, 1e4, 0.0, seed, stop)
        total += 1
        if found is not None:
            verification = verify(instance, reduced.placement(found))
            assert {v.code for v in verification.violations} <= {"no_route", "acyclic_partition"}, seed
            if not verification.violations:
                assert close(verification.objective_value, value), seed
            met += value <= optimum * 1.01
    assert met > 0.6 * total
