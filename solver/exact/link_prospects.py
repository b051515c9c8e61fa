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
from solver.exact.state_bits import Words


class Prospects(NamedTuple):
    """N ideals, each with the states that are worth reaching, under any of their names.

    Attributes:
        slots, low, mask: as in :class:`solver.exact.link_ideal_table.LinkTable`; without slots nothing is known.
        wanted: [N, words] bits of the states.
    """

    slots: npt.NDArray[np.int32]
    low: npt.NDArray[np.int32]
    mask: npt.NDArray[np.uint64]
    wanted: Words


_NONE = np.zeros(0, dtype=np.int32)
UNKNOWN = Prospects(_NONE, _NONE, np.zeros((0, 2), dtype=np.uint64), np.zeros((0, 1), dtype=np.uint64))
"""Everything may be worth reaching."""


def last_alone(table: LinkTable) -> Prospects:
    """Of all ideals the one of all items."""
    wanted = np.zeros_like(table.wanted)
    wanted[table.queue[-1]] = ~np.uint64(0)
    return Prospects(table.slots, table.low, table.mask, wanted)


def without_the_dead(prospects: Prospects) -> Prospects:
    """The same with no ideal that has no state worth reaching."""
    kept = np.flatnonzero(prospects.wanted.any(axis=1))
    low, mask = prospects.low[kept], prospects.mask[kept]
    slots = np.full(2 << len(kept).bit_length(), -1, dtype=np.int32)
    insert_all(slots, low, mask, len(kept))
    return Prospects(slots, low, mask, prospects.wanted[kept])
