"""Merges that lose nothing: every feasible placement keeps the merged operators together anyway.

``apply`` is :func:`reduce_instance`; the way back is :meth:`CompiledInstance.placement`, which gives every operator of
an item the item's device. The optimum is the same because the feasible placements are the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from solver.compiled import CompiledInstance
from solver.instance import Partition


def reduce_instance(compiled: CompiledInstance, partition: Partition) -> CompiledInstance:
    """Merge all operators that have to share a device under ``partition``.

    * Colocation groups, by definition; and operators that can only run on one and the same device.
    * ``acyclic``: items on a common cycle of forward edges. Around the cycle device numbers may never fall, so they
      are all equal.
    * ``convex``: forward operators on a path between two members of an item. If such an operator sat elsewhere, the
      path would leave the item's device and come back. Merging enlarges items, so this is repeated until nothing
      changes.
    """
    reduced = _confine(_colocate(compiled))
    if partition is Partition.ACYCLIC:
        return reduced.merge(strong_components(reduced.num_items, reduced.item_edges))
    if partition is Partition.CONVEX:
        return _close_under_paths(reduced)
    return reduced


def _colocate(compiled: CompiledInstance) -> CompiledInstance:
    operators = compiled.instance.graph.operators
    groups: dict[object, list[int]] = defaultdict(list)
    for item in range(compiled.num_items):
        name = operators[compiled.members[item][0]].colocation_group
        groups[("alone", item) if name is None else ("group", name)].append(item)
    return compiled.merge(list(groups.values()))


def _confine(compiled: CompiledInstance) -> CompiledInstance:
    """Unite what can only run on one and the same device; what does not fit there is left for others to tell."""
    only = {k for k, device_class in enumerate(compiled.classes) if device_class.count == 1}
    homes = [int(row.argmax()) if row.sum() == 1 else -1 for row in compiled.runs]
    held: dict[int, int] = defaultdict(int)
    for home, need in zip(homes, compiled.memory_bytes, strict=True):
        held[home] += need
    for k, device_class in enumerate(compiled.classes):
        if device_class.memory_bytes is not None and held[k] > device_class.memory_bytes:
            only.discard(k)
    groups: dict[object, list[int]] = defaultdict(list)
    for item, home in enumerate(homes):
        groups[("class", home) if home in only else ("alone", item)].append(item)
    return compiled.merge(list(groups.values()))


def _close_under_paths(compiled: CompiledInstance) -> CompiledInstance:
    """Repeat: unite each item with the items of all forward operators on paths between two of its members."""
    size = len(compiled.is_forward)
    successors: list[list[int]] = [[] for _ in range(size)]
    predecessors: list[list[int]] = [[] for _ in range(size)]
    for source, target in compiled.forward_edges:
        successors[source].append(target)
        predecessors[target].append(source)
    place = [0] * size
    for index, component in enumerate(strong_components(size, compiled.forward_edges)):
        place[component[0]] = index
    while True:
        groups = UnionFind(compiled.num_items)
        for item, members in enumerate(compiled.members):
            forward = [operator for operator in members if compiled.is_forward[operator]]
            if len(forward) > 1:
                for operator in _between(forward, successors, predecessors, place):
                    groups.unite(item, compiled.item_of[operator])
        parts = groups.parts()
        if len(parts) == compiled.num_items:
            return compiled
        compiled = compiled.merge(parts)


def _between(
    members: Sequence[int],
    successors: Sequence[Sequence[int]],
    predecessors: Sequence[Sequence[int]],
    place: Sequence[int],
) -> set[int]:
    """The operators on paths from one of ``members`` to another, these included; ``place`` is a topological order.

    Nothing before the first or behind the last member is looked at, so that groups whose members are close cost little.
    """
    last = max(place[operator] for operator in members)
    after = _reach(members, lambda operator: (o for o in successors[operator] if place[o] <= last))
    return _reach(members, lambda operator: (o for o in predecessors[operator] if o in after))


def _reach(start: Iterable[int], neighbours: Callable[[int], Iterable[int]]) -> set[int]:
    reached = set(start)
    todo = list(reached)
    while todo:
        for vertex in neighbours(todo.pop()):
            if vertex not in reached:
                reached.add(vertex)
                todo.append(vertex)
    return reached


class UnionFind:
    """Disjoint sets over 0 … size-1."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, vertex: int) -> int:
        """The representative of the set of ``vertex``."""
        parent = self._parent
        while parent[vertex] != vertex:
            parent[vertex] = parent[parent[vertex]]
            vertex = parent[vertex]
        return vertex

    def unite(self, one: int, other: int) -> None:
        """Make the two sets one; the smaller representative stays, which keeps results in document order."""
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low

    def parts(self) -> list[list[int]]:
        """All sets, in the order of their smallest members."""
        sets: dict[int, list[int]] = defaultdict(list)
        for vertex in range(len(self._parent)):
            sets[self.find(vertex)].append(vertex)
        return list(sets.values())


def strong_components(size: int, edges: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Strongly connected components, in a topological order of the components (Tarjan 1972, without recursion)."""
    successors: list[list[int]] = [[] for _ in range(size)]
    for source, target in edges:
        successors[source].append(target)
    index = [-1] * size
    low = [0] * size
    on_stack = [False] * size
    stack: list[int] = []
    components: list[list[int]] = []
    counter = 0
    for root in range(size):
        if index[root] >= 0:
            continue
        path = [(root, iter(successors[root]))]
        index[root] = low[root] = counter
        counter += 1
        stack.append(root)
        on_stack[root] = True
        while path:
            vertex, following = path[-1]
            for child in following:
                if index[child] < 0:
                    index[child] = low[child] = counter
                    counter += 1
                    stack.append(child)
                    on_stack[child] = True
                    path.append((child, iter(successors[child])))
                    break
                if on_stack[child]:
                    low[vertex] = min(low[vertex], index[child])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[vertex])
                if low[vertex] == index[vertex]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack[member] = False
                        component.append(member)
                        if member == vertex:
                            break
                    components.append(sorted(component))
    components.reverse()
    return components
