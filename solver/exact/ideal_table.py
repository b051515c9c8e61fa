"""All ideals found so far: exact keys in a hash table, a queue by size, and the best way to each.

An ideal is kept as its key: the first position of the order that it lacks, and two words of bits, for the positions
behind that one and, at the upper end, for *loose* items, which stand last in the order and may join any ideal.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from solver.compiled import Floats, Ints
from solver.kernels import kernel, kernel_part

Array = npt.NDArray[Any]

MAX_LOOSE = 8
WINDOW = 128 - MAX_LOOSE
"""Positions behind the first missing one that a key can tell apart."""
FIRST_LOOSE = WINDOW - 64
LOOSE = np.uint64((1 << 64) - (1 << FIRST_LOOSE))
"""The bits of loose items in the second word."""


class TableArrays(NamedTuple):
    """N ideals, I items, S states: how many devices of each lesser class are used, those with an anchor aside.

    Attributes:
        slots: the hash table: index of an ideal, or −1.
        low: [N] first missing position.
        mask: [N, 2] bits of the positions behind it, and of loose items.
        done: [N, M] worth of the items, by each measure.
        following: [N] the next ideal of the same size, or −1.
        fewest: [N, S] devices of the main class that reach the ideal, or −1.
        parent: [N, S] the ideal before the last stage.
        parent_state: [N, S] and its state.
        by_class: [N, S] the class of the last stage.
        queue: [I + 1] the first ideal of each size, or −1.
        cursor: ideals stored, size being processed, ideal to go on with, steps taken.
    """

    slots: npt.NDArray[np.int32]
    low: npt.NDArray[np.int32]
    mask: npt.NDArray[np.uint64]
    done: Floats
    following: npt.NDArray[np.int32]
    fewest: npt.NDArray[np.int16]
    parent: npt.NDArray[np.int32]
    parent_state: npt.NDArray[np.int16]
    by_class: npt.NDArray[np.int16]
    queue: npt.NDArray[np.int32]
    cursor: Ints


class Table:
    """The arrays, and room for more."""

    def __init__(self, capacity: int, num_states: int, num_items: int, num_tight: int, num_measures: int) -> None:
        self._num_tight = num_tight
        self.arrays = TableArrays(
            slots=np.full(capacity * 2, -1, dtype=np.int32),
            low=np.zeros(capacity, dtype=np.int32),
            mask=np.zeros((capacity, 2), dtype=np.uint64),
            done=np.zeros((capacity, num_measures)),
            following=np.full(capacity, -1, dtype=np.int32),
            fewest=np.full((capacity, num_states), -1, dtype=np.int16),
            parent=np.full((capacity, num_states), -1, dtype=np.int32),
            parent_state=np.zeros((capacity, num_states), dtype=np.int16),
            by_class=np.zeros((capacity, num_states), dtype=np.int16),
            queue=np.full(num_items + 1, -1, dtype=np.int32),
            cursor=np.array([1, 0, -1, 0], dtype=np.int64),
        )
        self.arrays.fewest[0, 0] = 0
        self.arrays.queue[0] = 0
        insert_all(self.arrays.slots, self.arrays.low, self.arrays.mask, 1)

    @property
    def num_ideals(self) -> int:
        """How many ideals are stored."""
        return int(self.arrays.cursor[0])

    @property
    def num_steps(self) -> int:
        """How many steps have been taken, those of the ideal at work aside."""
        return int(self.arrays.cursor[3])

    def grow(self) -> None:
        """Twice the room."""
        arrays = self.arrays

        def double(old: Array, fill: int) -> Array:
            return np.concatenate([old, np.full_like(old, fill)])

        slots = np.full(len(arrays.slots) * 2, -1, dtype=np.int32)
        self.arrays = arrays._replace(
            slots=slots,
            low=double(arrays.low, 0),
            mask=double(arrays.mask, 0),
            done=double(arrays.done, 0),
            following=double(arrays.following, -1),
            fewest=double(arrays.fewest, -1),
            parent=double(arrays.parent, -1),
            parent_state=double(arrays.parent_state, 0),
            by_class=double(arrays.by_class, 0),
        )
        insert_all(slots, self.arrays.low, self.arrays.mask, self.num_ideals)

    def chain_to_all(self) -> list[tuple[npt.NDArray[np.bool_], int]] | None:
        """The ideals on the way to the one of all items, each with the class of its last stage."""
        arrays = self.arrays
        num_items = len(arrays.queue) - 1
        last = int(arrays.queue[num_items])
        if last < 0:
            return None
        state = next(s for s in range(arrays.fewest.shape[1]) if arrays.fewest[last, s] >= 0)
        chain = []
        index = last
        while index != 0:
            mask = members(arrays.low[index], arrays.mask[index], num_items, self._num_tight)
            chain.append((mask, int(arrays.by_class[index, state])))
            index, state = int(arrays.parent[index, state]), int(arrays.parent_state[index, state])
        chain.reverse()
        return chain


def members(low: int, mask: npt.NDArray[np.uint64], num_items: int, num_tight: int) -> npt.NDArray[np.bool_]:
    """The items of an ideal, given by its key, by position."""
    inside = np.zeros(num_items + 2 * WINDOW, dtype=bool)
    inside[:low] = True
    bits = int(mask[0]) | int(mask[1]) << 64
    inside[low + 1 : low + 1 + WINDOW] = [bits >> offset & 1 for offset in range(WINDOW)]
    inside[num_tight:num_items] = [bits >> WINDOW + number & 1 for number in range(num_items - num_tight)]
    return inside[:num_items]


@kernel
def _hash(low: int, first: np.uint64, second: np.uint64) -> np.uint64:
    value = np.uint64(low) * np.uint64(0x9E3779B97F4A7C15)
    value ^= first * np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(29)
    value ^= second * np.uint64(0x94D049BB133111EB)
    value ^= value >> np.uint64(32)
    value *= np.uint64(0xD6E8FEB86659FD93)
    return value ^ (value >> np.uint64(31))


@kernel
def find(
    slots: npt.NDArray[np.int32],
    low: npt.NDArray[np.int32],
    mask: npt.NDArray[np.uint64],
    key_low: int,
    first: np.uint64,
    second: np.uint64,
) -> int:
    """The slot of a key: the ideal's own, or the empty one where it belongs."""
    last = len(slots) - 1
    slot = int(np.int64(_hash(key_low, first, second) & np.uint64(last)))
    while True:
        index = slots[slot]
        if index < 0 or (low[index] == key_low and mask[index, 0] == first and mask[index, 1] == second):
            return slot
        slot = (slot + 1) & last


