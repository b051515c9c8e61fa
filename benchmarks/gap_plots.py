"""Pictures of the gap over time, one panel a workload."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.records import PLACEWRIGHT, Record, Step
from solver.result import relative_gap

PROVED = 1e-6
"""Where a closed gap is drawn, on a logarithmic scale."""
COLUMNS = 4


def gap_series(steps: Sequence[Step], end_s: float) -> list[tuple[float, float]]:
    """(seconds, gap) from the first known gap on, each holding until the next, to ``end_s``; closed gaps are 0."""
    series: list[tuple[float, float]] = []
    for step in steps:
        gap = relative_gap(step.objective_value, step.best_bound)
        if gap is None:
            continue
        gap = 0.0 if gap <= PROVED else gap
        if not series or gap < series[-1][1]:
            series.append((step.elapsed_s, gap))
    if series and end_s > series[-1][0]:
        series.append((end_s, series[-1][1]))
    return series


def draw_gaps(records: Sequence[Record], path: Path) -> None:
    """Write runs under one partition rule as SVG: Placewright's gap as a line, the last gap of others as a mark."""
    by_workload: dict[str, list[Record]] = {}
    for record in records:
        by_workload.setdefault(record.workload, []).append(record)
    # Text stays text, and the same records give the same file.
    with mpl.rc_context({"svg.hashsalt": "placewright", "svg.fonttype": "none", "font.size": 8}):
        columns = min(COLUMNS, len(by_workload))
        rows = math.ceil(len(by_workload) / columns)
        figure = Figure(figsize=(3.2 * columns, 1.9 * rows + 0.6), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
        for workload, runs in by_workload.items():
            panel = next(panels)
            panel.set_title(workload, fontsize=7)
            for run in runs:
                _draw(panel, run)
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.set_ylim(PROVED / 2, 1.2)
            panel.set_yticks([PROVED, 1e-4, 1e-3, 1e-2, 1e-1, 1], ["proved", "0.01 %", "0.1 %", "1 %", "10 %", "100 %"])
            panel.minorticks_off()
            panel.xaxis.set_major_formatter("{x:g}")
            panel.tick_params(labelbottom=True)
            panel.grid(visible=True, linewidth=0.3)
        for panel in panels:
            panel.set_axis_off()
        handles = {
            label: handle
            for panel in figure.axes
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        if len(handles) > 1:
            figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles))
        figure.supxlabel("seconds since the search began", fontsize=8)
        figure.supylabel("gap", fontsize=8)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw(panel: Axes, record: Record) -> None:
    last_s = max((step.elapsed_s for step in record.steps), default=0.0)
    # The last step of a search that proves nothing more comes long before its end.
    is_ours = record.method == PLACEWRIGHT
    end_s = last_s if record.is_proved or not is_ours else max(last_s, record.time_limit_s)
    series = gap_series(record.steps, end_s)
    if not series:
        return
    seconds = [max(second, 1e-3) for second, _ in series]
    gaps = [max(gap, PROVED) for _, gap in series]
    if is_ours:
        panel.step(seconds, gaps, where="post", label=record.method, linewidth=1.2, color="C0")
        panel.plot(seconds[-1:], gaps[-1:], ".", color="C0", markersize=4)
    else:
        marker, color = ("x", "C3") if "HiGHS" in record.method else ("+", "C2")
        panel.plot(seconds, gaps, marker, label=record.method, color=color, markersize=6, linestyle="none")
