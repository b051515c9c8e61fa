"""The engine of one machine: a supervised child process per solve."""

from __future__ import annotations

import threading

from app.engines import Outcome, Task, Watch
from app.supervision import supervise, warm_up


class LocalEngine:
    """Runs solves on the cores of this machine."""

    name = "local"

    def __init__(self, slots: int) -> None:
        self._slots = slots

    def start(self) -> None:
        """There is nothing to connect to."""

    def warm_up(self, stopping: threading.Event) -> None:
        """Load the solver and compile its kernels, so that no solve need wait for that."""
        warm_up(stopping)

    def count_slots(self) -> int:
        """The cores that solves may use."""
        return self._slots

    def run(self, task: Task, watch: Watch) -> Outcome:
        """Run the task in a child process of its own."""
        return supervise(task, watch)

    def stop(self) -> None:
        """Nothing is left to give back: each child is reaped when its task ends."""
