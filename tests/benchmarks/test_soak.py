"""What the soak calls a fault."""

from __future__ import annotations

import pytest

from benchmarks.soak import find_faults


def report(**process):
    healthy = {"memory_mb_after_a_tenth": 200.0, "memory_mb_at_end": 205.0}
    counts = {"files": [20, 50, 30], "threads": [5, 9, 9], "children": [2, 4, 2]}
    return {
        "jobs": 10,
        "states": {"succeeded": 10},
        "distinct_ids": 10,
        "processes": {"API": healthy | counts | process},
    }


def test_a_service_that_keeps_its_shape_has_none():
    assert find_faults(report()) == []


@pytest.mark.parametrize(
    ("process", "words"),
    [
        ({"memory_mb_at_end": 211.0}, "memory of the API grew by 5.5 %"),
        ({"files": [20, 50, 60]}, "open files of the API grew from 20 to 60"),
        ({"children": [2, 4, 3]}, "1 processes of the API are left"),
    ],
)
def test_what_is_left_behind_is_one(process, words):
    assert find_faults(report(**process)) == [words]


@pytest.mark.parametrize("change", [{"states": {"succeeded": 9, "failed": 1}}, {"distinct_ids": 9}])
def test_so_is_a_job_that_was_lost_or_done_twice(change):
    assert "not every job succeeded once" in find_faults(report() | change)[0]
