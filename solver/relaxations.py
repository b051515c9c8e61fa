"""The rules that may be given up to make an instance feasible: how to, how little will do, and how to say it.

Each takes an instance in which it alone stands in the way: with the rule dropped, ``placement`` is sound.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from solver.instance import DeviceSpec, Instance, InterconnectModel, Link, ObjectiveKind, Operator, Partition
from solver.result import InfeasibilityReason, Placement, Result, Status
from solver.verification import Violation, verify
from solver.words import counted

Attempt = Callable[[Instance, float], Result]
"""A short search of a relaxed instance for a placement within a relative gap; it may come back with none."""

ANY_GAP = 1.0
"""The first placement will do."""
MAX_NAMED = 20
MAX_SINGLE = 12
"""So many operators are held to their pins (and the like) again, one by one."""
MAX_HALVINGS = 12
FASTEST = Link(1e18)


class Rule(ABC):
    """A family of constraints.

    Attributes:
        code: of the reason that tells the change.
        words: what the rule is called in sentences.
    """

    code: str
    words: str

    @abstractmethod
    def drop(self, instance: Instance) -> Instance:
        """The instance without the rule; an equal one if there is no such rule."""

    def least(self, instance: Instance, placement: Placement, attempt: Attempt) -> tuple[Placement, bool]:  # noqa: ARG002
        """A placement that breaks the rule by little, and whether it is proved that by less will not do."""
        return placement, False

    @abstractmethod
    def tell(self, instance: Instance, placement: Placement) -> InfeasibilityReason:
        """The change of the rule that lets ``placement`` through."""


class _Aimed(Rule):
    """A limit of something that can be the objective."""

    noun: str
    kind: ObjectiveKind
    unit: str

    @abstractmethod
    def _limit(self, instance: Instance) -> float:
        """What is allowed now."""

    def _aim(self, instance: Instance) -> Instance:
        return replace(instance, objective=replace(instance.objective, kind=self.kind))

    def least(self, instance: Instance, placement: Placement, attempt: Attempt) -> tuple[Placement, bool]:
        result = attempt(self._aim(self.drop(instance)), 0.0)
        return result.placement or placement, result.status is Status.OPTIMAL

    def tell(self, instance: Instance, placement: Placement) -> InfeasibilityReason:
        value, limit = verify(self._aim(instance), placement).objective_value, self._limit(instance)
        message = f"there is a placement with {self.noun} of {value:.9g} {self.unit} instead of {limit:.9g}"
        return InfeasibilityReason(self.code, message, required=value, available=limit, unit=self.unit)


class _Period(_Aimed):
    code, words, noun = "relax_period", "the limit of the period", "a period"
    kind, unit = ObjectiveKind.THROUGHPUT, "ms"

    def drop(self, instance: Instance) -> Instance:
        limits = replace(instance.constraints, max_period_ms=None, min_throughput_per_s=None)
        return replace(instance, constraints=limits)

    def _limit(self, instance: Instance) -> float:
        return instance.constraints.longest_period_ms


class _Cost(_Aimed):
    code, words, noun = "relax_cost", "the limit of the cost", "a cost"
    kind, unit = ObjectiveKind.COST, "per hour"

    def drop(self, instance: Instance) -> Instance:
        return replace(instance, constraints=replace(instance.constraints, max_cost_per_hour=None))

    def _limit(self, instance: Instance) -> float:
        return instance.constraints.max_cost_per_hour or 0.0


class _Counted(Rule):
    """A limit in whole numbers."""

    noun: str
    unit: str

    @abstractmethod
    def _need(self, instance: Instance, placement: Placement) -> int:
        """How much of it ``placement`` takes."""

    @abstractmethod
    def _limit(self, instance: Instance) -> int:
        """What is allowed now."""

    @abstractmethod
    def _allow(self, instance: Instance, amount: int) -> Instance:
        """The instance with so much of it allowed."""

    def least(self, instance: Instance, placement: Placement, attempt: Attempt) -> tuple[Placement, bool]:
        low, high = self._limit(instance), self._need(instance, placement)
        for _ in range(MAX_HALVINGS):
            if high - low <= 1:
                break
            middle = (low + high) // 2
            found = attempt(self._allow(instance, middle), ANY_GAP).placement
            if found is None:
                low = middle
            else:
                placement, high = found, self._need(instance, found)
        return placement, attempt(self._allow(instance, high - 1), ANY_GAP).status is Status.INFEASIBLE

    def tell(self, instance: Instance, placement: Placement) -> InfeasibilityReason:
        need, limit = self._need(instance, placement), self._limit(instance)
        message = f"there is a placement with {counted(need, self.noun)} instead of {limit:,}"
        return InfeasibilityReason(self.code, message, required=need, available=limit, unit=self.unit)


class _Devices(_Counted):
    code, words = "relax_devices", "the limit of devices"
    noun, unit = "device", "devices"

    def drop(self, instance: Instance) -> Instance:
        return replace(instance, constraints=replace(instance.constraints, max_devices=None))

    def _need(self, instance: Instance, placement: Placement) -> int:  # noqa: ARG002
        return len(set(placement.values()))

    def _limit(self, instance: Instance) -> int:
        return instance.constraints.max_devices or 0

    def _allow(self, instance: Instance, amount: int) -> Instance:
        return replace(instance, constraints=replace(instance.constraints, max_devices=amount))


def _moved(instance: Instance, placement: Placement) -> list[Operator]:
    previous = instance.constraints.previous_placement or {}
    return [o for o in instance.graph.operators if previous.get(o.id, placement[o.id]) != placement[o.id]]


class _MovedOperators(_Counted):
    code, words = "relax_moved_operators", "the limit of moved operators"
    noun, unit = "moved operator", "operators"

    def drop(self, instance: Instance) -> Instance:
        return replace(instance, constraints=replace(instance.constraints, max_moved_operators=None))

    def _need(self, instance: Instance, placement: Placement) -> int:
        return len(_moved(instance, placement))

    def _limit(self, instance: Instance) -> int:
        return instance.constraints.max_moved_operators or 0

    def _allow(self, instance: Instance, amount: int) -> Instance:
        return replace(instance, constraints=replace(instance.constraints, max_moved_operators=amount))


class _MovedBytes(_Counted):
    code, words = "relax_moved_bytes", "the limit of moved bytes"
    noun, unit = "moved byte", "bytes"

    def drop(self, instance: Instance) -> Instance:
        return replace(instance, constraints=replace(instance.constraints, max_moved_bytes=None))

    def _need(self, instance: Instance, placement: Placement) -> int:
        return sum(operator.memory_bytes for operator in _moved(instance, placement))

    def _limit(self, instance: Instance) -> int:
        return instance.constraints.max_moved_bytes or 0

    def _allow(self, instance: Instance, amount: int) -> Instance:
        return replace(instance, constraints=replace(instance.constraints, max_moved_bytes=amount))


class _Memory(_Counted):
    """Counted is how much more the devices get, each as much as the one that needs most."""

    code, words, unit = "relax_memory", "the memory limits", "bytes"

    def drop(self, instance: Instance) -> Instance:
        devices = tuple(replace(spec, memory_bytes=None) for spec in instance.cluster.devices)
        return replace(instance, cluster=replace(instance.cluster, devices=devices))

    def _need(self, instance: Instance, placement: Placement) -> int:
        return max(self._lacking(instance, placement).values(), default=0)

    def _limit(self, instance: Instance) -> int:  # noqa: ARG002
        return 0

    def _allow(self, instance: Instance, amount: int) -> Instance:
        return self._enlarge(instance, instance.cluster.devices, amount)

    def least(self, instance: Instance, placement: Placement, attempt: Attempt) -> tuple[Placement, bool]:
        placement, is_least = super().least(instance, placement, attempt)
        placement = self._with_fewer(instance, placement, attempt)
        # What is proved least is the largest of the amounts: all there is to say only where it is the only one.
        return placement, is_least and len(self._lacking(instance, placement)) == 1

    def _with_fewer(self, instance: Instance, placement: Placement, attempt: Attempt) -> Placement:
        """A placement for which fewer devices get more, and none more than the largest amount so far."""
        amount = self._need(instance, placement)
        for entry in self._overfull(instance, placement)[:MAX_SINGLE]:
            others = [other for other in self._overfull(instance, placement) if other is not entry]
            if not others:
                break
            found = attempt(self._enlarge(instance, others, amount), ANY_GAP).placement
            if found is not None and len(self._lacking(instance, found)) < len(self._lacking(instance, placement)):
                placement = found
        return placement

    def _overfull(self, instance: Instance, placement: Placement) -> list[DeviceSpec]:
        lacking = self._lacking(instance, placement).keys()
        return [spec for spec in instance.cluster.devices if not lacking.isdisjoint(spec.names)]

    def _enlarge(self, instance: Instance, entries: Sequence[DeviceSpec], amount: int) -> Instance:
        devices = tuple(
            replace(spec, memory_bytes=spec.memory_bytes + amount)
            if spec in entries and spec.memory_bytes is not None
            else spec
            for spec in instance.cluster.devices
        )
        return replace(instance, cluster=replace(instance.cluster, devices=devices))

    def _lacking(self, instance: Instance, placement: Placement) -> dict[str, int]:
        """Per overfull device, the bytes that it has too few."""
        held: Counter[str] = Counter()
        for operator in instance.graph.operators:
            held[placement[operator.id]] += operator.memory_bytes
        limits = {device.name: device.spec.memory_bytes for device in instance.cluster.expand()}
        lacking = {name: need - (need if limits[name] is None else limits[name] or 0) for name, need in held.items()}
        return {name: missing for name, missing in lacking.items() if missing > 0}

    def tell(self, instance: Instance, placement: Placement) -> InfeasibilityReason:
        lacking = self._lacking(instance, placement)
        added = ", ".join(f"{counted(missing, 'byte')} on {name!r}" for name, missing in lacking.items())
        operators, _ = _named(verify(instance, placement).violations)
        # All devices with too little are named: more memory for some of them would not do.
        return InfeasibilityReason(
            self.code,
            f"there is a placement with more memory: {added}",
            operators[:MAX_NAMED],
            tuple(lacking),
            max(lacking.values(), default=0),
            0,
            self.unit,
        )


class _PerOperator(Rule):
    """A rule that holds operators to devices, and can be dropped for some of them."""

    def __init__(self, code: str, words: str, drop_for: Callable[[Instance, Callable[[str], bool]], Instance]) -> None:
        self.code, self.words = code, words
        self._drop_for = drop_for

    def drop(self, instance: Instance) -> Instance:
        return self._drop_for(instance, lambda _: True)

    def least(self, instance: Instance, placement: Placement, attempt: Attempt) -> tuple[Placement, bool]:
        broken = self._broken(instance, placement)
        for name in sorted(broken)[:MAX_SINGLE]:
            if name in broken and len(broken) > 1:
                result = attempt(self._drop_for(instance, (broken - {name}).__contains__), ANY_GAP)
                if result.placement is not None:
                    placement, broken = result.placement, self._broken(instance, result.placement)
        return placement, False

    def _broken(self, instance: Instance, placement: Placement) -> frozenset[str]:
        return frozenset(_named(verify(instance, placement).violations)[0])

    def tell(self, instance: Instance, placement: Placement) -> InfeasibilityReason:
        operators, _ = _named(verify(instance, placement).violations)
        devices = tuple(dict.fromkeys(placement[name] for name in operators))
        names = ", ".join(map(repr, operators))
        # All operators are named: to free some of them would not do.
        return InfeasibilityReason(
            self.code, f"there is a placement without {self.words} of {names}", operators, devices[:MAX_NAMED]
        )


def _drop_pins(instance: Instance, concerns: Callable[[str], bool]) -> Instance:
    kept = {name: device for name, device in instance.constraints.pinned.items() if not concerns(name)}
    return replace(instance, constraints=replace(instance.constraints, pinned=kept))


def _drop_forbidden(instance: Instance, concerns: Callable[[str], bool]) -> Instance:
    kept = tuple(rule for rule in instance.constraints.forbidden if not concerns(rule.operator))
    return replace(instance, constraints=replace(instance.constraints, forbidden=kept))


def _drop_allowed(instance: Instance, concerns: Callable[[str], bool]) -> Instance:
    operators = tuple(replace(o, allowed_devices=None) if concerns(o.id) else o for o in instance.graph.operators)
    return replace(instance, graph=replace(instance.graph, operators=operators))


def _drop_colocation(instance: Instance, concerns: Callable[[str], bool]) -> Instance:
    operators = tuple(replace(o, colocation_group=None) if concerns(o.id) else o for o in instance.graph.operators)
    return replace(instance, graph=replace(instance.graph, operators=operators))


class _Partition(Rule):
    code, words = "relax_partition", "the partition rule"

    def drop(self, instance: Instance) -> Instance:
        return self._with(instance, Partition.FREE)

    def _with(self, instance: Instance, partition: Partition) -> Instance:
        return replace(instance, objective=replace(instance.objective, partition=partition))

    def least(self, instance: Instance, placement: Placement, attempt: Attempt) -> tuple[Placement, bool]:
        if instance.objective.partition is Partition.ACYCLIC:
            placement = attempt(self._with(instance, Partition.CONVEX), ANY_GAP).placement or placement
        return placement, False

    def tell(self, instance: Instance, placement: Placement) -> InfeasibilityReason:
        is_convex = not verify(self._with(instance, Partition.CONVEX), placement).violations
        operators, devices = _named(verify(instance, placement).violations)
        message = (
            f"there is a placement with the partition {'convex' if is_convex else 'free'} "
            f"instead of {instance.objective.partition.value}"
        )
        return InfeasibilityReason(self.code, message, operators[:MAX_NAMED], devices[:MAX_NAMED])


class _Routes(Rule):
    code, words = "relax_routes", "the lack of links"

    def drop(self, instance: Instance) -> Instance:
        wires = instance.cluster.interconnect
        if wires.model is InterconnectModel.HOST or wires.default is not None:
            return instance
        return replace(instance, cluster=replace(instance.cluster, interconnect=replace(wires, default=FASTEST)))

    def tell(self, instance: Instance, placement: Placement) -> InfeasibilityReason:
        broken = [violation for violation in verify(instance, placement).violations if violation.code == "no_route"]
        operators, devices = _named(broken)
        pairs = dict.fromkeys(" and ".join(map(repr, sorted(violation.devices))) for violation in broken)
        message = "there is a placement with a link, if fast enough, between "
        message += ", ".join(list(pairs)[:MAX_NAMED]) or "devices that only routes join"
        return InfeasibilityReason(self.code, message, operators[:MAX_NAMED], devices[:MAX_NAMED])


def _named(violations: list[Violation] | tuple[Violation, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Operators and devices that break a rule, each once."""
    operators = dict.fromkeys(name for violation in violations for name in violation.operators)
    devices = dict.fromkeys(name for violation in violations for name in violation.devices)
    return tuple(operators), tuple(devices)


RULES: tuple[Rule, ...] = (
    _Routes(),
    _Memory(),
    _PerOperator("relax_colocation", "colocation", _drop_colocation),
    _PerOperator("relax_allowed_devices", "allowed_devices", _drop_allowed),
    _Partition(),
    _Cost(),
    _Devices(),
    _Period(),
    _MovedOperators(),
    _MovedBytes(),
    _PerOperator("relax_forbidden", "the forbidden devices", _drop_forbidden),
    _PerOperator("relax_pinned", "the pins", _drop_pins),
)
"""What is hardest to change comes first: it is taken back first where several have to go together."""
