"""The order in which a pipeline uses its devices."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

from solver.compiled import CompiledInstance

Device = TypeVar("Device", bound=Hashable)


def along_pipeline(compiled: CompiledInstance, place: Sequence[Device]) -> list[Device] | None:
    """The devices that hold items, in an order that no forward edge runs against; ``None`` if there is none.

    Args:
        compiled: the instance.
        place: [I] the device of each item, by whatever name or number.
    """
    following: dict[Device, set[Device]] = {device: set() for device in place}
    for source, target in compiled.item_edges:
        if place[source] != place[target]:
            following[place[target]].add(place[source])
    try:
        return list(TopologicalSorter(following).static_order())
    except CycleError:
        return None
