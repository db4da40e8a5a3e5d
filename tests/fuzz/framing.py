"""The splitter of streams against one that looks at everything again with each chunk, and against other cuttings."""

from __future__ import annotations

import re

from echorig.wire._framing import FrameSplitter
from fuzz.reader import ByteReader

BLANK = b' \t\r\n'
MARK = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


def one_input(data: bytes) -> None:
    reader = ByteReader(data)
    limit = 1 + reader.pick((8, 40, 200, 65535))
    sizes = [reader.byte() for _ in range(reader.byte() % 12)]
    stream = reader.rest()
    chunks = cut(stream, sizes)
    frames, held, overflow, bare = slow(chunks, limit)
    splitter = FrameSplitter(limit)
    found = [frame for chunk in chunks for frame in feed(splitter, chunk, limit)]
    assert found == frames
    assert splitter.overflow is overflow
    assert splitter.pending == len(held)
    assert splitter.overflow is False or splitter.feed(b'[1]') == []
    check_other_cuttings(stream, limit, sizes)
    if not bare and not overflow:
        # What came out and what is held is the whole stream, but for the blank between.
        assert b''.join(frames).translate(None, BLANK) + held.translate(None, BLANK) == stream.translate(None, BLANK)


def feed(splitter: FrameSplitter, chunk: bytes, limit: int) -> list[bytes]:
    frames = splitter.feed(chunk)
    assert all(0 < len(frame) <= limit for frame in frames)
    assert splitter.pending <= limit
    return frames


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    chunks = []
    for size in sizes:
        chunks.append(stream[:size])
        stream = stream[size:]
    return [*chunks, stream]


def check_other_cuttings(stream: bytes, limit: int, sizes: list[int]) -> None:
    """Check that arrays come out the same however they are cut. Where a text ends only its chunk can tell."""
    frames, held, overflow, bare = slow([stream], limit)
    arrays = frames[:-1] if bare and not overflow else frames
    for chunks in (cut(stream, sizes), [stream[i : i + 1] for i in range(len(stream))]):
        splitter = FrameSplitter(limit)
        found = [frame for chunk in chunks for frame in splitter.feed(chunk)]
        assert found[: len(arrays)] == arrays
        if not bare:
            assert (found, splitter.pending, splitter.overflow) == (frames, len(held), overflow)


def slow(chunks: list[bytes], limit: int) -> tuple[list[bytes], bytes, bool, bool]:
    """Return the frames, what is left, whether one was over the limit, and whether there was a bare text."""
    frames: list[bytes] = []
    held = b''
    bare = False
    for chunk in chunks:
        text = held + chunk
        if not held:
            text = text.lstrip(BLANK)
        held = b''
        while text:
            end = len(text) if text[:1] != b'[' else end_of(text)
            bare |= text[:1] != b'['
            if (end or len(text)) > limit:
                return frames, b'', True, bare
            if end is None:
                held = text
                break
            frames.append(text[:end])
            text = text[end:].lstrip(BLANK)
    return frames, held, False, bare


def end_of(text: bytes) -> int | None:
    """Return where the array ends that a text begins with; None if it does not."""
    depth = 0
    for mark in MARK.finditer(text):
        depth += (mark[0] in b'[{') - (mark[0] in b']}') if len(mark[0]) == 1 and mark[0] != b'"' else 0
        if depth == 0:
            return mark.end()
    return None
