"""The paper's integer program for throughput, convex and free partitions: what a user would write down first.

It is stated as in the paper, for the solvers that come with OR-Tools, without a start, cuts or an order of alike
devices. Colocation groups, and for convex partitions the paths between their members, are merged before, which changes
no answer.

Sets
    v ∈ items, d ∈ devices, t ∈ tensors (u makes t, q needs it), p ∈ passes (one for ``1f1b``, two for ``gpipe``).
Parameters
    c[v,d,p] compute, τ[t,d] transfer, 0 on hosts · m[v] memory, M[d] memory limit.
Variables
    x[v,d] ∈ {0,1}         v sits on d
    in[t,d], out[t,d] ≥ 0  t enters, or leaves, d
    z[o,d] ∈ [0,1]         forward operator o sits on d or comes before an operator that does
    T[p] ≥ 0               the largest load
Minimise Σ_p T[p], subject to
    assign_once       Σ_d x[v,d] = 1
    transfer_in       in[t,d] ≥ x[q,d] − x[u,d]
    transfer_out      out[t,d] ≥ x[u,d] − x[q,d]
    memory            Σ_v m[v] x[v,d] ≤ M[d]
    load              C, I, O of each device add up, by the overlap rule, to at most T[p]
    convex_partition  z[o,d] ≥ x[o,d];  z[b,d] ≤ z[a,d];  z[b,d] ≤ x[b,d] − x[a,d] + 1   per forward edge a → b

Source: Tarnawski et al. (NeurIPS 2020), the integer program for throughput and its contiguity constraints.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ortools.math_opt.python import mathopt

from solver.compiled import CompiledInstance, compile_instance
from solver.instance import Instance, Overlap, Partition
from solver.reductions import reduce_instance
from solver.result import Placement

GAP_TOLERANCE = 0.01
"""The paper's: the solver may stop within 1 % of the optimum."""

Device = tuple[int, int]
"""Class, and number within the class."""


class Solver(StrEnum):
    """The solvers compared."""

    HIGHS = "highs"
    SCIP = "scip"


_TYPES = {Solver.HIGHS: mathopt.SolverType.HIGHS, Solver.SCIP: mathopt.SolverType.GSCIP}


class SolverFailed(Exception):
    """The solver ended without an answer, for reasons of its own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the solver claims; values in ms. The placement is still to be verified."""

    placement: Placement | None
    best_bound: float | None
    ended: str


def solve(instance: Instance, solver: Solver, time_limit_s: float, *, gap_tolerance: float = GAP_TOLERANCE) -> Answer:
    """Run the program on ``instance``, whose partition is convex or free.

    Raises:
        SolverFailed: the solver gave up.
    """
    compiled = reduce_instance(compile_instance(instance), instance.objective.partition)
    model, x = build(compiled)
    # No thread count: MathOpt refuses it for HiGHS with an error about something else, and SCIP gains nothing by it.
    parameters = mathopt.SolveParameters(
        time_limit=dt.timedelta(seconds=time_limit_s), relative_gap_tolerance=gap_tolerance
    )
    try:
        result = mathopt.solve(model, _TYPES[solver], params=parameters)
    except (AttributeError, RuntimeError, ValueError) as error:
        # MathOpt 9.15 cannot report that HiGHS failed for numerical reasons, and fails with an AttributeError instead.
        raise SolverFailed(f"{solver} gave up ({type(error).__name__})") from error
    bound = result.termination.objective_bounds.dual_bound
    placement = None
    if result.has_primal_feasible_solution():
        values = result.variable_values()
        placement = compiled.placement([max(row, key=lambda device: values[row[device]]) for row in x])
    ended = result.termination.reason.name.lower()
    return Answer(placement, float(bound) if math.isfinite(bound) else None, ended)


def build(compiled: CompiledInstance) -> tuple[mathopt.Model, list[dict[Device, mathopt.Variable]]]:
    """The model, and the variables x, per item and device it may sit on."""
    model = mathopt.Model()
    devices = [(k, n) for k, device_class in enumerate(compiled.classes) for n in range(device_class.count)]
    x = [
        {device: model.add_binary_variable() for device in devices if compiled.allowed[item, device[0]]}
        for item in range(compiled.num_items)
    ]
    for row in x:
        model.add_linear_constraint(mathopt.fast_sum(row.values()) == 1)
    periods = [model.add_variable(lb=0) for _ in range(2 if compiled.is_gpipe else 1)]
    for device in devices:
        column = {item: row[device] for item, row in enumerate(x) if device in row}
        _limit_memory(model, compiled, device[0], column)
        _add_loads(model, compiled, device[0], column, periods)
        if compiled.partition is Partition.CONVEX:
            _keep_convex(model, compiled, column)
    model.minimize(mathopt.fast_sum(periods))
    return model, x


def _limit_memory(
    model: mathopt.Model, compiled: CompiledInstance, class_index: int, column: dict[int, mathopt.Variable]
) -> None:
    limit = compiled.classes[class_index].memory_bytes
    if limit:  # In shares of the limit; with none at all, ``allowed`` has kept away what needs some.
        shares = [compiled.memory_bytes[item] / limit * variable for item, variable in column.items()]
        model.add_linear_constraint(mathopt.fast_sum(shares) <= 1)


def _add_loads(
    model: mathopt.Model,
    compiled: CompiledInstance,
    class_index: int,
    column: dict[int, mathopt.Variable],
    periods: list[mathopt.Variable],
) -> None:
    compute: dict[int, list[Any]] = defaultdict(list)
    incoming: dict[int, list[Any]] = defaultdict(list)
    outgoing: dict[int, list[Any]] = defaultdict(list)
    for item, variable in column.items():
        for pass_index, time_ms in enumerate(compiled.compute_ms[item, class_index]):
            compute[min(pass_index, len(periods) - 1)].append(float(time_ms) * variable)
    for tensor in compiled.tensors:
        time_ms = tensor.time_ms[class_index]
        if time_ms == 0:
            continue
        enters, leaves = model.add_variable(lb=0), model.add_variable(lb=0)
        producer = column.get(tensor.producer, 0.0)
        for item in tensor.consumers:
            difference = column.get(item, 0.0) - producer
            model.add_linear_constraint(enters - difference >= 0)
            model.add_linear_constraint(leaves + difference >= 0)
        part = min(tensor.pass_index, len(periods) - 1)
        incoming[part].append(time_ms * enters)
        outgoing[part].append(time_ms * leaves)
    for part, period in enumerate(periods):
        terms = compute[part], incoming[part], outgoing[part]
        if compiled.overlap is Overlap.NONE:
            rows = [[*terms[0], *terms[1], *terms[2]]]
        elif compiled.overlap is Overlap.FULL:
            rows = [terms[0], [*terms[1], *terms[2]]]
        else:
            rows = list(terms)
        for row in rows:
            model.add_linear_constraint(mathopt.fast_sum(row) <= period)


def _keep_convex(model: mathopt.Model, compiled: CompiledInstance, column: dict[int, mathopt.Variable]) -> None:
    """For operators and not for items: a path may enter an item and not be able to leave it."""
    joined = sorted({operator for edge in compiled.forward_edges for operator in edge})
    z = {operator: model.add_variable(lb=0, ub=1) for operator in joined}
    here = {operator: column.get(compiled.item_of[operator], 0.0) for operator in joined}
    for operator in joined:
        model.add_linear_constraint(z[operator] - here[operator] >= 0)
    for source, target in compiled.forward_edges:
        model.add_linear_constraint(z[source] - z[target] >= 0)
        model.add_linear_constraint(here[target] - here[source] - z[target] >= -1)
