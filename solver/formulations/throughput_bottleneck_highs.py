"""Throughput, every partition: the one device that has to hold its share of the compute, for HiGHS through MathOpt.

If all devices other than hosts are alike, one of them holds at least the average of the compute that the hosts do not
take. Whatever else is true of an answer, that device pays the load of its set. The least load of any set with that much
compute is therefore a lower bound of the period. One set has no symmetry, and the model stays small.

The same is true of any other weights than compute, and each gives a bound of its own. After each round the items of the
set found lose weight, so that no device can live on the items that are cheap to hold together.

Sets
    v ∈ items, t ∈ tensors (u makes t, q needs it), p ∈ passes (one for ``1f1b``, two for ``gpipe``).
Parameters
    c[v,p] compute, τ[t] transfer on the devices concerned · m[v] memory, M memory limit ·
    w[v] ≥ 0 weights, compute in the first round ·
    A: the share, (Σ_v w[v] − what the hosts can take within the best period known) ÷ number of devices.
Variables
    x[v] ∈ {0,1}           v is in the set
    out[t], in[t] ∈ [0,1]  t leaves, or enters, the set
    T[p] ≥ 0               load of the set
Minimise Σ_p T[p], subject to
    transfer_out   out[t] ≥ x[u] − x[q]
    transfer_in    in[t] ≥ x[q] − x[u]
    load           C, I, O of the set add up, by the overlap rule, to at most T[p]
    memory         Σ_v m[v] x[v] ≤ M
    share          Σ_v w[v] x[v] ≥ A

What HiGHS says of a period is said of one that is shorter by :func:`solver.formulations.highs.safety`.

Source: own; singling out the bottleneck block is the idea of Archer, Fahrbach, Liu, Prabhu (ICML 2024).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from ortools.math_opt.python import mathopt

from solver.compiled import CompiledInstance, Floats
from solver.formulations.highs import run_highs, safety
from solver.formulations.overlap import sums_within_period
from solver.shares import compute_weights, share_of_a_device

NAME = "bottleneck"
ROOM = 1e-6
"""Part of the share that may be missing, for the rounding of its weights."""
SMALLEST = 1e-8
"""Coefficients below this are left out where that lowers a load."""
NUM_ROUNDS = 12
STEP = 0.05
"""Part of its weight that an item of the set found loses for the next round."""


def supports(compiled: CompiledInstance) -> bool:
    """Whether all devices other than hosts are alike."""
    return sum(not c.is_host for c in compiled.classes) == 1


def bound_by_bottleneck(
    compiled: CompiledInstance,
    value_ms: float,
    time_limit_s: float,
    over: Callable[[], bool],
    found: Callable[[float], object],
) -> None:
    """Report ever better lower bounds of the period, in ms, for up to ``NUM_ROUNDS`` weights.

    Args:
        compiled: reduced for its own partition, with :func:`supports`.
        value_ms: the best period known; the bound holds for all that is not worse.
        time_limit_s: for all rounds together.
        over: asked often; when true the search is left behind.
        found: told of each bound that is better than those before.
    """
    deadline = time.monotonic() + time_limit_s
    weights = compute_weights(compiled, value_ms)
    best = 0.0
    for _ in range(NUM_ROUNDS):
        left_s = deadline - time.monotonic()
        share = share_of_a_device(compiled, weights, value_ms)
        if left_s <= 0 or over() or share <= 0:
            return
        bound, chosen = _solve(compiled, value_ms, weights, share, left_s, over)
        if bound is not None and bound > best:
            best = bound
            found(bound)
        if chosen is None or best >= value_ms:
            return
        weights = np.where(chosen, weights * (1 - STEP), weights)


def _solve(
    compiled: CompiledInstance,
    value_ms: float,
    weights: Floats,
    share: float,
    time_limit_s: float,
    over: Callable[[], bool],
) -> tuple[float | None, npt.NDArray[np.bool_] | None]:
    """A bound in ms from one device's having to hold ``share`` of ``weights``, and the best set, where known."""
    model, x = _build(compiled, value_ms, weights, share)
    result = run_highs(model, NAME, time_limit_s, over)
    if result is None:
        return None, None
    if result.termination.reason is mathopt.TerminationReason.INFEASIBLE:
        return None, None  # That nothing can be placed at all is too much to believe within tolerances.
    bound = result.termination.objective_bounds.dual_bound
    # In the model the period known is 1.
    bound_ms = float(min(max(0.0, bound - safety(model)), 1.0) * value_ms) if np.isfinite(bound) else None
    if not result.has_primal_feasible_solution():
        return bound_ms, None
    values = result.variable_values()
    return bound_ms, np.array([values[variable] > 0.5 for variable in x])


def _build(
    compiled: CompiledInstance, value_ms: float, weights: Floats, share: float
) -> tuple[mathopt.Model, list[mathopt.Variable]]:
    main = next(k for k, c in enumerate(compiled.classes) if not c.is_host)
    model = mathopt.Model()
    x = [
        model.add_binary_variable() if compiled.allowed[item, main] else model.add_variable(lb=0, ub=0)
        for item in range(compiled.num_items)
    ]
    parts = [(0,), (1,)] if compiled.is_gpipe else [(0, 1)]
    compute_terms: list[list[object]] = [[] for _ in parts]
    out_terms: list[list[object]] = [[] for _ in parts]
    in_terms: list[list[object]] = [[] for _ in parts]
    for part, passes in enumerate(parts):
        for item, variable in enumerate(x):
            cost = float(compiled.compute_ms[item, main, list(passes)].sum()) / value_ms
            if compiled.allowed[item, main] and cost > SMALLEST:
                compute_terms[part].append(min(cost, 2.0) * variable)
    for tensor in compiled.tensors:
        transfer = min(tensor.time_ms[main] / value_ms, 2.0)
        if transfer <= SMALLEST:
            continue
        part = tensor.pass_index if compiled.is_gpipe else 0
        leaves, enters = model.add_variable(lb=0, ub=1), model.add_variable(lb=0, ub=1)
        out_terms[part].append(transfer * leaves)
        in_terms[part].append(transfer * enters)
        for item in tensor.consumers:
            model.add_linear_constraint(leaves >= x[tensor.producer] - x[item])
            model.add_linear_constraint(enters >= x[item] - x[tensor.producer])
    loads = []
    for part in range(len(parts)):
        load = model.add_variable(lb=0)
        loads.append(load)
        rows = sums_within_period(compiled.overlap, compute_terms[part], out_terms[part], in_terms[part])
        for row in rows:
            if row:
                model.add_linear_constraint(mathopt.fast_sum(row) <= load)
    limit = compiled.classes[main].memory_bytes
    if limit and sum(compiled.memory_bytes) > limit:
        # Shares of the limit, lowered a little so that rounding forbids nothing.
        terms = [need / limit * (1 - 1e-12) * variable for need, variable in zip(compiled.memory_bytes, x, strict=True)]
        model.add_linear_constraint(mathopt.fast_sum(terms) <= 1)
    # Scaled so that the share is 1; more than all of it, or less than HiGHS can see, an item need not count for.
    held = [
        min(1.0, max(SMALLEST, float(weight) / share)) * variable
        for weight, variable in zip(weights, x, strict=True)
        if weight > 0
    ]
    model.add_linear_constraint(mathopt.fast_sum(held) >= 1 - ROOM)
    model.minimize(mathopt.fast_sum(loads))
    return model, x
