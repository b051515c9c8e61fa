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
from solver.exact.state_bits import Words, holds_state, lowest_of, put, take
from solver.kernels import kernel, kernel_part
from solver.stage_costs import ADDED, BESIDE_TRANSFERS

MAX_OPEN, MAX_TRAVELLING = 7, 21
"""Open stages and tensors that travel between them, at most, in the words of a key: eight bits and three for each."""
NEW_STAGE = 7
NUM_OPEN = np.uint64(8 * MAX_OPEN)
STEPPED, LABELS_FULL, TOO_MANY_OPEN = 0, 1, 2

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


class Ways(NamedTuple):
    """What depends on which devices have been used: S states, K classes, R renamings, the first of them none.

    Attributes:
        stride: [K] by how much a device of the class raises the number of a state.
        idle: [S, K] whether a device of the class is left.
        limits: [K] bytes.
        holds: [S] worth that the devices still idle can hold.
        class_compute: [K] column of compute.
        senders: [S, K] column of the best links from used devices to an idle one of the class.
        receivers: [S, K] column of the best links from a used device of the class to idle ones.
        turned: [R, S] the state when classes are renamed.
        renamed: [R, K] the new name of each class.
        pair_ms: [sizes, K, K] ms between devices of two classes.
        worst_ms: [sizes, K] the largest of them that is finite.
    """

    stride: Ints
    idle: npt.NDArray[np.bool_]
    limits: Ints
    holds: Floats
    class_compute: Ints
    senders: Indices
    receivers: Indices
    turned: Indices
    renamed: Ints
    pair_ms: Floats
    worst_ms: Floats


class Stage(NamedTuple):
    """A stage between two ideals, and the tensors that travel past its end; arrays that are filled again and again.

    Attributes:
        begin: the tensors that travel past its begin, in order of their index; −1 behind the last.
        entering: places in ``begin`` of those that come in; −1 behind the last.
        tensors: those that travel past its end, as ``begin``.
        origin: the place of each of them in ``begin``, −1 if the stage makes it.
        left: consumers that each of them has behind the stage.
    """

    begin: Ints
    entering: Ints
    tensors: Ints
    origin: Ints
    left: Ints


class Origin(NamedTuple):
    """The labels of the ideal at the begin of a stage, by state.

    Attributes:
        labels: of each entry.
        following: the next entry of the same state, or −1.
        entry_of: [S] the first entry of the state, or −1.
        moved: [K, words] the states after a device of the class was used, from those that are worth going on from.
    """

    labels: Ints
    following: Ints
    entry_of: Ints
    moved: Words


class Scratch(NamedTuple):
    """Of open stages: what they may still spend, that by their new numbers, what they must and can spend; numbers.

    Made once, because making arrays takes longer than most of what is done with them.
    """

    room: Floats
    fresh: Floats
    need: Floats
    most: Floats
    class_of: Ints
    number_of: Ints


