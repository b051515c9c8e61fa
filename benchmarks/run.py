"""Quality and speed over every readable workload in a folder, over large transformers, and against alternatives.

Each run is a process of its own, started like a user starts it: its time includes start-up and its memory is its own.
Every placement, also those of the alternatives, is verified here.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.measured import Settings, carry_out
from benchmarks.origin import ROOT, describe_origin
from benchmarks.plan import SUITES, SYNTHETIC, TIME_LIMITS_S, Run, key_of, longest_s, plan_runs
from benchmarks.records import Campaign, Record
from benchmarks.splits import SPLITS
from benchmarks.tables import megabytes, number, percent, pictures, report
from benchmarks.workloads import Workload, find_workloads, synthetic_workload

RECORDS, REPORT = "records.json", "README.md"
EXIT_INTERRUPTED = 130


def main() -> int:
    """Run what the arguments ask for, and return the exit code."""
    arguments = _parser().parse_args()
    if arguments.render is not None:
        _write(arguments.render, Campaign.from_document(json.loads((arguments.render / RECORDS).read_bytes())))
        return 0
    suites = [suite for suite in SUITES if suite in (arguments.only or SUITES)]
    campaign = Campaign(describe_origin(), {"workers": arguments.workers or "every core", "seed": arguments.seed}, {})
    if arguments.output is not None:
        campaign = _continued(arguments.output, campaign)
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(arguments.workers, arguments.seed, Path(scratch))
        runs = _runs(suites, arguments, campaign, settings.scratch)
        if not runs:
            print(f"nothing to run in {arguments.workloads}", file=sys.stderr)
            return 2
        done = {key_of(record) for record in campaign.records}
        code = 0
        try:
            _carry_out_all([run for run in runs if run.key not in done], settings, campaign, arguments.output)
        except KeyboardInterrupt:
            print("interrupted; what was measured so far follows", file=sys.stderr)
            code = EXIT_INTERRUPTED
        order = {run.key: position for position, run in enumerate(runs)}
        campaign.records.sort(key=lambda record: order.get(key_of(record), -1))
    if arguments.output is None:
        print(report(campaign, {}))
    else:
        _write(arguments.output, campaign)
    return code


def _parser() -> argparse.ArgumentParser:
    limits = ", ".join(f"{suite} {limit_s:g}" for suite, limit_s in TIME_LIMITS_S.items())
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, allow_abbrev=False)
    folder = Path(os.environ.get("PLACEWRIGHT_WORKLOADS") or ROOT / "examples")
    parser.add_argument("--workloads", type=Path, default=folder, metavar="FOLDER", help="where to look for documents")
    parser.add_argument(
        "--only", choices=SUITES, action="append", help="run this suite; may be repeated (default: all)"
    )
    parser.add_argument("--match", default="", metavar="TEXT", help="only workloads with TEXT in their name")
    parser.add_argument(
        "--time-limit", type=float, metavar="SECONDS", help=f"for each run (default: {limits}, synthetic 15 to 180)"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="threads of Placewright (default: every core)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of Placewright (default: 0)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write records, report and plots there, and go on from the records of the same commit that it holds",
    )
    parser.add_argument("--render", type=Path, metavar="FOLDER", help="only write the report of an earlier --output")
    return parser


def _runs(suites: list[str], arguments: argparse.Namespace, campaign: Campaign, scratch: Path) -> list[Run]:
    workloads: list[Workload] = []
    if suites != ["synthetic"]:
        workloads, not_read = find_workloads(arguments.workloads)
        campaign.not_read.update(not_read)
        for name, reason in not_read.items():
            print(f"not read: {name}: {reason}", file=sys.stderr)
    synthetic = []
    if "synthetic" in suites:
        for layers, devices, limit_s in SYNTHETIC:
            synthetic.append((synthetic_workload(layers, devices, scratch), limit_s))
    campaign.not_compared[:] = [workload.name for workload in workloads if not workload.is_compared]
    chosen = [workload for workload in workloads if arguments.match in workload.name]
    synthetic = [(workload, limit_s) for workload, limit_s in synthetic if arguments.match in workload.name]
    return plan_runs(suites, chosen, synthetic, list(SPLITS), arguments.time_limit)


def _carry_out_all(runs: list[Run], settings: Settings, campaign: Campaign, output: Path | None) -> None:
    splits = list(SPLITS)
    print(f"{len(runs)} runs, at most {_duration(longest_s(runs, splits))}", file=sys.stderr)
    for index, run in enumerate(runs):
        record = carry_out(run, settings)
        campaign.records.append(record)
        if output is not None:
            _save(output, campaign)
        left = _duration(longest_s(runs[index + 1 :], splits))
        print(f"[{index + 1}/{len(runs)}, at most {left} left] {_line(record)}", file=sys.stderr, flush=True)


def _line(record: Record) -> str:
    value = number(record.objective_value) if record.failure is None else record.failure
    gap = "" if record.gap is None else f", {percent(record.gap)}"
    cost = f"{number(record.wall_s, 1)} s, {megabytes(record.peak_memory_bytes)} MB"
    return f"{record.workload} {record.partition} {record.method}: {value}{gap}, {cost}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _continued(folder: Path, campaign: Campaign) -> Campaign:
    """What ``folder`` holds of the same commit and options; the given campaign when it holds nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / RECORDS).exists():
        return campaign
    earlier = Campaign.from_document(json.loads((folder / RECORDS).read_bytes()))
    commits = {earlier.origin["commit"], campaign.origin["commit"]}
    if len(commits) > 1 or earlier.origin["dirty"] or campaign.origin["dirty"] or earlier.options != campaign.options:
        sys.exit(f"{folder} holds records of other code or options; choose another folder, or empty it")
    print(f"going on from {len(earlier.records)} records", file=sys.stderr)
    return earlier


def _save(folder: Path, campaign: Campaign) -> None:
    temporary = folder / f".{RECORDS}"
    temporary.write_text(json.dumps(campaign.to_document(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(folder / RECORDS)


def _write(folder: Path, campaign: Campaign) -> None:
    from benchmarks.gap_plots import draw_gaps  # noqa: PLC0415  only here is the ``bench`` extra needed

    _save(folder, campaign)
    plots = {}
    for name, records in pictures(campaign.records).items():
        plots[name] = f"gaps-{name}.svg"
        draw_gaps(records, folder / plots[name])
    (folder / REPORT).write_text(report(campaign, plots), encoding="utf-8")
    print(f"results in {folder}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
