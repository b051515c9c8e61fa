"""Why so: what binds a given placement, what moving an operator would do, and where help would matter most.

Nothing is solved here and no time is computed here. Every number is what the verifier says of this placement, of this
placement with one operator elsewhere, or of this placement on a cluster with one thing made better.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from solver.errors import InvalidInstance, Issue, UnsupportedInstance
from solver.improvements import ImprovementCode, improvements
from solver.instance import Edge, Instance, ObjectiveKind, Operator, Overlap, PipelineSchedule
from solver.interconnect import Wires
from solver.result import Placement, Stage
from solver.verification import LIMIT_TOLERANCE, Verification, Violation, verify

MAX_TENSORS = 10
MAX_OPERATORS = 3
"""Operators, with their colocation groups, that are moved when none is asked for."""
MAX_WORK = 1_000_000
"""Operators and edges that the verifier is made to look at, over all it is asked: some seconds."""

_Item = TypeVar("_Item")


class Part(StrEnum):
    """A part of a device's load."""

    COMPUTE = "compute"
    INCOMING = "incoming"
    OUTGOING = "outgoing"


class Pass(StrEnum):
    """What a load counts: one pass of ``gpipe``, or both together."""

    BOTH = "both"
    FORWARD = "forward"
    BACKWARD = "backward"


@dataclass(frozen=True, slots=True)
class Load:
    """What one device spends in a pass.

    ``slack_ms`` is what it may take longer before the period does. ``bound_by`` are the parts that the load consists
    of under the overlap rule: shortening no other part shortens it.
    """

    device: str
    in_pass: Pass
    compute_time_ms: float
    transfer_in_ms: float
    transfer_out_ms: float
    load_ms: float
    slack_ms: float
    bound_by: tuple[Part, ...]
    is_bottleneck: bool


@dataclass(frozen=True, slots=True)
class TensorCost:
    """A tensor that travels: what its home ``device`` pays for sending it, and each receiver for taking it in."""

    tensor: str | None
    producer: str
    device: str
    transfer_out_ms: float
    transfer_in_ms: dict[str, float]

    @property
    def total_ms(self) -> float:
        """What all ends pay together."""
        return math.fsum((self.transfer_out_ms, *self.transfer_in_ms.values()))


