"""What every CP-SAT formulation shares: integer times whose bound holds for the real ones, and a run one can stop.

Times are multiplied by a power of two, which is exact in binary floating point, and rounded down. A placement is
thereby never worth more in the model than in reality, so the model's bound, divided by the same power, bounds the real
optimum. What a placement is really worth is for the verifier to say.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ortools.sat.python import cp_model

from solver.beside import Call
from solver.compiled import CompiledInstance
from solver.formulations.overlap import sums_within_period

Assignment = Sequence[tuple[int, int]]
"""Per item: device class, and number of the device within its class."""

ROUNDING_GAP = 2e-7
"""Relative error that rounding down may cost; well below what may be called optimal."""
SUMMED_OTHERWISE = 1 + 1e-9
"""Room for rounding: summed in another order, costs that just meet a limit may seem to exceed it."""
MAX_PERIOD_BITS = 45
MAX_MEMORY_SUM = 2**61


@dataclass(frozen=True, slots=True)
class Scale:
    """Integer units of time: one unit is 2**-exponent ms. Costs above ``limit_ms`` cannot occur in an answer."""

    exponent: int
    limit_ms: float

    @property
    def limit(self) -> int:
        """The limit in units, rounded down like what must stay within it."""
        return math.floor(math.ldexp(self.limit_ms * SUMMED_OTHERWISE, self.exponent))

    def down(self, time_ms: float) -> int:
        """``time_ms`` in units, rounded down; what exceeds the limit still does."""
        if time_ms > self.limit_ms * SUMMED_OTHERWISE:
            return max(self.limit + 1, math.floor(math.ldexp(min(time_ms, self.limit_ms * 2), self.exponent)))
        return math.floor(math.ldexp(time_ms, self.exponent))

    def ms(self, units: float) -> float:
        """Units in ms."""
        return math.ldexp(units, -self.exponent)


def choose_scale(compiled: CompiledInstance, limit_ms: float) -> Scale:
    """Units so fine that rounding a whole device's terms costs at most ``ROUNDING_GAP`` of ``limit_ms``.

    If all costs are whole multiples of a coarser power of two that is chosen, and rounding costs nothing at all.
    """
    largest = limit_ms * SUMMED_OTHERWISE
    costs = {float(cost) for cost in compiled.compute_ms.flat if math.isfinite(cost) and 0 < cost <= largest}
    if compiled.links is None:
        times = [tensor.time_ms for tensor in compiled.tensors]
    else:
        different = {tensor.sizes for tensor in compiled.tensors}
        times = [tuple(compiled.links.times(sizes).flat) for sizes in different]
    costs |= {float(time) for some in times for time in some if 0 < time <= largest}
    num_transfers = 2 if compiled.links is None else compiled.num_devices
    num_terms = compiled.num_items + num_transfers * len(compiled.tensors)
    period_bits = min(MAX_PERIOD_BITS, math.ceil(math.log2(num_terms / ROUNDING_GAP)))
    exponent = period_bits - math.frexp(limit_ms)[1]
    exact = max((binary_places(cost) for cost in costs), default=0)
    return Scale(min(exponent, exact), limit_ms)


def binary_places(value: float) -> int:
    """Smallest e for which value · 2**e is whole."""
    numerator, denominator = value.as_integer_ratio()
    if denominator > 1:
        return denominator.bit_length() - 1
    return -((numerator & -numerator).bit_length() - 1)


def scaled_bytes(needs: Sequence[int], limit: int) -> tuple[list[int], int]:
    """What is needed here and there, and how much all that may be, in units that cannot overflow.

    The unit is a common divisor where there is one that does. Otherwise both are rounded down, which keeps every
    feasible placement; the verifier refuses what only the rounding lets through.
    """
    divisor = math.gcd(*needs)
    needs = [min(need, limit + 1) for need in needs]
    if divisor > 1 and max(needs, default=0) <= limit:
        needs, limit = [need // divisor for need in needs], limit // divisor
    shift = max(0, (sum(needs) + limit).bit_length() - MAX_MEMORY_SUM.bit_length())
    return [need >> shift for need in needs], limit >> shift


def load_rows(
    compiled: CompiledInstance,
    class_index: int,
    scale: Scale,
    held: Sequence[Any],
    sent: Sequence[Any],
    received: Sequence[Any],
) -> Iterator[tuple[list[Any], list[int], int]]:
    """``load``: (variables, weights, period part) of each sum that must stay within the period on one device.

    ``held`` has a variable per item; ``sent`` and ``received`` one per tensor.
    """
    device_class = compiled.classes[class_index]
    for part in range(2 if compiled.is_gpipe else 1):
        passes = (part,) if compiled.is_gpipe else (0, 1)
        compute = []
        for item, variable in enumerate(held):
            cost = float(sum(compiled.compute_ms[item, class_index, p] for p in passes))
            if math.isfinite(cost) and cost > 0:
                compute.append((variable, scale.down(cost)))
        moved = [] if device_class.is_host else [t for t, x in enumerate(compiled.tensors) if x.pass_index in passes]
        outgoing = [(sent[t], scale.down(compiled.tensors[t].time_ms[class_index])) for t in moved]
        incoming = [(received[t], scale.down(compiled.tensors[t].time_ms[class_index])) for t in moved]
        rows = sums_within_period(compiled.overlap, compute, outgoing, incoming)
        for row in rows:
            terms = [(variable, weight) for variable, weight in row if weight]
            if terms:
                yield [variable for variable, _ in terms], [weight for _, weight in terms], part


class BuildStopped(Exception):
    """The search was over before the model was complete."""


class Model(ABC):
    """A CP-SAT model of one compiled instance.

    Args:
        compiled: the reduced instance.
        limit_ms: a period that is to be beaten or met; what costs more is left out.
        bound_ms: a proved lower bound.
        over: asked while the model is built, which may take many seconds.

    Raises:
        BuildStopped: ``over`` said so.
    """

    name: str
    presolve: bool = False
    """Whether CP-SAT's presolve earns its risk on this model."""

    def __init__(
        self, compiled: CompiledInstance, limit_ms: float, bound_ms: float, over: Callable[[], bool] = lambda: False
    ) -> None:
        self.compiled = compiled
        self._over = over
        self.scale = choose_scale(compiled, limit_ms)
        self.model = cp_model.CpModel()
        self.limit = self.scale.limit
        self.usable = compiled.allowed & (compiled.compute_ms.sum(axis=2) <= limit_ms * SUMMED_OTHERWISE)
        low = min(self.scale.down(bound_ms), self.limit)
        parts = 2 if compiled.is_gpipe else 1
        self.period = [self.model.new_int_var(0 if parts > 1 else low, self.limit, "") for _ in range(parts)]
        if parts > 1:
            self.model.add_linear_constraint(sum(self.period), low, self.limit)
        self.build()
        self.add_objective()

    def add_objective(self) -> None:
        """Minimise the period."""
        self.model.minimize(sum(self.period))

    def value_of(self, units: float) -> float:
        """What a value of the model's objective stands for: ms here."""
        return self.scale.ms(units)

    def check_time(self) -> None:
        """To be called every now and then by :meth:`build`."""
        if self._over():
            raise BuildStopped

    @abstractmethod
    def build(self) -> None:
        """Add variables and constraints."""

    @abstractmethod
    def hint(self, assignment: Assignment) -> None:
        """Start from a known answer."""

    @abstractmethod
    def assignment(self, value: Any) -> Assignment:
        """Per item (class, device of that class), read from a solution."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Limits of one run; ``presolve`` lets CP-SAT rewrite the model first (docs/decisions tells when it may).

    ``effort`` is a limit in CP-SAT's own deterministic units, roughly seconds, so that a run can be repeated exactly.
    """

    time_limit_s: float
    workers: int
    seed: int
    relative_gap: float = 0.0
    presolve: bool = True
    effort: float = math.inf


