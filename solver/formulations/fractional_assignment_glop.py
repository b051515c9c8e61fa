"""Throughput, every partition: items spread over device classes as if they could be divided, for GLOP through MathOpt.

Sets and parameters
    v ∈ items, k ∈ device classes · c[v,k] compute · m[v] memory · M[k] memory limit · n[k] devices used, at most
    P   a price far above what a period can be, for memory that is lacking
Variables
    y[v,k] ≥ 0   part of v on class k          T ≥ 0   the period          z ≥ 0   memory that is lacking
Minimise T + P z, subject to
    assign_once   Σ_k y[v,k] = 1
    load          Σ_v c[v,k] y[v,k] ≤ n[k] T          with dual price w[k] ≥ 0
    memory        Σ_v m[v] y[v,k] ≤ n[k] M[k] + z     with dual price u[k] ≥ 0

What counts are the prices. Whatever they are, a device of class k that keeps load T and memory M[k] holds items worth
at most w[k] T + u[k] M[k], if v is worth p[v] = min_k w[k] c[v,k] + u[k] m[v]. So numerical errors of GLOP can make a
bound weaker but not wrong; and prices found for some numbers of devices n bound the period for any other.

Source: own; prices of capacities are linear programming duality.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ortools.glop import parameters_pb2
from ortools.math_opt.python import mathopt

from solver.compiled import CompiledInstance, Floats, Ints

ROUNDING = 1e-9
"""Relative allowance for the rounding of floating-point sums."""
PRICE_OF_LACK = 1e3
"""Of all the memory of the instance, in times of its longest item, and per item."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Of one ms of load, and one byte, on a device of each class."""

    of_load: Floats
    of_memory: Floats


def find_prices(
    compiled: CompiledInstance, time_limit_s: float = 10.0, counts: Sequence[int] | Ints | None = None
) -> Prices | None:
    """The best prices for the instance as a whole; ``None`` if GLOP does not find them in time.

    Args:
        compiled: the instance.
        time_limit_s: for GLOP.
        counts: devices used of each class, if not all there are.
    """
    counts = [c.count for c in compiled.classes] if counts is None else counts
    compute = np.where(compiled.allowed, compiled.compute_ms.sum(axis=2), np.inf)
    largest = float(np.where(np.isfinite(compute), compute, 0.0).max(initial=0.0))
    total_memory = sum(compiled.memory_bytes) or 1
    if largest <= 0:
        return None
    model = mathopt.Model()
    period = model.add_variable(lb=0)
    lacking = model.add_variable(lb=0)
    parts = [{int(k): model.add_variable(lb=0) for k in np.flatnonzero(np.isfinite(row))} for row in compute]
    for part in parts:
        model.add_linear_constraint(mathopt.fast_sum(list(part.values())) == 1)
    loads, memories = [], []
    for k, device_class in enumerate(compiled.classes):
        held = [(item, part[k]) for item, part in enumerate(parts) if k in part]
        spent = mathopt.fast_sum([float(compute[item, k]) / largest * y for item, y in held])
        loads.append(model.add_linear_constraint(spent - int(counts[k]) * period <= 0))
        limit = device_class.memory_bytes
        needed = mathopt.fast_sum([compiled.memory_bytes[item] / total_memory * y for item, y in held])
        room = np.inf if limit is None else int(counts[k]) * (limit / total_memory)
        memories.append(model.add_linear_constraint(needed - lacking <= room))
    model.minimize(period + PRICE_OF_LACK * compiled.num_items * lacking)
    # Any prices give a bound: those that GLOP would call imprecise serve as well.
    leniently = parameters_pb2.GlopParameters(change_status_to_imprecise=False)
    parameters = mathopt.SolveParameters(time_limit=dt.timedelta(seconds=max(0.01, time_limit_s)), glop=leniently)
    result = mathopt.solve(model, mathopt.SolverType.GLOP, params=parameters)
    if result.termination.reason is not mathopt.TerminationReason.OPTIMAL or not result.has_dual_feasible_solution():
        return None
    duals = result.dual_values()
    of_load = np.maximum([-duals[row] / largest for row in loads], 0.0)
    of_memory = np.maximum([-duals[row] / total_memory for row in memories], 0.0)
    return Prices(of_load, of_memory) if np.isfinite([*of_load, *of_memory]).all() else None


def bound_by_prices(compiled: CompiledInstance, prices: Prices) -> float:
    """A lower bound of the period, in ms, that memory takes part in."""
    return float(bound_by_counts(compiled, prices, np.array([[c.count for c in compiled.classes]]))[0])


def bound_by_counts(compiled: CompiledInstance, prices: Prices, counts: Ints) -> Floats:
    """The same for placements that use so many devices of each class at most: ``counts`` is [F, C], the result [F].

    Infinite where what is used cannot hold all items at any period.
    """
    compute = np.where(compiled.allowed, compiled.compute_ms.sum(axis=2), np.inf)
    memory = np.array(compiled.memory_bytes, dtype=np.float64)
    limits = np.array([np.inf if c.memory_bytes is None else c.memory_bytes for c in compiled.classes])
    is_limited = np.isfinite(limits)
    # Memory without a limit has no price.
    of_memory = np.where(is_limited, prices.of_memory, 0.0)
    with np.errstate(invalid="ignore"):
        worth = np.where(np.isfinite(compute), compute * prices.of_load, np.inf) + of_memory * memory[:, None]
    total = float(worth.min(axis=1, initial=np.inf).sum())
    if not np.isfinite(total):
        return np.zeros(len(counts))
    left = total * (1 - ROUNDING) - counts @ (of_memory * np.where(is_limited, limits, 0.0)) * (1 + ROUNDING)
    load = counts @ prices.of_load
    with np.errstate(divide="ignore", invalid="ignore"):
        bounds = np.where(left > 0, left / load, 0.0)
    return np.asarray(bounds, dtype=np.float64)
