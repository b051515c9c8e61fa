from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.mixed_splits import SPLITS, Trial, try_split
from solver import formats
from solver.instance import DeviceSpec
from tests.small import edges, gpus, make, op

KINDS = {"gpu": 1.0, "old": 3.0}


def chain(sizes, *, new, old, times=KINDS):
    """Four operators in a row on a new device and an old one, three times as slow, of these memories."""
    operators = [op(name, times, memory_bytes=size) for name, size in zip("abcd", sizes, strict=True)]
    devices = (gpus(None, memory_bytes=new), DeviceSpec("old", "old", old))
    return make(operators, edges(ab=0, bc=0, cd=0), devices)


@pytest.mark.parametrize(
    ("name", "period_ms"),
    [
        ("memory-proportional", 6.0),  # half the memory, two of four
        ("equal layers", 6.0),
        ("speed-proportional", 3.0),  # three to one
        ("first fit by memory", 4.0),  # all on the new one
    ],
)
def test_what_each_split_is_worth_by_hand(name, period_ms):
    assert try_split(chain([1, 1, 1, 1], new=8, old=8), name) == Trial(period_ms)


def test_memory_shares_follow_the_memory_of_the_device():
    assert try_split(chain([2, 2, 2, 2], new=8, old=24), "memory-proportional") == Trial(9.0)


def test_a_cut_that_breaks_memory_says_so_and_is_tried_again_within_memory():
    instance = chain([2, 2, 2, 2], new=4, old=8)
    assert try_split(instance, "speed-proportional") == Trial(6.0, ("memory",))
    assert try_split(instance, "speed-proportional").cell(3.0) == "breaks memory; then 6.0000 (2.00×)"


@pytest.mark.parametrize("name", SPLITS)
def test_what_has_no_room_does_not_fit(name):
    trial = try_split(chain([3, 3, 3, 3], new=4, old=4), name)
    assert trial == Trial(None, ("memory",))
    assert trial.cell(None) == "breaks memory; then does not fit"


@pytest.mark.parametrize(
    ("example", "name", "trial"),
    [
        ("two-nodes", "equal layers", Trial(19.929)),
        ("old-and-new", "memory-proportional", Trial(126.165)),
        ("old-and-new", "speed-proportional", Trial(67.953, ("memory",))),
    ],
)
def test_the_figures_of_the_worked_examples(example, name, trial):
    document = (Path(__file__).parents[2] / "examples" / f"{example}.json").read_bytes()
    found = try_split(formats.read(document).instance, name)
    assert (found.value, found.broken) == (pytest.approx(trial.value), trial.broken)
