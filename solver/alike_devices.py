"""What tells devices apart, links aside: operators that are kept from them, and all else a placement could notice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache

from solver.instance import Device, Instance, InterconnectModel, ObjectiveKind


def find_exclusions(
    instance: Instance, devices: Sequence[Device], index_of: Mapping[str, int]
) -> dict[str, frozenset[int]]:
    """Device name → operators kept away from it by ``allowed_devices``, ``pinned`` and ``forbidden``."""
    meaning = instance.cluster.resolve()
    banned: dict[str, set[int]] = {device.name: set() for device in devices}

    @cache
    def outside(references: tuple[str, ...]) -> list[str]:
        inside = {name for reference in references for name in meaning[reference]}
        return [name for name in banned if name not in inside]

    for index, operator in enumerate(instance.graph.operators):
        if operator.allowed_devices is not None:
            for name in outside(operator.allowed_devices):
                banned[name].add(index)
    for operator_id, reference in instance.constraints.pinned.items():
        for name in outside((reference,)):
            banned[name].add(index_of[operator_id])
    for forbidden in instance.constraints.forbidden:
        for name in meaning[forbidden.device]:
            banned[name].add(index_of[forbidden.operator])
    return {name: frozenset(operators) for name, operators in banned.items()}


def find_signatures(
    instance: Instance, devices: Sequence[Device], excluded: Mapping[str, frozenset[int]]
) -> list[tuple[object, ...]]:
    """Per device, all that tells it from others, apart from links."""
    limits = instance.constraints
    priced = instance.objective.kind is ObjectiveKind.COST or limits.max_cost_per_hour is not None
    over_host = instance.cluster.interconnect.model is InterconnectModel.HOST
    held: dict[str, set[str]] = defaultdict(set)
    if limits.max_moved_operators is not None or limits.max_moved_bytes is not None:
        for operator, name in (limits.previous_placement or {}).items():
            held[name].add(operator)
    signatures: list[tuple[object, ...]] = []
    for device in devices:
        spec = device.spec
        wires: tuple[object, ...] = (spec.is_host,) if over_host else ()
        if over_host and not spec.is_host:
            wires = (spec.host_bandwidth_bytes_per_s, spec.host_latency_ms)
        price = (spec.cost_per_hour or 0.0) if priced else None
        signatures.append(
            (spec.kind, spec.memory_bytes, wires, excluded[device.name], price, frozenset(held[device.name]))
        )
    return signatures
