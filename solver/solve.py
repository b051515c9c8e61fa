"""The only conductor: validate, reduce, heuristics, formulations with hints, verify, and the answer."""

from __future__ import annotations

import itertools
import math
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version

from solver.absorption import absorb
from solver.backward_order import order_backward
from solver.bounds import bound_each_pass, bound_period
from solver.clusters import ClusterSearch, needs_cluster_search
from solver.collector import collector_paused
from solver.compiled import compile_instance
from solver.conflicts import find_conflict
from solver.errors import InvalidInstance, Issue, UnsupportedInstance
from solver.exact.pass_periods import PassPeriods
from solver.exact.throughput_ideals import IdealProgram, close_gap, span_of, supports
from solver.formulation_runs import is_modelled, run_formulation, worst_period
from solver.formulations.throughput_ladder_cpsat import LadderModel
from solver.heuristics.orders import topological_orders
from solver.heuristics.segments import place_segments
from solver.infeasibility import find_reasons
from solver.instance import (
    Instance,
    ObjectiveKind,
    Partition,
    SolverOptions,
)
from solver.memory_watch import resident_bytes, watch_memory
from solver.reductions import reduce_instance
from solver.relaxations import Attempt
from solver.result import (
    OPTIMALITY_TOLERANCE,
    InfeasibilityReason,
    Placement,
    Progress,
    Result,
    SolverReport,
    Status,
    StopReason,
)
from solver.search import Search
from solver.sets import SetSearch
from solver.validation import validate, validate_options
from solver.wide import WideSearch

FIRST_STEPS = 40_000_000
"""Steps (about a second) that the ideal program gets before others are called in; counted, so that it is repeatable."""
MAX_IDEALS = 8_000_000
BYTES_PER_IDEAL = 80
"""At worst, while the table grows; some 600 MB in all."""
CONFLICT_S, ATTEMPT_S = 10.0, 2.0
"""At most so long is sought why there is no placement, and in one relaxed instance."""
LADDER_SHARE = 0.15
"""Part of the remaining time in which a convex or free search may look for a good acyclic start."""


def check_supported(instance: Instance) -> None:
    """Raise :class:`UnsupportedInstance` for what is valid but cannot be solved yet; nothing is ever ignored."""
    issues = []
    if instance.objective.kind is ObjectiveKind.LATENCY:
        message = "the objective 'latency' is not supported in this version"
        issues.append(Issue("unsupported_objective", message, ("objective", "kind"), "use 'throughput' or 'cost'"))
    if instance.constraints.max_latency_ms is not None:
        message = "the constraint max_latency_ms is not supported in this version"
        issues.append(Issue("unsupported_constraint", message, ("constraints", "max_latency_ms"), "remove it"))
    if issues:
        raise UnsupportedInstance(tuple(issues))


def solve(
    instance: Instance,
    options: SolverOptions | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    hint: Placement | None = None,
    bound: float | None = None,
    seeks_conflict: bool = True,
) -> Result:
    """The best placement that can be found within the limits, and how much of its quality is proved.

    Args:
        instance: the question.
        options: limits and seed.
        on_progress: told of every better placement and bound; called from solver threads, one call at a time.
        stop: when set, the search ends soon with the best answer so far.
        hint: a placement to start from; one that is incomplete or breaks a rule is passed over.
        bound: what an earlier search of this instance, by this version, has proved.
        seeks_conflict: whether to try, if there is no placement, which constraints stand in the way.

    Raises:
        InvalidInstance: with every fault of the instance or the options.
        UnsupportedInstance: valid, but outside what this version solves.
    """
    options = options or SolverOptions()
    search = Search(instance, options, on_progress, stop or threading.Event())
    clock = _Clock()
    issues = (*validate(instance), *validate_options(options))
    if issues:
        raise InvalidInstance(issues)
    check_supported(instance)
    clock.lap("validate")
    with watch_memory(options.memory_limit_bytes, search.exceed_memory):
        if bound is not None:
            search.claim_bound(bound, "earlier search")
        if hint is not None:
            search.offer(hint, "hint")
        run, reasons = _run_methods(search, clock)
        if seeks_conflict and search.conclude()[0] is Status.INFEASIBLE:
            reasons += find_conflict(instance, _attempts(search))
    return _answer(run, clock, reasons)


def _run_methods(search: Search, clock: _Clock) -> tuple[_Run, tuple[InfeasibilityReason, ...]]:
    """All that leads to an answer, and the reasons of infeasibility met on the way."""
    run = _Run(search.instance, search)
    reasons = find_reasons(run.compiled, run.reduced)
    clock.lap("reduce")
    if reasons:
        search.infeasible_by = "reasons"
        return run, reasons
    methods: _Run | ClusterSearch = run
    if needs_cluster_search(search.instance):
        methods = ClusterSearch(search, run.compiled, run.reduced, run.workers, run.methods)
    try:
        methods.find()
        clock.lap("heuristics")
        methods.prove()
        clock.lap("solve")
    finally:
        search.seal()
    run.number_devices()
    return run, methods.reasons


