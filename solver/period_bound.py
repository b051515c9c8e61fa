"""What has been proved of the period, and what that says of the objective and of the limits on the answer."""

from __future__ import annotations

from solver.compiled import CompiledInstance
from solver.formulation_runs import worst_period
from solver.instance import ObjectiveKind
from solver.result import InfeasibilityReason
from solver.search import Search

ROOM = (1 + 1e-9) ** 2
"""For rounding where a bound is compared with a limit."""


class PeriodBound:
    """The greatest lower bound of the period so far, in ``ms``.

    Args:
        search: takes what follows from bounds.
        compiled: the instance, or one whose every placement takes no less at worst.

    Attributes:
        worst_ms: more than any placement can be worth.
        ceiling_ms: a bound above this proves that the instance's limit cannot be met; infinite without a limit.
        reasons: why there is no placement, once that is proved of a limit.
    """

    def __init__(self, search: Search, compiled: CompiledInstance) -> None:
        self._search = search
        self._is_cost = search.instance.objective.kind is ObjectiveKind.COST
        self._longest_ms = search.instance.constraints.longest_period_ms
        self.worst_ms = worst_period(compiled)
        self.ms = 0.0
        self.ceiling_ms = self._longest_ms * ROOM
        self.reasons: tuple[InfeasibilityReason, ...] = ()

    def claim(self, bound_ms: float, method: str) -> None:
        """Note a lower bound of the period: of the objective, or a proof that a limit cannot be met."""
        self.ms = max(self.ms, bound_ms)
        if bound_ms > self.worst_ms:
            self._search.infeasible_by = method
        elif bound_ms > self.ceiling_ms:
            self._search.infeasible_by = method
            self.reasons = (
                InfeasibilityReason(
                    "period_too_short",
                    f"no placement has a period below {bound_ms:g} ms, the longest allowed is {self._longest_ms:g} ms",
                    required=bound_ms,
                    available=self._longest_ms,
                    unit="ms",
                ),
            )
        elif not self._is_cost:
            self._search.claim_bound(bound_ms, method)
