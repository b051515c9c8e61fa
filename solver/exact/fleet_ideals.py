"""Throughput or cost, acyclic partition, ``1f1b``: the ideal program for one fleet after the other.

A fleet (:mod:`solver.fleets`) turns limits of devices and cost into an instance without them, for which the program of
:mod:`solver.exact.throughput_ideals` proves most. A period is impossible if it is for every fleet that nothing can be
added to; what is impossible for a fleet is so for every part of it. Fleets whose bound is above the period are passed
over, and so are those that were tried before with a longer one.

Source: own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from solver.compiled import CompiledInstance, Floats, Ints
from solver.exact.throughput_ideals import MAX_SPAN, Assignment, IdealProgram, Trial, Verdict, span_of, supports
from solver.fleets import Fleets

Prices = tuple[Floats, Floats]
"""Of load and of memory, per class."""


class FleetIdealProgram:
    """The program for the fleets of one instance, for any number of trial periods.

    Args:
        compiled: reduced for the acyclic partition.
        order: item at each position of a topological order.
        fleets: of ``compiled``.
        periods: [F] a lower bound of the period in each fleet, in ms; raised here.
        find_prices: good prices for an instance, or ``None``.
        limits: of the ideals stored, and of the states of a fleet's lesser classes.
    """

    def __init__(
        self,
        compiled: CompiledInstance,
        order: Ints,
        fleets: Fleets,
        periods: Floats,
        find_prices: Callable[[CompiledInstance], Prices | None],
        limits: tuple[int, int],
    ) -> None:
        self._compiled = compiled
        self._order = order
        self._fleets = fleets
        self._periods = periods
        self._find_prices = find_prices
        self._max_ideals, self._max_states = limits
        self._impossible = np.full(len(periods), -math.inf)
        self._reached: dict[int, tuple[float, Assignment]] = {}
        self._programs: dict[int, IdealProgram | None] = {}
        self._largest = np.flatnonzero(fleets.largest_within(math.inf))

    @property
    def fits(self) -> bool:
        """Whether the order keeps ready items near enough for the window."""
        return span_of(self._compiled, self._order) <= MAX_SPAN

    def limit_cost(self, max_cost: float) -> None:
        """From now on, look only for placements that cost so much at most, whatever else the instance allows."""
        self._largest = np.flatnonzero(self._fleets.largest_within(max_cost))

    def try_period(self, period_ms: float, expired: Callable[[], bool], max_steps: float, stop: Ints) -> Trial:
        """Whether some fleet has a pipeline with no load above ``period_ms``; arguments as of the program for one."""
        is_hopeful = (self._periods <= period_ms) & (self._impossible < period_ms)
        hopeful = [int(fleet) for fleet in self._largest if is_hopeful[fleet]]
        for fleet in hopeful:
            if fleet in self._reached and self._reached[fleet][0] <= period_ms:
                return Trial(Verdict.REACHED, self._reached[fleet][1])
        num_ideals = 0
        for fleet in sorted(hopeful, key=lambda f: float(self._periods[f])):
            program = self._program(fleet)
            if program is None or expired():
                return Trial(Verdict.GAVE_UP, num_ideals=num_ideals)
            trial = program.try_period(period_ms, expired, max_steps, stop)
            num_ideals += trial.num_ideals
            if trial.verdict is Verdict.GAVE_UP:
                return Trial(Verdict.GAVE_UP, num_ideals=num_ideals)
            if trial.assignment is not None:
                placement = program.compiled.placement(trial.assignment)
                self._reached[fleet] = period_ms, self._compiled.gather(placement)
                return Trial(Verdict.REACHED, self._reached[fleet][1], num_ideals)
            parts = (self._fleets.counts <= self._fleets.counts[fleet]).all(axis=1)
            self._impossible[parts] = np.maximum(self._impossible[parts], period_ms)
            self._periods[parts] = np.maximum(self._periods[parts], period_ms)
        return Trial(Verdict.IMPOSSIBLE, num_ideals=num_ideals)

    def _program(self, fleet: int) -> IdealProgram | None:
        """That of one fleet, if it suits it."""
        if fleet not in self._programs:
            counts = self._fleets.counts[fleet]
            names = {
                name
                for count, device_class in zip(counts, self._compiled.classes, strict=True)
                for name in device_class.devices[:count]
            }
            part = self._compiled.keep_devices(names)
            program = None
            if supports(part, self._max_states):
                program = IdealProgram(part, self._order, self._max_ideals, self._find_prices(part))
            self._programs[fleet] = program
        return self._programs[fleet]