def _attempts(search: Search) -> Attempt:
    """Short searches of relaxed instances, in what is left of the time of ``search``."""
    deadline = search.elapsed_s + min(search.remaining_s, CONFLICT_S)

    def attempt(instance: Instance, gap: float) -> Result:
        limit_s = min(deadline - search.elapsed_s, ATTEMPT_S)
        if limit_s <= 0 or search.stop.is_set() or search.out_of_memory:
            return Result(Status.UNKNOWN, StopReason.TIME_LIMIT)
        options = replace(search.options, time_limit_s=limit_s, relative_gap=gap)
        trial, clock = Search(instance, options, None, search.stop), _Clock()
        with watch_memory(options.memory_limit_bytes, trial.exceed_memory):
            run, reasons = _run_methods(trial, clock)
        return _answer(run, clock, reasons)

    return attempt


def report_versions() -> dict[str, str]:
    """Versions of what an answer depends on."""
    return {
        "placewright": version("placewright"),
        "ortools": version("ortools"),
        "python": platform.python_version(),
    }


class _Clock:
    """Times of the phases, in seconds."""

    def __init__(self) -> None:
        self.timings_s: dict[str, float] = dict.fromkeys(("validate", "reduce", "heuristics", "solve", "verify"), 0.0)
        self._last = time.monotonic()

    def lap(self, phase: str) -> None:
        now = time.monotonic()
        self.timings_s[phase] = now - self._last
        self._last = now


