"""Throughput, acyclic partition, ``host`` interconnect: stage positions on a ladder of prefixes, for CP-SAT.

Sets
    v ∈ items, s ∈ 0…S−1 stage positions (one per device), k ∈ device classes, t ∈ tensors, p ∈ passes
    (one pass that holds both for ``1f1b``; forward and backward for ``gpipe``).
Parameters (times scaled to integers, rounded down, so that the bound is a bound in real time)
    c[v,k,p] compute time · τ[t,k] transfer time · m[v] memory · M[k] memory limit · n[k] devices of class k.
Variables
    x[v,s] ∈ {0,1}   v sits on stage s
    y[v,s] ∈ {0,1}   v sits on stage s or before it; y[v,s] = y[v,s−1] + x[v,s]; y[v,S−1] = 1
    z[s,k] ∈ {0,1}   stage s is a device of class k
    out[t,s], in[t,s] ∈ {0,1}   t leaves, or enters, stage s
    T[p] ≥ 0         the period, or each pass's share of it
Minimise Σ_p T[p], subject to
    assign_once          the ladder above places each item on exactly one stage
    acyclic_partition    y[v,s] ⇒ y[u,s]                         for each forward edge u → v
    device_kind          x[v,s] ⇒ ¬z[s,k]                        where class k cannot hold v
    stage_class          Σ_k z[s,k] = 1,  Σ_s z[s,k] = n[k]
    transfer_out         x[u,s] ∧ (some consumer not on s) ⇒ out[t,s]      u makes t
    transfer_in          x[w,s] ∧ (u not on s) ⇒ in[t,s]                   for each consumer w of t
    memory               z[s,k] ⇒ Σ_v m[v] x[v,s] ≤ M[k]
    load                 z[s,k] ⇒ C, I, O of stage s add up, by the overlap rule, to at most T[p]

Items without forward operators have no place on the ladder: only x, with exactly one stage each.

Source: own; the integer program of Tarnawski et al. (2020, §4) has no order of devices and enforces convexity only.
"""

from __future__ import annotations

from dataclasses import dataclass

from ortools.sat.python import cp_model

from solver.formulations.cpsat import Assignment, Model, load_rows, scaled_bytes
from solver.pipelines import along_pipeline


@dataclass(frozen=True, slots=True)
class LadderHint:
    """A known answer: per item its stage position, per stage position its class."""

    stage_of: tuple[int, ...]
    class_of_stage: tuple[int, ...]


