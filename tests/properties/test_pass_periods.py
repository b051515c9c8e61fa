"""Two periods at once: which pairs can be kept, and the search for the least sum."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from solver.bounds import bound_each_pass
from solver.compiled import compile_instance
from solver.exact import pass_periods
from solver.exact.pass_periods import PassPeriods, largest_loads
from solver.exact.throughput_ideals import FINEST, IdealProgram, Trial, Verdict, supports
from solver.heuristics.orders import topological_orders
from solver.instance import Objective, Partition, PipelineSchedule
from solver.reductions import reduce_instance
from tests.properties.enumeration import close, enumerate_feasible, largest_load
from tests.properties.instances import random_instance, with_extreme_costs

GPIPE = Objective(schedule=PipelineSchedule.GPIPE)


def program_of(instance, seed):
    reduced = reduce_instance(compile_instance(instance), Partition.ACYCLIC)
    if not supports(reduced) or not reduced.allowed.any(axis=1).all():
        return None
    return IdealProgram(reduced, random.Random(seed).choice(list(topological_orders(reduced, seed))), 1_000_000)


def points_of(instance):
    """The pairs of largest loads that no other pair is below."""
    points = {
        tuple(largest_load(instance, placement, {is_backward}) for is_backward in (False, True))
        for placement in enumerate_feasible(instance)
    }
    return [p for p in points if not any(o != p and o[0] <= p[0] and o[1] <= p[1] for o in points)]


def training_instances(seeds, change):
    """Instances with at least one backward operator, and the program."""
    for seed in seeds:
        instance = change(replace(random_instance(seed), objective=GPIPE), seed)
        program = program_of(instance, seed)
        if program is not None and any(operator.is_backward for operator in instance.graph.operators):
            yield seed, instance, program


@pytest.mark.parametrize("chunk", range(5))
@pytest.mark.parametrize("change", [lambda instance, _: instance, with_extreme_costs], ids=["plain", "extreme"])
def test_boxes_are_kept_where_some_placement_keeps_them(chunk, change):
    reached = impossible = 0
    for seed, instance, program in training_instances(range(200 * chunk, 200 * chunk + 200), change):
        points = points_of(instance)
        source = random.Random(seed)
        sides = [sorted({0.0, *(point[index] for point in points)}) for index in (0, 1)]
        for _ in range(12):
            # Just above or just below what some placement needs.
            box = tuple(source.choice(side) * source.choice([1 - 1e-6, 1 + 1e-8, 1.5]) for side in sides)
            trial = program.try_periods(box, lambda: False)
            is_kept = any(f <= box[0] and b <= box[1] for f, b in points)
            assert trial.verdict is (Verdict.REACHED if is_kept else Verdict.IMPOSSIBLE), (seed, box)
            reached += is_kept
            impossible += not is_kept
            if is_kept:
                loads = largest_loads(program.compiled, trial.assignment)
                assert all(load <= limit * (1 + 1e-9) for load, limit in zip(loads, box, strict=True)), (seed, box)
                placement = program.compiled.placement(trial.assignment)
                devices = {device.name: device for device in instance.cluster.expand()}
                named = {operator: devices[name] for operator, name in placement.items()}
                for load, is_backward in zip(loads, (False, True), strict=True):
                    assert close(load, largest_load(instance, named, {is_backward}), 1e-9), seed
    assert reached > 40
    assert impossible > 40


def close_gap(program, least, worst):
    """(value, bound, number of trials) in the end."""
    periods = PassPeriods(program, least)
    values, bounds = [worst], [sum(least)]
    periods.close_gap(
        interval=lambda: (max(bounds), min(values)),
        found=lambda assignment: values.append(sum(pass_periods.largest_loads(program.compiled, assignment))),
        proved=bounds.append,
        expired=lambda: False,
    )
    return min(values), max(bounds), len(bounds) + len(values)


@pytest.mark.parametrize("chunk", range(4))
def test_the_gap_closes_at_the_optimum(chunk):
    covered = 0
    seeds = range(200 * chunk, 200 * chunk + 200)
    for seed, instance, program in training_instances(seeds, lambda instance, _: instance):
        points = points_of(instance)
        if points:
            optimum = min(map(sum, points))
            worst = 10 * (1 + max(map(sum, points)))
            value, bound, _ = close_gap(program, bound_each_pass(program.compiled), worst)
            assert close(value, optimum), seed
            assert optimum * (1 - 2 * FINEST) <= bound <= optimum * (1 + 1e-9), seed
            covered += 1
    assert covered > 20


class FrontOfPoints:
    """Answers trials from a list of points, as a program with one placement for each would."""

    compiled = None

    def __init__(self, points, source):
        self._points = points
        self._source = source

    def try_periods(self, box, *_):
        kept = [point for point in self._points if point[0] <= box[0] and point[1] <= box[1]]
        if not kept:
            return Trial(Verdict.IMPOSSIBLE)
        return Trial(Verdict.REACHED, self._source.choice(kept))


@pytest.mark.parametrize("shape", ["steps", "line", "curve", "cloud", "flat", "one"])
def test_any_front_is_searched_to_its_end(shape, monkeypatch):
    """Also where nearly all pairs add up to nearly the same."""
    monkeypatch.setattr(pass_periods, "largest_loads", lambda _, point: point)
    for seed in range(30):
        source = random.Random(seed)
        along = [source.random() for _ in range(200)]
        points = {
            "steps": [(float(i), float(9 - i)) for i in range(10)],
            "line": [(x, 1 - x + 1e-5 * source.random()) for x in along],
            "curve": [(x, (1 - math.sqrt(x)) ** 2 + 0.1) for x in along],
            "cloud": [(source.uniform(1, 2), source.uniform(1, 2)) for _ in along],
            "flat": [(x, 0.0) for x in along],
            "one": [(source.random(), source.random())],
        }[shape]
        optimum = min(map(sum, points))
        least = (min(f for f, _ in points) * source.random(), min(b for _, b in points) * source.random())
        value, bound, num_trials = close_gap(FrontOfPoints(points, source), least, 100.0)
        assert value == optimum
        assert optimum * (1 - 2 * FINEST) <= bound <= optimum
        assert num_trials < 2500


def test_a_placement_that_is_refused_ends_the_search():
    class Refused(FrontOfPoints):
        trials = 0

        def try_periods(self, box, *_):
            self.trials += 1
            assert self.trials < 10
            return super().try_periods(box)

    program = Refused([(1.0, 1.0)], random.Random(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pass_periods, "largest_loads", lambda _, point: point)
        PassPeriods(program, (0.5, 0.5)).close_gap(
            interval=lambda: (1.0, 5.0), found=lambda _: False, proved=lambda _: None, expired=lambda: False
        )
