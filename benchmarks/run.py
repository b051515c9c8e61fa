"""Quality and speed over every readable workload in a folder, and over synthetic transformers: ``make bench``.

Each run is a process of its own, started like the command line starts it, so that times include start-up and peak
memory is that of one solve. Tables go to standard output and, with ``--output``, to a file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.baselines import BASELINES
from solver import formats
from solver.errors import PlacewrightError
from solver.instance import Partition
from solver.verification import verify

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_WORKLOADS = ROOT.parent / "shared" / "data" / "dnn-partitioning"
SYNTHETIC = ((97, 64, 15.0), (900, 256, 60.0), (2941, 1024, 180.0))
"""Layers, devices, time limit in seconds: 3,300, 30,602 and 99,996 operators."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one process of the command line did."""

    answer: dict[str, Any]
    wall_s: float
    peak_mb: float

    @property
    def first_s(self) -> float | None:
        """When the first placement was verified, in seconds after the process was up."""
        return next((i["elapsed_s"] for i in self.answer["incumbents"] if i["objective_value"] is not None), None)


def solve_in_process(document: Path, *options: str) -> Run:
    """Run ``placewright solve`` and measure it."""
    command = [sys.executable, "-m", "app", "solve", str(document), "--json", *options]
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)  # noqa: S603
    output = child.communicate()[0]
    wall_s = time.perf_counter() - began
    # The high-water mark of all children so far, an upper limit of this one's; files come in ascending order of size.
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Run(json.loads(output), wall_s, peak_mb)


def workloads(folder: Path) -> list[Path]:
    """Readable workload files below ``folder``, small ones first."""
    found = []
    for path in sorted(folder.rglob("*.json"), key=lambda path: (path.stat().st_size, path)):
        try:
            formats.read(path.read_bytes())
        except PlacewrightError:
            continue
        found.append(path)
    return found


def table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _gap(answer: dict[str, Any]) -> str:
    gap = answer["relative_gap"]
    return "–" if gap is None else "proved" if gap <= 1e-6 else f"{100 * gap:.2f} %"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def measure_partition(files: list[Path], folder: Path, partition: Partition, time_limit_s: float) -> str:
    """One row a workload: value, bound, gap, times, memory, and who found and who proved."""
    rows: list[tuple[object, ...]] = []
    for path in files:
        run = solve_in_process(path, "--partition", partition.value, "--time-limit", str(time_limit_s))
        answer = run.answer
        rows.append(
            (
                path.relative_to(folder).with_suffix(""),
                _number(answer["objective_value"]),
                _number(answer["best_bound"]),
                _gap(answer),
                _number(run.first_s, 2),
                _number(run.wall_s, 2),
                f"{run.peak_mb:.0f}",
                answer["solver"]["found_by"] or "–",
                answer["solver"]["proved_by"] or "–",
            )
        )
        print(f"  {partition.value} {rows[-1]}", file=sys.stderr, flush=True)
    header = ("workload", "period ms", "bound ms", "gap", "first s", "whole s", "peak MB ≤", "found by", "proved by")
    return table(header, rows)


def measure_baselines(files: list[Path], folder: Path) -> str:
    """What splits that look at memory, counts or one order alone are worth, by the verifier, against the optimum."""
    rows: list[tuple[object, ...]] = []
    for path in files:
        instance = formats.read(path.read_bytes()).instance
        best = solve_in_process(path, "--partition", "acyclic", "--time-limit", "30").answer["objective_value"]
        cells: list[str] = []
        for method in BASELINES.values():
            placement = method(instance)
            verification = None if placement is None else verify(instance, placement)
            if verification is None or verification.objective_value is None or verification.violations:
                cells.append("none")
            else:
                cells.append(f"{verification.objective_value:.3f} ({verification.objective_value / best:.2f}×)")
        rows.append((path.relative_to(folder).with_suffix(""), _number(best, 3), *cells))
    return table(("workload", "optimum ms", *BASELINES), rows)


def measure_synthetic(folder: Path) -> str:
    """Transformers from 3,300 to 100,000 operators."""
    from benchmarks.synthetic import transformer  # noqa: PLC0415
    from solver.formats import native  # noqa: PLC0415
    from solver.instance import Request  # noqa: PLC0415

    rows: list[tuple[object, ...]] = []
    for layers, devices, limit_s in SYNTHETIC:
        instance = transformer(layers, devices)
        path = folder / f"transformer-{layers}.json"
        path.write_text(json.dumps(native.request_document(Request(instance))))
        run = solve_in_process(path, "--time-limit", str(limit_s))
        answer = run.answer
        reached = {
            target: next(
                (
                    i["elapsed_s"]
                    for i in answer["incumbents"]
                    if i["objective_value"] and i["best_bound"] >= i["objective_value"] * (1 - target)
                ),
                None,
            )
            for target in (0.02, 0.001)
        }
        rows.append(
            (
                f"{len(instance.graph.operators):,}",
                devices,
                _number(answer["objective_value"]),
                _gap(answer),
                _number(run.first_s, 2),
                _number(reached[0.02], 1),
                _number(reached[0.001], 1),
                _number(run.wall_s, 1),
                f"{run.peak_mb:.0f}",
            )
        )
        print(f"  synthetic {rows[-1]}", file=sys.stderr, flush=True)
    header = ("operators", "devices", "period ms", "gap", "first s", "2 % s", "0.1 % s", "whole s", "peak MB ≤")
    return table(header, rows)


def describe_machine() -> str:
    """Where the figures come from."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    ).stdout.strip()
    cores = len(os.sched_getaffinity(0))
    return f"Commit {commit or 'unknown'}, Python {platform.python_version()}, {platform.machine()}, {cores} cores."


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("PLACEWRIGHT_WORKLOADS", DEFAULT_WORKLOADS))
    parser.add_argument("--workloads", type=Path, default=default, help="folder with workload files")
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds for each workload")
    parser.add_argument("--only", choices=["acyclic", "convex", "free", "baselines", "synthetic"], action="append")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp"), help="where synthetic documents go")  # noqa: S108
    parser.add_argument("--output", type=Path, help="a Markdown file for the tables")
    arguments = parser.parse_args()
    wanted = arguments.only or ["acyclic", "convex", "free", "baselines", "synthetic"]
    files = workloads(arguments.workloads) if arguments.workloads.is_dir() else []
    if not files:
        print(f"no workloads in {arguments.workloads}; set PLACEWRIGHT_WORKLOADS", file=sys.stderr)
    parts = ["# Benchmark", describe_machine()]
    for partition in Partition:
        if partition.value in wanted and files:
            parts += [f"## {partition.value}, time limit {arguments.time_limit:g} s"]
            parts += [measure_partition(files, arguments.workloads, partition, arguments.time_limit)]
    if "baselines" in wanted and files:
        parts += ["## What simpler splits are worth (acyclic)", measure_baselines(files, arguments.workloads)]
    if "synthetic" in wanted:
        parts += ["## Synthetic transformers, acyclic", measure_synthetic(arguments.scratch)]
    report = "\n\n".join(parts) + "\n"
    print(report)
    if arguments.output:
        arguments.output.write_text(report)


if __name__ == "__main__":
    main()
