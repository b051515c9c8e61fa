"""Throughput, free partition: one way to divide the leading items among devices, for HiGHS through MathOpt.

Sets
    v ∈ items, d ∈ devices (class k(d); hosts among them), t ∈ tensors (u makes t, q needs it),
    p ∈ passes (one for ``1f1b``, two for ``gpipe``), g(d): the group of leading items on d.
Parameters
    c[v,k,p] compute, τ[t,k] transfer, as parts of the period allowed · m[v] memory, M[k] memory limit.
Variables
    x[v,d] ∈ {0,1}             v sits on d; a leading item is where its group is
    out[t,d], in[t,d] ∈ [0,1]  t leaves, or enters, d
    T[p] ≥ 0                   the period, or each pass's share of it; Σ_p T[p] ≤ 1
Minimise Σ_p T[p], subject to
    assign_once    Σ_d x[v,d] = 1
    transfer_out   out[t,d] ≥ x[u,d] − x[q,d]
    transfer_in    in[t,d] ≥ x[q,d] − x[u,d]
    load           C, I, O of d add up, by the overlap rule, to at most T[p]
    memory         Σ_v m[v] x[v,d] ≤ M[k(d)]

What HiGHS says of a period is said of one that is shorter by :func:`solver.formulations.highs.safety`.

Source: the variables are those of Tarnawski et al. (2020, §4); with the leading items fixed the relaxation is that of a
multiway cut.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ortools.math_opt.python import mathopt

from solver.compiled import CompiledInstance
from solver.formulations.highs import run_highs, safety
from solver.formulations.overlap import sums_within_period

NAME = "cases"
SMALLEST = 1e-8
"""Coefficients below this are left out, which lowers loads."""
ROOM = 1 + 1e-9

Device = tuple[int, int]


class Outcome(NamedTuple):
    """What is known of a case: a lower bound of its period in ms, and per item (class, device) where one was found."""

    bound_ms: float
    assignment: list[Device] | None
    is_settled: bool
    """Whether more time would change nothing."""


def solve_case(
    compiled: CompiledInstance,
    limit_ms: float,
    groups: Sequence[Sequence[int]],
    time_limit_s: float,
    over: Callable[[], bool],
) -> Outcome | None:
    """Look for a period of at most ``limit_ms`` with each of ``groups`` on a device of its own.

    Args:
        compiled: reduced for the free partition, without links; all devices other than hosts alike.
        limit_ms: the longest period of interest, positive.
        groups: of items, at most one for each device that is no host.
        time_limit_s: for the search.
        over: asked often; when true the search is left behind.

    Returns:
        What is known then; ``None`` where HiGHS could not go on.
    """
    model, x = _build(compiled, limit_ms, groups)
    if x is None:
        return Outcome(limit_ms, None, is_settled=True)
    result = run_highs(model, NAME, time_limit_s, over)
    if result is None:
        return None
    reason = result.termination.reason
    if reason is mathopt.TerminationReason.INFEASIBLE:
        return Outcome(limit_ms * (1 - safety(model)), None, is_settled=True)
    bound = min(max(0.0, result.termination.objective_bounds.dual_bound - safety(model)), 1.0)
    assignment = None
    if result.has_primal_feasible_solution():
        values = result.variable_values()
        assignment = [
            max(row, key=lambda device: values[row[device]] if isinstance(row[device], mathopt.Variable) else 2.0)
            for row in x
        ]
    return Outcome(bound * limit_ms, assignment, is_settled=reason is mathopt.TerminationReason.OPTIMAL)


def _build(
    compiled: CompiledInstance, limit_ms: float, groups: Sequence[Sequence[int]]
) -> tuple[mathopt.Model, list[Mapping[Device, Any]] | None]:
    """The model, and per item its variable, or 1, for each device it may be on; ``None`` if an item has no device."""
    model = mathopt.Model()
    devices = [(k, n) for k, c in enumerate(compiled.classes) for n in range(c.count)]
    main = next(k for k, c in enumerate(compiled.classes) if not c.is_host)
    home = {item: (main, number) for number, group in enumerate(groups) for item in group}
    fits = compiled.allowed & (compiled.compute_ms.sum(axis=2) <= limit_ms * ROOM)
    x: list[Mapping[Device, Any]] = []
    for item in range(compiled.num_items):
        if item in home:
            x.append({home[item]: 1} if fits[item, main] else {})
        else:
            row = {device: model.add_binary_variable() for device in devices if fits[item, device[0]]}
            model.add_linear_constraint(mathopt.fast_sum(row.values()) == 1)
            x.append(row)
        if not x[-1]:
            return model, None
    parts = [(0,), (1,)] if compiled.is_gpipe else [(0, 1)]
    periods = [model.add_variable(lb=0, ub=1) for _ in parts]
    model.add_linear_constraint(mathopt.fast_sum(periods) <= 1)
    for device in devices:
        for period, passes in zip(periods, parts, strict=True):
            sent, received = _transfers(compiled, model, x, device, passes, limit_ms)
            compute = [
                cost * row[device]
                for item, row in enumerate(x)
                if device in row
                and (cost := float(compiled.compute_ms[item, device[0], list(passes)].sum()) / limit_ms) > SMALLEST
            ]
            for terms in sums_within_period(compiled.overlap, compute, sent, received):
                if terms:
                    model.add_linear_constraint(mathopt.fast_sum(terms) <= period)
        _add_memory(compiled, model, x, device)
    model.minimize(mathopt.fast_sum(periods))
    return model, x


def _transfers(
    compiled: CompiledInstance,
    model: mathopt.Model,
    x: Sequence[Mapping[Device, Any]],
    device: Device,
    passes: tuple[int, ...],
    limit_ms: float,
) -> tuple[list[Any], list[Any]]:
    """``transfer_out`` and ``transfer_in`` of one device: times of what leaves, and of what enters."""
    sent: list[Any] = []
    received: list[Any] = []
    if compiled.classes[device[0]].is_host:
        return sent, received
    for tensor in compiled.tensors:
        time = min(tensor.time_ms[device[0]] / limit_ms, 2.0)
        if tensor.pass_index not in passes or time <= SMALLEST:
            continue
        maker = x[tensor.producer].get(device, 0)
        leaves, enters = model.add_variable(lb=0, ub=1), model.add_variable(lb=0, ub=1)
        sent.append(time * leaves)
        received.append(time * enters)
        for consumer in tensor.consumers:
            user = x[consumer].get(device, 0)
            model.add_linear_constraint(leaves >= maker - user)
            model.add_linear_constraint(enters >= user - maker)
    return sent, received


def _add_memory(
    compiled: CompiledInstance, model: mathopt.Model, x: Sequence[Mapping[Device, Any]], device: Device
) -> None:
    """``memory``, in shares of the limit, lowered a little so that rounding forbids nothing."""
    limit = compiled.classes[device[0]].memory_bytes
    if not limit or sum(compiled.memory_bytes) <= limit:
        return
    terms: dict[Any, float] = defaultdict(float)
    fixed = 0.0
    for need, row in zip(compiled.memory_bytes, x, strict=True):
        held = row.get(device)
        if isinstance(held, int):
            fixed += need / limit
        elif held is not None:
            terms[held] = need / limit
    rows = [weight * (1 - 1e-12) * variable for variable, weight in terms.items()]
    model.add_linear_constraint(mathopt.fast_sum(rows) <= 1 + 1e-9 - fixed)
