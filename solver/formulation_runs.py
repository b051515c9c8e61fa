"""Running a CP-SAT formulation on a search: its limit and hint from what is known, its findings to the search."""

from __future__ import annotations

import math

import numpy as np

from solver.bounds import bound_period
from solver.compiled import CompiledInstance
from solver.formulations import cpsat
from solver.search import Search

MAX_MODEL_BOOLEANS = 300_000
"""Models beyond this size would not be built, let alone solved, within any time limit people set."""


def is_modelled(compiled: CompiledInstance) -> bool:
    """Whether a model of items on devices is small enough to be built."""
    return compiled.num_items * compiled.num_devices <= MAX_MODEL_BOOLEANS


def run_formulation(
    search: Search,
    kind: type[cpsat.Model],
    compiled: CompiledInstance,
    time_limit_s: float,
    *,
    workers: int,
    proves: bool,
    loss_ms: float = 0.0,
    effort: float = math.inf,
) -> None:
    """One formulation, again with finer units while that can still close the gap.

    Args:
        search: takes placements and bounds.
        kind: the formulation.
        compiled: reduced for what the formulation covers, with :func:`is_modelled`.
        time_limit_s: for all runs together.
        workers: threads of CP-SAT.
        proves: whether the model covers every feasible placement, so that its bounds are bounds.
        loss_ms: how far the optimum of ``compiled`` may lie above that of the instance.
        effort: a limit of each run in CP-SAT's own units.
    """
    deadline = search.elapsed_s + time_limit_s

    def take(assignment: cpsat.Assignment) -> None:
        search.offer(compiled.placement(assignment), kind.name)

    def note(bound_ms: float) -> None:
        if proves:
            search.claim_bound(bound_ms - loss_ms, kind.name)

    last_limit = math.inf
    while not search.over and deadline > search.elapsed_s:
        limit = search.objective_value if search.objective_value is not None else worst_period(compiled)
        if limit >= last_limit:
            return
        last_limit = limit
        bound = search.best_bound if proves else bound_period(compiled)
        try:
            model = kind(
                compiled, limit + loss_ms, min(bound, limit), lambda: search.over or search.elapsed_s > deadline
            )
        except cpsat.BuildStopped:
            return
        if search.placement is not None:
            model.hint(compiled.gather(search.placement))
        options = cpsat.RunOptions(
            time_limit_s=deadline - search.elapsed_s,
            workers=workers,
            seed=search.options.seed,
            relative_gap=search.options.relative_gap if proves else 0.0,
            presolve=search.placement is not None and kind.presolve,
            effort=effort,
        )
        outcome = cpsat.run(model, options, take, note, lambda: search.over)
        if outcome is cpsat.Outcome.INFEASIBLE and search.placement is None and proves:
            search.infeasible_by = kind.name
        if outcome is not cpsat.Outcome.OPTIMAL:
            return


def worst_period(compiled: CompiledInstance) -> float:
    """More than any placement can be worth, in ms: all compute where it is slowest, every transfer where it is slowest.

    Over host memory a device sends a tensor once and gets it once; over links it may send it to every consumer.
    """
    totals = compiled.compute_ms.sum(axis=2)
    slowest = float(np.where(np.isfinite(totals), totals, 0.0).max(axis=1, initial=0.0).sum())
    transfers = 0.0
    for tensor in compiled.tensors:
        if compiled.links is None:
            transfers += 2 * max(tensor.time_ms)
        else:
            times = compiled.links.times(tensor.sizes)
            transfers += (1 + len(tensor.consumers)) * float(np.where(np.isfinite(times), times, 0.0).max())
    return (slowest + transfers) * (1 + 1e-9) + 1.0
