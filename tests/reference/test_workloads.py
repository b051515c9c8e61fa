"""Public workloads with known values, read from where they lie; skipped where they do not."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from solver import formats
from solver.instance import Partition
from solver.result import Status
from solver.verification import verify
from tests.depth import DEPTH

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("PLACEWRIGHT_WORKLOADS") or ROOT.parent / "shared" / "data" / "dnn-partitioning")

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (FOLDER / "reference.json").is_file(),
        reason=f"no workloads in {FOLDER}; name their folder in PLACEWRIGHT_WORKLOADS",
    ),
]
TIME_LIMIT_S = 600.0
"""Most are proved within a second, all within one minute: the limit is for a machine that does much else."""


@cache
def reference(name):
    """Known values of a workload, in ms."""
    return json.loads((FOLDER / "reference.json").read_text())["throughput"][name]


@cache
def workload(name):
    return formats.read((FOLDER / "throughput" / f"{name}.json").read_bytes()).instance


WORKLOADS = (
    "LayerGraphs/bert24_inference",
    "LayerGraphs/bert24_training",
    "LayerGraphs/gnmt_inference",
    "LayerGraphs/resnet50_inference",
    "LayerGraphs/resnet50_training",
    "LayerGraphs/inceptionv3_inference",
    "OperatorGraphs/bert_l-3_inference",
    "OperatorGraphs/bert_l-3_training",
    "OperatorGraphs/bert_l-6_inference",
    "OperatorGraphs/bert_l-6_training",
    "OperatorGraphs/bert_l-12_inference",
    "OperatorGraphs/resnet50_inference",
)


def need(name):
    if not (FOLDER / "throughput" / f"{name}.json").is_file():
        pytest.skip(f"{name} is not among the workloads in {FOLDER}")


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_acyclic_optimum_is_that_of_the_reference(solve, name):
    need(name)
    result = solve(workload(name), time_limit_s=TIME_LIMIT_S)
    assert result.status is Status.OPTIMAL
    assert result.objective_value == pytest.approx(reference(name)["acyclic"], rel=1e-4)
    assert result.best_bound == pytest.approx(reference(name)["acyclic"], rel=1e-4)


EXPERTS = ("bert24_inference", "bert24_training", "gnmt_inference", "resnet50_inference")


@pytest.mark.parametrize("name", EXPERTS)
def test_hand_made_splits_are_worth_what_the_reference_says(name):
    """Some of them share a device among stages, or fill it beyond its memory; their value is what counts here."""
    need(f"LayerGraphs/{name}")
    instance = workload(f"LayerGraphs/{name}")
    placement = formats.read_placement((FOLDER / "experts" / f"{name}_expert.json").read_bytes())
    verification = verify(instance, placement)
    assert verification.objective_value == pytest.approx(reference(f"LayerGraphs/{name}")["expert"], rel=1e-4)
    assert {violation.code for violation in verification.violations} <= {"memory", "acyclic_partition"}


FREE = (
    ("LayerGraphs/gnmt_inference", "free_upper"),
    ("OperatorGraphs/bert_l-3_inference", "free_optimum"),
    *([("OperatorGraphs/bert_l-3_training", "free_optimum")] if DEPTH > 1 else []),
)


@pytest.mark.parametrize(("name", "known"), FREE)
def test_the_free_optimum_is_no_worse_than_the_best_value_known(solve, name, known):
    need(name)
    instance = workload(name)
    instance = replace(instance, objective=replace(instance.objective, partition=Partition.FREE))
    result = solve(instance, time_limit_s=TIME_LIMIT_S)
    assert result.objective_value <= reference(name)[known] * (1 + 1e-4)
    assert result.best_bound <= reference(name)[known] * (1 + 1e-4)
    if known == "free_optimum":  # the other one takes long to prove
        assert result.status is Status.OPTIMAL
        assert result.objective_value == pytest.approx(reference(name)[known], rel=1e-4)
