"""Pinned operators: devices that show in an ideal rather than in a count, and segments that wait for them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from solver import host_search
from solver.compiled import compile_instance
from solver.exact.throughput_ideals import IdealProgram, Verdict, supports
from solver.heuristics.orders import topological_orders
from solver.instance import Constraints, Objective, Partition
from solver.reductions import reduce_instance
from solver.result import Status
from solver.verification import verify
from tests.depth import chunks
from tests.properties.enumeration import close, enumerate_optimum
from tests.properties.graphs import shaped
from tests.properties.instances import random_chain_like, random_instance
from tests.small import edges, gpus, make, ops


def with_pins(instance, seed, count):
    """Some operators on devices of their own, some on one and the same."""
    source = random.Random(seed)
    devices = [device.name for device in instance.cluster.expand()]
    operators = [o.id for o in instance.graph.operators if o.allowed_devices is None]
    chosen = source.sample(operators, min(count, len(operators)))
    return replace(instance, constraints=Constraints(pinned={name: source.choice(devices) for name in chosen}))


@pytest.mark.parametrize("chunk", chunks(4))
def test_pins_equal_enumeration(solve, chunk):
    for seed in range(40 * chunk, 40 * chunk + 40):
        instance = with_pins(random_instance(seed), seed, 1 + seed % 3)
        optimum, _ = enumerate_optimum(instance)
        result = solve(instance)
        if optimum is None:
            assert result.status is Status.INFEASIBLE, seed
        else:
            assert result.status is Status.OPTIMAL, seed
            assert close(result.objective_value, optimum), seed


@pytest.mark.parametrize("chunk", chunks(4))
def test_trials_with_pins(chunk):
    """The ideal program alone, against enumeration."""
    reached = impossible = 0
    for seed in range(60 * chunk, 60 * chunk + 60):
        instance = with_pins(replace(random_instance(seed), objective=Objective()), seed, 1 + seed % 3)
        reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
        if not supports(reduced) or not reduced.allowed.any(axis=1).all():
            continue
        order = random.Random(seed).choice(list(topological_orders(reduced, seed)))
        program = IdealProgram(reduced, order, 1_000_000)
        optimum, _ = enumerate_optimum(instance)
        if optimum is None:
            assert program.try_period(1e9, lambda: False).verdict is Verdict.IMPOSSIBLE, seed
            impossible += 1
        elif optimum > 0:
            assert program.try_period(optimum * (1 - 1e-6), lambda: False).verdict is Verdict.IMPOSSIBLE, seed
            trial = program.try_period(optimum * (1 + 1e-8), lambda: False)
            assert trial.verdict is Verdict.REACHED, seed
            assert verify(instance, reduced.placement(trial.assignment)).violations == ()
            reached += 1
    assert reached > 10


def test_ideals_and_ladder_agree_with_many_pins(solve, monkeypatch):
    statuses = set()
    for seed in range(18):
        instance = (
            shaped(["chain", "grid", "tree"][seed % 3], seed, num_devices=5) if seed % 2 else random_chain_like(seed)
        )
        source = random.Random(seed)
        names = [operator.id for operator in instance.graph.operators]
        devices = [device.name for device in instance.cluster.expand()]
        places = sorted(source.sample(range(len(names)), 3))
        pins = {
            names[place]: device
            for place, device in zip(places, source.sample(devices, min(3, len(devices))), strict=False)
        }
        instance = replace(instance, constraints=Constraints(pinned=pins))
        results = []
        for name, value in (("is_modelled", lambda _: False), ("supports", lambda _: False)):
            with monkeypatch.context() as patch:
                patch.setattr(host_search, name, value)
                results.append(solve(instance))
        one, other = results
        assert one.status is other.status, seed
        statuses.add(one.status)
        if one.status is Status.OPTIMAL:
            assert close(one.objective_value, other.objective_value, 2e-6), seed
    assert Status.OPTIMAL in statuses


def test_each_operator_pinned_elsewhere(solve):
    """More devices than states could be counted for, in no order that the names suggest."""
    count = 40
    devices = random.Random(0).sample(range(count), count)
    chain = ops(**{f"o{i}": 1.0 for i in range(count)})
    costs = [replace(e, source=f"o{i}", target=f"o{i + 1}") for i, e in enumerate(edges(ab=0.5) * (count - 1))]
    instance = make(
        chain, costs, [gpus(count)], constraints={"pinned": {f"o{i}": f"gpu:{d}" for i, d in enumerate(devices)}}
    )
    result = solve(instance, time_limit_s=20.0)
    assert result.status is Status.OPTIMAL
    assert result.objective_value == 2.0


def test_operators_pinned_to_one_device_and_what_lies_between(solve):
    instance = make(
        ops(a=1.0, b=1.0, c=1.0, d=1.0),
        edges(ab=0.1, bc=0.1, cd=0.1),
        [gpus(2)],
        constraints={"pinned": {"a": "gpu:1", "c": "gpu:1"}},
    )
    result = solve(instance)
    assert result.objective_value == pytest.approx(3.1)
    assert result.placement == {"a": "gpu:1", "b": "gpu:1", "c": "gpu:1", "d": "gpu:0"}