class Outcome(StrEnum):
    """How a run ended: ``optimal`` and ``infeasible`` are statements about the *model*, with its rounded times."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    STOPPED = "stopped"


class _Observer(cp_model.CpSolverSolutionCallback):
    def __init__(self, model: Model, on_assignment: Callable[[Assignment], None]) -> None:
        super().__init__()
        self._model = model
        self._on_assignment = on_assignment

    def on_solution_callback(self) -> None:
        self._on_assignment(self._model.assignment(self))


def run(
    model: Model,
    options: RunOptions,
    on_assignment: Callable[[Assignment], None],
    on_bound: Callable[[float], None],
    over: Callable[[], bool],
) -> Outcome:
    """Solve; report every better assignment and every better bound as they come, from solver threads.

    ``over`` is asked often; when it is true, or time is up, the search is stopped, and left behind if it does not stop.
    """
    solver = cp_model.CpSolver()
    parameters = solver.parameters
    parameters.max_time_in_seconds = max(0.01, options.time_limit_s)
    parameters.num_workers = options.workers
    parameters.max_deterministic_time = options.effort
    parameters.random_seed = options.seed
    parameters.relative_gap_limit = options.relative_gap
    parameters.cp_model_presolve = options.presolve
    # This step of presolve cuts off optimal answers (or-tools 9.15, issue 5293).
    parameters.presolve_inclusion_work_limit = 0
    parameters.catch_sigint_signal = False
    solver.best_bound_callback = lambda units: on_bound(model.value_of(units))
    observer = _Observer(model, on_assignment)
    call = Call(lambda: solver.solve(model.model, observer), f"cp-sat {model.name}", solver.stop_search)
    grace_s = 2.0 + 0.1 * options.time_limit_s
    if not call.wait(over, options.time_limit_s + grace_s):
        call.stop(grace_s)
    status = call.result()
    if status is None:
        return Outcome.STOPPED
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        on_bound(model.value_of(solver.best_objective_bound))
    if status == cp_model.OPTIMAL:
        return Outcome.OPTIMAL
    if status == cp_model.INFEASIBLE:
        return Outcome.INFEASIBLE
    if status == cp_model.MODEL_INVALID:
        raise RuntimeError(f"CP-SAT refuses the {model.name} model: {model.model.validate()}")
    return Outcome.STOPPED
