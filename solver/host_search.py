"""How the methods work together where devices exchange data through host memory and the answer has no limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial

from solver.absorption import absorb
from solver.backward_order import order_backward
from solver.bounds import bound_each_pass, bound_period
from solver.collector import collector_paused
from solver.compiled import CompiledInstance
from solver.exact.pass_periods import PassPeriods
from solver.exact.throughput_ideals import IdealProgram, close_gap, max_ideals_within, span_of, supports
from solver.formulation_runs import is_modelled, run_formulation, worst_period
from solver.formulations.throughput_ladder_cpsat import LadderModel
from solver.heuristics.orders import topological_orders
from solver.heuristics.segments import place_segments
from solver.instance import Partition
from solver.memory_watch import room_bytes
from solver.reductions import reduce_instance
from solver.result import OPTIMALITY_TOLERANCE, InfeasibilityReason
from solver.search import Search
from solver.sets import SetSearch
from solver.wide import WideSearch

FIRST_STEPS = 40_000_000
"""Steps (about a second) that the ideal program gets before others are called in; counted, so that it is repeatable."""
LADDER_SHARE = 0.15
"""Part of the remaining time in which a convex or free search may look for a good acyclic start."""


class HostSearch:
    """The methods at work on one search.

    Args:
        search: takes placements and bounds.
        compiled: one item per operator.
        reduced: the same, reduced for the partition.
        workers: threads to use.
        methods: names of methods that took part are added here.
    """

    reasons: tuple[InfeasibilityReason, ...] = ()

    @collector_paused()
    def __init__(
        self,
        search: Search,
        compiled: CompiledInstance,
        reduced: CompiledInstance,
        workers: int,
        methods: list[str],
    ) -> None:
        self._search = search
        self._workers = workers
        self._methods = methods
        self._partition = reduced.partition
        self._reduced = absorb(reduced, self._partition)
        # Every acyclic placement is convex and free too, and the acyclic ones are the easiest to find.
        self._acyclic = self._reduced
        if self._partition is not Partition.ACYCLIC:
            self._acyclic = absorb(reduce_instance(compiled, Partition.ACYCLIC), Partition.ACYCLIC)
        # The same, but for a place in the pipeline for every item.
        self._ordered = order_backward(self._acyclic)
        self._pass_periods: PassPeriods | None = None

    def find(self) -> None:
        """Bounds without search, and first placements."""
        self._search.claim_bound(bound_period(self._reduced), "bounds")
        self._place_segments()

    @collector_paused()
    def _place_segments(self) -> None:
        """Cut topological orders into stages."""
        search = self._search
        if search.closed or search.stop.is_set() or not self._acyclic.allowed.any(axis=1).all():
            return
        self._methods.append("segments")
        self._cut_orders(self._ordered)
        if search.placement is None and self._ordered is not self._acyclic:
            self._cut_orders(self._acyclic)  # The places given leave no room.

    def _cut_orders(self, compiled: CompiledInstance) -> None:
        search = self._search
        for assignment in place_segments(
            compiled, bound_ms=search.best_bound, seed=search.options.seed, expired=lambda: search.over
        ):
            search.offer(self._acyclic.placement(assignment), "segments")

    def prove(self) -> None:
        """Run the formulations until the search is over or nothing is left to run."""
        search = self._search
        if self._partition is Partition.ACYCLIC:
            self._prove_acyclic()
            return
        self._find_acyclic()
        SetSearch(search, self._reduced, self._workers, self._methods).run()

    def _find_acyclic(self) -> None:
        """The best acyclic placement, or a good one, as a start for the other partitions."""
        search = self._search
        if search.over or not self._acyclic.allowed.any(axis=1).all():
            return
        program = self._ideal_program()
        if program is not None:
            self._methods.append("ideals")
            bounds = [bound_period(self._acyclic)]
            self._run_ideals(program, FIRST_STEPS, lambda: max(bounds), bounds.append)
            value = search.objective_value
            is_proved = value is not None and max(bounds) >= value * (1 - OPTIMALITY_TOLERANCE)
            if is_proved and self._ordered is self._acyclic:
                return
        if not is_modelled(self._acyclic):
            WideSearch(search, self._reduced, self._acyclic, self._workers, self._methods, LADDER_SHARE).run()
        elif not search.over:
            self._methods.append(LadderModel.name)
            limit_s = search.remaining_s * LADDER_SHARE
            run_formulation(search, LadderModel, self._acyclic, limit_s, workers=self._workers, proves=False)

    def _prove_acyclic(self) -> None:
        """The ideal program for a moment, which often suffices; then, with workers to spare, both methods in a race."""
        search = self._search
        if search.over:
            return
        program = self._ideal_program()
        worst = worst_period(self._acyclic)

        def claim(period: float) -> None:
            search.claim_bound(period, "ideals")
            if search.placement is None and period >= worst:
                search.infeasible_by = "ideals"

        claims: tuple[Callable[[], float], Callable[[float], object]] = (lambda: search.best_bound, claim)
        proves = self._ordered is self._acyclic
        if not proves:
            bounds = [search.best_bound]
            claims = (lambda: max(bounds), bounds.append)
        modelled = is_modelled(self._acyclic)
        if program is not None:
            self._methods.append("ideals")
            self._run_ideals(program, FIRST_STEPS if modelled or not proves else math.inf, *claims)
        if not modelled:
            WideSearch(search, self._reduced, self._acyclic, self._workers, self._methods).run()
        if search.over or not modelled:
            return
        rival = None
        if program is not None and proves and self._workers > 1:
            rival = search.beside(lambda: self._run_ideals(program, math.inf, *claims), "ideals")
        self._methods.append(LadderModel.name)
        workers = self._workers - (rival is not None)
        run_formulation(search, LadderModel, self._acyclic, search.remaining_s, workers=workers, proves=True)
        if rival is not None:
            rival.join(search.remaining_s)

    def _ideal_program(self) -> IdealProgram | None:
        """The exact program over ideals, if it suits the instance and an order with a small window exists.

        It proves something only where no item had to be given a place.
        """
        if not supports(self._ordered):
            return None
        orders = topological_orders(self._ordered, self._search.options.seed)
        few = itertools.islice(orders, 4 if self._ordered.num_items <= 10_000 else 1)
        order = min(few, key=lambda order: span_of(self._ordered, order))
        max_ideals = max_ideals_within(room_bytes(self._search.options.memory_limit_bytes))
        program = IdealProgram(self._ordered, order, max_ideals)
        return program if program.fits else None

    def _run_ideals(
        self,
        program: IdealProgram,
        max_steps: float,
        bound: Callable[[], float],
        claim: Callable[[float], object],
    ) -> None:
        search = self._search

        def interval() -> tuple[float, float]:
            value = search.objective_value
            # Without a placement the first trial is far beyond what any can be worth, and shows whether there is one.
            return bound(), 2 * worst_period(self._acyclic) if value is None else value

        close: Callable[..., None] = partial(close_gap, program)
        if self._acyclic.is_gpipe:
            if self._pass_periods is None:
                self._pass_periods = PassPeriods(program, bound_each_pass(self._acyclic))
            close = self._pass_periods.close_gap
        close(
            interval=interval,
            found=lambda assignment: search.offer(self._acyclic.placement(assignment), "ideals"),
            proved=claim,
            expired=lambda: search.over,
            max_steps=max_steps,
        )
