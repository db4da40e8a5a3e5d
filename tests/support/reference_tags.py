"""A reference implementation of tags in plain Python."""

from __future__ import annotations

TAG = 128  # bytes
RUNS = 2**31


def slow_crc(data: bytes) -> int:
    """CRC-32C, one bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def bits(value: int, n: int) -> bytes:
    """A number as white space."""
    return f'{value:0{n}b}'.replace('0', ' ').replace('1', '\t').encode()


def number_of(blanks: bytes) -> int:
    return int(blanks.replace(b' ', b'0').replace(b'\t', b'1'), 2)


def check_of(body: bytes, ack: bool, run: int, number: int, life: int) -> int:
    return slow_crc(body + b''.join(word.to_bytes(4, 'big') for word in (ack * RUNS + run, number, life)))


def slow_tag(frame: bytes, run: int, number: int, life: int, answered: int = -1, ack: bool = False) -> bytes:
    body = frame[:-1]
    if answered >= 0:
        body += b'\t' + bits(answered, 63)
    check = check_of(body, ack, run, number, life)
    return body + b''.join(bits(word, 32) for word in (ack * RUNS + run, number, life, check)) + b']'


def slow_read(frame: bytes) -> tuple[bool, int, int, int] | None:
    last = frame[-1 - TAG : -1]
    if len(frame) < TAG + 2 or frame[-1:] != b']' or last.strip(b' \t'):
        return None
    run, number, life = (number_of(last[32 * i : 32 * i + 32]) for i in range(3))
    return run >= RUNS, run % RUNS, number, life


def slow_damaged(frame: bytes) -> bool:
    found = slow_read(frame)
    if found is not None:
        return number_of(frame[-33:-1]) != check_of(frame[: -1 - TAG], *found)
    blanks = sum(byte in b' \t' for byte in frame[-1 - TAG : -1])
    return frame[:1] == b'[' and len(frame) >= TAG + 2 and blanks >= 112
