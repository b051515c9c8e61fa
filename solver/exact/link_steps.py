"""A stage added to the labels of the ideal at its begin, by every class of device that can bear it.

:mod:`solver.exact.link_ideals` says what a label stands for, :mod:`solver.exact.link_labels` how labels are kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solver.compiled import Floats, Ints
from solver.exact.link_costs import LinkCosts
from solver.exact.link_labels import MAX_OPEN, MAX_TRAVELLING, NUM_OPEN, Indices, Labels, place_for
from solver.exact.state_bits import Words, holds_state, lowest_of, put, take
from solver.kernels import kernel_part
from solver.stage_costs import ADDED, BESIDE_TRANSFERS

NEW_STAGE = MAX_OPEN
"""The number of the stage that is being added, among the open ones."""
STEPPED, LABELS_FULL, TOO_MANY_OPEN = 0, 1, 2


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
def describe(stage: Stage, costs: LinkCosts, items: Ints, inside: Ints, waiting: Ints) -> bool:
    """Note the followed tensors that enter the stage of ``items`` or travel past it; whether there is room for them."""
    num_entering = count = index = 0
    while stage.begin[index] >= 0:
        tensor = stage.begin[index]
        if inside[tensor] > 0:
            stage.entering[num_entering] = index
            num_entering += 1
        if inside[tensor] < waiting[tensor]:
            stage.tensors[count], stage.origin[count] = tensor, index
            stage.left[count] = waiting[tensor] - inside[tensor]
            count += 1
        index += 1
    stage.entering[num_entering] = -1
    for item in items:
        for index in range(costs.touching_first[item], costs.touching_first[item + 1]):
            tensor = costs.touching[index]
            left = costs.num_consumers[tensor] - inside[tensor]
            if costs.producer[tensor] != item or not costs.followed[tensor] or left == 0:
                continue
            if count == MAX_TRAVELLING:
                return False
            place = count
            while place > 0 and stage.tensors[place - 1] > tensor:
                stage.tensors[place], stage.origin[place] = stage.tensors[place - 1], stage.origin[place - 1]
                stage.left[place] = stage.left[place - 1]
                place -= 1
            stage.tensors[place], stage.origin[place], stage.left[place] = tensor, -1, left
            count += 1
    stage.tensors[count] = -1
    return True


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
    held: int,
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
                    turn, new_state, new_kinds = first_name(target, new_kinds, count, ways.turned, ways.renamed)
                    place = place_for(labels, ideal, new_state, new_origins, new_kinds, fresh, head)
                    if place == len(labels.ideal):
                        return LABELS_FULL
                    if place < 0:
                        continue
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
def first_name(state: int, kinds: np.uint64, count: int, turned: Indices, renamed: Ints) -> tuple[int, int, np.uint64]:
    """Of all names that the classes may have, the one that comes first: the renaming, the state, the open classes."""
    turn, first, named = 0, turned[0, state], kinds | np.uint64(count) << NUM_OPEN
    for trial in range(1, len(turned)):
        if turned[trial, state] > first:
            continue
        names = np.uint64(count) << NUM_OPEN
        for number in range(count):
            kind = np.int64((kinds >> np.uint64(8 * number)) & np.uint64(255))
            names |= np.uint64(renamed[trial, kind]) << np.uint64(8 * number)
        if turned[trial, state] < first or names < named:
            turn, first, named = trial, turned[trial, state], names
    return turn, first, named


@kernel_part
def room_left(limit: float, overlap: int, compute: float, entered: float, left: float) -> float:
    """What a device may still spend on sending after so much, below zero if it has spent too much."""
    if overlap == ADDED:
        return limit - (compute + entered + left)
    if overlap == BESIDE_TRANSFERS:
        return limit - (entered + left)
    return limit - left if entered <= limit else -1.0
