"""What people see on standard error: messages, the console, and the progress of a search."""

from __future__ import annotations

import math
import threading
import time
from typing import IO, TYPE_CHECKING, Generic, Self, TypeVar, cast

from rich.console import Console
from rich.live import Live
from rich.text import Text

from app.standard_streams import Forgiving
from solver.instance import ObjectiveKind
from solver.result import relative_gap

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import TextIO

    from solver.result import Progress

P = TypeVar("P")

PLAIN_LINE_INTERVAL_S = 1.0
HEARTBEAT_INTERVAL_S = 30.0
PLAIN_WIDTH = 120
OBJECTIVE_WORDS = {
    ObjectiveKind.THROUGHPUT: ("period", "ms"),
    ObjectiveKind.LATENCY: ("makespan", "ms"),
    ObjectiveKind.COST: ("cost", "an hour"),
}


def open_console(stream: TextIO) -> Console:
    """A console on ``stream`` that never fails and takes no part of a text for markup."""
    forgiving = Forgiving(stream)
    console = Console(file=cast("IO[str]", forgiving), markup=False, highlight=False, emoji=False)
    if not forgiving.isatty() and console.width < PLAIN_WIDTH and "COLUMNS" not in console._environ:  # noqa: SLF001
        console.width = PLAIN_WIDTH
    return console


def is_live(console: Console) -> bool:
    """Whether the console is a terminal on which a line can be rewritten."""
    return console.file.isatty() and not console.is_dumb_terminal


def printable(text: str) -> str:
    """``text`` on one line, with control characters (of a document we did not write) spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def number(value: float) -> str:
    """A time or a price with about four significant digits, and its thousands apart."""
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e9:
        return f"{value:.3e}"
    decimals = 1 if abs(value) >= 1000 else 2 if abs(value) >= 100 else 3 if abs(value) >= 1 else 4
    return f"{value:,.{decimals}f}"


def throughput(period_ms: float) -> str | None:
    """Samples a second; nothing where they are beyond all numbers."""
    rate = 1000 / period_ms if period_ms > 0 else math.inf
    return number(rate) if math.isfinite(rate) else None


def percent(ratio: float) -> str:
    """A ratio in percent, to two significant digits; nothing above 0 is shown as 0."""
    if ratio == 0:
        return "0 %"
    if ratio < 1e-6:
        return "<0.0001 %"
    return f"{100 * ratio:.2g} %" if ratio < 0.1 else f"{100 * ratio:.1f} %"


def describe_search(kind: ObjectiveKind) -> Callable[[Progress | None], list[str]]:
    """How a search goes, in the words of its objective."""
    word, unit = OBJECTIVE_WORDS[kind]

    def describe(progress: Progress | None) -> list[str]:
        if progress is None:
            return ["looking for a first placement"]
        value, bound = progress.incumbent.objective_value, progress.incumbent.best_bound
        gap = relative_gap(value, bound)
        return [
            f"{word} {'-' if value is None else f'{number(value)} {unit}'}",
            f"bound {'-' if bound is None else f'{number(bound)} {unit}'}",
            f"gap {'-' if gap is None else percent(gap)}",
            f"by {printable(progress.incumbent.found_by)}",
        ]

    return describe


class ProgressDisplay(Generic[P]):
    """The state of a search: one live line on a terminal, else a plain line now and then.

    ``describe`` puts the latest report in words. The search reports from threads of its own through :meth:`report`;
    everything is drawn by the thread that calls :meth:`refresh`.
    """

    def __init__(self, console: Console, describe: Callable[[P | None], list[str]]) -> None:
        self._console = console
        self._describe = describe
        self._latest: P | None = None
        self._printed: P | None = None
        self._printed_at = float("-inf")
        self._started = time.monotonic()
        self._stopping = False
        self._lock = threading.Lock()
        self._live = Live(console=console, auto_refresh=False, transient=True) if is_live(console) else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        self.refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._latest is not self._printed:
            self._print_line()

    def report(self, progress: P) -> None:
        """Take note of a step of the search. May be called from any thread."""
        with self._lock:
            self._latest = progress

    def announce_stop(self) -> None:
        """Say that the search was asked to stop."""
        if not self._stopping:
            self._stopping = True
            self._console.print("stopping with the best placement so far; interrupt once more to quit at once")

    def refresh(self) -> None:
        """Draw what is new."""
        if self._live is not None:
            self._live.update(Text(self._line(), overflow="ellipsis", no_wrap=True), refresh=True)
            return
        since_last = time.monotonic() - self._printed_at
        is_news = self._latest is not self._printed and since_last >= PLAIN_LINE_INTERVAL_S
        if is_news or (self._printed is not None and since_last >= HEARTBEAT_INTERVAL_S):
            self._print_line()

    def restore_terminal(self) -> None:
        """Show the cursor again, for an exit that runs no handlers."""
        if self._live is not None:
            self._console.show_cursor()

    def _print_line(self) -> None:
        self._printed, self._printed_at = self._latest, time.monotonic()
        self._console.print(Text(self._line()), soft_wrap=True)

    def _line(self) -> str:
        with self._lock:
            latest = self._latest
        parts = [f"{time.monotonic() - self._started:6.1f} s", *self._describe(latest)]
        if self._stopping:
            parts.append("(stopping)")
        return "  ".join(parts)
