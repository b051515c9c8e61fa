"""Why there is no placement, by trial: which rules may go so that there is one, and how little is enough.

Every change that is told is backed by a placement that the verifier found sound once the change was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from solver.instance import Instance
from solver.relaxations import ANY_GAP, MAX_NAMED, RULES, Attempt, Rule
from solver.result import InfeasibilityReason, Placement
from solver.verification import verify


def find_conflict(instance: Instance, attempt: Attempt) -> tuple[InfeasibilityReason, ...]:
    """What has to give, and by how much; empty if no way out was found in time.

    Args:
        instance: proved infeasible.
        attempt: solves relaxed instances.
    """
    rules = [rule for rule in RULES if rule.drop(instance) != instance]
    alone = [(rule, attempt(rule.drop(instance), ANY_GAP).placement) for rule in rules]
    # A placement that breaks nothing, by the rounding the verifier forgives, is no reason.
    ways = [(rule, found) for rule, found in alone if found is not None and verify(instance, found).violations]
    if ways:
        changes = [_least_change(instance, rule, found, attempt) for rule, found in ways]
        message = f"not all can be had; there is a placement without any one of: {_list(rule for rule, _ in ways)}"
        return (InfeasibilityReason("conflict", message, *_concerned(changes)), *changes)
    dropped, placement = _drop_together(instance, rules, attempt)
    if placement is None or not dropped:
        return ()
    changes = [_joint_change(instance, rule, dropped, placement) for rule in dropped]
    message = f"not all can be had; there is a placement without all of: {_list(dropped)}"
    return (InfeasibilityReason("joint_conflict", message, *_concerned(changes)), *changes)


def _list(rules: Iterable[Rule]) -> str:
    return ", ".join(rule.words for rule in rules)


def _concerned(changes: Sequence[InfeasibilityReason]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Operators and devices of all the changes."""
    operators = dict.fromkeys(name for change in changes for name in change.operators)
    devices = dict.fromkeys(name for change in changes for name in change.devices)
    return tuple(operators)[:MAX_NAMED], tuple(devices)[:MAX_NAMED]


def _least_change(instance: Instance, rule: Rule, placement: Placement, attempt: Attempt) -> InfeasibilityReason:
    """The change of one rule that is enough by itself."""
    placement, is_least = rule.least(instance, placement, attempt)
    change = rule.tell(instance, placement)
    return replace(change, message=change.message + "; less will not do") if is_least else change


def _drop_together(instance: Instance, rules: Sequence[Rule], attempt: Attempt) -> tuple[list[Rule], Placement | None]:
    """Rules that a placement breaks and that are enough together; each is taken back that can be."""
    dropped = list(rules)
    found = attempt(_without(instance, dropped), ANY_GAP).placement
    if found is None:
        return [], None
    for rule in rules:
        placement = attempt(_without(instance, _others(dropped, rule)), ANY_GAP).placement
        if placement is not None:
            dropped, found = _others(dropped, rule), placement
    found = attempt(_without(instance, dropped), 0.0).placement or found
    for rule in list(dropped):
        if not verify(_without(instance, _others(dropped, rule)), found).violations:
            dropped = _others(dropped, rule)
    return dropped, found


def _joint_change(instance: Instance, rule: Rule, dropped: Sequence[Rule], placement: Placement) -> InfeasibilityReason:
    change = rule.tell(_without(instance, _others(dropped, rule)), placement)
    return replace(change, message=change.message + " (with the other changes)")


def _others(rules: Sequence[Rule], rule: Rule) -> list[Rule]:
    return [other for other in rules if other is not rule]


def _without(instance: Instance, rules: Iterable[Rule]) -> Instance:
    for rule in rules:
        instance = rule.drop(instance)
    return instance