@kernel_part
def step(  # noqa: C901, PLR0912, PLR0915  one loop nest, kept whole for the compiler
    limit: float,
    overlap: int,
    origin: Origin,
    ideal: int,
    stage: Stage,
    spent: Floats,
    incoming: Floats,
    outgoing: Floats,
    held: float,
    times: Floats,
    size_of: Ints,
    ways: Ways,
    labels: Labels,
    head: Indices,
    wanted: Words,
    behind: Words,
    scratch: Scratch,
) -> int:
    """Add the stage to every label of ``origin``, with every class that can bear it.

    Nothing is added if ``behind`` is given: then it is noted there which states lead to one of ``wanted``.

    Args:
        limit: of the load.
        overlap: a code of :mod:`solver.stage_costs`.
        origin: the ideal at the begin.
        ideal: at the end.
        stage: between the two.
        spent: [columns] compute.
        incoming: [L] transfers of the tensors that labels do not follow.
        outgoing: [L] likewise.
        held: bytes.
        times: [T, L] transfers.
        size_of: [T] row of ``ways.pair_ms``.
        ways: see there.
        labels: all of them.
        head: [ideals] the first label of each, or −1.
        wanted: states at the end that are worth reaching, under any of their names.
        behind: states at the begin from which that can be done, likewise, or empty.
        scratch: to write to.
    """
    ceiling = 2 * limit
    is_backward = len(behind) > 0
    # Where nothing travels on, labels of one state are all alike: one is enough.
    is_settled = stage.tensors[0] < 0
    room, fresh, need, most, class_of, number_of = scratch
    for k in range(len(ways.stride)):
        compute = spent[ways.class_compute[k]]
        if compute > limit or held > ways.limits[k]:
            continue
        for word in range(len(wanted)):
            bits = origin.moved[k, word] & wanted[word]
            while bits:
                target = 64 * word + lowest_of(bits)
                bits &= bits - np.uint64(1)
                state = target - ways.stride[k]
                # Another name of the state may have been dealt with meanwhile.
                if not holds_state(wanted, target) or not holds_state(origin.moved[k], target):
                    continue
                unfollowed = incoming[ways.senders[state, k]]
                left = outgoing[ways.receivers[target, k]]
                if room_left(limit, overlap, compute, unfollowed, left) < 0:
                    continue
                entry = origin.entry_of[state]
                while entry >= 0:
                    label = origin.labels[entry]
                    entry = origin.following[entry]
                    entered = unfollowed
                    origins, kinds = labels.origins[label], labels.kinds[label]
                    for number in range(np.int64(kinds >> NUM_OPEN)):
                        room[number] = labels.room[label, number]
                        class_of[number] = np.int64((kinds >> np.uint64(8 * number)) & np.uint64(255))
                    class_of[NEW_STAGE] = k
                    feasible = True
                    index = 0
                    while stage.entering[index] >= 0:
                        number = int((origins >> np.uint64(3 * stage.entering[index])) & np.uint64(7))
                        tensor = stage.begin[stage.entering[index]]
                        cost = min(ways.pair_ms[size_of[tensor], class_of[number], k], ceiling)
                        entered += cost
                        room[number] -= cost
                        if room[number] < 0:
                            feasible = False
                            break
                        index += 1
                    room[NEW_STAGE] = room_left(limit, overlap, compute, entered, left)
                    if not feasible or room[NEW_STAGE] < 0:
                        continue
                    # What travels on, by open stage in the order of first mention; what that costs at least and most.
                    number_of[:] = -1
                    count = index = 0
                    new_origins = new_kinds = np.uint64(0)
                    while stage.tensors[index] >= 0:
                        tensor = stage.tensors[index]
                        old = NEW_STAGE
                        if stage.origin[index] >= 0:
                            old = int(np.int64((origins >> np.uint64(3 * stage.origin[index])) & np.uint64(7)))
                        number = number_of[old]
                        if number < 0:
                            if count == MAX_OPEN:
                                return TOO_MANY_OPEN
                            number = number_of[old] = count
                            fresh[number] = room[old]
                            need[number] = most[number] = 0.0
                            new_kinds |= np.uint64(class_of[old]) << np.uint64(8 * number)
                            count += 1
                        new_origins |= np.uint64(number) << np.uint64(3 * index)
                        need[number] += min(times[tensor, ways.receivers[target, class_of[old]]], ceiling)
                        most[number] += stage.left[index] * ways.worst_ms[size_of[tensor], class_of[old]]
                        index += 1
                    for number in range(count):
                        if need[number] > fresh[number]:
                            feasible = False
                        # More than can be spent need not be told apart.
                        fresh[number] = min(fresh[number], most[number] * (1 + 1e-9))
                    if not feasible:
                        continue
                    if is_backward:
                        for trial in range(len(ways.turned)):
                            put(behind, ways.turned[trial, state])
                        for other in range(len(ways.stride)):
                            if ways.idle[state, other]:
                                take(origin.moved[other], state + ways.stride[other])
                        break
                    # Of all names that the classes may have, the one that comes first.
                    new_kinds |= np.uint64(count) << NUM_OPEN
                    turn, new_state, named = 0, ways.turned[0, target], new_kinds
                    for trial in range(1, len(ways.turned)):
                        if ways.turned[trial, target] > new_state:
                            continue
                        names = np.uint64(count) << NUM_OPEN
                        for number in range(count):
                            kind = np.int64((new_kinds >> np.uint64(8 * number)) & np.uint64(255))
                            names |= np.uint64(ways.renamed[trial, kind]) << np.uint64(8 * number)
                        if ways.turned[trial, target] < new_state or names < named:
                            turn, new_state, named = trial, ways.turned[trial, target], names
                    slot = find_label(labels, ideal, new_state, new_origins, named)
                    twin = labels.slots[slot]
                    place = -1
                    superfluous = False
                    while twin >= 0:
                        no_more = no_less = True
                        for number in range(count):
                            no_more = no_more and fresh[number] <= labels.room[twin, number]
                            no_less = no_less and fresh[number] >= labels.room[twin, number]
                        if no_more:
                            superfluous = True
                            break
                        if no_less:
                            place = twin  # Nothing has been built on it yet.
                            break
                        twin = labels.twin[twin]
                    if superfluous:
                        continue
                    if place < 0:
                        place = labels.total[0]
                        if place == len(labels.ideal):
                            return LABELS_FULL
                        labels.total[0] += 1
                        labels.twin[place] = labels.slots[slot]
                        labels.slots[slot] = place
                        labels.following[place] = head[ideal]
                        head[ideal] = place
                        labels.ideal[place], labels.state[place] = ideal, new_state
                        labels.origins[place], labels.kinds[place] = new_origins, named
                    labels.before[place] = label
                    labels.step[place, 0], labels.step[place, 1] = k, turn
                    labels.room[place] = 0.0
                    labels.room[place, :count] = fresh[:count]
                    if is_settled:
                        for trial in range(len(ways.turned)):
                            take(wanted, ways.turned[trial, new_state])
                        break
    return STEPPED


@kernel_part
def room_left(limit: float, overlap: int, compute: float, entered: float, left: float) -> float:
    """What a device may still spend on sending after so much, below zero if it has spent too much."""
    if overlap == ADDED:
        return limit - (compute + entered + left)
    if overlap == BESIDE_TRANSFERS:
        return limit - (entered + left)
    return limit - left if entered <= limit else -1.0


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
