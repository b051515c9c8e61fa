"""What sets of devices may cost: finitely many sums of prices."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from solver.instance import Cluster

Floats = npt.NDArray[np.float64]

MAX_LEVELS = 20_000
"""Beyond this many different prices, neighbours are dealt with together."""
NEAR = 1e-9
"""Relative difference below which two sums of the same prices, or two periods, are the same."""


class CostLevels:
    """What sets of devices may cost, in rising order; level i stands for the sums from ``floors[i]`` to ``tops[i]``."""

    def __init__(self, cluster: Cluster, limit: float) -> None:
        floors = tops = np.zeros(1)
        for spec in cluster.devices:
            left, part = len(spec.names), 1
            while left:  # 1, 2, 4 … devices at once or none of them, and the rest: every number up to all
                price = float(spec.cost_per_hour or 0.0) * min(part, left)
                floors, tops = _unite(np.append(floors, floors + price), np.append(tops, tops + price))
                left, part = left - min(part, left), 2 * part
        keep = floors <= limit * (1 + NEAR)
        self.floors, self.tops = floors[keep], np.minimum(tops[keep], limit)

    def __len__(self) -> int:
        return len(self.floors)

    def index(self, cost: float) -> int:
        """The level that a set of devices of this cost belongs to."""
        return max(0, int(np.searchsorted(self.floors, cost * (1 + NEAR), side="right")) - 1)


def _unite(floors: Floats, tops: Floats) -> tuple[Floats, Floats]:
    """Sorted ranges, those that overlap as one, and neighbours too when there are too many."""
    order = np.argsort(floors, kind="stable")
    floors, tops = floors[order], np.maximum.accumulate(tops[order])
    starts = np.flatnonzero(np.append(True, floors[1:] > tops[:-1] * (1 + 2 * NEAR)))
    starts = starts[:: math.ceil(len(starts) / MAX_LEVELS)]
    return floors[starts], tops[np.append(starts[1:], len(tops)) - 1]
