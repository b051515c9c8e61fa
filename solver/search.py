"""One search: the best verified placement, the best proved bound, and when to stop.

Methods offer placements and claim bounds; this is where offers are verified and claims are held against each other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from solver.beside import Call
from solver.instance import Instance, SolverOptions
from solver.result import OPTIMALITY_TOLERANCE, Incumbent, Placement, Progress, Status, StopReason, relative_gap
from solver.verification import Verification, verify

CONTRADICTION = 1e-9
"""Relative amount by which a bound may exceed a verified placement through floating-point rounding alone."""
NOTHING_BELOW_ZERO = "non-negativity"
"""What is known without any method: times and prices are not negative, and no sum of them is."""


class Search:
    """What is known so far about one instance. Safe to use from several threads."""

    def __init__(
        self,
        instance: Instance,
        options: SolverOptions,
        on_progress: Callable[[Progress], None] | None,
        stop: threading.Event,
    ) -> None:
        self.instance = instance
        self.options = options
        self.stop = stop
        self.started = time.monotonic()
        self.placement: Placement | None = None
        self.verification: Verification | None = None
        self.found_by: str | None = None
        self.incumbents: list[Incumbent] = []
        self.infeasible_by: str | None = None
        self.out_of_memory = False
        self.rejected: dict[str, int] = {}
        self.distrusted: set[str] = set()
        self.verify_s = 0.0
        self._bounds: dict[str, float] = {NOTHING_BELOW_ZERO: 0.0}
        self._sealed = False
        self._on_progress = on_progress
        self._lock = threading.RLock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the search began."""
        return time.monotonic() - self.started

    @property
    def remaining_s(self) -> float:
        """Seconds left of the time limit, never negative."""
        return max(0.0, self.options.time_limit_s - self.elapsed_s)

    @property
    def objective_value(self) -> float | None:
        """Value of the best verified placement."""
        return None if self.verification is None else self.verification.objective_value

    @property
    def proved_by(self) -> str:
        """The method whose bound is the best of those that nothing contradicts."""
        with self._lock:
            return max((m for m in self._bounds if m not in self.distrusted), key=self._bounds.__getitem__)

    @property
    def best_bound(self) -> float:
        """The best trusted bound; never above the value of a verified placement."""
        with self._lock:
            bound = self._bounds[self.proved_by]
            value = self.objective_value
        return bound if value is None else min(bound, value)

    @property
    def closed(self) -> bool:
        """Whether the gap asked for, or optimality, is reached, or infeasibility is proved."""
        gap = relative_gap(self.objective_value, self.best_bound)
        wanted = max(self.options.relative_gap, OPTIMALITY_TOLERANCE)
        return self.infeasible_by is not None or (gap is not None and gap <= wanted)

    @property
    def over(self) -> bool:
        """Whether there is nothing left to do, or no time or memory to do it in."""
        return self.closed or self._sealed or self.out_of_memory or self.stop.is_set() or self.remaining_s <= 0

    def offer(self, placement: Placement, method: str) -> bool:
        """Take ``placement`` if it is valid and better than what is known; say whether it was."""
        began = time.monotonic()
        verification = verify(self.instance, placement)
        with self._lock:
            if self._sealed:
                return False
            self.verify_s += time.monotonic() - began
            value = verification.objective_value
            if verification.violations or value is None:
                self.rejected[method] = self.rejected.get(method, 0) + 1
                return False
            if self.objective_value is not None and value >= self.objective_value:
                return False
            self.placement, self.verification, self.found_by = placement, verification, method
            self._find_contradictions()
            self._record(method, placement)
        return True

    def claim_bound(self, bound: float, method: str) -> None:
        """Note that ``method`` proved that no placement is worth less than ``bound``."""
        with self._lock:
            if self._sealed:
                return
            before = self.best_bound
            self._bounds[method] = max(bound, self._bounds.get(method, 0.0))
            self._find_contradictions()
            if self.best_bound > before:
                self._record(method, None)

    def beside(self, method: Callable[[], object], name: str) -> Call[None]:
        """Run ``method`` in a thread of its own; if it finds no memory the search ends, and what is known is kept."""

        def work() -> None:
            try:
                method()
            except MemoryError:
                self.exceed_memory()

        return Call(work, name)

    def exceed_memory(self) -> None:
        """Note that the process holds more than it may."""
        self.out_of_memory = True

    def seal(self) -> None:
        """Hear nothing more: a thread left behind must not change an answer that is being given."""
        with self._lock:
            self._sealed = True

    def rename(self, new_name: Mapping[str, str]) -> None:
        """Exchange devices of the best placement that are alike, unless the verifier finds that they are not."""
        if self.placement is None or self.verification is None:
            return
        if all(name == device for device, name in new_name.items()):
            return
        renamed = {operator: new_name.get(device, device) for operator, device in self.placement.items()}
        verification = verify(self.instance, renamed)
        if not verification.violations and verification.objective_value == self.verification.objective_value:
            self.placement, self.verification = renamed, verification

    def _find_contradictions(self) -> None:
        value = self.objective_value
        if value is not None:
            self.distrusted |= {m for m, bound in self._bounds.items() if bound > value * (1 + CONTRADICTION)}

    def _record(self, method: str, placement: Placement | None) -> None:
        incumbent = Incumbent(self.elapsed_s, self.objective_value, self.best_bound, method)
        if placement is None and self.incumbents and self.incumbents[-1].found_by == method:
            # Only the last of a row of bounds from one method is kept; there may be thousands.
            if self.incumbents[-1].objective_value == incumbent.objective_value and not self._is_new_value():
                self.incumbents[-1] = incumbent
            else:
                self.incumbents.append(incumbent)
        else:
            self.incumbents.append(incumbent)
        if self._on_progress is not None:
            stages = () if placement is None or self.verification is None else self.verification.stages
            self._on_progress(Progress(incumbent, placement, stages))

    def _is_new_value(self) -> bool:
        """Whether the last entry is the one at which the present value was found."""
        return len(self.incumbents) < 2 or self.incumbents[-2].objective_value != self.incumbents[-1].objective_value

    def conclude(self) -> tuple[Status, StopReason]:
        """What may be said at the end."""
        gap = relative_gap(self.objective_value, self.best_bound)
        if gap is not None and gap <= OPTIMALITY_TOLERANCE:
            return Status.OPTIMAL, StopReason.PROVED
        if self.infeasible_by is not None and self.placement is None:
            return Status.INFEASIBLE, StopReason.PROVED
        status = Status.UNKNOWN if self.placement is None else Status.FEASIBLE
        if gap is not None and gap <= self.options.relative_gap:
            return status, StopReason.GAP_LIMIT
        if self.stop.is_set():
            return status, StopReason.CANCELLED
        return status, StopReason.MEMORY_LIMIT if self.out_of_memory else StopReason.TIME_LIMIT