@dataclass(frozen=True, slots=True)
class Destination:
    """What the verifier says of the placement with some operators on ``device`` instead.

    ``period_ms`` is ``None`` where the device cannot run them or no route leads; ``cost_per_hour`` also when cost is
    not the objective. ``violations`` are all of that placement, not only new ones.
    """

    device: str
    period_ms: float | None
    cost_per_hour: float | None
    violations: tuple[Violation, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """Operators that move together, where they sit now, and where they might: the best first."""

    operators: tuple[str, ...]
    device: str
    destinations: tuple[Destination, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing made better, at ``pointer`` of the request, and the period of this same placement then.

    More memory alone changes no period: ``more_memory`` makes room on the device for moving ``operators`` there.
    """

    code: ImprovementCode
    message: str
    pointer: str
    period_ms: float
    operators: tuple[str, ...] = ()
    device: str | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a placement is worth what it is; the counts say how much was left out."""

    period_ms: float
    cost_per_hour: float | None
    loads: tuple[Load, ...]
    tensors: tuple[TensorCost, ...]
    num_tensors: int
    moves: tuple[Move, ...]
    num_moves_not_tried: int
    changes: tuple[Change, ...]
    num_changes_not_tried: int


def explain(instance: Instance, placement: Placement, operator: str | None = None) -> Explanation | None:
    """Break the period of ``placement`` down; ``None`` when it is too incomplete to have one.

    Args:
        instance: a valid instance with the objective throughput or cost.
        placement: operator id → device name; it may break rules.
        operator: whose moves to look at; without it, those of the bottleneck that matter most.

    Raises:
        UnsupportedInstance: the objective or a constraint is not one that can be explained yet.
        InvalidInstance: the graph has no such operator.
    """
    if instance.objective.kind is ObjectiveKind.LATENCY:
        message = "objective 'latency' cannot be explained yet"
        issue = Issue("unsupported_objective", message, ("objective", "kind"), "use throughput or cost")
        raise UnsupportedInstance((issue,))
    if operator is not None and operator not in {o.id for o in instance.graph.operators}:
        message = f"there is no operator {operator!r}"
        raise InvalidInstance((Issue("unknown_operator", message, ("operator",), "name an operator of the graph"),))
    now, period, cost = _evaluate(instance, placement)
    if period is None:
        return None
    loads = _loads(instance, placement)
    tensors = _tensors(instance, placement)
    budget = max(2, MAX_WORK // (len(instance.graph.operators) + len(instance.graph.edges)))
    if instance.objective.kind is ObjectiveKind.COST:
        budget = max(2, budget // 2)  # each placement is verified under both objectives
    bottlenecks = {load.device for load in loads if load.is_bottleneck}
    units = _units_to_move(instance, placement, bottlenecks, operator)
    moves, moves_left, room = _try_moves(instance, placement, now, units, loads, budget // 2)
    changes, changes_left = _try_changes(instance, placement, bottlenecks, budget - budget // 2)
    return Explanation(
        period_ms=period,
        cost_per_hour=cost,
        loads=loads,
        tensors=tuple(tensors[:MAX_TENSORS]),
        num_tensors=len(tensors),
        moves=moves,
        num_moves_not_tried=moves_left,
        changes=tuple(sorted((*changes, *(c for c in room if c.period_ms < period)), key=lambda c: c.period_ms)),
        num_changes_not_tried=changes_left,
    )


def _evaluate(instance: Instance, placement: Placement) -> tuple[Verification, float | None, float | None]:
    """The verifier's answer as for throughput, the period, and the cost where that is the objective."""
    objective = instance.objective
    verification = verify(replace(instance, objective=replace(objective, kind=ObjectiveKind.THROUGHPUT)), placement)
    cost = verify(instance, placement).objective_value if objective.kind is ObjectiveKind.COST else None
    return verification, verification.objective_value, cost


def _loads(instance: Instance, placement: Placement) -> tuple[Load, ...]:
    """The loads of the used devices in pipeline order; under ``gpipe`` those of the forward pass come first."""
    if instance.objective.schedule is PipelineSchedule.ONE_F_ONE_B:
        return _pass_loads(instance, placement, Pass.BOTH)
    return tuple(
        load
        for pass_ in (Pass.FORWARD, Pass.BACKWARD)
        for load in _pass_loads(_only(instance, pass_), placement, pass_)
    )


def _only(instance: Instance, pass_: Pass) -> Instance:
    """The instance without the work of the other pass: its operators take no time, and their tensors do not travel."""
    idle = {o.id for o in instance.graph.operators if o.is_backward is not (pass_ is Pass.BACKWARD)}
    return replace(
        instance,
        graph=replace(
            instance.graph,
            operators=tuple(
                replace(o, compute_time_ms=dict.fromkeys(o.compute_time_ms, 0.0)) if o.id in idle else o
                for o in instance.graph.operators
            ),
            edges=tuple(edge for edge in instance.graph.edges if edge.source not in idle),
        ),
        objective=replace(instance.objective, schedule=PipelineSchedule.ONE_F_ONE_B),
    )


def _pass_loads(instance: Instance, placement: Placement, pass_: Pass) -> tuple[Load, ...]:
    stages = verify(instance, placement).stages
    largest = max(stage.load_ms for stage in stages)
    return tuple(
        Load(
            device=stage.device,
            in_pass=pass_,
            compute_time_ms=stage.compute_time_ms,
            transfer_in_ms=stage.transfer_in_ms,
            transfer_out_ms=stage.transfer_out_ms,
            load_ms=stage.load_ms,
            slack_ms=largest - stage.load_ms,
            bound_by=_binding(instance.cluster.interconnect.overlap, stage),
            is_bottleneck=stage.load_ms > 0 and stage.load_ms >= largest * (1 - LIMIT_TOLERANCE),
        )
        for stage in stages
    )


def _binding(overlap: Overlap, stage: Stage) -> tuple[Part, ...]:
    """The parts that are counted in the load; of sums that add up, all that are not zero."""
    parts = {
        Part.COMPUTE: stage.compute_time_ms,
        Part.INCOMING: stage.transfer_in_ms,
        Part.OUTGOING: stage.transfer_out_ms,
    }
    together = {
        Overlap.NONE: ((Part.COMPUTE, Part.INCOMING, Part.OUTGOING),),
        Overlap.FULL: ((Part.COMPUTE,), (Part.INCOMING, Part.OUTGOING)),
        Overlap.DUPLEX: ((Part.COMPUTE,), (Part.INCOMING,), (Part.OUTGOING,)),
    }[overlap]
    sums = [math.fsum(parts[part] for part in group) for group in together]
    counted = max(sums) * (1 - LIMIT_TOLERANCE)
    return tuple(
        part for group, total in zip(together, sums, strict=True) if total >= counted for part in group if parts[part]
    )


def _tensors(instance: Instance, placement: Placement) -> list[TensorCost]:
    """The tensors that some device pays for, the dearest first."""
    edges: dict[tuple[str, str | None], list[Edge]] = defaultdict(list)
    for edge in instance.graph.edges:
        if placement[edge.source] != placement[edge.target]:
            edges[edge.source, edge.tensor].append(edge)
    wires = Wires(instance.cluster)
    costs = []
    for (producer, tensor), targets in edges.items():
        home = placement[producer]
        charge = wires.charge(targets[0], home, dict.fromkeys(placement[edge.target] for edge in targets))
        costs.append(TensorCost(tensor, producer, home, math.fsum(charge.outgoing), charge.incoming))
    return sorted((cost for cost in costs if cost.total_ms > 0), key=lambda cost: -cost.total_ms)


def _units_to_move(
    instance: Instance, placement: Placement, bottlenecks: Collection[str], wanted: str | None
) -> list[tuple[Operator, ...]]:
    """Operators that move together: those of ``wanted``, else the longest at the rim of a bottleneck's set.

    At the rim is what has no producer or no consumer beside it; moving any other one tears the set apart.
    """
    units: dict[tuple[bool, str], list[Operator]] = defaultdict(list)
    unit_of = {}
    for operator in instance.graph.operators:
        group = operator.colocation_group
        unit_of[operator.id] = (group is None, operator.id if group is None else group)
        units[unit_of[operator.id]].append(operator)
    if wanted is not None:
        return [tuple(unit) for unit in units.values() if any(operator.id == wanted for operator in unit)]
    kinds = {device.name: device.spec.kind for device in instance.cluster.expand()}
    together = [(e.source, e.target) for e in instance.graph.edges if placement[e.source] == placement[e.target]]
    inner = [(unit_of[source], unit_of[target]) for source, target in together if unit_of[source] != unit_of[target]]
    inside = {source for source, _ in inner} & {target for _, target in inner}

    def rank(unit: Sequence[Operator]) -> tuple[bool, float]:
        time = math.fsum(operator.compute_time_ms[kinds[placement[operator.id]]] for operator in unit)
        return unit_of[unit[0].id] in inside, -time

    there = [unit for unit in units.values() if any(placement[operator.id] in bottlenecks for operator in unit)]
    return [tuple(unit) for unit in sorted(there, key=rank)[:MAX_OPERATORS]]


def _try_moves(
    instance: Instance,
    placement: Placement,
    now: Verification,
    units: Sequence[Sequence[Operator]],
    loads: Sequence[Load],
    budget: int,
) -> tuple[tuple[Move, ...], int, list[Change]]:
    """Each unit on each other device, its neighbours first; how many were not tried; where memory is missing."""
    load_ms: dict[str, float] = defaultdict(float)
    for load in loads:
        load_ms[load.device] += load.load_ms
    by_load = sorted((device.name for device in instance.cluster.expand()), key=lambda name: load_ms[name])
    pointers = {name: f"/cluster/devices/{i}" for i, spec in enumerate(instance.cluster.devices) for name in spec.names}
    moves, room, not_tried = [], [], 0
    for index, unit in enumerate(units):
        members = tuple(operator.id for operator in unit)
        homes = {placement[member] for member in members}
        near = _devices_beside(instance, placement, set(members))
        others = sorted((name for name in by_load if homes != {name}), key=lambda name: name not in near)
        tried, left = _first(others, budget // (len(units) - index))
        budget, not_tried = budget - len(tried), not_tried + left
        destinations = []
        for name in tried:
            verification, period, cost = _evaluate(instance, {**placement, **dict.fromkeys(members, name)})
            destinations.append(Destination(name, period, cost, verification.violations))
            missing = _missing_memory(now, verification, name)
            if missing is not None and period is not None:
                many = f" and {len(members) - 1} more" if len(members) > 1 else ""
                message = f"{missing} more bytes on {name!r}, for operator {members[0]!r}{many} to move there"
                code = ImprovementCode.MORE_MEMORY
                room.append(Change(code, message, pointers[name], period, members, name, missing))
        destinations.sort(key=lambda d: (bool(d.violations), math.inf if d.period_ms is None else d.period_ms))
        moves.append(Move(members, placement[members[0]], tuple(destinations)))
    return tuple(moves), not_tried, room


def _devices_beside(instance: Instance, placement: Placement, members: Collection[str]) -> set[str]:
    """The devices that exchange data with these operators."""
    ends = [(e.source, e.target) for e in instance.graph.edges if (e.source in members) != (e.target in members)]
    return {placement[end] for edge in ends for end in edge if end not in members}


def _missing_memory(now: Verification, then: Verification, device: str) -> int | None:
    """The bytes by which ``device`` is too small, when nothing else is newly broken."""
    news = [violation for violation in then.violations if violation not in now.violations]
    if not news or any((violation.code, violation.devices) != ("memory", (device,)) for violation in news):
        return None
    return next(
        (
            stage.memory_bytes - stage.memory_limit_bytes
            for stage in then.stages
            if stage.device == device and stage.memory_limit_bytes is not None
        ),
        None,
    )


def _try_changes(
    instance: Instance, placement: Placement, bottlenecks: Collection[str], budget: int
) -> tuple[list[Change], int]:
    """The placement as it is, with one thing better; how many were not tried."""
    tried, left = _first(list(improvements(instance, placement, bottlenecks)), budget)
    changes = []
    for improvement in tried:
        period = _evaluate(improvement.apply(instance), placement)[1]
        if period is not None:
            changes.append(Change(improvement.code, improvement.message, improvement.pointer, period))
    return changes, left


def _first(items: Sequence[_Item], count: int) -> tuple[Sequence[_Item], int]:
    """The first ``count`` items, and how many more there are."""
    return items[:count], max(0, len(items) - count)
