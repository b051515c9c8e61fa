"""Lower bounds of the period that need no solver; they hold for every partition."""

from __future__ import annotations

import bisect

import numpy as np

from solver.compiled import NUM_PASSES, CompiledInstance, Floats

NUM_ROUNDS = 200
MAX_ITEMS_PER_DEVICE = 50
ROUNDING = 1e-12
"""Relative allowance for the rounding of floating-point sums."""


def bound_period(compiled: CompiledInstance) -> float:
    """The best of the bounds below, in ms; 0 if an item has no device at all.

    Under ``gpipe`` the period is one maximum per pass, so bounds of the passes add up.
    """
    parts = [(0,), (1,)] if compiled.is_gpipe else [tuple(range(NUM_PASSES))]
    return sum(_bound_passes(compiled, passes) for passes in parts)


def bound_each_pass(compiled: CompiledInstance) -> tuple[float, float]:
    """The same for the largest forward load and the largest backward load, in ms."""
    return _bound_passes(compiled, (0,)), _bound_passes(compiled, (1,))


def _bound_passes(compiled: CompiledInstance, passes: tuple[int, ...]) -> float:
    compute = np.where(compiled.allowed, compiled.compute_ms[:, :, passes].sum(axis=2), np.inf)
    if not len(compute) or not np.isfinite(compute.min(axis=1)).all():
        return 0.0
    counts = [c.count for c in compiled.classes]
    are_hosts = [c.is_host for c in compiled.classes]
    bounds = (
        bound_by_largest_item(compute),
        bound_by_total(compute, counts),
        bound_by_counting(compute, counts, are_hosts),
    )
    return max(bounds) * (1 - ROUNDING)


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


def bound_by_counting(compute: Floats, counts: list[int], are_hosts: list[bool]) -> float:
    """Pigeonholes: of the m largest items, some device holds at least ⌈m ÷ devices⌉.

    If j of the m sit on hosts, some host takes at least its share of the j that are fastest there, and some other
    device at least its share of the m − j, the smallest of the m at best. The bound is the least of the larger of the
    two over all j, for the best m.

    Args:
        compute: [items, classes] times, infinite where an item may not go.
        counts: devices of each class.
        are_hosts: whether a class is host; all others are taken for as fast as the fastest of them, item by item.
    """
    host = np.array(are_hosts)
    num_hosts = sum(n for n, is_host in zip(counts, are_hosts, strict=True) if is_host)
    num_others = sum(counts) - num_hosts
    others: Floats = compute[:, ~host].min(axis=1, initial=np.inf)
    on_host: Floats = compute[:, host].min(axis=1, initial=np.inf)
    if num_others == 0:
        return 0.0
    order = np.argsort(-others, kind="stable")
    # Items that cannot leave the hosts say nothing about the others; beyond many items a device averages win.
    countable = np.isfinite(others[order]) & (others[order] > 0)
    order = order[countable][: MAX_ITEMS_PER_DEVICE * (num_others + num_hosts)]
    # Summed from the smallest: in differences of these the largest items, left out, leave no rounding errors behind.
    sums = np.concatenate([np.cumsum(others[order][::-1])[::-1], [0.0]])
    fastest_on_host: list[float] = []
    best = 0.0
    for m, item in enumerate(order, start=1):
        bisect.insort(fastest_on_host, float(on_host[item]))
        share = -(-m // num_others)
        if sums[m - share] - sums[m] <= best:
            continue  # Hosts can only lower it.
        host_sum, value = 0.0, float(sums[m - share] - sums[m])
        for j in range(1, m + 1):
            if num_hosts == 0 or host_sum >= value:
                break
            if (j - 1) % num_hosts == 0:
                host_sum += fastest_on_host[(j - 1) // num_hosts]
            share = -(-(m - j) // num_others)
            value = min(value, max(host_sum, float(sums[m - share] - sums[m])))
        best = max(best, value)
    return best
