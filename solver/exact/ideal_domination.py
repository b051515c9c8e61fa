"""When it is never worse to go on from a larger ideal than from a smaller one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from solver.compiled import Floats, Ints
from solver.exact.ideal_graph import IdealGraph
from solver.exact.ideal_table import LOOSE, WINDOW, TableArrays, find, with_item
from solver.kernels import kernel, kernel_part
from solver.stage_costs import ADDED, BESIDE_EACH_OTHER, StageCosts

NUM_COLLECTORS = 3
"""Prefixes that each ideal is compared with."""


@kernel_part
def is_dominated(  # noqa: PLR0912  every rule that keeps the larger ideal from being as good
    origin: int,
    highest: int,
    ready: Ints,
    included: npt.NDArray[np.bool_],
    joining: npt.NDArray[np.bool_],
    surplus: Floats,
    is_anchor: npt.NDArray[np.bool_],
    is_live: npt.NDArray[np.bool_],
    costs: StageCosts,
    graph: IdealGraph,
    table: TableArrays,
) -> bool:
    """Whether some larger ideal is reached with no more devices, and going on from there is never worse.

    Args:
        origin: the ideal.
        highest: its last position, or the one before its first missing one.
        ready: positions of tight items that may join it, tried one by one.
        included: by position, from the first missing one on, whether the ideal holds it.
        joining: all false, and left so.
        surplus: room for a number per position.
        is_anchor: by position.
        is_live: the states of the ideal that count.
        costs: of the items.
        graph: the order of the items.
        table: of all ideals.
    """
    start = table.low[origin]
    fewest = table.fewest
    size = graph.num_tight
    last = highest
    for choice in range(NUM_COLLECTORS + len(ready)):
        if choice < NUM_COLLECTORS:
            first, last = start, graph.collectors[min(last + 1, size)]
            if last >= size:
                continue
        else:
            first = last = ready[choice - NUM_COLLECTORS]
        other = superset(table.slots, table.low, table.mask, origin, first, last)
        if other < 0:
            continue
        better = True
        for state in range(len(is_live)):
            if is_live[state] and (fewest[other, state] < 0 or fewest[other, state] > fewest[origin, state]):
                better = False
                break
        for position in range(first, last + 1):
            if is_anchor[position] and not included[position]:
                better = False  # Its device would be spent, and what went there had to go elsewhere.
        if not better:
            continue
        for position in range(first, last + 1):
            joining[position] = not included[position]
        harmless = is_harmless(start, last + 1, included, joining, surplus, costs, graph)
        for position in range(first, last + 1):
            joining[position] = False
        if harmless:
            return True
    return False


@kernel
def superset(
    slots: npt.NDArray[np.int32],
    low: npt.NDArray[np.int32],
    mask: npt.NDArray[np.uint64],
    index: int,
    first: int,
    last: int,
) -> int:
    """The stored ideal of ``index`` and one more tight item (first = last), or all of them up to ``last``; or −1."""
    if first < last:
        return int(slots[find(slots, low, mask, last + 1, np.uint64(0), mask[index, 1] & LOOSE)])
    if first - low[index] > WINDOW:
        return -1
    num_tight = first + 1  # No loose item is asked for.
    key = with_item(low[index], mask[index, 0], mask[index, 1], first, num_tight)
    return int(slots[find(slots, low, mask, key[0], key[1], key[2])])


@kernel
def is_harmless(  # noqa: C901, PLR0912  one loop nest, kept whole for the compiler
    start: int,
    end: int,
    included: npt.NDArray[np.bool_],
    joining: npt.NDArray[np.bool_],
    surplus: Floats,
    costs: StageCosts,
    graph: IdealGraph,
) -> bool:
    """Whether going on from I ∪ B is never worse than going on from I, for the items B = ``joining`` in start … end.

    Take any way on from I and move all of B to the stages before. A later stage R that held A ⊆ B loses the compute of
    A and the tensors that came in for A alone. It gains, at most, the tensors of A that R's other items need (or A
    needs of them). Gains never exceed losses, in any row and for any A, if a flow exists that covers what each item may
    cause: out of its own compute, and out of its inputs (each credited to its last consumer, and only if nobody outside
    I ∪ B needs it), whose supply inside B is what their producer has left. Items are visited in topological order, so
    one pass finds a flow.
    """
    compute, _, _, overlap, producer, _, times, touching_first, touching = costs
    first_consumer, consumers = graph.first_consumer, graph.consumers
    for k in range(compute.shape[1]):
        for position in range(start, end):
            if not joining[position]:
                continue
            left = compute[position, k] if overlap == ADDED else 0.0
            caused = 0.0
            for index in range(touching_first[position], touching_first[position + 1]):
                tensor = touching[index]
                source = producer[tensor]
                last = -1
                open_end = False
                for pointer in range(first_consumer[tensor], first_consumer[tensor + 1]):
                    other = consumers[pointer]
                    if other < end and joining[other]:
                        last = max(last, other)
                    elif other >= start and not included[other]:
                        open_end = True
                time = times[tensor, k]
                if source == position:
                    if open_end:
                        caused += time
                elif source >= end or (source >= start and not included[source] and not joining[source]):
                    if overlap == BESIDE_EACH_OTHER and time > 0:
                        return False  # What R would send counts apart from what it no longer receives.
                    caused += time
                elif not open_end and last == position:
                    if source < start or included[source]:
                        left += time
                    elif source < position:
                        supply = min(time, surplus[source])
                        surplus[source] -= supply
                        left += supply
            surplus[position] = left - caused
            if surplus[position] < 0:
                return False
    return True
