"""HiGHS through MathOpt: running it, and how far what it says is to be trusted.

HiGHS computes in floating point. A reduced cost may be wrong by its dual tolerance, which over variables between 0 and
1 adds up to that times their number; a row may be violated by its primal tolerance. What it says of an objective of
about 1 is therefore said of :func:`safety` less. That is a margin and no proof: no answer is called optimal because of
it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from ortools.math_opt.python import mathopt

from solver.beside import Call

GRACE_S = 5.0
LEAST_SAFETY, TOLERANCE = 1e-5, 1e-7


def safety(model: mathopt.Model) -> float:
    """What to take off a bound of ``model``, whose variables lie between 0 and 1 and whose objective is about 1."""
    return LEAST_SAFETY + TOLERANCE * float(model.get_num_variables())


def run_highs(
    model: mathopt.Model, name: str, time_limit_s: float, over: Callable[[], bool]
) -> mathopt.SolveResult | None:
    """What HiGHS found within the time; ``None`` if it was left behind, because of ``over``, or could not go on."""
    parameters = mathopt.SolveParameters(
        time_limit=dt.timedelta(seconds=time_limit_s), relative_gap_tolerance=LEAST_SAFETY / 10
    )
    call = Call(lambda: mathopt.solve(model, mathopt.SolverType.HIGHS, params=parameters), name)
    call.wait(over, time_limit_s + GRACE_S)
    try:
        return call.result()
    except (AttributeError, RuntimeError, ValueError):
        # It gave up for numerical reasons, which MathOpt 9.15 cannot even report.
        return None
