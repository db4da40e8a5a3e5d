"""Tags of the messages of one other program, for tests."""

from __future__ import annotations

from echorig.wire import _tags

set_ack = _tags.set_ack
is_echo = _tags.is_echo
is_ping = _tags.is_ping
strip_tag = _tags.strip_tag

TAG_SIZE = 128
"""int: The bytes of a tag."""
RUN = 0x12345678
"""int: The run of the other program."""
ACK = 1 << 32
"""int: The value that `read_tag` adds to the number of an echo."""


def tag(frame: bytes, number: int, run: int = RUN, lifetime: int = 0) -> bytes:
    """Put a tag into a message of the other program; a number over 32 bits has the ACK flag."""
    tagged = _tags.add_tag(frame, run, number % ACK, lifetime)
    return set_ack(tagged) if number & ACK else tagged


def ping(number: int, run: int = RUN) -> bytes:
    """Return a ping of the other program."""
    return _tags.make_ping(run, number)


def tag_answer(frame: bytes, number: int, answered: int, run: int = RUN) -> bytes:
    """Put a tag into an answer; `answered` is the run of the question, times 2**32, plus its number."""
    return _tags.add_tag(frame, run, number, 0, answered)


def read_tag(frame: bytes) -> int:
    """Return the number of a frame, plus `ACK` if it has the flag; -1 if there is no tag."""
    found = _tags.read_tag(frame)
    return -1 if found is None else found[2] | (ACK if found[0] else 0)


def run_of(frame: bytes) -> int:
    """Return the run of a tagged frame."""
    found = _tags.read_tag(frame)
    assert found is not None, frame
    return found[1]


def identity(frame: bytes) -> int:
    """Return the run of a tagged frame, times 2**32, plus its number; an answer carries this value."""
    found = _tags.read_tag(frame)
    assert found is not None, frame
    return found[1] << 32 | found[2]
