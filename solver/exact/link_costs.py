"""What the compiled loops of the ideal program over links are told about an instance, by position and tensor."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solver.compiled import Floats, Ints


class LinkCosts(NamedTuple):
    """What stages cost; C distinct columns of compute, L of transfers, K classes.

    Attributes:
        compute: [I, C] ms.
        memory: [I] bytes.
        worth: [I] at the prices of the trial.
        times: [T, L] ms.
        size_of: [T] row of the times between two classes.
        producer: [T].
        num_consumers: [T].
        followed: [T] whether labels tell where the tensor was made; only if its producer comes first.
        touching_first, touching: the tensors that each item makes or needs.
        overlap: a code of :mod:`solver.stage_costs`.
        class_least: [K] column of ``times`` that is nowhere above its others.
    """

    compute: Floats
    memory: Ints
    worth: Floats
    times: Floats
    size_of: Ints
    producer: Ints
    num_consumers: Ints
    followed: npt.NDArray[np.bool_]
    touching_first: Ints
    touching: Ints
    overlap: int
    class_least: Ints
