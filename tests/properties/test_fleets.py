"""Limits on the devices used: no bound over fleets, of the period or the cost, exceeds what enumeration finds."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from solver.clusters import unite_similar
from solver.compiled import compile_instance
from solver.exact import link_ideals
from solver.exact.fleet_ideals import FleetIdealProgram
from solver.exact.throughput_ideals import Verdict
from solver.fleets import all_counts, find_fleets, keeps_limits, limits_fleets, reachable_worth
from solver.formulations.counted_assignment_glop import FleetBounds
from solver.formulations.fractional_assignment_glop import find_prices
from solver.heuristics.orders import topological_orders
from solver.instance import Constraints, Objective, ObjectiveKind, Partition
from solver.reductions import reduce_instance
from tests.properties.clusters import random_cluster_instance
from tests.properties.enumeration import cost, is_feasible, period

ROUNDING = 1 + 1e-9


def limited_instances(chunk, size=25, **objective):
    """With a price on every device and a limit of cost, of devices, or the objective cost."""
    for seed in range(chunk * size, chunk * size + size):
        instance = random_cluster_instance(seed)
        devices = tuple(
            replace(spec, cost_per_hour=(1.3, 0.7, 2.0)[(seed + place) % 3])
            for place, spec in enumerate(instance.cluster.devices)
        )
        limits = replace(instance.constraints, max_cost_per_hour=(None, 2.0, 3.1)[seed % 3])
        kind = ObjectiveKind.COST if seed % 3 == 0 else ObjectiveKind.THROUGHPUT
        instance = replace(
            instance,
            cluster=replace(instance.cluster, devices=devices),
            constraints=limits,
            objective=replace(instance.objective, kind=kind, **objective),
        )
        reduced = reduce_instance(compile_instance(instance), instance.objective.partition)
        if reduced.allowed.any(axis=1).all():
            assert limits_fleets(instance)
            yield seed, instance, reduced


def placements(instance):
    """Every feasible placement: its devices, period and cost."""
    operators = [operator.id for operator in instance.graph.operators]
    for choice in itertools.product(instance.cluster.expand(), repeat=len(operators)):
        if is_feasible(instance, placement := dict(zip(operators, choice, strict=True))):
            names = {device.name for device in choice}
            yield names, period(instance, placement), cost(set(choice))


@pytest.mark.parametrize("chunk", range(3))
def test_no_fleet_does_better_than_its_bound(chunk):
    tight = 0
    for seed, instance, reduced in limited_instances(chunk):
        coarse = unite_similar(reduced)
        fleets = find_fleets(coarse)
        known = {
            goal: FleetBounds(coarse, fleets, instance.constraints.longest_period_ms) for goal in ("period", "cost")
        }
        least_period = known["period"].least_period(lambda: 10.0)
        least_cost = known["cost"].least_cost(lambda: 10.0)
        rows = {tuple(counts): row for row, counts in enumerate(fleets.counts.tolist())}
        best_period = best_cost = math.inf
        for names, time, price in placements(instance):
            fleet = rows[tuple(sum(name in names for name in c.devices) for c in coarse.classes)]
            assert price == pytest.approx(fleets.costs[fleet]), seed
            for bounds in known.values():
                assert bounds.periods[fleet] <= time * ROUNDING, seed
                assert bounds.are_open[fleet], seed
            best_period, best_cost = min(best_period, time), min(best_cost, price)
        assert least_period <= best_period * ROUNDING, seed
        assert least_cost <= best_cost * ROUNDING, seed
        tight += best_cost < math.inf and least_cost > best_cost / ROUNDING
    assert tight > 3


def program_by_fleet(compiled, order):
    def prices_of(part):
        prices = find_prices(part)
        return None if prices is None else (prices.of_load, prices.of_memory)

    fleets = find_fleets(compiled)
    return FleetIdealProgram(compiled, order, fleets, np.zeros(len(fleets.costs)), prices_of, (100_000, 2048))


@pytest.mark.parametrize("chunk", range(3))
def test_what_the_ideal_program_calls_impossible_within_limits_is(chunk):
    impossible = 0
    stop = np.zeros(1, dtype=np.int64)
    for seed, instance, reduced in limited_instances(chunk, partition=Partition.ACYCLIC, schedule="1f1b"):
        worths = [(time, price) for _, time, price in placements(instance)]
        for compiled in (reduced, unite_similar(reduced)):
            prices = find_prices(compiled)
            if not link_ideals.supports(compiled) or prices is None:
                continue
            order = next(iter(topological_orders(compiled, seed)))
            program = link_ideals.LinkIdealProgram(compiled, order, (prices.of_load, prices.of_memory))
            if compiled is not reduced:
                program = program_by_fleet(compiled, order)
            for time, price in (*worths[:3], (4.0, 1.4), (8.0, 2.0)):
                for factor, longer in ((ROUNDING, ROUNDING), (ROUNDING, 0.9), (0.8, ROUNDING)):
                    program.limit_cost(price * factor)
                    verdict = program.try_period(time * longer, lambda: False, math.inf, stop).verdict
                    within = [t <= time * longer and p <= price * factor for t, p in worths]
                    assert verdict is Verdict.REACHED or not any(within), (seed, time, price)
                    impossible += verdict is Verdict.IMPOSSIBLE
    assert impossible > 12


@pytest.mark.parametrize("chunk", range(3))
def test_the_bounds_hold_for_part_of_the_devices(chunk):
    for seed, instance, reduced in limited_instances(chunk, partition=Partition.ACYCLIC, schedule="1f1b"):
        names = frozenset(sorted(device.name for device in instance.cluster.expand())[seed % 2 :: 2])
        part = reduced.keep_devices(names)
        assert {name for c in part.classes for name in c.devices} == names
        if not part.allowed.any(axis=1).all() or (prices := find_prices(part)) is None:
            continue
        order = next(iter(topological_orders(part, seed)))
        if not link_ideals.supports(part):
            continue
        program = link_ideals.LinkIdealProgram(part, order, (prices.of_load, prices.of_memory))
        for used, time, _ in placements(instance):
            if used <= names:
                trial = program.try_period(time * ROUNDING, lambda: False, math.inf, np.zeros(1, dtype=np.int64))
                assert trial.verdict is Verdict.REACHED, seed


def test_what_can_still_be_added_counts_only_within_the_limits():
    for _, _, reduced in limited_instances(0, size=12):
        counts = all_counts(reduced)
        kept = keeps_limits(reduced, counts)
        holds = np.arange(1.0, len(reduced.classes) + 1)
        worth = reachable_worth(reduced, kept, holds)
        for row, used in enumerate(counts):
            larger = [more for more in counts[kept] if (more >= used).all()]
            expected = max(((more - used) @ holds for more in larger), default=-math.inf) if kept[row] else -math.inf
            assert worth[row] == expected


def test_without_limits_every_fleet_will_do():
    instance = replace(random_cluster_instance(3), constraints=Constraints(), objective=Objective())
    compiled = compile_instance(instance)
    assert not limits_fleets(instance)
    assert keeps_limits(compiled, all_counts(compiled)).all()
    assert find_fleets(compiled).largest_within(math.inf).sum() == 1
