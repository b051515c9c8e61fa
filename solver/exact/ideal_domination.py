"""When it is never worse to go on from a larger ideal than from a smaller one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from solver.compiled import Floats, Ints
from solver.exact.ideal_table import WINDOW, find
from solver.kernels import kernel
from solver.stage_costs import ADDED, BESIDE_EACH_OTHER

COLLECTOR_REACH = 8


def next_collector(size: int, begins: Ints, ends: Ints, times: Floats) -> Ints:
    """Per position, the first one from there on where cutting the order is cheaper than anywhere near.

    Prefixes that end there are good places to go on from, so other ideals are compared with them. ``begins`` and
    ``ends`` are, per tensor, the first and last position that it joins; ``times`` what it costs to cut it.
    """
    change = np.zeros(size + 1)
    np.add.at(change, begins, times)
    np.subtract.at(change, ends, times)
    live = np.cumsum(change)[:size]
    near = sliding_window_view(np.pad(live, COLLECTOR_REACH, mode="edge"), 2 * COLLECTOR_REACH + 1)
    is_low = live <= near.min(axis=1) + 1e-12 * near.max(axis=1)
    following = np.full(size + 2, size, dtype=np.int64)
    following[:size] = np.where(is_low, np.arange(size), size)
    return np.minimum.accumulate(following[::-1])[::-1].copy()


@kernel
def superset(
    slots: npt.NDArray[np.int32],
    low: npt.NDArray[np.int32],
    mask: npt.NDArray[np.uint64],
    index: int,
    first: int,
    last: int,
) -> int:
    """The stored ideal of ``index`` and one more item (first = last), or of all positions up to ``last``; or −1."""
    one = np.uint64(1)
    if first < last or first == low[index]:
        key_low, key_first, key_second = last + 1, mask[index, 0], mask[index, 1]
        if first < last:
            key_first = key_second = np.uint64(0)
        else:
            while True:
                bit = key_first & one
                key_first = (key_first >> one) | (key_second << np.uint64(63))
                key_second >>= one
                if not bit:
                    break
                key_low += 1
        return int(slots[find(slots, low, mask, key_low, key_first, key_second)])
    offset = first - low[index] - 1
    if offset >= WINDOW:
        return -1
    key_first, key_second = mask[index, 0], mask[index, 1]
    if offset < 64:
        key_first |= one << np.uint64(offset)
    else:
        key_second |= one << np.uint64(offset - 64)
    return int(slots[find(slots, low, mask, low[index], key_first, key_second)])


@kernel
def is_harmless(  # noqa: C901, PLR0912  one loop nest, kept whole for the compiler
    start: int,
    end: int,
    overlap: int,
    included: npt.NDArray[np.bool_],
    joining: npt.NDArray[np.bool_],
    surplus: Floats,
    compute: Floats,
    producer: Ints,
    times: Floats,
    first_consumer: Ints,
    consumers: Ints,
    touching_first: Ints,
    touching: Ints,
) -> bool:
    """Whether going on from I ∪ B is never worse than going on from I, for the items B = ``joining`` in start … end.

    Take any way on from I and move all of B to the stages before. A later stage R that held A ⊆ B loses the compute of
    A and the tensors that came in for A alone. It gains, at most, the tensors of A that R's other items need (or A
    needs of them). Gains never exceed losses, for any A, if a flow exists that covers what each item may cause: out of
    its own compute, and out of its inputs (each credited to its last consumer, and only if nobody outside I ∪ B needs
    it), whose supply inside B is what their producer has left. Items are visited in topological order, so one pass
    finds a flow.
    """
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
