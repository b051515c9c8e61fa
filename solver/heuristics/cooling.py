"""The rule and the schedule that all annealing here shares: what is accepted, and how the temperature falls.

The walks themselves differ, for each keeps only the loads that its question has, and time goes into keeping them:
:mod:`~solver.heuristics.annealing` counts consumers per device, which needs no look at the other devices but only holds
where a device pays by its own class and no order of devices is kept; :mod:`~solver.heuristics.moves` charges every pair
of devices anew and keeps the pipeline acyclic; :mod:`~solver.heuristics.borders` moves items over the borders of stages
that stand in a fixed order; :mod:`~solver.heuristics.sequences` moves devices rather than items.

Source: Kirkpatrick, Gelatt, Vecchi (1983).
"""

from __future__ import annotations

import math

import numpy as np

from solver.kernels import kernel


@kernel
def accepts(change: float, temperature: float, draws: np.random.Generator) -> bool:
    """Whether to make a move that makes things worse by ``change``; one that makes nothing worse always."""
    return change <= 0 or draws.random() < math.exp(-change / temperature)


@kernel
def temperature(hot: float, cold: float, part: float) -> float:
    """Between ``hot`` and ``cold`` when ``part`` of the moves is done, from 0 to 1: falling at a constant rate."""
    return float(hot * (cold / hot) ** part)
