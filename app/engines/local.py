"""The engine of one machine: a supervised child process per solve."""

from __future__ import annotations

from app.engines import Outcome, Task, Watch
from app.supervision import supervise, warm_up


class LocalEngine:
    """Runs solves on the cores of this machine."""

    name = "local"

    def __init__(self, slots: int) -> None:
        self._slots = slots

    def start(self) -> None:
        """Load the solver, so that the first solve need not wait for it."""
        warm_up()

    def count_slots(self) -> int:
        """The cores that solves may use."""
        return self._slots

    def run(self, task: Task, watch: Watch) -> Outcome:
        """Run the task in a child process of its own."""
        return supervise(task, watch)

    def stop(self) -> None:
        """Nothing is left to give back: each child is reaped when its task ends."""
