"""Labels of the ideal program over links: in which ways an ideal can be reached, and what each way still owes.

:mod:`solver.exact.link_ideals` says what a label stands for. Two labels with the same key (ideal, state, which open
stage made each tensor that still travels, and the classes of these stages) differ in nothing but how much the open
stages may still spend on sending; one that leaves every stage no less makes the other superfluous.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from solver.compiled import Floats, Ints
from solver.exact.ideal_table import Array
from solver.exact.state_bits import Words
from solver.kernels import kernel, kernel_part

MAX_OPEN, MAX_TRAVELLING = 7, 21
"""Open stages and tensors that travel between them, at most, in the words of a key: eight bits and three for each."""
NUM_OPEN = np.uint64(8 * MAX_OPEN)

Indices = npt.NDArray[np.int32]


class Labels(NamedTuple):
    """N labels.

    Attributes:
        slots: the hash table: a label with the key, or −1.
        ideal, state: [N].
        origins: [N] for each tensor that travels, in order of their index, three bits: which open stage made it.
        kinds: [N] for each open stage eight bits: its class; and in the upper eight, how many are open.
        room: [N, MAX_OPEN] ms that each open stage may still spend.
        before: [N] the label before the last stage.
        step: [N, 2] class of the last stage, as the label before calls it, and the renaming of classes after it.
        twin: [N] the next label with the same key, or −1.
        following: [N] the next label of the same ideal, or −1.
        total: how many there are.
    """

    slots: Indices
    ideal: Indices
    state: Indices
    origins: Words
    kinds: Words
    room: Floats
    before: Indices
    step: npt.NDArray[np.int16]
    twin: Indices
    following: Indices
    total: Ints


@kernel_part
def place_for(
    labels: Labels, ideal: int, state: int, origins: np.uint64, kinds: np.uint64, room: Floats, head: Indices
) -> int:
    """Where a label with this key belongs: on one that leaves no stage more, or a new place behind the others.

    Returns −1 if there is one that leaves no stage less, and the number of places if none is free.
    """
    slot = find_label(labels, ideal, state, origins, kinds)
    twin = labels.slots[slot]
    while twin >= 0:
        no_more = no_less = True
        for number in range(np.int64(kinds >> NUM_OPEN)):
            no_more = no_more and room[number] <= labels.room[twin, number]
            no_less = no_less and room[number] >= labels.room[twin, number]
        if no_more:
            return -1
        if no_less:
            return int(twin)  # Nothing has been built on it yet.
        twin = labels.twin[twin]
    place = labels.total[0]
    if place < len(labels.ideal):
        labels.total[0] += 1
        labels.twin[place] = labels.slots[slot]
        labels.slots[slot] = place
        labels.following[place] = head[ideal]
        head[ideal] = place
        labels.ideal[place], labels.state[place] = ideal, state
        labels.origins[place], labels.kinds[place] = origins, kinds
    return int(place)


@kernel_part
def find_label(labels: Labels, ideal: int, state: int, origins: np.uint64, kinds: np.uint64) -> int:
    """The slot of a key: that of a label which has it, or the empty one where it belongs."""
    value = np.uint64(ideal) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(state) * np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(29)
    value ^= origins * np.uint64(0x94D049BB133111EB)
    value ^= (kinds + (value >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    value ^= value >> np.uint64(31)
    last = len(labels.slots) - 1
    slot = int(np.int64(value & np.uint64(last)))
    while True:
        label = labels.slots[slot]
        if label < 0 or (
            labels.ideal[label] == ideal
            and labels.state[label] == state
            and labels.origins[label] == origins
            and labels.kinds[label] == kinds
        ):
            return slot
        slot = (slot + 1) & last


@kernel
def insert_labels(labels: Labels) -> None:
    """Put all labels into an empty hash table."""
    for label in range(labels.total[0]):
        slot = find_label(labels, labels.ideal[label], labels.state[label], labels.origins[label], labels.kinds[label])
        labels.twin[label] = labels.slots[slot]
        labels.slots[slot] = label


def first_label(capacity: int) -> Labels:
    """One label, of the empty ideal, and room for more."""
    labels = Labels(
        slots=np.full(capacity * 2, -1, dtype=np.int32),
        ideal=np.zeros(capacity, dtype=np.int32),
        state=np.zeros(capacity, dtype=np.int32),
        origins=np.zeros(capacity, dtype=np.uint64),
        kinds=np.zeros(capacity, dtype=np.uint64),
        room=np.zeros((capacity, MAX_OPEN)),
        before=np.full(capacity, -1, dtype=np.int32),
        step=np.zeros((capacity, 2), dtype=np.int16),
        twin=np.full(capacity, -1, dtype=np.int32),
        following=np.full(capacity, -1, dtype=np.int32),
        total=np.ones(1, dtype=np.int64),
    )
    insert_labels(labels)
    return labels


def more_labels(labels: Labels) -> Labels:
    """The same with twice the room."""

    def double(old: Array) -> Any:
        return np.concatenate([old, np.zeros_like(old)])

    doubled = Labels(*(double(array) for array in labels))
    doubled = doubled._replace(slots=np.full(len(doubled.slots), -1, dtype=np.int32), total=labels.total)
    insert_labels(doubled)
    return doubled
