"""The frontier in words and a table, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from app.display import number, percent, throughput
from app.summary import COLOURS, print_reasons
from solver.result import Status, SweepStopReason

if TYPE_CHECKING:
    from rich.console import Console

    from solver.frontier import SweepProgress
    from solver.result import Frontier, FrontierPoint

_STOPPED = {
    SweepStopReason.PROVED: "nothing was left to prove",
    SweepStopReason.GAP_LIMIT: "the requested gap was reached everywhere",
    SweepStopReason.POINTS_LIMIT: "the requested number of points was found",
    SweepStopReason.TIME_LIMIT: "the time limit was reached",
    SweepStopReason.MEMORY_LIMIT: "the memory limit was reached",
    SweepStopReason.CANCELLED: "it was interrupted",
}


def describe_sweep(progress: SweepProgress | None) -> list[str]:
    """How a sweep goes."""
    if progress is None:
        return ["looking for the fastest placement"]
    gap = progress.relative_gap
    return [
        f"{progress.num_searches} searches",
        f"{len(progress.points)} points",
        f"largest gap {'-' if gap is None else percent(gap)}",
    ]


def print_frontier(console: Console, frontier: Frontier) -> None:
    """A row per point, what is proved about it, and what is proved about all other placements."""
    console.print(Text(frontier.status.value.upper(), style=COLOURS.get(frontier.status, "bold red")), end="")
    console.print(Text(": " + _claim(frontier)), soft_wrap=True)
    if frontier.points:
        console.print(_table(console, frontier))
    print_reasons(console, frontier.infeasibility)
    stopped = f"Stopped after {frontier.elapsed_s:.2f} s and {frontier.num_searches} searches"
    console.print(Text(f"{stopped}: {_STOPPED[frontier.stop_reason]}."), soft_wrap=True)


def _claim(frontier: Frontier) -> str:
    if frontier.status is Status.OPTIMAL:
        return "proved that every placement is matched by one of these in both period and cost"
    if frontier.status is Status.INFEASIBLE:
        return "proved that no placement meets all constraints"
    if frontier.relative_gap is None:
        return "no placement was found, and none was ruled out"
    cheapest = frontier.points[0]
    return (
        f"from {number(cheapest.cost_per_hour)} an hour on, these are within {percent(frontier.relative_gap)} of the "
        f"least period at every price; no placement costs less than {number(cheapest.cost_bound_per_hour)}"
    )


def _table(console: Console, frontier: Frontier) -> Table:
    fancy = console.encoding.lower().startswith("utf")
    table = Table(box=box.SIMPLE_HEAD if fancy else box.ASCII, pad_edge=False)
    for name in (
        "cost an hour",
        "≥" if fancy else ">=",
        "period ms",
        "≥" if fancy else ">=",
        "samples a second",
        "gap",
        "devices",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for point in frontier.points:
        table.add_row(*_row(point))
    return table


def _row(point: FrontierPoint) -> tuple[str, ...]:
    return (
        number(point.cost_per_hour),
        number(point.cost_bound_per_hour),
        number(point.period_ms),
        number(point.period_bound_ms),
        throughput(point.period_ms) or "-",
        percent(point.relative_gap),
        str(len(point.stages)),
        point.status.value,
    )
