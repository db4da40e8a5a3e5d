"""The splitter against messages cut in every possible way."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from echorig.wire._framing import FrameSplitter

values = st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=10,
)
messages = st.lists(st.lists(values, max_size=4), max_size=6)
spaces = st.sampled_from([b'', b' ', b'\n', b'\r\n\t '])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def feed(splitter: FrameSplitter, chunks: list[bytes]) -> list[bytes]:
    return [frame for chunk in chunks for frame in splitter.feed(chunk)]


@given(messages, spaces, st.booleans(), st.lists(st.integers(0, 10_000), max_size=20))
@example([[2, 'ref', None], [8]], b'', True, [])
@example([['"]\\', {'[': '}'}]], b'', True, list(range(40)))
def test_whole_messages_come_out_however_the_stream_is_cut(bodies, space, ascii_only, places):
    frames = [json.dumps(body, ensure_ascii=ascii_only).encode('utf-8', 'replace') for body in bodies]
    splitter = FrameSplitter(10**6)
    assert feed(splitter, cut(space.join(frames) + space, places)) == frames
    assert splitter.pending == 0


@given(messages)
def test_one_byte_at_a_time(bodies):
    frames = [json.dumps(body).encode() for body in bodies]
    stream = b''.join(frames)
    assert feed(FrameSplitter(10**6), [stream[i : i + 1] for i in range(len(stream))]) == frames


@given(st.lists(st.binary(max_size=30), max_size=20))
def test_any_bytes_keep_the_limit_and_raise_nothing(chunks):
    splitter = FrameSplitter(40)
    for chunk in chunks:
        for frame in splitter.feed(chunk):
            assert 0 < len(frame) <= 40
        assert splitter.pending <= 40


def test_a_frame_that_is_the_whole_chunk_is_not_copied():
    frame = b'[2, "reference", null]'
    assert FrameSplitter(100).feed(frame)[0] is frame


def test_a_bare_text_is_the_rest_of_its_chunk():
    splitter = FrameSplitter(100)
    assert splitter.feed(b'[1, null] \nfoo [2]\n') == [b'[1, null]', b'foo [2]\n']
    assert splitter.feed(b'{"a": 1}') == [b'{"a": 1}']
    assert splitter.feed(b'[3]') == [b'[3]']


def test_the_limit_holds_to_the_byte():
    frame = b'[' + b'1' * 98 + b']'
    for limit, fits in ((100, True), (99, False)):
        whole, pieces = FrameSplitter(limit), FrameSplitter(limit)
        assert whole.feed(frame) == ([frame] if fits else [])
        assert feed(pieces, [frame[i : i + 7] for i in range(0, 100, 7)]) == ([frame] if fits else [])
        assert whole.overflow is pieces.overflow is not fits


def test_after_an_overflow_nothing_comes_and_what_came_before_is_not_lost():
    splitter = FrameSplitter(10)
    assert splitter.feed(b'[1][2][3, "too long for it"][4]') == [b'[1]', b'[2]']
    assert splitter.overflow
    assert splitter.pending == 0
    assert splitter.feed(b'[5]') == []


def test_bare_text_over_the_limit_is_refused():
    splitter = FrameSplitter(5)
    assert splitter.feed(b'abcdef') == []
    assert splitter.overflow


def test_counts_and_stops():
    splitter = FrameSplitter(100)
    assert splitter.feed(b'[1][2][3') == [b'[1]', b'[2]']
    assert (splitter.frames, splitter.received, splitter.pending) == (2, 8, 2)
    assert splitter.feed(b'] ') == [b'[3]']
    assert (splitter.frames, splitter.received, splitter.pending) == (3, 10, 0)
    splitter.feed(b'[4')
    splitter.stop()
    assert splitter.pending == 0
    assert splitter.overflow
    assert splitter.feed(b'][5]') == []
    assert splitter.frames == 3
