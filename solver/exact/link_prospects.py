"""What a program over links can complete, so that one that sees more need not look at anything else.

:mod:`solver.exact.link_ideals` says why: what no chain of ideals completes although less is counted, none completes
when more is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solver.exact.ideal_table import insert_all
from solver.exact.link_ideal_table import LinkTable

MAX_ENTRIES = 500_000_000


class Prospects(NamedTuple):
    """N ideals, each with those of S states, named by the least of their names, that are worth reaching.

    Attributes:
        slots, low, mask: as in :class:`solver.exact.link_ideal_table.LinkTable`; without slots nothing is known.
        alive: [N, S], or [1, S] if nothing is known.
    """

    slots: npt.NDArray[np.int32]
    low: npt.NDArray[np.int32]
    mask: npt.NDArray[np.uint64]
    alive: npt.NDArray[np.bool_]


def unknown(num_states: int) -> Prospects:
    """Everything may be worth reaching."""
    none, alive = np.zeros(0, dtype=np.int32), np.ones((1, num_states), dtype=np.bool_)
    return Prospects(none, none, np.zeros((0, 2), dtype=np.uint64), alive)


def last_alone(table: LinkTable, num_states: int) -> Prospects | None:
    """Of all ideals the one of all items; ``None`` where that takes too much memory to tell."""
    num_ideals = int(table.cursor[0])
    if num_ideals * num_states > MAX_ENTRIES:
        return None
    alive = np.zeros((num_ideals, num_states), dtype=np.bool_)
    alive[table.queue[-1]] = True
    return Prospects(table.slots, table.low, table.mask, alive)


def without_the_dead(prospects: Prospects) -> Prospects:
    """The same with no ideal that has no state worth reaching."""
    kept = np.flatnonzero(prospects.alive.any(axis=1))
    low, mask = prospects.low[kept], prospects.mask[kept]
    slots = np.full(2 << len(kept).bit_length(), -1, dtype=np.int32)
    insert_all(slots, low, mask, len(kept))
    return Prospects(slots, low, mask, prospects.alive[kept])
