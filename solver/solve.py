"""One search from the question to the answer: validate, reduce, have the methods find and prove, and report."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version

from solver.clusters import ClusterSearch, needs_cluster_search
from solver.collector import collector_paused
from solver.compiled import compile_instance
from solver.conflicts import find_conflict
from solver.errors import InvalidInstance, Issue, UnsupportedInstance
from solver.host_search import HostSearch
from solver.infeasibility import find_reasons
from solver.instance import (
    Instance,
    ObjectiveKind,
    SolverOptions,
)
from solver.memory_watch import watch_memory
from solver.reductions import reduce_instance
from solver.relaxations import Attempt
from solver.result import (
    InfeasibilityReason,
    Placement,
    Progress,
    Result,
    SolverReport,
    Status,
    StopReason,
)
from solver.search import Search
from solver.validation import validate, validate_options

CONFLICT_S, ATTEMPT_S = 10.0, 2.0
"""At most so long is sought why there is no placement, and in one relaxed instance."""


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
    run = _Run(search)
    reasons = find_reasons(run.compiled, run.reduced)
    clock.lap("reduce")
    if reasons:
        search.infeasible_by = "reasons"
        return run, reasons
    kind = ClusterSearch if needs_cluster_search(search.instance) else HostSearch
    methods = kind(search, run.compiled, run.reduced, run.workers, run.methods)
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
    """One search, what it is about, and the methods that take part."""

    @collector_paused()
    def __init__(self, search: Search) -> None:
        self.search = search
        self.partition = search.instance.objective.partition
        self.compiled = compile_instance(search.instance)
        self.reduced = reduce_instance(self.compiled, self.partition)
        self.methods: list[str] = ["bounds"]
        self.workers = search.options.workers or _num_cores()

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
