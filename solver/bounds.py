"""Lower bounds of the period that need no solver; they hold for every partition."""

from __future__ import annotations

import numpy as np

from solver.compiled import NUM_PASSES, CompiledInstance, Floats

NUM_ROUNDS = 200
ROUNDING = 1e-12
"""Relative allowance for the rounding of floating-point sums."""


def bound_period(compiled: CompiledInstance) -> float:
    """The best of the bounds below, in ms; 0 if an item has no device at all.

    Under ``gpipe`` the period is one maximum per pass, so bounds of the passes add up.
    """
    parts = [(0,), (1,)] if compiled.is_gpipe else [tuple(range(NUM_PASSES))]
    total = 0.0
    for passes in parts:
        compute = np.where(compiled.allowed, compiled.compute_ms[:, :, passes].sum(axis=2), np.inf)
        if not len(compute) or not np.isfinite(compute.min(axis=1)).all():
            return 0.0
        total += max(bound_by_largest_item(compute), bound_by_total(compute, [c.count for c in compiled.classes]))
    return total * (1 - ROUNDING)


def bound_by_largest_item(compute: Floats) -> float:
    """Some device holds the item that takes longest even where it runs fastest. ``compute``: [items, classes]."""
    return float(compute.min(axis=1).max())


def bound_by_total(compute: Floats, counts: list[int]) -> float:
    """All compute, spread over all devices as if it could be divided at will.

    For any weights w_k ≥ 0 of the classes with Σ n_k w_k = 1, the period is at least Σ_i min_k w_k c[i,k], by summing
    the weighted loads of all devices. The weights are improved by subgradient steps in the logarithm; every step is
    a valid bound, and the best is kept.

    Args:
        compute: [items, classes] times, infinite where an item may not go.
        counts: devices of each class.
    """
    numbers = np.array(counts, dtype=np.float64)
    logs = np.zeros(len(counts))
    best = 0.0
    for step in range(NUM_ROUNDS if len(counts) > 1 else 1):
        weights = np.exp(logs - logs.max())
        weights /= (numbers * weights).sum()
        weighted = np.where(np.isfinite(compute), compute * weights, np.inf)
        choice = weighted.argmin(axis=1)
        chosen = weighted[np.arange(len(compute)), choice]
        value = float(chosen.sum())
        best = max(best, value)
        if value <= 0:
            break
        # Busy classes get a higher price, idle ones a lower one.
        share = np.bincount(choice, weights=chosen, minlength=len(counts)) / value
        logs += (share - numbers * weights) * 2.0 / (1 + step) ** 0.5
    return best
