"""The engine of a Ray cluster: each solve is an actor on some node, which supervises the same child process as here.

Ray finds the node with enough free cores and memory, and ends the actor when the dispatcher or the node goes; it has no
say in anything else. It tries nothing again by itself: the leases see to that.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from app.engines import Outcome, StopCause, Task, Watch
from app.problems import describe
from app.supervision import supervise

_POLL_S = 0.1
_NETWORK_GRACE_S = 5.0
"""What an order and its answer may take beyond the grace of the solve itself."""
_COUNT_INTERVAL_S = 5.0
_log = logging.getLogger(__name__)


class RayEngine:
    """Runs solves on the nodes of a cluster."""

    name = "ray"

    def __init__(self, address: str | None, memory_bytes: int | None) -> None:
        self._address, self._memory_bytes = address, memory_bytes
        self._slots, self._counted = 0, -_COUNT_INTERVAL_S

    def start(self) -> None:
        """Connect to the cluster. Raises :class:`OSError` when it cannot be reached."""
        try:
            ray.init(address=self._address or "auto", log_to_driver=False, ignore_reinit_error=True)
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            raise OSError(f"cannot reach the Ray cluster {self._address or ''}: {error}") from error

    def warm_up(self, stopping: threading.Event) -> None:
        """Nothing: the nodes come and go, and each solve loads the solver on its own."""

    def count_slots(self) -> int:
        """The cores of all nodes that are alive."""
        if (now := time.monotonic()) - self._counted >= _COUNT_INTERVAL_S:
            count: Any = ray.cluster_resources  # without types, and not always installed
            self._slots, self._counted = int(count().get("CPU", 0)), now
        return self._slots

    def run(self, task: Task, watch: Watch) -> Outcome:
        """Run the task on a node that has room for it."""
        try:
            return _Call(task, watch, self._memory_bytes).follow()
        except RayError as error:
            _log.warning("a solve is lost: %s", error, extra={"placement": task.placement_id})
            detail = "The cluster node of the solve was lost. The best placement found until then, if any, is kept."
            return Outcome(None, describe("solver-died", detail), watch.stop_order())

    def stop(self) -> None:
        """Leave the cluster."""
        ray.shutdown()


class _Call:
    """One solve, seen from the dispatcher."""

    def __init__(self, task: Task, watch: Watch, memory_bytes: int | None) -> None:
        self._task, self._watch = task, watch
        needs: dict[str, Any] = {"num_cpus": task.workers, "max_restarts": 0, "max_task_retries": 0}
        if memory_bytes is not None:
            needs["memory"] = memory_bytes
        # One thread runs the solve, another one takes the order to stop.
        solve: Any = ray.remote(_Solve)
        self._actor = solve.options(max_concurrency=2, **needs).remote()
        self._messages: Any = self._actor.run.options(num_returns="streaming").remote(task)
        self._began = time.monotonic()
        self._has_started = False
        self._told: StopCause | None = None
        self._told_at = 0.0

    def follow(self) -> Outcome:
        """Pass on what the solve says, and to it what the owner wants, up to the end."""
        try:
            while True:
                if (ending := self._look_after()) is not None:
                    return ending
                ready, _ = ray.wait([self._messages], timeout=_POLL_S)
                if ready and (outcome := self._take(ray.get(next(self._messages)))) is not None:
                    return outcome
        finally:
            # The solve has ended, or is ended now: its process dies with the actor.
            with contextlib.suppress(RayError):
                ray.kill(self._actor)

    def _look_after(self) -> Outcome | None:
        now = time.monotonic()
        order = self._watch.stop_order()
        if order is not None and (self._told is None or (order.is_unkind and not self._told.is_unkind)):
            self._told, self._told_at = order, now
            if self._has_started:
                self._actor.stop.remote(order)
        if self._told is not None:
            grace_s = self._task.stop_grace_s + _NETWORK_GRACE_S if self._has_started else 0.0
            if now >= self._told_at + grace_s:
                problem = describe("solver-killed", f"The solve was told to stop ({self._told}) and did not.")
                return Outcome(None, problem, self._told)
        elif not self._has_started and now >= self._began + self._task.startup_grace_s:
            detail = f"No node had {self._task.workers} free cores within {self._task.startup_grace_s:g} s."
            return Outcome(None, describe("solver-died", detail))
        return None

    def _take(self, message: tuple[str, Any]) -> Outcome | None:
        kind, content = message
        match kind:
            case "placed":
                self._has_started = True
            case "start":
                self._watch.note_start()
            case "progress":
                self._watch.note_progress(*content)
            case "log":
                self._watch.note_log(content)
            case "outcome":
                outcome: Outcome = content
                return outcome
        return None


class _Solve:
    """One solve, on its node. Its messages are a stream; the last one is the outcome."""

    def __init__(self) -> None:
        # The child process must not take this one's program, which is Ray's, for its own.
        main = sys.modules["__main__"]
        main.__file__ = None
        self._relay = _Relay()

    def stop(self, order: str) -> None:
        """End the solve."""
        self._relay.order = StopCause(order)

    def run(self, task: Task) -> Iterator[tuple[str, Any]]:
        """Run the task and say what happens."""
        yield "placed", None

        def work() -> None:
            self._relay.outbox.put(("outcome", supervise(task, self._relay)))

        threading.Thread(target=work, name="solve", daemon=True).start()
        while True:
            message = self._relay.outbox.get()
            yield message
            if message[0] == "outcome":
                return


class _Relay:
    """The :class:`app.engines.Watch` on the node."""

    def __init__(self) -> None:
        self.outbox: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.order: StopCause | None = None

    def note_start(self) -> None:
        """Pass it on."""
        self.outbox.put(("start", None))

    def note_progress(self, steps: Sequence[Mapping[str, Any]], result: dict[str, Any] | None) -> None:
        """Pass it on."""
        self.outbox.put(("progress", (list(steps), result)))

    def note_log(self, content: bytes) -> None:
        """Pass it on."""
        self.outbox.put(("log", content))

    def stop_order(self) -> StopCause | None:
        """What the dispatcher has said."""
        return self.order
