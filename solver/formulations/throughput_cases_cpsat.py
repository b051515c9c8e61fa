"""Throughput, convex or free partition: one way to divide the leading items among devices, for CP-SAT.

The formulation of :mod:`solver.formulations.throughput_assignment_cpsat`, and

    divided    x[v,d] = 1    for each leading item v of the group on device d

Groups get the numbers that ``first_appearance`` gives them, so that the naming rule holds as well.

Source: own.
"""

from __future__ import annotations

from collections.abc import Sequence

from solver.compiled import CompiledInstance
from solver.formulations.throughput_assignment_cpsat import AssignmentModel


class CaseModel(AssignmentModel):
    """The formulation of the module.

    Args:
        compiled: the reduced instance; all devices other than hosts alike.
        limit_ms: a period that is to be beaten or met.
        bound_ms: a proved lower bound for this case.
        groups: of leading items, one for each device that has any.
    """

    name = "cases"

    def __init__(
        self, compiled: CompiledInstance, limit_ms: float, bound_ms: float, groups: Sequence[Sequence[int]]
    ) -> None:
        self._groups = groups
        super().__init__(compiled, limit_ms, bound_ms)

    def build(self) -> None:
        """Add variables and constraints."""
        super().build()
        main = next(k for k, c in enumerate(self.compiled.classes) if not c.is_host)
        position = {item: index for index, item in enumerate(self.rank)}
        named = sorted(self._groups, key=lambda group: min(position[item] for item in group))
        for number, group in enumerate(named):
            for item in group:
                # Too long for the limit, an item has no variable, and the case no answer.
                self.model.add_bool_or([self.x[item].get((main, number), 0)])
