"""Why a placement is worth what it is, in words and tables, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from app.display import number, percent, printable
from app.summary import MAX_STAGES, size
from solver.explanation import MAX_TENSORS, Pass
from solver.instance import Overlap
from solver.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from solver.explanation import Destination, Explanation, Load, Move, TensorCost
    from solver.instance import Instance
    from solver.result import Stage

MAX_ROWS = 12
_OVERLAPS = {
    Overlap.NONE: "compute and transfers add up",
    Overlap.FULL: "the longer of compute and all transfers counts",
    Overlap.DUPLEX: "the longest of compute, incoming and outgoing counts",
}


def print_explanation(console: Console, instance: Instance, stages: Sequence[Stage], explanation: Explanation) -> None:
    """What binds the placement, the dearest tensors, the moves that were tried, and what would help."""
    _print_binding(console, instance, stages, explanation.loads)
    _print_tensors(console, explanation)
    for move in explanation.moves:
        _print_move(console, move, explanation)
    if explanation.num_moves_not_tried:
        console.print(f"{counted(explanation.num_moves_not_tried, 'move')} more not tried, to end in time")
    _print_changes(console, explanation)


def _print_binding(console: Console, instance: Instance, stages: Sequence[Stage], loads: Sequence[Load]) -> None:
    overlap = _OVERLAPS[instance.cluster.interconnect.overlap]
    console.print(Text(f"What binds it ({overlap})", style="bold"), soft_wrap=True)
    room = {
        stage.device: "" if stage.memory_limit_bytes is None else size(stage.memory_limit_bytes - stage.memory_bytes)
        for stage in stages
    }
    table = _table(console, "device")
    by_pass = any(load.in_pass is not Pass.BOTH for load in loads)
    if by_pass:
        table.add_column("pass")
    for name in ("load ms", "slack ms", "free memory"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("bound by")
    shown = sorted(loads, key=lambda load: not load.is_bottleneck)[:MAX_STAGES]
    for load in shown:
        table.add_row(
            Text(printable(load.device), style="bold" if load.is_bottleneck else ""),
            *([load.in_pass.value] if by_pass else []),
            number(load.load_ms),
            Text("bottleneck", style="bold") if load.is_bottleneck else number(load.slack_ms),
            room[load.device],
            _parts(load),
        )
    _note_rest(table, len(loads) - len(shown))
    console.print(table)


def _parts(load: Load) -> str:
    """The parts that bind, each with its share of what binds."""
    times = {"compute": load.compute_time_ms, "incoming": load.transfer_in_ms, "outgoing": load.transfer_out_ms}
    return ", ".join(f"{part} {percent(times[part] / load.load_ms)}" for part in load.bound_by)


def _print_tensors(console: Console, explanation: Explanation) -> None:
    if not explanation.tensors:
        return
    console.print(Text(f"Tensors that cost most, of {explanation.num_tensors:,} that travel", style="bold"))
    table = _table(console, "from", "producer", "to")
    for name in ("out ms", "in ms"):
        table.add_column(name, justify="right", no_wrap=True)
    for cost in explanation.tensors[:MAX_TENSORS]:
        table.add_row(
            Text(printable(cost.device)),
            Text(printable(_tensor(cost))),
            Text(printable(_listed(tuple(cost.transfer_in_ms)))),
            number(cost.transfer_out_ms),
            number(sum(cost.transfer_in_ms.values())),
        )
    console.print(table)


def _tensor(cost: TensorCost) -> str:
    return cost.producer if cost.tensor is None else f"{cost.producer} ({cost.tensor})"


def _print_move(console: Console, move: Move, explanation: Explanation) -> None:
    what = f"{_listed(move.operators)} from {move.device}"
    console.print(Text(f"Moving {printable(what)}", style="bold"), soft_wrap=True)
    has_cost = explanation.cost_per_hour is not None
    table = _table(console, "to")
    for name in ("period ms", "change", *(["cost an hour"] if has_cost else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("would break")
    shown = move.destinations[:MAX_ROWS]
    for destination in shown:
        table.add_row(
            Text(printable(destination.device)),
            "-" if destination.period_ms is None else number(destination.period_ms),
            _change(destination.period_ms, explanation.period_ms),
            *([] if not has_cost else [_price(destination)]),
            ", ".join(dict.fromkeys(violation.code for violation in destination.violations)) or "nothing",
        )
    _note_rest(table, len(move.destinations) - len(shown))
    console.print(table)


def _print_changes(console: Console, explanation: Explanation) -> None:
    helpful = [change for change in explanation.changes if change.period_ms < explanation.period_ms]
    console.print(Text("Where help would matter most", style="bold"), end="")
    console.print(Text(" (this same placement, not solved again)"))
    table = _table(console)
    for name in ("period ms", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("with")
    for change in helpful[:MAX_ROWS]:
        table.add_row(
            number(change.period_ms), _change(change.period_ms, explanation.period_ms), Text(printable(change.message))
        )
    _note_rest(table, len(helpful) - MAX_ROWS)
    if helpful:
        console.print(table)
    useless = len(explanation.changes) - len(helpful)
    if useless:
        console.print(f"{counted(useless, 'change')} tried would not shorten the period")
    if explanation.num_changes_not_tried:
        console.print(f"{counted(explanation.num_changes_not_tried, 'change')} more not tried, to end in time")


def _change(then: float | None, now: float) -> str:
    if then is None or now == 0:
        return ""
    if then == now:
        return "0 %"
    return f"{'+' if then > now else '-'}{percent(abs(then - now) / now)}"


def _price(destination: Destination) -> str:
    return "-" if destination.cost_per_hour is None else number(destination.cost_per_hour)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def _note_rest(table: Table, count: int) -> None:
    if count > 0:
        table.caption = f"{count} more are in the JSON answer"


def _table(console: Console, *columns: str) -> Table:
    fancy = console.encoding.lower().startswith("utf")
    table = Table(box=box.SIMPLE_HEAD if fancy else box.ASCII, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=True, max_width=32)
    return table
