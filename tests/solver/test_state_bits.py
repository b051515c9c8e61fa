"""Sets of states as bits."""

from __future__ import annotations

import numpy as np
import pytest

from solver.exact.state_bits import holds_state, lowest_of, num_words, put, take


@pytest.mark.parametrize("above", [0, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("place", range(64))
def test_the_lowest_bit_of_a_word_is_found(place, above):
    word = np.uint64((above | 1 << place) >> place << place)
    assert lowest_of(word) == place


def test_a_state_is_held_until_it_is_taken():
    bits = np.zeros(num_words(200), dtype=np.uint64)
    for state in (0, 63, 64, 199):
        put(bits, state)
        put(bits, state)
    take(bits, 64)
    take(bits, 1)
    assert [state for state in range(200) if holds_state(bits, state)] == [0, 63, 199]


def test_a_set_has_room_for_its_states():
    assert [num_words(n) for n in (1, 64, 65)] == [1, 1, 2]
