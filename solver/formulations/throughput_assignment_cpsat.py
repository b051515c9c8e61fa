"""Throughput, convex or free partition, ``host`` interconnect: operators to single devices, for CP-SAT.

Sets
    v ∈ items, d ∈ devices (class k(d), number within the class), t ∈ tensors, u ∈ forward operators (item i(u)),
    p ∈ passes (one pass that holds both for ``1f1b``; forward and backward for ``gpipe``).
Parameters (times scaled to integers, rounded down, so that the bound is a bound in real time)
    c[v,k,p] compute time · τ[t,k] transfer time · m[v] memory · M[k] memory limit · n[k] devices of class k.
Variables
    x[v,d] ∈ {0,1}      v sits on device d
    out[t,d], in[t,d]   t leaves, or enters, device d
    a[u,d] ∈ {0,1}      convex only: u is on d or a path leads from u to an operator on d
    T[p] ≥ 0            the period, or each pass's share of it
Minimise Σ_p T[p], subject to
    assign_once         Σ_d x[v,d] = 1
    device_kind         x[v,d] = 0                              where class k(d) cannot hold v
    transfer_out        x[u,d] ∧ ¬x[w,d] ⇒ out[t,d]             u makes t, w needs it
    transfer_in         x[w,d] ∧ ¬x[u,d] ⇒ in[t,d]
    memory              Σ_v m[v] x[v,d] ≤ M[k(d)]
    load                C, I, O of device d add up, by the overlap rule, to at most T[p]
    convex_partition    x[i(u),d] ⇒ a[u,d];  a[w,d] ⇒ a[u,d];  x[i(u),d] ∧ a[w,d] ⇒ x[i(w),d]   per forward edge u → w
    aggregate           Σ_{d of class k} load of d ≤ n[k] T[p]   (implied; it is what lifts the bound)
    first_appearance    devices of a class are numbered by their first item in a fixed order of the items
                        (alike devices may be renamed at will, so one naming of each answer suffices)

Source: the variables are those of Tarnawski et al. (2020, §4) and their contiguity constraints (the ancestors ``a``
are their z); aggregate and first_appearance are own.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ortools.sat.python import cp_model

from solver.compiled import CompiledInstance
from solver.formulations.cpsat import Assignment, Model, load_rows, scaled_bytes
from solver.instance import Partition

Device = tuple[int, int]

NUM_ORDERED = 24
"""Items that take part in the full naming rule; later ones add little and cost many clauses."""


class AssignmentModel(Model):
    """The formulation of the module, built for one compiled and reduced instance."""

    name = "assignment"
    presolve = True

    def build(self) -> None:
        """Add variables and constraints."""
        compiled, model = self.compiled, self.model
        self.devices: list[Device] = [(k, n) for k, c in enumerate(compiled.classes) for n in range(c.count)]
        self.rank = _naming_order(compiled)
        self.x = [
            {d: model.new_bool_var("") for d in self.devices if self.usable[item, d[0]]}
            for item in range(compiled.num_items)
        ]
        for row in self.x:
            model.add_exactly_one(row.values())
        self.add_transfers()
        rows: dict[tuple[int, int], list[list[tuple[Any, int]]]] = defaultdict(list)
        for device in self.devices:
            self.check_time()
            self.add_memory(device)
            self.add_load(device, rows)
        self._add_aggregate(rows)
        self.add_naming()
        if compiled.partition is Partition.CONVEX:
            self.add_convexity()

    def _held(self, item: int, device: Device) -> Any:
        return self.x[item].get(device, 0)

    def add_transfers(self) -> None:
        """``transfer_out`` and ``transfer_in``; a host pays nothing, so it has no transfer variables."""
        compiled, model = self.compiled, self.model
        self.sent: list[dict[Device, cp_model.IntVar]] = []
        self.received: list[dict[Device, cp_model.IntVar]] = []
        for tensor in compiled.tensors:
            self.check_time()
            sent: dict[Device, cp_model.IntVar] = {}
            received: dict[Device, cp_model.IntVar] = {}
            for device in self.devices:
                if compiled.classes[device[0]].is_host or not tensor.time_ms[device[0]]:
                    continue
                here = self.x[tensor.producer].get(device)
                there = [self.x[item].get(device) for item in tensor.consumers]
                if here is not None:
                    leaves = sent[device] = model.new_bool_var("")
                    for target in there:
                        model.add_bool_or(~here, leaves, *([] if target is None else [target]))
                if any(target is not None for target in there):
                    enters = received[device] = model.new_bool_var("")
                    for target in there:
                        if target is not None:
                            model.add_bool_or(~target, enters, *([] if here is None else [here]))
            self.sent.append(sent)
            self.received.append(received)

    def add_memory(self, device: Device) -> None:
        """``memory``."""
        limit = self.compiled.classes[device[0]].memory_bytes
        if limit is None:
            return
        needs, room = scaled_bytes(self.compiled.memory_bytes, limit)
        terms = [(self.x[item][device], need) for item, need in enumerate(needs) if device in self.x[item] and need]
        if sum(need for _, need in terms) > room:
            self.model.add(weighted_sum(terms) <= room)

    def add_load(self, device: Device, rows: dict[tuple[int, int], list[list[tuple[Any, int]]]]) -> None:
        """``load``, and its rows for ``aggregate``."""
        compiled = self.compiled
        index = device[0]
        loads = load_rows(
            compiled,
            index,
            self.scale,
            [self.x[item].get(device) for item in range(compiled.num_items)],
            [sent.get(device) for sent in self.sent],
            [received.get(device) for received in self.received],
        )
        for variables, weights, part in loads:
            terms = [(v, w) for v, w in zip(variables, weights, strict=True) if v is not None]
            if terms:
                self.model.add(weighted_sum(terms) <= self.period[part])
                rows[index, part].append(terms)

    def _add_aggregate(self, rows: dict[tuple[int, int], list[list[tuple[Any, int]]]]) -> None:
        compiled = self.compiled
        for (index, part), parts in rows.items():
            count = compiled.classes[index].count
            if count > 1 and len(parts) == count:
                self.model.add(weighted_sum([term for terms in parts for term in terms]) <= count * self.period[part])

    def add_naming(self) -> None:
        """``first_appearance`` on the leading items of the naming order."""
        model = self.model
        for index, device_class in enumerate(self.compiled.classes):
            used: list[cp_model.IntVar | None] = [None] * device_class.count
            for position, item in enumerate(self.rank[:NUM_ORDERED]):
                before = list(used)
                for number in range(device_class.count):
                    x = self.x[item].get((index, number))
                    if x is None:
                        continue
                    if number:
                        previous = before[number - 1]
                        model.add_bool_or(~x, *([] if previous is None else [previous]))
                    if number <= position:
                        # used ⇔ one of the items so far sits on the device
                        now = model.new_bool_var("")
                        seen = [literal for literal in (x, before[number]) if literal is not None]
                        model.add_bool_or(*seen, ~now)
                        for literal in seen:
                            model.add_implication(literal, now)
                        used[number] = now

    def add_convexity(self) -> None:
        """``convex_partition``."""
        compiled, model = self.compiled, self.model
        ends = {operator for edge in compiled.forward_edges for operator in edge}
        for device in self.devices:
            self.check_time()
            ancestor = {operator: model.new_bool_var("") for operator in sorted(ends)}
            for operator, reaches in ancestor.items():
                x = self._held(compiled.item_of[operator], device)
                if not isinstance(x, int):
                    model.add_implication(x, reaches)
            for source, target in compiled.forward_edges:
                model.add_implication(ancestor[target], ancestor[source])
                here = self._held(compiled.item_of[source], device)
                there = self._held(compiled.item_of[target], device)
                if not isinstance(here, int):
                    model.add_bool_or(~here, ~ancestor[target], *([] if isinstance(there, int) else [there]))

    def hint(self, assignment: Assignment) -> None:
        """Start from a known placement, its devices renamed to suit ``first_appearance``."""
        named = self.name_by_appearance(assignment)
        for item, row in enumerate(self.x):
            for device, x in row.items():
                self.model.add_hint(x, named[item] == device)
        for t, tensor in enumerate(self.compiled.tensors):
            home = named[tensor.producer]
            self.hint_transfers(t, home, {named[item] for item in tensor.consumers} - {home})

    def name_by_appearance(self, assignment: Assignment) -> list[Device]:
        """The same placement with the devices of each class named to suit ``first_appearance``."""
        new_name: dict[Device, Device] = {}
        taken = [0] * len(self.compiled.classes)
        for item in self.rank:
            device = assignment[item]
            if device not in new_name:
                new_name[device] = (device[0], taken[device[0]])
                taken[device[0]] += 1
        return [new_name[device] for device in assignment]

    def hint_transfers(self, index: int, home: Device, receivers: set[Device]) -> None:
        """Where one tensor leaves and enters."""
        for device, leaves in self.sent[index].items():
            self.model.add_hint(leaves, device == home and bool(receivers))
        for device, enters in self.received[index].items():
            self.model.add_hint(enters, device in receivers)

    def assignment(self, value: Any) -> Assignment:
        """Per item (class, device of that class), read from a solution."""
        return [next(device for device, x in row.items() if value.boolean_value(x)) for row in self.x]


def weighted_sum(terms: list[tuple[Any, int]]) -> Any:
    """Σ weight · variable."""
    return cp_model.LinearExpr.weighted_sum([variable for variable, _ in terms], [weight for _, weight in terms])


def _naming_order(compiled: CompiledInstance) -> list[int]:
    """Heavy items first: where they sit says most, so naming devices after them prunes most."""
    finite = compiled.compute_ms.sum(axis=2)
    weight = [min((float(cost) for cost in row if cost < float("inf")), default=0.0) for row in finite]
    return sorted(range(compiled.num_items), key=lambda item: (-weight[item], item))