class _Run:
    """The methods at work on one search."""

    @collector_paused()
    def __init__(self, instance: Instance, search: Search) -> None:
        self.search = search
        self.partition = instance.objective.partition
        self.compiled = compile_instance(instance)
        self.reduced = reduce_instance(self.compiled, self.partition)
        # Every acyclic placement is convex and free too, and the acyclic ones are the easiest to find.
        self.acyclic = (
            self.reduced if self.partition is Partition.ACYCLIC else reduce_instance(self.compiled, Partition.ACYCLIC)
        )
        # The same, but for a place in the pipeline for every item.
        self.ordered = order_backward(self.acyclic)
        self.methods: list[str] = ["bounds"]
        self.reasons: tuple[InfeasibilityReason, ...] = ()
        self.workers = search.options.workers or _num_cores()
        self._pass_periods: PassPeriods | None = None

    def find(self) -> None:
        """Bounds without search, and first placements."""
        self._absorb()
        self.search.claim_bound(bound_period(self.reduced), "bounds")
        self.find_segments()

    @collector_paused()
    def _absorb(self) -> None:
        self.reduced = absorb(self.reduced, self.partition)
        is_acyclic = self.partition is Partition.ACYCLIC
        self.acyclic = self.reduced if is_acyclic else absorb(self.acyclic, Partition.ACYCLIC)
        self.ordered = order_backward(self.acyclic)

    @collector_paused()
    def find_segments(self) -> None:
        """Cut topological orders into stages."""
        search = self.search
        if search.closed or search.stop.is_set() or not self.acyclic.allowed.any(axis=1).all():
            return
        self.methods.append("segments")
        for compiled in (self.ordered, self.acyclic):
            if compiled is self.acyclic and search.placement is not None:
                break  # else the places given leave no room
            for assignment in place_segments(
                compiled, bound_ms=search.best_bound, seed=search.options.seed, expired=lambda: search.over
            ):
                search.offer(self.acyclic.placement(assignment), "segments")

    def number_devices(self) -> None:
        """Give alike devices their numbers in pipeline order, as a reader expects them."""
        if self.search.verification is None:
            return
        used = [stage.device for stage in self.search.verification.stages]
        new_name: dict[str, str] = {}
        for device_class in self.compiled.classes:
            members = set(device_class.devices)
            new_name.update(zip((name for name in used if name in members), device_class.devices, strict=False))
        self.search.rename(new_name)

    def prove(self) -> None:
        """Run the formulations until the search is over or nothing is left to run."""
        search = self.search
        if self.partition is Partition.ACYCLIC:
            self._prove_acyclic()
            return
        self._find_acyclic()
        SetSearch(search, self.reduced, self.workers, self.methods).run()

    def _find_acyclic(self) -> None:
        """The best acyclic placement, or a good one, as a start for the other partitions."""
        search = self.search
        if search.over or not self.acyclic.allowed.any(axis=1).all():
            return
        program = self.ideal_program()
        if program is not None:
            self.methods.append("ideals")
            bounds = [bound_period(self.acyclic)]
            self._run_ideals(program, FIRST_STEPS, lambda: max(bounds), bounds.append)
            value = search.objective_value
            if value is not None and self.ordered is self.acyclic and max(bounds) >= value * (1 - OPTIMALITY_TOLERANCE):
                return
        if not is_modelled(self.acyclic):
            WideSearch(search, self.reduced, self.acyclic, self.workers, self.methods, LADDER_SHARE).run()
        elif not search.over:
            self.methods.append(LadderModel.name)
            limit_s = search.remaining_s * LADDER_SHARE
            run_formulation(search, LadderModel, self.acyclic, limit_s, workers=self.workers, proves=False)

    def _prove_acyclic(self) -> None:
        """The ideal program for a moment, which often suffices; then, with workers to spare, both methods in a race."""
        search = self.search
        if search.over:
            return
        program = self.ideal_program()
        worst = worst_period(self.acyclic)

        def claim(period: float) -> None:
            search.claim_bound(period, "ideals")
            if search.placement is None and period >= worst:
                search.infeasible_by = "ideals"

        claims: tuple[Callable[[], float], Callable[[float], object]] = (lambda: search.best_bound, claim)
        proves = self.ordered is self.acyclic
        if not proves:
            bounds = [search.best_bound]
            claims = (lambda: max(bounds), bounds.append)
        modelled = is_modelled(self.acyclic)
        if program is not None:
            self.methods.append("ideals")
            self._run_ideals(program, FIRST_STEPS if modelled or not proves else math.inf, *claims)
        if not modelled:
            WideSearch(search, self.reduced, self.acyclic, self.workers, self.methods).run()
        if search.over or not modelled:
            return
        rival = None
        if program is not None and proves and self.workers > 1:
            rival = search.beside(lambda: self._run_ideals(program, math.inf, *claims), "ideals")
        self.methods.append(LadderModel.name)
        workers = self.workers - (rival is not None)
        run_formulation(search, LadderModel, self.acyclic, search.remaining_s, workers=workers, proves=True)
        if rival is not None:
            rival.join(search.remaining_s)

    def ideal_program(self) -> IdealProgram | None:
        """The exact program over ideals, if it suits the instance and an order with a small window exists.

        It proves something only where no item had to be given a place.
        """
        if not supports(self.ordered):
            return None
        orders = topological_orders(self.ordered, self.search.options.seed)
        few = itertools.islice(orders, 4 if self.ordered.num_items <= 10_000 else 1)
        program = IdealProgram(
            self.ordered, min(few, key=lambda order: span_of(self.ordered, order)), self._max_ideals()
        )
        return program if program.fits else None

    def _max_ideals(self) -> int:
        limit = self.search.options.memory_limit_bytes
        return MAX_IDEALS if limit is None else min(MAX_IDEALS, max(0, limit - resident_bytes()) // BYTES_PER_IDEAL)

    def _run_ideals(
        self,
        program: IdealProgram,
        max_steps: float,
        bound: Callable[[], float],
        claim: Callable[[float], object],
    ) -> None:
        search = self.search

        def interval() -> tuple[float, float]:
            value = search.objective_value
            # Without a placement the first trial is far beyond what any can be worth, and shows whether there is one.
            return bound(), 2 * worst_period(self.acyclic) if value is None else value

        close: Callable[..., None] = partial(close_gap, program)
        if self.acyclic.is_gpipe:
            if self._pass_periods is None:
                self._pass_periods = PassPeriods(program, bound_each_pass(self.acyclic))
            close = self._pass_periods.close_gap
        close(
            interval=interval,
            found=lambda assignment: search.offer(self.acyclic.placement(assignment), "ideals"),
            proved=claim,
            expired=lambda: search.over,
            max_steps=max_steps,
        )


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _answer(run: _Run, clock: _Clock, reasons: tuple[InfeasibilityReason, ...]) -> Result:
    search = run.search
    status, stop_reason = search.conclude()
    if search.infeasible_by is not None and not reasons:
        reasons = (
            InfeasibilityReason(
                "no_assignment",
                "every operator has a device, but no assignment of all of them keeps memory, colocation, the "
                f"{run.partition.value} partition, routes and limits together (proved by exhaustive search)",
            ),
        )
    clock.timings_s["verify"] = search.verify_s
    clock.timings_s["total"] = search.elapsed_s
    found = search.placement is not None
    infeasible = search.infeasible_by is not None
    return Result(
        status=status,
        stop_reason=stop_reason,
        objective_value=search.objective_value,
        best_bound=None if infeasible else search.best_bound,
        placement=search.placement,
        stages=search.verification.stages if search.verification is not None else (),
        incumbents=tuple(search.incumbents),
        infeasibility=reasons if infeasible else (),
        timings_s={phase: round(seconds, 6) for phase, seconds in clock.timings_s.items()},
        solver=SolverReport(
            methods=tuple(run.methods),
            versions=report_versions(),
            seed=search.options.seed,
            workers=run.workers,
            found_by=search.found_by if found else None,
            proved_by=search.infeasible_by if infeasible else search.proved_by,
            distrusted=tuple(sorted(search.distrusted)),
        ),
    )
