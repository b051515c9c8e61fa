"""The overlap rule as sums: each of them has to stay within the period."""

from __future__ import annotations

from typing import TypeVar

from solver.instance import Overlap

Term = TypeVar("Term")


def sums_within_period(
    overlap: Overlap, compute: list[Term], outgoing: list[Term], incoming: list[Term]
) -> list[list[Term]]:
    """A device's load is the largest of these sums of terms."""
    if overlap is Overlap.NONE:
        return [compute + outgoing + incoming]
    if overlap is Overlap.FULL:
        return [compute, outgoing + incoming]
    return [compute, outgoing, incoming]
