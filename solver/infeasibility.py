"""Why there is no placement: reasons that can be told without a search, with names and amounts."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from solver.compiled import CompiledInstance
from solver.instance import Instance, Operator
from solver.result import InfeasibilityReason
from solver.words import counted

MAX_NAMED = 20
ROOM = 1 + 3e-9
"""A limit is missed by more than the verifier forgives and sums are rounded."""
MAX_PATTERNS = 1000
"""Sets of allowed classes that are looked at, the ones most used first."""


def find_reasons(compiled: CompiledInstance, reduced: CompiledInstance) -> tuple[InfeasibilityReason, ...]:
    """Every plain reason; empty if there is none, which does not make the instance feasible.

    Args:
        compiled: one item per operator.
        reduced: the same instance with the operators merged that have to share a device.
    """
    return (
        *_operators(compiled),
        *_groups(compiled, reduced),
        *_total_memory(reduced),
        *_slow_items(reduced),
        *_routes(reduced),
        *_devices_for_memory(reduced),
        *_cost_of_memory(reduced),
        *_moves(reduced),
    )


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
                f"operator {operator.id!r} needs {counted(operator.memory_bytes, 'byte')}; of the devices that can run "
                f"it the largest has {largest:,}, {operator.memory_bytes - largest:,} too few",
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
                f"operator {operator.id!r} can run on none of the devices left to it: it is "
                f"{_bindings(compiled.instance, operator)}",
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
                f"{what} needs {counted(needed, 'byte')} on one device; the largest that can run it has {largest:,}, "
                f"{needed - largest:,} too few",
                names,
                tuple(name for c in usable for name in c.devices)[:MAX_NAMED],
                needed,
                largest,
                "bytes",
            )
        else:
            bindings = (_bindings(compiled.instance, operator) for operator in operators)
            told = [f"{name!r} is {binding}" for name, binding in zip(names, bindings, strict=True) if binding]
            message = f"{what} has no device that can run all of it"
            message += f": {'; '.join(told[:MAX_NAMED])}" if told else ""
            yield InfeasibilityReason("group_without_device", message, names)


def _bindings(instance: Instance, operator: Operator) -> str:
    """What ties an operator to devices, or keeps it away from them; empty if nothing does."""
    constraints = instance.constraints
    told = []
    if operator.allowed_devices is not None:
        told.append(f"allowed on {', '.join(map(repr, operator.allowed_devices[:MAX_NAMED])) or 'none'}")
    if operator.id in constraints.pinned:
        told.append(f"pinned to {constraints.pinned[operator.id]!r}")
    banned = [rule.device for rule in constraints.forbidden if rule.operator == operator.id]
    if banned:
        told.append(f"forbidden on {', '.join(map(repr, banned[:MAX_NAMED]))}")
    return ", ".join(told)


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
                f"{counted(len(names), 'operator')} that can only sit on {counted(len(devices), 'device')} need "
                f"{counted(needed, 'byte')} together, {needed - available:,} more than the {available:,} there are",
                names[:MAX_NAMED],
                devices[:MAX_NAMED],
                needed,
                available,
                "bytes",
            )


def _slow_items(reduced: CompiledInstance) -> Iterator[InfeasibilityReason]:
    """Operators that take longer than the period may be, even where they run fastest."""
    limit = reduced.instance.constraints.longest_period_ms
    if limit == math.inf:
        return
    fastest = np.where(reduced.allowed, reduced.compute_ms.sum(axis=2), np.inf).min(axis=1)
    for item in np.flatnonzero(np.isfinite(fastest) & (fastest > limit * ROOM))[:MAX_NAMED]:
        names = tuple(reduced.instance.graph.operators[operator].id for operator in sorted(reduced.members[item]))
        usable = tuple(name for k, c in enumerate(reduced.classes) if reduced.allowed[item, k] for name in c.devices)
        listed = ", ".join(map(repr, names[:MAX_NAMED]))
        what = f"operator {listed} takes" if len(names) == 1 else f"operators {listed}, which share a device, take"
        yield InfeasibilityReason(
            "operator_too_slow",
            f"{what} {fastest[item]:.9g} ms on the fastest device allowed, the period may be {limit:.9g} ms",
            names[:MAX_NAMED],
            usable[:MAX_NAMED],
            float(fastest[item]),
            limit,
            "ms",
        )


def _routes(reduced: CompiledInstance) -> Iterator[InfeasibilityReason]:
    """Data between operators that can only sit on devices without a route between them."""
    if reduced.links is None or reduced.links.reaches.all():
        return
    operators, reaches, allowed = reduced.instance.graph.operators, reduced.links.reaches, reduced.allowed
    found = 0
    for tensor in reduced.tensors:
        for consumer in tensor.consumers:
            here, there = allowed[tensor.producer], allowed[consumer]
            if not here.any() or not there.any() or (here & there).any() or reaches[np.ix_(here, there)].any():
                continue
            source, target = (operators[reduced.members[item][0]].id for item in (tensor.producer, consumer))
            devices = (name for k, c in enumerate(reduced.classes) if here[k] or there[k] for name in c.devices)
            yield InfeasibilityReason(
                "no_route",
                f"operator {target!r} needs data of {source!r}, but no route joins the devices they can sit on",
                (source, target),
                tuple(itertools.islice(devices, MAX_NAMED)),
            )
            found += 1
            if found == MAX_NAMED:
                return


def _devices_for_memory(reduced: CompiledInstance) -> Iterator[InfeasibilityReason]:
    """Fewer devices allowed than even the roomiest would have to be."""
    limit = reduced.instance.constraints.max_devices
    if limit is None:
        return
    needed, total = 1, sum(reduced.memory_bytes)
    if all(c.memory_bytes is not None for c in reduced.classes):
        sizes = sorted((c.memory_bytes or 0 for c in reduced.classes for _ in c.devices), reverse=True)
        room = list(itertools.accumulate(sizes))
        needed = max(1, bisect.bisect_left(room, total) + 1)
    if limit < needed <= reduced.num_devices:
        yield InfeasibilityReason(
            "too_few_devices",
            f"{counted(total, 'byte')} of operators need at least {counted(needed, 'device')}, {limit:,} may be used",
            required=needed,
            available=limit,
            unit="devices",
        )


def _cost_of_memory(reduced: CompiledInstance) -> Iterator[InfeasibilityReason]:
    """A lower cost allowed than the memory of all operators would have if it were sold by the byte."""
    limit = reduced.instance.constraints.max_cost_per_hour
    if limit is None:
        return
    prices = [Fraction(c.cost_per_hour) for c in reduced.classes]
    total = sum(reduced.memory_bytes)
    missing, cost = Fraction(total), Fraction(0)
    limited = [(prices[k], c) for k, c in enumerate(reduced.classes) if c.memory_bytes]
    for price, device_class in sorted(limited, key=lambda pair: pair[0] / (pair[1].memory_bytes or 1)):
        size = device_class.memory_bytes or 0
        share = min(missing, Fraction(size * device_class.count))
        cost += price * share / size
        missing -= share
    unlimited = [price for price, c in zip(prices, reduced.classes, strict=True) if c.memory_bytes is None]
    if missing > 0 or unlimited:
        cost = min([*unlimited, *([] if missing > 0 else [cost])], default=Fraction(0))
    least = max(cost, min(prices))
    if least > Fraction(limit) * Fraction(ROOM):
        yield InfeasibilityReason(
            "cost_too_low",
            f"devices with memory for {counted(total, 'byte')} of operators cost at least {float(least):.9g} an hour, "
            f"{limit:.9g} may be spent",
            required=float(least),
            available=limit,
            unit="per hour",
        )


def _moves(reduced: CompiledInstance) -> Iterator[InfeasibilityReason]:
    """More operators, or bytes, that cannot stay where they were than may move."""
    constraints, operators = reduced.instance.constraints, reduced.instance.graph.operators
    previous = constraints.previous_placement or {}
    class_of = {name: k for k, device_class in enumerate(reduced.classes) for name in device_class.devices}
    for limit, thing in ((constraints.max_moved_operators, "operator"), (constraints.max_moved_bytes, "byte")):
        if limit is None:
            continue
        needed, moving = 0, []
        for item, members in enumerate(reduced.members):
            if not reduced.allowed[item].any():  # a reason of its own, whatever may move
                continue
            weights: Counter[str] = Counter()
            for operator in members:
                if operators[operator].id in previous:
                    weight = 1 if thing == "operator" else operators[operator].memory_bytes
                    weights[previous[operators[operator].id]] += weight
            staying = (w for name, w in weights.items() if name in class_of and reduced.allowed[item, class_of[name]])
            least = weights.total() - max(staying, default=0)
            needed += least
            moving += [operators[operator].id for operator in sorted(members)] if least else []
        if needed > limit:
            yield InfeasibilityReason(
                "must_move",
                f"at least {counted(needed, thing)} cannot stay in place, {limit:,} may move",
                tuple(moving[:MAX_NAMED]),
                required=needed,
                available=limit,
                unit=f"{thing}s",
            )