class LadderModel(Model):
    """The formulation of the module, built for one compiled and reduced instance."""

    name = "ladder"

    def build(self) -> None:
        """Add variables and constraints."""
        compiled, model = self.compiled, self.model
        stages = range(compiled.num_devices)
        self.x = [[model.new_bool_var("") for _ in stages] for _ in range(compiled.num_items)]
        self.y: list[list[cp_model.IntVar]] = []
        self._add_classes()
        self._add_ladder()
        self._add_transfers()
        for stage in stages:
            self.check_time()
            self._add_memory(stage)
            self._add_load(stage)

    def _add_classes(self) -> None:
        """``stage_class`` and ``device_kind``."""
        compiled, model = self.compiled, self.model
        stages = range(compiled.num_devices)
        self.z = [[model.new_bool_var("") for _ in compiled.classes] for _ in stages]
        for stage in stages:
            model.add_exactly_one(self.z[stage])
        for index, device_class in enumerate(compiled.classes):
            model.add(sum(self.z[stage][index] for stage in stages) == device_class.count)
        for item in range(compiled.num_items):
            self.check_time()
            for index in range(len(compiled.classes)):
                if not self.usable[item, index]:
                    for stage in stages:
                        model.add_implication(self.x[item][stage], ~self.z[stage][index])

    def _add_ladder(self) -> None:
        """``assign_once`` and ``acyclic_partition``."""
        compiled, model = self.compiled, self.model
        last = compiled.num_devices - 1
        for item in range(compiled.num_items):
            self.check_time()
            x = self.x[item]
            if not compiled.has_forward[item]:
                self.y.append([])
                model.add_exactly_one(x)
                continue
            y = [x[0], *(model.new_bool_var("") for _ in range(last))]
            self.y.append(y)
            for stage in range(1, last + 1):
                model.add(y[stage] == y[stage - 1] + x[stage])
            model.add(y[last] == 1)
        for source, target in compiled.item_edges:
            for stage in range(last):
                model.add_implication(self.y[target][stage], self.y[source][stage])

    def _add_transfers(self) -> None:
        """``transfer_out`` and ``transfer_in``; where an edge orders the two ends, its prefix variables say more."""
        compiled, model = self.compiled, self.model
        edges = set(compiled.item_edges)
        self.sent: list[list[cp_model.IntVar]] = []
        self.received: list[list[cp_model.IntVar]] = []
        for tensor in compiled.tensors:
            self.check_time()
            source = tensor.producer
            sent, received = [], []
            for stage in range(compiled.num_devices):
                leaves, enters = model.new_bool_var(""), model.new_bool_var("")
                for target in tensor.consumers:
                    here, there = self.x[source][stage], self.x[target][stage]
                    if (source, target) in edges:
                        model.add_bool_or(~here, self.y[target][stage], leaves)
                        if stage:
                            model.add_bool_or(~there, ~self.y[source][stage - 1], enters)
                    elif (target, source) in edges:
                        if stage:
                            model.add_bool_or(~here, ~self.y[target][stage - 1], leaves)
                        model.add_bool_or(~there, self.y[source][stage], enters)
                    else:
                        model.add_bool_or(~here, there, leaves)
                        model.add_bool_or(~there, here, enters)
                sent.append(leaves)
                received.append(enters)
            self.sent.append(sent)
            self.received.append(received)

    def _add_memory(self, stage: int) -> None:
        compiled = self.compiled
        for index, device_class in enumerate(compiled.classes):
            if device_class.memory_bytes is None:
                continue
            needs, room = scaled_bytes(compiled.memory_bytes, device_class.memory_bytes)
            if sum(needs) > room:
                total = cp_model.LinearExpr.weighted_sum([self.x[i][stage] for i in range(len(needs))], needs)
                self.model.add(total <= room).only_enforce_if(self.z[stage][index])

    def _add_load(self, stage: int) -> None:
        compiled = self.compiled
        for index in range(len(compiled.classes)):
            for variables, weights, part in load_rows(
                compiled,
                index,
                self.scale,
                [self.x[item][stage] for item in range(compiled.num_items)],
                [sent[stage] for sent in self.sent],
                [received[stage] for received in self.received],
            ):
                total = cp_model.LinearExpr.weighted_sum(variables, weights)
                self.model.add(total <= self.period[part]).only_enforce_if(self.z[stage][index])

    def hint(self, assignment: Assignment) -> None:
        """Start from a placement if it is acyclic; stages in the order of ``assignment`` along the forward edges."""
        hint = self._order(assignment)
        if hint is None:
            return
        compiled, model = self.compiled, self.model
        for item, own in enumerate(hint.stage_of):
            for stage, x in enumerate(self.x[item]):
                model.add_hint(x, stage == own)
                if self.y[item] and stage:
                    model.add_hint(self.y[item][stage], stage >= own)
        for stage, own in enumerate(hint.class_of_stage):
            for index, z in enumerate(self.z[stage]):
                model.add_hint(z, index == own)
        for t, tensor in enumerate(compiled.tensors):
            home = hint.stage_of[tensor.producer]
            others = {hint.stage_of[item] for item in tensor.consumers} - {home}
            for stage in range(compiled.num_devices):
                model.add_hint(self.sent[t][stage], stage == home and bool(others))
                model.add_hint(self.received[t][stage], stage in others)

    def _order(self, assignment: Assignment) -> LadderHint | None:
        """Stage positions for the used devices, along the forward edges; the unused devices come last."""
        used = along_pipeline(self.compiled, assignment)
        if used is None:
            return None
        every = [(index, n) for index, c in enumerate(self.compiled.classes) for n in range(c.count)]
        order = used + [device for device in every if device not in set(used)]
        position = {device: stage for stage, device in enumerate(order)}
        return LadderHint(tuple(position[device] for device in assignment), tuple(index for index, _ in order))

    def assignment(self, value: cp_model.CpSolverSolutionCallback | cp_model.CpSolver) -> Assignment:
        """Per item (class, device of that class), read from a solution."""
        compiled = self.compiled
        taken = [0] * len(compiled.classes)
        device_of_stage: list[tuple[int, int]] = []
        for stage in range(compiled.num_devices):
            index = next(i for i, z in enumerate(self.z[stage]) if value.boolean_value(z))
            device_of_stage.append((index, taken[index]))
            taken[index] += 1
        return [device_of_stage[next(stage for stage, x in enumerate(row) if value.boolean_value(x))] for row in self.x]
