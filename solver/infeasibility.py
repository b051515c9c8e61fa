"""Why there is no placement: reasons that can be told without a search, with names and amounts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from solver.compiled import CompiledInstance
from solver.result import InfeasibilityReason

MAX_NAMED = 20
MAX_PATTERNS = 1000
"""Sets of allowed classes that are looked at, the ones most used first."""


def find_reasons(compiled: CompiledInstance, reduced: CompiledInstance) -> tuple[InfeasibilityReason, ...]:
    """Every plain reason; empty if there is none, which does not make the instance feasible.

    Args:
        compiled: one item per operator.
        reduced: the same instance with the operators merged that have to share a device.
    """
    return (*_operators(compiled), *_groups(compiled, reduced), *_total_memory(reduced))


def _operators(compiled: CompiledInstance) -> Iterator[InfeasibilityReason]:
    """Operators that no device can run, or hold."""
    kinds = sorted({spec.kind for spec in compiled.instance.cluster.devices if spec.names})
    for item in np.flatnonzero(~compiled.allowed.any(axis=1)):
        operator = compiled.instance.graph.operators[compiled.members[item][0]]
        usable = [c for k, c in enumerate(compiled.classes) if compiled.runs[item, k]]
        if usable:
            largest = max(c.memory_bytes or 0 for c in usable)
            yield InfeasibilityReason(
                "operator_too_large",
                f"operator {operator.id!r} needs {operator.memory_bytes} bytes; of the devices that can run it the "
                f"largest has {largest}, {operator.memory_bytes - largest} too few",
                (operator.id,),
                tuple(name for c in usable for name in c.devices)[:MAX_NAMED],
                operator.memory_bytes,
                largest,
                "bytes",
            )
        elif not set(kinds) & set(operator.compute_time_ms):
            known = ", ".join(sorted(operator.compute_time_ms)) or "no kind at all"
            yield InfeasibilityReason(
                "no_device_kind",
                f"operator {operator.id!r} has compute times for {known}, the cluster has {', '.join(kinds)}",
                (operator.id,),
            )
        else:
            yield InfeasibilityReason(
                "no_allowed_device",
                f"no device that can run operator {operator.id!r} is left by allowed_devices, pinned and forbidden",
                (operator.id,),
            )


def _groups(compiled: CompiledInstance, reduced: CompiledInstance) -> Iterator[InfeasibilityReason]:
    """Operators that have to share a device, each of which has one, but not all together."""
    single = [bool(row.any()) for row in compiled.allowed]
    for item in np.flatnonzero(~reduced.allowed.any(axis=1)):
        members = sorted(reduced.members[item])
        if len(members) == 1 or not all(single[operator] for operator in members):
            continue
        operators = [compiled.instance.graph.operators[operator] for operator in members]
        names = tuple(operator.id for operator in operators)
        groups = {operator.colocation_group for operator in operators}
        group = groups.pop() if len(groups) == 1 else None
        what = (
            f"the {len(names)} operators {', '.join(map(repr, names[:3]))}{' …' if len(names) > 3 else ''}, which "
            "colocation and the partition rule keep together,"
            if group is None
            else f"colocation group {group!r} of {len(names)} operators"
        )
        usable = [c for k, c in enumerate(reduced.classes) if reduced.runs[item, k]]
        if usable:
            needed, largest = reduced.memory_bytes[item], max(c.memory_bytes or 0 for c in usable)
            yield InfeasibilityReason(
                "group_too_large",
                f"{what} needs {needed} bytes on one device; the largest that can run it has {largest}, "
                f"{needed - largest} too few",
                names,
                tuple(name for c in usable for name in c.devices)[:MAX_NAMED],
                needed,
                largest,
                "bytes",
            )
        else:
            yield InfeasibilityReason("group_without_device", f"{what} has no device that can run all of it", names)


def _total_memory(reduced: CompiledInstance) -> Iterator[InfeasibilityReason]:
    """Items confined to a set of device classes that together have too little memory."""
    patterns, pattern_of, uses = np.unique(reduced.allowed, axis=0, return_inverse=True, return_counts=True)
    pattern_of = pattern_of.reshape(-1)
    needs = [0] * len(patterns)
    for item, need in enumerate(reduced.memory_bytes):
        needs[pattern_of[item]] += need
    for pattern in patterns[np.argsort(-uses, kind="stable")[:MAX_PATTERNS]]:
        classes = [c for k, c in enumerate(reduced.classes) if pattern[k]]
        if not classes or any(c.memory_bytes is None for c in classes):
            continue
        within = ~(patterns & ~pattern).any(axis=1) & patterns.any(axis=1)
        needed = sum(needs[index] for index in np.flatnonzero(within))
        available = sum((c.memory_bytes or 0) * c.count for c in classes)
        if needed > available:
            devices = tuple(name for c in classes for name in c.devices)
            confined = np.flatnonzero(within[pattern_of])
            members = sorted(operator for item in confined for operator in reduced.members[item])
            names = tuple(reduced.instance.graph.operators[operator].id for operator in members)
            yield InfeasibilityReason(
                "total_memory",
                f"{len(names)} operators that can only sit on {len(devices)} devices need {needed} bytes together, "
                f"{needed - available} more than the {available} there are",
                names[:MAX_NAMED],
                devices[:MAX_NAMED],
                needed,
                available,
                "bytes",
            )
