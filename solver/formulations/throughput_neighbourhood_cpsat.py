"""Throughput, convex or free partition: some devices filled anew, all others left as they are, for CP-SAT.

The formulation is that of :mod:`solver.formulations.throughput_assignment_cpsat`, for the devices to be filled and the
items that sit on them. Items elsewhere are constants: a tensor to or from them enters and leaves as before. What the
other devices hold does not change, hence neither do their loads, nor whether they are convex. Devices keep their names,
so there is no rule of first appearance. The bound of this model says nothing about the instance.

Source: own; large-neighbourhood search after Shaw (1998).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from solver.compiled import CompiledInstance
from solver.formulations.cpsat import Assignment
from solver.formulations.throughput_assignment_cpsat import AssignmentModel, Device
from solver.instance import Partition


class NeighbourhoodModel(AssignmentModel):
    """The formulation of the module, for one instance, assignment and choice of devices.

    Args:
        compiled: the reduced instance.
        limit_ms: a period that is to be beaten or met by the devices chosen.
        current: an assignment of all items.
        chosen: the devices to be filled anew.
    """

    name = "neighbourhoods"

    def __init__(
        self, compiled: CompiledInstance, limit_ms: float, current: Assignment, chosen: Collection[Device]
    ) -> None:
        self._current = current
        self._chosen = sorted(chosen)
        super().__init__(compiled, limit_ms, 0.0)

    def build(self) -> None:
        """Add variables and constraints."""
        self.devices = self._chosen
        self.x = [
            {d: self.model.new_bool_var("") for d in self.devices if self.usable[item, d[0]]}
            if home in self._chosen
            else {}
            for item, home in enumerate(self._current)
        ]
        for row, home in zip(self.x, self._current, strict=True):
            if home in self._chosen:
                self.model.add_exactly_one(row.values())
        self.add_transfers()
        rows: dict[tuple[int, int], list[list[tuple[Any, int]]]] = defaultdict(list)
        for device in self.devices:
            self.add_memory(device)
            self.add_load(device, rows)
        if self.compiled.partition is Partition.CONVEX:
            self.add_convexity()

    def name_by_appearance(self, assignment: Assignment) -> list[Device]:
        """The names as they are."""
        return list(assignment)

    def assignment(self, value: Any) -> Assignment:
        """Per item (class, device of that class), read from a solution."""
        return [
            next((device for device, x in row.items() if value.boolean_value(x)), home)
            for row, home in zip(self.x, self._current, strict=True)
        ]
