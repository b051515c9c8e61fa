"""Bounds on instances that once drowned them in rounding errors."""

from __future__ import annotations

import pytest

from solver.bounds import bound_by_counting, bound_by_largest_item, bound_by_total, bound_period
from solver.compiled import compile_instance
from solver.formulations.throughput_bottleneck_highs import bound_by_bottleneck
from solver.reductions import reduce_instance
from tests.small import edges, gpus, host, make, op, ops


def compiled(*args, **kwargs):
    instance = make(*args, **kwargs)
    return reduce_instance(compile_instance(instance), instance.objective.partition)


def test_the_largest_item_and_the_total():
    question = compiled(ops(a=1.0, b=2.0, c=6.0))
    assert bound_period(question) == pytest.approx(6.0)
    question = compiled(ops(a=4.0, b=4.0, c=4.0), (), [gpus(3)])
    assert bound_period(question) == pytest.approx(4.0)
    assert bound_period(compiled(ops(a=3.0, b=3.0, c=3.0, d=3.0))) == pytest.approx(6.0)


def test_the_passes_of_gpipe_add_up():
    operators = [op("a", 4.0), op("b", 2.0), op("A", 6.0, is_backward=True)]
    assert bound_period(compiled(operators, edges(ab=0.0), schedule="gpipe")) == pytest.approx(4.0 + 6.0)
    assert bound_period(compiled(operators, edges(ab=0.0))) == pytest.approx(6.0)


def test_an_item_without_device_bounds_nothing():
    assert bound_period(compiled([op("a", 1.0), op("b", {})])) == 0.0


def test_counting_does_not_lose_small_items_behind_large_ones():
    """Five of 0.3 on two devices: one takes three of them, whatever the host does with those of 1e12."""
    operators = [op(f"o{i}", 0.3) for i in range(5)]
    operators += [op(f"x{i}", {"gpu": 1e12 / (i + 3), "cpu": 1e-3}) for i in range(4)]
    question = compiled(operators, (), [gpus(2), host()])
    compute = question.compute_ms.sum(axis=2)
    counts = [device_class.count for device_class in question.classes]
    are_hosts = [device_class.is_host for device_class in question.classes]
    assert bound_by_largest_item(compute) <= 0.9
    assert bound_by_total(compute, counts) <= 0.9
    assert bound_by_counting(compute, counts, are_hosts) <= 0.9 * (1 + 1e-12)


@pytest.mark.parametrize("known", [0.2, 0.3, 5.0])
@pytest.mark.parametrize("huge", [(1e12 / 3, 1e12 / 7), (1e12 + 0.1, 1e12 + 0.3)])
def test_the_bottleneck_does_not_lose_small_items_behind_large_ones(known, huge):
    """Four of 0.1 on two devices; the host takes the two that would last for ever elsewhere. The optimum is 0.2."""
    operators = [op(f"o{i}", 0.1) for i in range(4)]
    operators += [op(f"x{i}", {"gpu": time, "cpu": 1e-3}) for i, time in enumerate(huge)]
    question = compiled(operators, (), [gpus(2), host()], partition="free")
    bounds = [0.0]
    bound_by_bottleneck(question, known, 10.0, lambda: False, bounds.append)
    assert max(bounds) <= 0.2 * (1 + 1e-9)
