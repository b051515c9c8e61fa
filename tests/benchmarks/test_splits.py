from __future__ import annotations

import pytest

from benchmarks.splits import SPLITS, compile_units
from solver.instance import DeviceSpec
from solver.verification import verify
from tests.small import edges, gpus, host, make, op, ops


def split(name, instance):
    return SPLITS[name](compile_units(instance))


def chain(*operators, devices):
    return make(operators, edges(ab=0, bc=0, cd=0), devices)


def test_first_fit_fills_one_device_after_the_other():
    operators = [op(name, 1.0, memory_bytes=size) for name, size in zip("abcd", [3, 3, 3, 1], strict=True)]
    instance = chain(*operators, devices=(gpus(3, memory_bytes=6),))
    assert split("first fit by memory", instance) == {"a": "gpu:0", "b": "gpu:0", "c": "gpu:1", "d": "gpu:1"}


def test_first_fit_says_when_there_is_no_room():
    operators = [op(name, 1.0, memory_bytes=4) for name in "abcd"]
    assert split("first fit by memory", chain(*operators, devices=(gpus(2, memory_bytes=6),))) is None


def test_equal_shares():
    operators = [op(name, 1.0, memory_bytes=size) for name, size in zip("abcd", [9, 1, 1, 1], strict=True)]
    instance = chain(*operators, devices=(gpus(2),))
    assert split("equal counts", instance) == {"a": "gpu:0", "b": "gpu:0", "c": "gpu:1", "d": "gpu:1"}
    assert split("equal memory", instance) == {"a": "gpu:0", "b": "gpu:1", "c": "gpu:1", "d": "gpu:1"}


def test_speed_proportional_gives_the_faster_device_more():
    operators = [op(name, {"gpu": 1.0, "old": 3.0}) for name in "abcd"]
    devices = (gpus(None), DeviceSpec("old", "old"))
    assert split("speed-proportional", chain(*operators, devices=devices)) == {
        "a": "gpu",
        "b": "gpu",
        "c": "gpu",
        "d": "old",
    }


@pytest.mark.parametrize("name", SPLITS)
def test_what_no_accelerator_runs_goes_to_a_host(name):
    operators = [op("a", {"cpu": 1.0}), *(op(n, {"gpu": 1.0, "cpu": 9.0}) for n in "bcd")]
    instance = chain(*operators, devices=(gpus(2), host()))
    placement = split(name, instance)
    assert placement["a"] == "cpu"
    assert verify(instance, placement).violations == ()


@pytest.mark.parametrize("name", SPLITS)
def test_all_costs_zero(name):
    instance = make(ops(a=0, b=0), edges(ab=0))
    assert verify(instance, split(name, instance)).objective_value == 0


@pytest.mark.parametrize("name", SPLITS)
def test_hosts_alone(name):
    instance = make([op("a", {"cpu": 1.0}), op("b", {"cpu": 1.0})], edges(ab=0), (host(2),))
    assert verify(instance, split(name, instance)).violations == ()
