"""The ideal program over links, once for each case of where loose items stand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from solver.compiled import CompiledInstance, Floats, Ints
from solver.exact.link_ideals import LinkIdealProgram
from solver.exact.link_sweeps import MAX_BYTES
from solver.exact.throughput_ideals import Trial, Verdict
from solver.loose_items import cases


class LinkCases:
    """The programs of all cases, with the answers of one program for the instance.

    Args:
        compiled, order, prices, max_bytes: as for :class:`~solver.exact.link_ideals.LinkIdealProgram`.
    """

    def __init__(
        self,
        compiled: CompiledInstance,
        order: Ints,
        prices: tuple[Floats, Floats],
        max_bytes: float = MAX_BYTES,
    ) -> None:
        self.compiled = compiled
        self._programs = [LinkIdealProgram(case, order, prices, max_bytes) for case in cases(compiled)]
        self._impossible_ms = dict.fromkeys(self._programs, -math.inf)

    @property
    def fits(self) -> bool:
        """Whether the order suits all of them."""
        return all(program.fits for program in self._programs)

    def limit_cost(self, max_cost: float) -> None:
        """From now on, look only for placements that cost so much at most, whatever else the instance allows."""
        for program in self._programs:
            program.limit_cost(max_cost)
            self._impossible_ms[program] = -math.inf

    def try_period(
        self,
        period_ms: float,
        expired: Callable[[], bool],
        max_steps: float,
        stop: Ints,
        *,
        follow_ms: Sequence[float] = (math.inf,),
    ) -> Trial:
        """As that of the program; what is impossible in one case is not tried again."""
        num_ideals = 0
        for program in list(self._programs):
            if period_ms <= self._impossible_ms[program]:
                continue
            trial = program.try_period(period_ms, expired, max_steps, stop, follow_ms=follow_ms)
            num_ideals += trial.num_ideals
            if trial.verdict is not Verdict.IMPOSSIBLE:
                # The next trial starts with the case that decided this one.
                self._programs.sort(key=lambda other: other is not program)
                return trial
            self._impossible_ms[program] = period_ms
        return Trial(Verdict.IMPOSSIBLE, num_ideals=num_ideals)
