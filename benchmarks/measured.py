"""A run carried out: the process started, timed, killed when it overruns, and its answer verified."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.origin import ROOT
from benchmarks.plan import Run
from benchmarks.records import PLACEWRIGHT, Record, Step
from solver.errors import UnsupportedInstance
from solver.instance import Instance
from solver.result import Placement
from solver.verification import verify

GRACE_S = 60.0
"""For start-up and reading, and for a solver to end after its time limit; then it is killed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What all runs of Placewright have in common; the alternatives choose their threads themselves."""

    workers: int | None
    seed: int
    scratch: Path


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a process took, and what it said on its standard error."""

    wall_s: float
    cpu_s: float
    peak_memory_bytes: int
    exit_code: int
    killed: bool
    complaint: str


def measure_command(command: list[str], limit_s: float, scratch: Path) -> Measurement:
    """Run ``command`` (the program by its full path) for at most ``limit_s`` seconds, and measure it alone."""
    report, complaints = scratch / "measurement.json", scratch / "stderr.txt"
    report.unlink(missing_ok=True)
    launch = [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "launch.py"), str(report), str(limit_s), *command]
    with complaints.open("wb") as errors:
        launcher = subprocess.Popen(  # noqa: S603
            launch, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, cwd=ROOT
        )
        try:
            launcher.wait()
        except BaseException:
            launcher.terminate()  # it ends the command first
            launcher.wait()
            raise
    lines = complaints.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    figures = json.loads(report.read_text(encoding="utf-8"))
    return Measurement(**figures, complaint=lines[-1].strip() if lines else "")


def carry_out(run: Run, settings: Settings) -> Record:
    """Run it in a process of its own and have its placement verified here."""
    path = settings.scratch / "answer.json"
    path.unlink(missing_ok=True)
    measurement = measure_command(_command(run, settings, path), run.time_limit_s + GRACE_S, settings.scratch)
    record = Record(
        suite=run.suite,
        workload=run.workload.name,
        num_operators=run.workload.num_operators,
        num_devices=run.workload.num_devices,
        partition=run.partition.value,
        method=run.method,
        time_limit_s=run.time_limit_s,
        wall_s=measurement.wall_s,
        cpu_s=measurement.cpu_s,
        peak_memory_bytes=measurement.peak_memory_bytes,
    )
    if measurement.killed:
        return replace(record, failure=f"killed after {measurement.wall_s:.0f} s")
    if not path.exists():
        said = measurement.complaint.replace(str(run.workload.path), run.workload.name)
        return replace(record, failure=said or f"ended with exit code {measurement.exit_code}")
    instance = run.workload.instance
    instance = replace(instance, objective=replace(instance.objective, partition=run.partition))
    document = json.loads(path.read_text(encoding="utf-8"))
    return judge(record, instance, document)


def judge(record: Record, instance: Instance, document: dict[str, Any]) -> Record:
    """The record completed by an answer document, whose placement is worth what the verifier says and nothing else."""
    value, failure = _verified(instance, document["placement"])
    if record.method != PLACEWRIGHT:
        return replace(
            record,
            objective_value=value,
            best_bound=document["best_bound"],
            ended=document["ended"],
            steps=(Step(document["elapsed_s"], value, document["best_bound"]),),
            failure=document["failure"] or failure,
        )
    if value != document["objective_value"]:
        failure = f"claims {document['objective_value']}, the verifier finds {value}"
    return replace(
        record,
        objective_value=value,
        best_bound=document["best_bound"],
        found_by=document["solver"]["found_by"],
        proved_by=document["solver"]["proved_by"],
        ended=document["stop_reason"],
        steps=tuple(
            Step(step["elapsed_s"], step["objective_value"], step["best_bound"]) for step in document["incumbents"]
        ),
        failure=failure,
    )


def _verified(instance: Instance, placement: Placement | None) -> tuple[float | None, str | None]:
    """The value of a placement that breaks no rule; otherwise why there is none."""
    if placement is None:
        return None, "no placement"
    try:
        verification = verify(instance, placement)
    except UnsupportedInstance as error:
        return None, str(error)
    if verification.violations:
        return None, "breaks " + ", ".join(sorted({violation.code for violation in verification.violations}))
    return verification.objective_value, None


def _command(run: Run, settings: Settings, output: Path) -> list[str]:
    rules = ["--partition", run.partition.value, "--time-limit", str(run.time_limit_s), "--output", str(output)]
    if run.method != PLACEWRIGHT:
        return [sys.executable, "-m", "benchmarks.alternative", run.method, str(run.workload.path), *rules]
    workers = [] if settings.workers is None else ["--workers", str(settings.workers)]
    return [
        *(sys.executable, "-m", "app", "solve", str(run.workload.path)),
        *(*rules, "--seed", str(settings.seed), *workers),
    ]
