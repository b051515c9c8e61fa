"""The wire format of server-sent events: the rules of the HTML standard, in pieces of any size."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.client.events import EventDecoder

STREAM = (
    ': a comment\n\nid: 1\nevent: state\ndata: {"a":\ndata: 1}\n\n'
    'id:2\r\nevent:incumbent\r\ndata:{"text": "two\u2028lines \x85 of one"}\r\n\r\n'
    'data: {"keeps": "the id"}\r\rid: 4\ndata\ndata: {}\n\nid: no\0\ndata: {}\n\nevent: nothing\n\nunknown: x\nid: 5\n'
).encode()


def decode(pieces):
    decoder = EventDecoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events, decoder.last_id


def test_reads_every_form():
    events, last_id = decode([STREAM])
    assert [(event.id, event.kind, event.data) for event in events] == [
        ("1", "state", {"a": 1}),
        ("2", "incumbent", {"text": "two\u2028lines \x85 of one"}),
        ("2", "message", {"keeps": "the id"}),
        ("4", "message", {}),
        ("4", "message", {}),
    ]
    assert last_id == "4"  # the fifth never became an event


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_pieces_of_any_size_make_the_same_events(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(edges)]
    assert decode(pieces) == decode([STREAM])
