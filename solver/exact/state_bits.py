"""Sets of states as bits, 64 a word, for compiled loops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from solver.kernels import kernel_part

Words = npt.NDArray[np.uint64]

DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
"""Each run of six bits in it is another number: what a product with a power of two begins with tells the power."""
POWER_OF = np.zeros(64, dtype=np.int64)
POWER_OF[[((int(DE_BRUIJN) << power) & (2**64 - 1)) >> 58 for power in range(64)]] = np.arange(64)


def num_words(num_states: int) -> int:
    """How many words a set of so many states takes."""
    return -(-num_states // 64)


@kernel_part
def put(bits: Words, state: int) -> None:
    """Add a state."""
    bits[state >> 6] |= np.uint64(1) << np.uint64(state & 63)


@kernel_part
def take(bits: Words, state: int) -> None:
    """Leave a state out."""
    bits[state >> 6] &= ~(np.uint64(1) << np.uint64(state & 63))


@kernel_part
def holds_state(bits: Words, state: int) -> bool:
    """Whether a state is in the set."""
    return bool((bits[state >> 6] >> np.uint64(state & 63)) & np.uint64(1))


@kernel_part
def lowest_of(word: np.uint64) -> int:
    """The place of the lowest bit of a word that has one."""
    lowest = word & (~word + np.uint64(1))
    power: int = POWER_OF[np.int64((lowest * DE_BRUIJN) >> np.uint64(58))]
    return power
