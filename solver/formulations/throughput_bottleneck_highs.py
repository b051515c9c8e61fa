"""Throughput, every partition: the one device that has to hold its share of the compute, for HiGHS through MathOpt.

If all devices other than hosts are alike, one of them holds at least the average of the compute that the hosts do not
take. Whatever else is true of an answer, that device pays the load of its set. The least load of any set with that much
compute is therefore a lower bound of the period. One set has no symmetry, and the model stays small.

Sets
    v ∈ items, t ∈ tensors (u makes t, w needs it), p ∈ passes (one for ``1f1b``, two for ``gpipe``).
Parameters
    c[v,p] compute, τ[t] transfer on the devices concerned · m[v] memory, M memory limit ·
    A: the share, (Σ_v c[v] − what the hosts can take within the best period known) ÷ number of devices.
Variables
    x[v] ∈ {0,1}           v is in the set
    out[t], in[t] ∈ [0,1]  t leaves, or enters, the set
    T[p] ≥ 0               load of the set
Minimise Σ_p T[p], subject to
    transfer_out   out[t] ≥ x[u] − x[w]
    transfer_in    in[t] ≥ x[w] − x[u]
    load           C, I, O of the set add up, by the overlap rule, to at most T[p]
    memory         Σ_v m[v] x[v] ≤ M
    share          Σ_v c[v] x[v] ≥ A

HiGHS computes in floating point; its bound is lowered by ``SAFETY`` to stay clear of its tolerances.

Source: own; singling out the bottleneck block is the idea of Archer, Fahrbach, Liu, Prabhu (ICML 2024).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import numpy as np
from ortools.math_opt.python import mathopt

from solver.compiled import CompiledInstance, Floats
from solver.formulations.beside import Call
from solver.instance import Overlap

NAME = "bottleneck"
SAFETY = 1e-5
GRACE_S = 5.0


def supports(compiled: CompiledInstance) -> bool:
    """Whether all devices other than hosts are alike."""
    return sum(not c.is_host for c in compiled.classes) == 1


def bound_by_bottleneck(
    compiled: CompiledInstance, value_ms: float, time_limit_s: float, over: Callable[[], bool]
) -> float | None:
    """A lower bound of the period, in ms; ``None`` if none was found in time.

    Args:
        compiled: reduced for its own partition, with :func:`supports`.
        value_ms: the best period known; the bound holds for all that is not worse.
        time_limit_s: for the search.
        over: asked often; when true the search is left behind.
    """
    model = _build(compiled, value_ms)
    parameters = mathopt.SolveParameters(
        time_limit=dt.timedelta(seconds=time_limit_s), relative_gap_tolerance=SAFETY / 10
    )
    call = Call(lambda: mathopt.solve(model, mathopt.SolverType.HIGHS, params=parameters), NAME)
    call.wait(over, time_limit_s + GRACE_S)
    result = call.result()
    if result is None:
        return None
    if result.termination.reason is mathopt.TerminationReason.INFEASIBLE:
        return value_ms  # No device can hold its share: nothing is better than what is known.
    bound = result.termination.objective_bounds.dual_bound
    if not np.isfinite(bound):
        return None
    # In the model the period known is 1.
    return float(min(max(0.0, bound - SAFETY), 1.0) * value_ms)


def share_of_compute(compiled: CompiledInstance, value_ms: float) -> tuple[Floats, float]:
    """Each item's compute on the devices that are no hosts (0 where it cannot be), and the least that one must hold."""
    main = next(k for k, c in enumerate(compiled.classes) if not c.is_host)
    compute: Floats = np.where(compiled.allowed[:, main], compiled.compute_ms[:, main].sum(axis=1), 0.0)
    absorbed = 0.0
    for index, device_class in enumerate(compiled.classes):
        if device_class.is_host:
            absorbed += _absorb(compute, compiled, index, value_ms * device_class.count)
    return compute, max(0.0, float(compute.sum()) - absorbed) / compiled.classes[main].count


def _absorb(compute: Floats, compiled: CompiledInstance, index: int, room_ms: float) -> float:
    """At most so much compute of the other devices fits on hosts of one class in ``room_ms`` (fractional knapsack)."""
    on_host = np.where(compiled.allowed[:, index], compiled.compute_ms[:, index].sum(axis=1), np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        order = np.argsort(-np.where(compute > 0, compute / on_host, 0.0), kind="stable")
    absorbed = 0.0
    for item in order:
        if compute[item] <= 0 or not np.isfinite(on_host[item]):
            continue
        if on_host[item] > room_ms:
            return absorbed + float(compute[item]) * room_ms / float(on_host[item])
        room_ms -= float(on_host[item])
        absorbed += float(compute[item])
    return absorbed


def _build(compiled: CompiledInstance, value_ms: float) -> mathopt.Model:  # noqa: PLR0912  the model in one piece
    main = next(k for k, c in enumerate(compiled.classes) if not c.is_host)
    compute, share = share_of_compute(compiled, value_ms)
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
            if compiled.allowed[item, main] and cost > 0:
                compute_terms[part].append(min(cost, 2.0) * variable)
    for tensor in compiled.tensors:
        time = min(tensor.time_ms[main] / value_ms, 2.0)
        if time <= 0:
            continue
        part = tensor.pass_index if compiled.is_gpipe else 0
        leaves, enters = model.add_variable(lb=0, ub=1), model.add_variable(lb=0, ub=1)
        out_terms[part].append(time * leaves)
        in_terms[part].append(time * enters)
        for item in tensor.consumers:
            model.add_linear_constraint(leaves >= x[tensor.producer] - x[item])
            model.add_linear_constraint(enters >= x[item] - x[tensor.producer])
    loads = []
    for part in range(len(parts)):
        load = model.add_variable(lb=0)
        loads.append(load)
        if compiled.overlap is Overlap.NONE:
            rows = [compute_terms[part] + out_terms[part] + in_terms[part]]
        elif compiled.overlap is Overlap.FULL:
            rows = [compute_terms[part], out_terms[part] + in_terms[part]]
        else:
            rows = [compute_terms[part], out_terms[part], in_terms[part]]
        for row in rows:
            if row:
                model.add_linear_constraint(mathopt.fast_sum(row) <= load)
    limit = compiled.classes[main].memory_bytes
    if limit and sum(compiled.memory_bytes) > limit:
        # Shares of the limit, lowered a little so that rounding forbids nothing.
        terms = [need / limit * (1 - 1e-12) * variable for need, variable in zip(compiled.memory_bytes, x, strict=True)]
        model.add_linear_constraint(mathopt.fast_sum(terms) <= 1)
    held = [float(cost) / value_ms * variable for cost, variable in zip(compute, x, strict=True) if cost > 0]
    model.add_linear_constraint(mathopt.fast_sum(held) >= share / value_ms * (1 - SAFETY / 10))
    model.minimize(mathopt.fast_sum(loads))
    return model
