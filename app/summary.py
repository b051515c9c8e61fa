"""An answer in words and tables, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from app.display import OBJECTIVE_WORDS, number, percent, printable, throughput
from solver.instance import ObjectiveKind, PipelineSchedule
from solver.result import Status, StopReason
from solver.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from solver.instance import Instance
    from solver.result import InfeasibilityReason, Result, Stage
    from solver.verification import Verification

MAX_STAGES = 64
MAX_REASONS = 20
MAX_NAMES = 8
MAX_BAR_WIDTH = 28
MIN_BAR_WIDTH = 8
WIDE = 100  # columns from which on a stage gets a long bar and words beside it

_STOPPED = {
    StopReason.PROVED: "nothing was left to prove",
    StopReason.GAP_LIMIT: "the requested gap was reached",
    StopReason.TIME_LIMIT: "the time limit was reached",
    StopReason.MEMORY_LIMIT: "the memory limit was reached",
    StopReason.CANCELLED: "it was interrupted",
}
_COUNTS = {"bytes": "byte", "devices": "device", "operators": "operator"}
COLOURS = {Status.OPTIMAL: "bold green", Status.FEASIBLE: "bold yellow"}


def print_result(console: Console, instance: Instance, result: Result) -> None:
    """The answer to a search: what was found, what is proved about it, and where the time of each stage goes."""
    console.print(Text(result.status.value.upper(), style=COLOURS.get(result.status, "bold red")), end="")
    console.print(Text(": " + _claim(instance, result)), soft_wrap=True)
    if result.stages:
        console.print(_headline(instance, result.objective_value, result.stages), soft_wrap=True)
        console.print(_stage_table(console, instance, result.stages))
    print_reasons(console, result.infeasibility)
    _print_timings(console, result)


def print_verification(console: Console, instance: Instance, verification: Verification) -> None:
    """What a given placement is worth, and every rule that it breaks."""
    violations = verification.violations
    if violations:
        console.print(Text(f"NOT VALID: {counted(len(violations), 'violation')}", style="bold red"))
        for violation in violations:
            console.print(Text(f"  [{violation.code}] {printable(violation.message)}"), soft_wrap=True)
            _print_names(console, "operators", violation.operators)
    else:
        console.print(Text("VALID: the placement keeps every rule", style="bold green"))
    if verification.stages:
        console.print(_headline(instance, verification.objective_value, verification.stages), soft_wrap=True)
        console.print(_stage_table(console, instance, verification.stages))


def _claim(instance: Instance, result: Result) -> str:
    word, unit = OBJECTIVE_WORDS[instance.objective.kind]
    value, bound, gap = result.objective_value, result.best_bound, result.relative_gap
    by = f" (by {result.solver.proved_by})" if result.solver.proved_by else ""
    if result.status is Status.OPTIMAL:
        return f"proved that no placement has a lower {word}{by}"
    if result.status is Status.INFEASIBLE:
        return f"proved that no placement meets all constraints{by}"
    bounded = "" if bound is None else f"no placement has a {word} below {number(bound)} {unit}"
    if value is None:
        return f"no placement was found, and none was ruled out{bounded and f'; {bounded}'}"
    if gap is None:
        return "a placement was found; nothing is proved about a better one"
    return f"{bounded}, so this one is within {percent(gap)} of the best"


def _headline(instance: Instance, value: float | None, stages: Sequence[Stage]) -> Text:
    word, unit = OBJECTIVE_WORDS[instance.objective.kind]
    text = Text()
    if value is not None:
        text.append(f"{word.capitalize()} {number(value)} {unit}", style="bold")
        if instance.objective.kind is ObjectiveKind.THROUGHPUT and (rate := throughput(value)):
            text.append(f" = {rate} samples a second")
        text.append("; ")
    operators = sum(len(stage.operators) for stage in stages)
    text.append(f"{counted(operators, 'operator')} on {counted(len(stages), 'device')}, {instance.objective.partition}")
    return text


def _stage_table(console: Console, instance: Instance, stages: Sequence[Stage]) -> Table:
    """A row and a bar per stage; the longest bar is the bottleneck."""
    largest = max(stage.load_ms for stage in stages)
    one_bottleneck = (
        instance.objective.kind is ObjectiveKind.THROUGHPUT
        and instance.objective.schedule is PipelineSchedule.ONE_F_ONE_B
    )
    fancy = console.encoding.lower().startswith("utf")
    is_wide = console.width >= WIDE
    width = MAX_BAR_WIDTH if is_wide else MIN_BAR_WIDTH
    table = Table(box=box.SIMPLE_HEAD if fancy else box.ASCII, pad_edge=False)
    table.add_column("device", no_wrap=True, max_width=24)
    for name in ("ops", "compute", "in", "out", "load ms", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(_legend(fancy=fancy) if is_wide else "", no_wrap=True)
    shown = stages if len(stages) <= MAX_STAGES else stages[:MAX_STAGES]
    for stage in shown:
        is_bottleneck = one_bottleneck and stage.load_ms == largest > 0
        bar = _bar(stage, largest, width, fancy=fancy)
        if is_bottleneck:
            bar.append((" ◀" if fancy else " <") + (" bottleneck" if is_wide else ""), style="bold")
        table.add_row(
            Text(printable(stage.device)),
            str(len(stage.operators)),
            *(number(v) for v in (stage.compute_time_ms, stage.transfer_in_ms, stage.transfer_out_ms)),
            Text(number(stage.load_ms), style="bold" if is_bottleneck else ""),
            _memory(stage),
            bar,
        )
    if len(stages) > len(shown):
        table.caption = f"{len(stages) - len(shown)} more devices are in the JSON answer"
    return table


def _legend(*, fancy: bool) -> Text:
    return Text("load: █ compute ▒ transfer" if fancy else "load: # compute = transfer")


def _bar(stage: Stage, largest: float, width: int, *, fancy: bool) -> Text:
    """The load on the scale of the largest one, split between compute and transfers in proportion."""
    cells = round(width * stage.load_ms / largest) if largest > 0 else 0
    if stage.load_ms > 0:
        cells = max(cells, 1)
    busy = stage.compute_time_ms + stage.transfer_in_ms + stage.transfer_out_ms
    compute = round(cells * stage.compute_time_ms / busy) if busy > 0 else cells
    solid, shaded = ("█", "▒") if fancy else ("#", "=")
    return Text.assemble((solid * compute, "cyan"), (shaded * (cells - compute), "yellow"))


def _memory(stage: Stage) -> str:
    used = size(stage.memory_bytes)
    if stage.memory_limit_bytes is None:
        return used
    share = 100 * stage.memory_bytes / stage.memory_limit_bytes if stage.memory_limit_bytes else 100.0
    return f"{used} {share:3.0f} %"


def size(count: float) -> str:
    """Bytes, in the unit that suits them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def print_reasons(console: Console, reasons: Sequence[InfeasibilityReason]) -> None:
    """Why there is no placement."""
    for reason in reasons[:MAX_REASONS]:
        console.print(Text(f"  [{reason.code}] {printable(reason.message)}"), soft_wrap=True)
        if reason.required is not None and reason.available is not None:
            needed, available = (_amount(amount, reason.unit) for amount in (reason.required, reason.available))
            console.print(Text(f"      needed {needed}, available {available}"), soft_wrap=True)
        _print_names(console, "operators", reason.operators)
        _print_names(console, "devices", reason.devices)
    if len(reasons) > MAX_REASONS:
        console.print(f"  … and {len(reasons) - MAX_REASONS} more reasons, all in the JSON answer")


def _amount(amount: float, unit: str | None) -> str:
    if unit in _COUNTS:
        return counted(round(amount), _COUNTS[unit])
    return f"{number(amount)} {unit or ''}".rstrip()


def _print_timings(console: Console, result: Result) -> None:
    phases = {name: seconds for name, seconds in result.timings_s.items() if name != "total"}
    total = result.timings_s.get("total", sum(phases.values()))
    spent = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in phases.items() if seconds >= 0.005)
    console.print(
        Text(f"Stopped after {total:.2f} s: {_STOPPED[result.stop_reason]}." + (spent and f" Of that, {spent}."))
    )


def _print_names(console: Console, word: str, names: Iterable[str]) -> None:
    listed = [printable(name) for name in names]
    if listed:
        more = f" … {len(listed)} in all" if len(listed) > MAX_NAMES else ""
        console.print(Text(f"      {word}: {', '.join(listed[:MAX_NAMES])}{more}"), soft_wrap=True)
