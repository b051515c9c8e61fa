"""Processes are measured alone, answers are verified, and what was measured is kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import run as command
from benchmarks.measured import judge, measure_command
from benchmarks.plan import PROGRAMS, longest_s, plan_runs
from benchmarks.records import PLACEWRIGHT, Campaign, Record
from benchmarks.splits import SPLITS
from benchmarks.workloads import Workload, find_workloads, synthetic_workload
from solver import formats
from solver.instance import Link
from tests.small import edges, make, ops

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MEBIBYTE = 2**20


@pytest.fixture
def workload():
    return Workload("w", Path("w.json"), make(ops(a=1, b=2), edges(ab=0.5)))


def run_python(code, scratch, limit_s=60.0):
    return measure_command([sys.executable, "-c", code], limit_s, scratch)


def test_memory_is_that_of_one_process(tmp_path):
    ours = np.ones(300 * MEBIBYTE, dtype=np.uint8)  # what the parent holds must not count
    large = run_python("held = b'x' * (200 << 20)", tmp_path)
    small = run_python("pass", tmp_path)
    assert large.peak_memory_bytes > 200 * MEBIBYTE
    assert small.peak_memory_bytes < 100 * MEBIBYTE
    assert ours.nbytes == 300 * MEBIBYTE


def test_what_overruns_is_killed(tmp_path):
    measurement = run_python("import time; time.sleep(600)", tmp_path, limit_s=0.2)
    assert measurement.killed
    assert measurement.exit_code < 0


def test_last_words_are_kept(tmp_path):
    measurement = run_python("import sys; print('one', file=sys.stderr); sys.exit('two')", tmp_path)
    assert (measurement.complaint, measurement.exit_code, measurement.killed) == ("two", 1, False)


def blank(method):
    return Record("acyclic", "w", 2, 2, "acyclic", method, 60.0)


def test_an_alternative_is_worth_what_the_verifier_says(workload):
    document = {
        "placement": {"a": "gpu:0", "b": "gpu:1"},
        "best_bound": 2.0,
        "ended": "optimal",
        "elapsed_s": 0.1,
        "failure": None,
    }
    record = judge(blank("integer program, HiGHS"), workload.instance, document)
    assert (record.objective_value, record.best_bound, record.failure) == (2.5, 2.0, None)
    document["placement"] = {"a": "gpu:0"}
    record = judge(blank("integer program, HiGHS"), workload.instance, document)
    assert (record.objective_value, record.failure) == (None, "breaks assign_once")


@pytest.mark.parametrize(
    ("changes", "is_compared"),
    [
        ({}, True),
        ({"constraints": {"pinned": {"a": "gpu:0"}}}, True),
        ({"kind": "latency"}, False),
        ({"wires": {"model": "links", "default": Link(1e9)}}, False),
        ({"constraints": {"max_devices": 1}}, False),
    ],
)
def test_alternatives_are_not_asked_what_they_are_not_written_for(changes, is_compared):
    workload = Workload("w", Path("w.json"), make(ops(a=1, b=2), edges(ab=0.5), **changes))
    methods = {run.method for run in plan_runs(("free", "splits", "programs"), [workload], [], list(SPLITS))}
    assert methods == {PLACEWRIGHT, *(SPLITS if is_compared else ()), *(PROGRAMS if is_compared else ())}


def test_our_own_answer_is_not_believed_either(workload):
    document = {
        "placement": {"a": "gpu:0", "b": "gpu:1"},
        "objective_value": 2.0,
        "best_bound": 2.0,
        "stop_reason": "proved",
        "solver": {"found_by": "segments", "proved_by": "ideals"},
        "incumbents": [{"elapsed_s": 0.1, "objective_value": 2.0, "best_bound": 2.0}],
    }
    record = judge(blank(PLACEWRIGHT), workload.instance, document)
    assert record.objective_value == 2.5
    assert record.failure == "claims 2.0, the verifier finds 2.5"


def test_a_run_that_two_suites_need_is_planned_once(workload):
    runs = plan_runs(("acyclic", "convex", "free", "splits", "programs"), [workload], [], list(SPLITS))
    assert len(runs) == 3 + len(SPLITS) + 2 * len(PROGRAMS)
    assert len({run.key for run in runs}) == len(runs)
    # With another limit, ours is run again: both sides get the same time.
    short = plan_runs(("programs",), [workload], [], list(SPLITS), 20.0)
    assert [(run.partition, run.method) for run in short] == [
        (partition, method) for partition in ("convex", "free") for method in (PLACEWRIGHT, *PROGRAMS)
    ]
    assert {run.time_limit_s for run in short} == {20.0}
    assert 120 < longest_s(short, list(SPLITS)) < 140


def test_every_document_below_the_folder_is_a_workload_or_named(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    shutil.copy(EXAMPLES / "tiny.json", tmp_path / "deep" / "er" / "native.json")
    msr = {"maxFPGAs": 1, "maxCPUs": 1, "nodes": [{"id": 1, "cpuLatency": 1, "fpgaLatency": 1}], "edges": []}
    (tmp_path / "msr.json").write_text(json.dumps(msr))
    (tmp_path / "junk.json").write_text("{")
    (tmp_path / "folder.json").mkdir()
    workloads, not_read = find_workloads(tmp_path)
    assert [workload.name for workload in workloads] == ["msr", "deep/er/native"]
    assert set(not_read) == {"junk.json", "folder.json"}
    assert all(not_read.values())


def test_synthetic_documents_say_what_the_instance_says(tmp_path):
    workload = synthetic_workload(2, 4, tmp_path)
    assert (workload.num_operators, workload.num_devices) == (2 + 2 * 34, 4)
    assert formats.read(workload.path.read_bytes()).instance == workload.instance


def test_records_of_other_code_are_not_continued(tmp_path):
    clean = Campaign({"commit": "a", "dirty": False}, {"seed": 0}, {}, [], [blank(PLACEWRIGHT)])
    command._save(tmp_path, clean)
    assert command._continued(tmp_path, Campaign({"commit": "a", "dirty": False}, {"seed": 0}, {})) == clean
    for origin, options in (
        ({"commit": "b", "dirty": False}, {"seed": 0}),
        ({"commit": "a", "dirty": True}, {"seed": 0}),
        ({"commit": "a", "dirty": False}, {"seed": 1}),
    ):
        with pytest.raises(SystemExit, match="other code or options"):
            command._continued(tmp_path, Campaign(origin, options, {}))


def test_the_whole_command(tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(EXAMPLES / "tiny.json", tmp_path / "in" / "tiny.json")
    (tmp_path / "in" / "junk.json").write_text("[]")
    suites = [part for suite in ("acyclic", "splits", "programs") for part in ("--only", suite)]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.run", "--workloads", tmp_path / "in", *suites),
            *("--time-limit", "20", "--workers", "1", "--output", tmp_path / "out"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "12 runs, at most 3 min" in done.stderr
    assert "not read: junk.json" in done.stderr
    campaign = Campaign.from_document(json.loads((tmp_path / "out" / "records.json").read_bytes()))
    assert len(campaign.records) == 1 + len(SPLITS) + 2 * (1 + len(PROGRAMS))
    assert all(record.peak_memory_bytes and record.wall_s for record in campaign.records)
    proved = [record for record in campaign.records if record.method == PLACEWRIGHT]
    assert all(record.is_proved and record.steps and record.proved_by for record in proved)
    assert all(record.objective_value for record in campaign.records if record.method in PROGRAMS)
    report = (tmp_path / "out" / "README.md").read_text()
    assert "None: no bound is above a verified value" in report
    assert str(tmp_path) not in report
    for picture in ("gaps-acyclic.svg", "gaps-programs-free-20.svg"):
        assert picture in report
        assert (tmp_path / "out" / picture).read_text().startswith("<?xml")
