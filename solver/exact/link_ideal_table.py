"""The ideals of the ideal program over links: exact keys in a hash table, and a queue by size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solver.compiled import Floats, Ints
from solver.exact.ideal_table import Array, insert_all
from solver.exact.state_bits import Words, num_words


class LinkTable(NamedTuple):
    """N ideals.

    Attributes:
        slots, low, mask, following, queue, cursor: as in :class:`solver.exact.ideal_table.TableArrays`.
        done: [N] worth of the items.
        head: [N] the first label, or −1.
        wanted: [N, words] bits of the states that are worth reaching, under any of their names; where no tensor travels
            past the ideal, without those that have been reached.
    """

    slots: npt.NDArray[np.int32]
    low: npt.NDArray[np.int32]
    mask: npt.NDArray[np.uint64]
    following: npt.NDArray[np.int32]
    queue: npt.NDArray[np.int32]
    cursor: Ints
    done: Floats
    head: npt.NDArray[np.int32]
    wanted: Words


def table_of(capacity: int, num_items: int, num_states: int) -> LinkTable:
    """An empty table with the empty ideal, which the first label reaches."""
    table = LinkTable(
        slots=np.full(capacity * 2, -1, dtype=np.int32),
        low=np.zeros(capacity, dtype=np.int32),
        mask=np.zeros((capacity, 2), dtype=np.uint64),
        following=np.full(capacity, -1, dtype=np.int32),
        queue=np.full(num_items + 1, -1, dtype=np.int32),
        cursor=np.array([1, 0, -1], dtype=np.int64),
        done=np.zeros(capacity),
        head=np.full(capacity, -1, dtype=np.int32),
        wanted=np.zeros((capacity, num_words(num_states)), dtype=np.uint64),
    )
    table.head[0] = 0
    table.queue[0] = 0
    insert_all(table.slots, table.low, table.mask, 1)
    return table


def grown(table: LinkTable) -> LinkTable:
    """The same with twice the room."""

    def double(old: Array, fill: int) -> Array:
        return np.concatenate([old, np.full_like(old, fill)])

    slots = np.full(len(table.slots) * 2, -1, dtype=np.int32)
    table = table._replace(
        slots=slots,
        low=double(table.low, 0),
        mask=double(table.mask, 0),
        following=double(table.following, -1),
        done=double(table.done, 0),
        head=double(table.head, -1),
        wanted=double(table.wanted, 0),
    )
    insert_all(slots, table.low, table.mask, int(table.cursor[0]))
    return table
