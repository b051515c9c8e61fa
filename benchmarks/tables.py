"""Records as Markdown: tables, who found and who proved, and what does not fit together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.plan import PROGRAMS, SUITES, Key, comparisons, key_of
from benchmarks.records import PLACEWRIGHT, Campaign, Record

TIE = 1e-6
"""Relative difference below which two values, or two bounds, are the same."""
TARGETS = {"synthetic": (0.02, 0.001)}
DEFAULT_TARGETS = (0.05, 0.01)
"""Gaps whose first moment the tables tell."""
OVERVIEW_GAPS = (0.001, 0.01, 0.05)
SEARCHES = tuple(suite for suite in SUITES if suite not in {"splits", "programs"})
"""Suites in which Placewright runs alone."""
ABSENT = "–"


def report(campaign: Campaign, plots: Mapping[str, str]) -> str:
    """The whole campaign; ``plots`` maps names of :func:`pictures` to files."""
    parts = ["# Benchmark", _origin(campaign)]
    if campaign.not_read:
        parts += ["Not read, because they are no workloads:"]
        parts += ["\n".join(f"- `{name}`: {reason}" for name, reason in campaign.not_read.items())]
    if campaign.not_compared:
        names = ", ".join(f"`{name}`" for name in campaign.not_compared)
        parts += [f"Not compared, because the alternatives are for throughput over `host` without limits: {names}."]
    by_key = {key_of(record): record for record in campaign.records}
    searches = _searches(campaign.records)
    if searches:
        parts += ["## Placewright in short", overview(searches)]
    for suite in SUITES:
        records = [record for record in campaign.records if record.suite == suite]
        if not records:
            continue
        if suite == "splits":
            parts += ["## Splits people use", splits_table(records, by_key)]
        elif suite == "programs":
            parts += _programs(campaign.records, plots)
        else:
            limits = ", ".join(f"{limit:g}" for limit in sorted({record.time_limit_s for record in records}))
            parts += [f"## {suite.capitalize()}, at most {limits} s", search_table(records)]
            if any(record.found_by or record.proved_by for record in records):
                parts += [methods_table(records)]
        parts += _picture(plots, suite)
    parts += ["## Contradictions", contradictions(campaign.records)]
    return "\n\n".join(parts) + "\n"


def pictures(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Which records belong into one picture, by its name."""
    groups = _searches(records)
    for (partition, limit_s), rivals in comparisons(records).items():
        groups[f"programs-{partition}-{limit_s:g}"] = rivals
    return groups


def _searches(records: Sequence[Record]) -> dict[str, list[Record]]:
    groups = {suite: [record for record in records if record.suite == suite] for suite in SEARCHES}
    return {suite: group for suite, group in groups.items() if group}


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def overview(groups: Mapping[str, Sequence[Record]]) -> str:
    """One row a suite: how many gaps are how small, and the worst of everything."""
    header = ("suite", "workloads", "proved", *(f"gap ≤ {100 * gap:g} %" for gap in OVERVIEW_GAPS))
    header = (*header, "largest gap", "latest first s", "longest s", "largest MB")
    rows = []
    for suite, records in groups.items():
        gaps = [math.inf if record.gap is None else record.gap for record in records]
        firsts = [record.first_s for record in records]
        rows.append(
            (
                suite,
                len(records),
                sum(record.is_proved for record in records),
                *(sum(gap <= limit for gap in gaps) for limit in OVERVIEW_GAPS),
                percent(max(gaps)),
                number(max((first for first in firsts if first is not None), default=None), 2),
                number(max(record.wall_s or 0.0 for record in records), 1),
                megabytes(max(record.peak_memory_bytes or 0 for record in records)),
            )
        )
    return table(header, rows)


def search_table(records: Sequence[Record]) -> str:
    """One row a run of Placewright: value, bound, gap, times, memory, and who found and who proved."""
    targets = TARGETS.get(records[0].suite, DEFAULT_TARGETS)
    header = [
        *("workload", "operators", "devices", "objective value", "best bound", "gap", "first s"),
        *(f"{100 * gap:g} % s" for gap in targets),
        *("whole s", "CPU s", "peak MB", "found by", "proved by"),
    ]
    rows = [
        (
            record.workload,
            f"{record.num_operators:,}",
            record.num_devices,
            number(record.objective_value) if record.failure is None else record.failure,
            number(record.best_bound),
            percent(record.gap),
            number(record.first_s, 2),
            *(number(record.reached_s(gap), 2) for gap in targets),
            number(record.wall_s, 2),
            number(record.cpu_s, 2),
            megabytes(record.peak_memory_bytes),
            record.found_by or ABSENT,
            record.proved_by or ABSENT,
        )
        for record in records
    ]
    return table(header, rows)


def methods_table(records: Sequence[Record]) -> str:
    """How often each of Placewright's own methods found the answer, had the best bound, and closed the gap with it."""
    found = Counter(record.found_by for record in records if record.found_by)
    bounded = Counter(record.proved_by for record in records if record.proved_by)
    proved = Counter(record.proved_by for record in records if record.proved_by and record.is_proved)
    names = sorted({*found, *bounded}, key=lambda name: (-found[name] - bounded[name], name))
    rows = [(name, found[name], bounded[name], proved[name]) for name in names]
    return table(("method", "found the answer", "had the best bound", "closed the gap"), rows)


