"""Throughput or cost on any cluster: links, unlike devices, every partition and every limit, for CP-SAT.

The model of :mod:`solver.formulations.throughput_assignment_cpsat`, whose transfers stay over ``host``, and:

Sets
    Λ[t,d]  distinct times τ of tensor t over the links of device d; D[t,d,τ] the other devices at that time
Parameters
    P the longest period allowed · p[d] price · N, K most devices and highest price · o[v,d], b[v,d] operators and
    bytes of v that sit elsewhere than before when v is on d · O, B most operators and bytes that may move
Variables
    used[d] ∈ {0,1}          d holds an item
    need[t,d] ∈ {0,1}        a consumer of t is on d
    recv[t,d,τ] ∈ {0,1}      t enters d over a link on which it takes τ
    send[t,d,τ] ∈ ℕ          to so many devices t goes from d over such links
    pos[v], rank[d] ∈ 0…D−1  acyclic only: place of an item and of a device in the pipeline; the ranks are all different
Minimise Σ_p T[p], or Σ_d p[d] used[d] with the objective cost, subject to
    need                x[w,d] ⇒ need[t,d]                                           for each consumer w of t
    transfer_in         need[t,d] + Σ_{e ∈ D[t,d,τ]} x[u,e] ≤ 1 + recv[t,d,τ];  need[t,d] ≤ x[u,d] + Σ_τ recv[t,d,τ]
    transfer_out        Σ_{e ∈ D[t,d,τ]} need[t,e] ≤ send[t,d,τ] + M (1 − x[u,d])     M: most receivers at once
    no_route            need[t,d] ⇒ ¬x[u,e]                                           without a way from e to d
    load                as there, with τ·send and τ·recv
    acyclic_partition   x[v,d] ⇒ pos[v] = rank[d];  pos[u] ≤ pos[v]                   per forward edge u → v
    max_period_ms       Σ_p T[p] ≤ P                   max_devices         Σ_d used[d] ≤ N
    max_cost_per_hour   Σ_d p[d] used[d] ≤ K           max_moved_*         Σ_{v,d} o[v,d] x[v,d] ≤ O, same for b and B
    naming              devices of a class ascend by rank, used ones first; convex and free: first_appearance

Source: own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
from ortools.sat.python import cp_model

from solver.compiled import CompiledInstance, Floats, Tensor
from solver.formulations.cpsat import SUMMED_OTHERWISE, Assignment, Scale, binary_places, scaled_bytes
from solver.formulations.overlap import sums_within_period
from solver.formulations.throughput_assignment_cpsat import AssignmentModel, Device, weighted_sum
from solver.instance import ObjectiveKind, Partition
from solver.pipelines import along_pipeline

COST_BITS = 40
"""The price of all devices together has about so many binary places."""

Levels = dict[float, list[Device]]
"""Time over a link → the devices behind such links."""


class ClusterModel(AssignmentModel):
    """The formulation of the module, built for one compiled and reduced instance.

    Args:
        compiled: the reduced instance.
        limit_ms: no placement with a longer period is looked for.
        bound_ms: a proved lower bound of the period.
        limit_cost: the same for the price, with the objective cost; infinite where there is no limit.
    """

    name = "cluster"

    def __init__(
        self, compiled: CompiledInstance, limit_ms: float, bound_ms: float, limit_cost: float = math.inf
    ) -> None:
        self.is_cost = compiled.instance.objective.kind is ObjectiveKind.COST
        prices = [c.cost_per_hour for c in compiled.classes]
        total = sum(c.cost_per_hour * c.count for c in compiled.classes)
        exponent = COST_BITS - math.frexp(max(total, 1e-100))[1]
        self.cost_scale = Scale(min(exponent, max((binary_places(p) for p in prices if p), default=0)), total)
        self.prices = [self.cost_scale.down(price) for price in prices]
        self.limit_cost = min(limit_cost, total)
        super().__init__(compiled, limit_ms, bound_ms)

    def build(self) -> None:
        """Add variables and constraints."""
        super().build()
        self.used = {device: self.model.new_bool_var("") for device in self.devices}
        for row in self.x:
            for device, x in row.items():
                self.model.add_implication(x, self.used[device])
        for device, used in self.used.items():
            self.model.add_bool_or(~used, *(row[device] for row in self.x if device in row))
        if self.compiled.partition is Partition.ACYCLIC:
            self._add_order()
        self._add_limits()

    def add_objective(self) -> None:
        """Minimise the period or the price."""
        if self.is_cost:
            self.model.minimize(weighted_sum([(used, self.prices[d[0]]) for d, used in self.used.items()]))
        else:
            super().add_objective()

    def value_of(self, units: float) -> float:
        """What a value of the model's objective stands for: ms, or the price of an hour."""
        return self.cost_scale.ms(units) if self.is_cost else super().value_of(units)

    def add_naming(self) -> None:
        """``naming``; by rank it is part of the order."""
        if self.compiled.partition is not Partition.ACYCLIC:
            super().add_naming()

    def _add_order(self) -> None:
        """``acyclic_partition`` and its naming."""
        compiled, model = self.compiled, self.model
        last = len(self.devices) - 1
        self.ranks = {device: model.new_int_var(0, last, "") for device in self.devices}
        self.positions = {
            item: model.new_int_var(0, last, "") for item in range(compiled.num_items) if compiled.has_forward[item]
        }
        model.add_all_different(self.ranks.values())
        for item, position in self.positions.items():
            for device, x in self.x[item].items():
                model.add(position == self.ranks[device]).only_enforce_if(x)
        for source, target in compiled.item_edges:
            model.add(self.positions[source] <= self.positions[target])
        for index, number in self.devices:
            if number:
                model.add(self.ranks[index, number - 1] < self.ranks[index, number])
                model.add_implication(self.used[index, number], self.used[index, number - 1])

    def _add_limits(self) -> None:
        """Every limit of the request but that of the period, which bounds the period's domain."""
        limits, model = self.compiled.instance.constraints, self.model
        if limits.max_devices is not None:
            model.add(sum(self.used.values()) <= limits.max_devices)
        most = self.limit_cost
        if limits.max_cost_per_hour is not None:
            most = min(most, limits.max_cost_per_hour * SUMMED_OTHERWISE)
        prices = weighted_sum([(used, self.prices[d[0]]) for d, used in self.used.items()])
        model.add(prices <= math.floor(math.ldexp(most * SUMMED_OTHERWISE, self.cost_scale.exponent)))
        for limit, counts_bytes in ((limits.max_moved_operators, False), (limits.max_moved_bytes, True)):
            if limit is not None:
                terms = list(self._moves(counts_bytes=counts_bytes))
                weights, room = scaled_bytes([weight for _, weight in terms], limit)
                if sum(weights) > room:
                    model.add(cp_model.LinearExpr.weighted_sum([x for x, _ in terms], weights) <= room)

    def _moves(self, *, counts_bytes: bool) -> Any:
        compiled = self.compiled
        operators = compiled.instance.graph.operators
        previous = compiled.instance.constraints.previous_placement or {}
        for item, row in enumerate(self.x):
            for (index, number), x in row.items():
                name = compiled.classes[index].devices[number]
                moved = [
                    operators[o].memory_bytes if counts_bytes else 1
                    for o in compiled.members[item]
                    if previous.get(operators[o].id, name) != name
                ]
                if sum(moved):
                    yield x, sum(moved)

    def add_transfers(self) -> None:
        """``need``, ``transfer_in``, ``transfer_out`` and ``no_route``."""
        if self.compiled.links is None:
            super().add_transfers()
            return
        self.needed: list[dict[Device, cp_model.IntVar]] = []
        self.levels: list[dict[Device, Levels]] = []
        self.entering: list[dict[tuple[Device, float], cp_model.IntVar]] = []
        self.leaving: list[dict[tuple[Device, float], cp_model.IntVar]] = []
        for tensor in self.compiled.tensors:
            self.needed.append(self._add_need(tensor))
            self.levels.append(self._levels(self.compiled.links.times(tensor.sizes)))
            self.entering.append(self._add_entering(tensor))
            self.leaving.append(self._add_leaving(tensor))

    def _add_need(self, tensor: Tensor) -> dict[Device, cp_model.IntVar]:
        rows = [self.x[item] for item in tensor.consumers]
        if len(rows) == 1:
            return rows[0]
        needed = {}
        for device in self.devices:
            there = [row[device] for row in rows if device in row]
            if there:
                needed[device] = self.model.new_bool_var("")
                for x in there:
                    self.model.add_implication(x, needed[device])
        return needed

    def _levels(self, times: Floats) -> dict[Device, Levels]:
        levels: dict[Device, Levels] = {}
        for device in self.devices:
            behind: Levels = defaultdict(list)
            for other in self.devices:
                if other != device:
                    behind[float(times[device[0], other[0]])].append(other)
            levels[device] = behind
        return levels

    def _add_entering(self, tensor: Tensor) -> dict[tuple[Device, float], cp_model.IntVar]:
        model, makers = self.model, self.x[tensor.producer]
        entering = {}
        for device, need in self.needed[-1].items():
            arrivals = [makers[device]] if device in makers else []
            for time, others in self.levels[-1][device].items():
                senders = [makers[other] for other in others if other in makers]
                if not senders:
                    continue
                if math.isinf(time):
                    for x in senders:
                        model.add_implication(need, ~x)
                    continue
                enters = entering[device, time] = model.new_bool_var("")
                arrivals.append(enters)
                model.add(need + sum(senders) <= 1 + enters)
            model.add_bool_or(~need, *arrivals)
        return entering

    def _add_leaving(self, tensor: Tensor) -> dict[tuple[Device, float], cp_model.IntVar]:
        model = self.model
        leaving = {}
        for device, x in self.x[tensor.producer].items():
            for time, others in self.levels[-1][device].items():
                receivers = [self.needed[-1][other] for other in others if other in self.needed[-1]]
                most = min(len(receivers), len(tensor.consumers))
                if most and 0 < time < math.inf:
                    leaves = leaving[device, time] = model.new_int_var(0, most, "")
                    model.add(sum(receivers) <= leaves + most - most * x)
        return leaving

    def add_load(self, device: Device, rows: dict[tuple[int, int], list[list[tuple[Any, int]]]]) -> None:
        """``load``, and its rows for ``aggregate``."""
        if self.compiled.links is None:
            super().add_load(device, rows)
            return
        compiled = self.compiled
        for part in range(2 if compiled.is_gpipe else 1):
            passes = [part] if compiled.is_gpipe else [0, 1]
            costs = compiled.compute_ms[:, device[0], passes].sum(axis=1)
            compute = [
                (self.x[item][device], self.scale.down(float(costs[item])))
                for item in np.flatnonzero(costs)
                if device in self.x[item]
            ]
            moved = [t for t, tensor in enumerate(compiled.tensors) if tensor.pass_index in passes]
            incoming, outgoing = (
                [
                    (variable, self.scale.down(time))
                    for t in moved
                    for (where, time), variable in transfers[t].items()
                    if where == device
                ]
                for transfers in (self.entering, self.leaving)
            )
            sums = sums_within_period(compiled.overlap, compute, outgoing, incoming)
            for row in sums:
                terms = [(variable, weight) for variable, weight in row if weight]
                if terms:
                    self.model.add(weighted_sum(terms) <= self.period[part])
                    rows[device[0], part].append(terms)

    def hint(self, assignment: Assignment) -> None:
        """Start from a known placement, its devices renamed to suit the naming."""
        named = self._rename(assignment)
        model = self.model
        for item, row in enumerate(self.x):
            for device, x in row.items():
                model.add_hint(x, named[item] == device)
        held = set(named)
        for device, used in self.used.items():
            model.add_hint(used, device in held)
        for t, tensor in enumerate(self.compiled.tensors):
            home = named[tensor.producer]
            receivers = {named[item] for item in tensor.consumers} - {home}
            if self.compiled.links is None:
                self.hint_transfers(t, home, receivers)
                continue
            if len(tensor.consumers) > 1:
                for device, need in self.needed[t].items():
                    model.add_hint(need, device in receivers or any(named[i] == device for i in tensor.consumers))
            for (device, time), enters in self.entering[t].items():
                model.add_hint(enters, device in receivers and home in self.levels[t][device][time])
            for (device, time), leaves in self.leaving[t].items():
                behind = self.levels[t][device][time]
                model.add_hint(leaves, sum(other in receivers for other in behind) if device == home else 0)

    def _rename(self, assignment: Assignment) -> list[Device]:
        """The same placement with the devices of each class numbered as ``naming`` wants them; hints the ranks."""
        compiled = self.compiled
        if compiled.partition is not Partition.ACYCLIC:
            return self.name_by_appearance(assignment)
        new_name: dict[Device, Device] = {}
        taken = [0] * len(compiled.classes)
        ranks: dict[Device, int] = {}
        for rank, device in enumerate(along_pipeline(compiled, assignment) or ()):
            new_name[device] = (device[0], taken[device[0]])
            ranks[new_name[device]] = rank
            taken[device[0]] += 1
        for device in self.devices:
            ranks.setdefault(device, len(ranks))
            self.model.add_hint(self.ranks[device], ranks[device])
        named = [new_name[device] for device in assignment]
        for item, position in self.positions.items():
            self.model.add_hint(position, ranks[named[item]])
        return named