@kernel_part
def contains(low: int, first: np.uint64, second: np.uint64, position: int, num_tight: int) -> bool:
    """Whether an ideal, given by its key, holds the item at ``position``; from ``num_tight`` on items are loose."""
    if position >= num_tight:
        return bool((second >> np.uint64(FIRST_LOOSE + position - num_tight)) & np.uint64(1))
    if position <= low:
        return position < low
    offset = position - low - 1
    if offset >= WINDOW:
        return False
    word = first if offset < 64 else second
    return bool((word >> np.uint64(offset & 63)) & np.uint64(1))


@kernel_part
def with_item(
    low: int, first: np.uint64, second: np.uint64, position: int, num_tight: int
) -> tuple[int, np.uint64, np.uint64]:
    """The key of an ideal with one more item, which is loose or stands within the window."""
    one = np.uint64(1)
    offset = position - low - 1
    if position >= num_tight:
        second |= one << np.uint64(FIRST_LOOSE + position - num_tight)
    elif offset >= 64:
        second |= one << np.uint64(offset - 64)
    elif offset >= 0:
        first |= one << np.uint64(offset)
    else:
        while True:
            bit = first & one
            first = (first >> one) | (second << np.uint64(63))
            second = (second & LOOSE) | ((second & ~LOOSE) >> one)
            low += 1
            if not bit:
                break
    return low, first, second


@kernel_part
def unpack(included: npt.NDArray[np.bool_], low: int, first: np.uint64, second: np.uint64, num_tight: int) -> None:
    """Mark which items behind its first missing one an ideal, given by its key, holds; ``included`` is one longer."""
    for offset in range(WINDOW):
        word = first if offset < 64 else second
        if (word >> np.uint64(offset & 63)) & np.uint64(1):
            included[low + 1 + offset] = True
    for position in range(num_tight, len(included) - 1):
        included[position] = (second >> np.uint64(FIRST_LOOSE + position - num_tight)) & np.uint64(1) != 0


@kernel
def insert_all(
    slots: npt.NDArray[np.int32], low: npt.NDArray[np.int32], mask: npt.NDArray[np.uint64], num_ideals: int
) -> None:
    """Put all stored ideals into an empty hash table."""
    for index in range(num_ideals):
        slots[find(slots, low, mask, low[index], mask[index, 0], mask[index, 1])] = index