def splits_table(records: Sequence[Record], by_key: Mapping[Key, Record]) -> str:
    """What each split is worth, as a multiple of Placewright's period; or which rule it breaks."""
    methods = [method for method in dict.fromkeys(record.method for record in records) if method != PLACEWRIGHT]
    rows: dict[str, list[str]] = {}
    for record in records:
        if record.method == PLACEWRIGHT:
            continue
        ours = by_key.get((*key_of(record)[:2], PLACEWRIGHT, record.time_limit_s))
        best = None if ours is None else ours.objective_value
        row = rows.setdefault(record.workload, [record.workload, number(best)])
        if record.objective_value is None:
            row.append(record.failure or ABSENT)
        else:
            times = "" if not best else f" ({record.objective_value / best:.2f}×)"
            row.append(number(record.objective_value) + times)
    return table(("workload", f"{PLACEWRIGHT} ms", *methods), rows.values())


def programs_table(records: Sequence[Record]) -> str:
    """Value, bound, gap, seconds and memory of each method, side by side."""
    methods = [PLACEWRIGHT, *PROGRAMS]
    by_workload: dict[str, dict[str, Record]] = {}
    for record in records:
        by_workload.setdefault(record.workload, {})[record.method] = record
    rows = [
        (workload, *(_program_cell(of_method.get(method)) for method in methods))
        for workload, of_method in by_workload.items()
    ]
    return table(("workload", *methods), rows)


def wins_table(records: Sequence[Record]) -> str:
    """On how many workloads each method has the best value and the best bound; equal ones all count."""
    methods = [PLACEWRIGHT, *PROGRAMS]
    best_value: Counter[str] = Counter()
    best_bound: Counter[str] = Counter()
    gaps: dict[str, list[float]] = {method: [] for method in methods}
    of_workload: dict[str, list[Record]] = {}
    for record in records:
        of_workload.setdefault(record.workload, []).append(record)
    for rivals in of_workload.values():
        values = {r.method: r.objective_value for r in rivals if r.objective_value is not None}
        least = min(values.values(), default=math.inf) * (1 + TIE)
        # A bound above the value that someone has is no bound.
        bounds = {r.method: r.best_bound for r in rivals if r.best_bound is not None and r.best_bound <= least}
        best_value.update(method for method, value in values.items() if value <= least)
        best_bound.update(method for method, bound in bounds.items() if bound >= max(bounds.values()) * (1 - TIE))
        for record in rivals:
            if record.method in bounds and record.gap is not None:
                gaps[record.method].append(record.gap)
    rows = [
        (
            method,
            best_value[method],
            best_bound[method],
            *(sum(gap <= limit for gap in gaps[method]) for limit in (TIE, 0.01, 0.05)),
        )
        for method in methods
    ]
    return table(("method", "best period", "best bound", "proved", "gap ≤ 1 %", "gap ≤ 5 %"), rows)


def contradictions(records: Iterable[Record]) -> str:
    """Bounds above a verified value of the same question: one of the two must be wrong."""
    best: dict[tuple[str, str], float] = {}
    records = list(records)
    for record in records:
        if record.objective_value is not None:
            question = record.workload, record.partition
            best[question] = min(best.get(question, math.inf), record.objective_value)
    lines = []
    for record in records:
        value = best.get((record.workload, record.partition))
        if value is not None and record.best_bound is not None and record.best_bound > value * (1 + TIE):
            lines.append(
                f"- {record.workload}, {record.partition}: {record.method} claims a bound of {record.best_bound} ms, "
                f"a verified placement takes {value} ms."
            )
    return "\n".join(lines) or "None: no bound is above a verified value of the same question."


def number(value: float | None, digits: int = 4) -> str:
    """A number for reading."""
    return ABSENT if value is None else f"{value:.{digits}f}"


def percent(gap: float | None) -> str:
    """A gap for reading; “proved” when nothing is left."""
    if gap is None or math.isinf(gap):
        return "unknown"
    return "proved" if gap <= TIE else f"{100 * gap:.2f} %" if gap >= 1e-4 else "< 0.01 %"


def megabytes(size_bytes: int | None) -> str:
    """A size in MB of 2^20 bytes."""
    return ABSENT if size_bytes is None else f"{size_bytes / 2**20:.0f}"


def _program_cell(record: Record | None) -> str:
    if record is None:
        return ABSENT
    cost = f"{number(record.wall_s, 1)} s, {megabytes(record.peak_memory_bytes)} MB"
    if record.objective_value is None:
        return f"{record.failure}; bound {number(record.best_bound)}; {cost}"
    return f"{number(record.objective_value)} ≥ {number(record.best_bound)}; {percent(record.gap)}; {cost}"


def _programs(records: Sequence[Record], plots: Mapping[str, str]) -> list[str]:
    parts = ["## The integer program of Tarnawski et al. (2020)"]
    parts += ["Each cell: period ≥ bound in ms; gap; whole time, peak memory. The programs may stop at a gap of 1 %."]
    for (partition, limit_s), rivals in comparisons(records).items():
        parts += [f"### {partition.capitalize()}, {limit_s:g} s", programs_table(rivals), wins_table(rivals)]
        parts += _picture(plots, f"programs-{partition}-{limit_s:g}")
    return parts


def _picture(plots: Mapping[str, str], name: str) -> list[str]:
    return [f"![Gap over time]({plots[name]})"] if name in plots else []


def _origin(campaign: Campaign) -> str:
    origin: dict[str, Any] = {**campaign.origin, **campaign.options}
    origin["memory"] = f"{origin.pop('memory_bytes') / 2**30:.1f} GiB"
    origin["commit"] = f"{origin['commit'] or 'unknown'}" + (", with changes" if origin.pop("dirty") else "")
    return "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in origin.items())
