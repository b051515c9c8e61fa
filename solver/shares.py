"""The part of all work that one of several devices has to take when all of them are alike, hosts apart."""

from __future__ import annotations

import numpy as np

from solver.compiled import CompiledInstance, Floats


def compute_weights(compiled: CompiledInstance, value_ms: float) -> Floats:
    """Each item's compute on the devices that are no hosts; 0 where it cannot be within the period known.

    In the sums, what takes longer than that would drown the rest in rounding errors.
    """
    main = next(k for k, c in enumerate(compiled.classes) if not c.is_host)
    compute: Floats = compiled.compute_ms[:, main].sum(axis=1)
    return np.where(compiled.allowed[:, main] & (compute <= value_ms * (1 + 1e-9)), compute, 0.0)


def share_of_a_device(compiled: CompiledInstance, weights: Floats, value_ms: float) -> float:
    """The weight that one device other than a host has to hold at least, if the period is at most ``value_ms``."""
    absorbed = sum(
        _absorb(weights, compiled, index, value_ms * device_class.count)
        for index, device_class in enumerate(compiled.classes)
        if device_class.is_host
    )
    return max(0.0, float(weights.sum()) - absorbed) / sum(c.count for c in compiled.classes if not c.is_host)


def _absorb(weights: Floats, compiled: CompiledInstance, index: int, room_ms: float) -> float:
    """At most so much weight fits on hosts of one class in ``room_ms`` (fractional knapsack)."""
    on_host = np.where(compiled.allowed[:, index], compiled.compute_ms[:, index].sum(axis=1), np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        order = np.argsort(-np.where(weights > 0, weights / on_host, 0.0), kind="stable")
    absorbed = 0.0
    for item in order:
        if weights[item] <= 0 or not np.isfinite(on_host[item]):
            continue
        if on_host[item] > room_ms:
            return absorbed + float(weights[item]) * room_ms / float(on_host[item])
        room_ms -= float(on_host[item])
        absorbed += float(weights[item])
    return absorbed
