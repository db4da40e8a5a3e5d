"""The helpers of the benchmarks: reading files of callgrind, and rigs that answer with the time of the kernel."""

from __future__ import annotations

import json
import socket
import sys
import time

import pytest

from benchmarks.support import wire_rigs
from echorig.wire._tags import add_tag, read_reply_number, read_tag, set_ack, strip_tag

CALLGRIND = """
ob=(1) /lib/libc.so.6
fn=(1) malloc
+3 10
-1 5
*

ob=(2) /site-packages/echorig/wire/_codec.cpython-311-x86_64-linux-gnu.so
fn=(2) encode
12 7
cob=(1)
cfn=(1)
calls=2 3
+1 30
* 2
fn=(1)
5 1
"""


def test_costs_of_functions_do_not_include_those_that_they_call():
    callgrind = pytest.importorskip('benchmarks.support.callgrind', reason='the loops of the benchmarks')
    codec = '/site-packages/echorig/wire/_codec.cpython-311-x86_64-linux-gnu.so'
    found = callgrind.parsed(CALLGRIND)
    assert dict(found) == {('/lib/libc.so.6', 'malloc'): 15, (codec, 'encode'): 9, (codec, 'malloc'): 1}
    parts = callgrind.parts(found)
    assert list(parts.values()) == [15, 10]
    assert list(parts) == ['C library', next(name for name in parts if name.startswith('wire'))]


@pytest.mark.skipif(sys.platform != 'linux', reason='SO_TIMESTAMPNS')
@pytest.mark.parametrize('tagged', [True, False])
def test_a_wire_rig_confirms_a_message_and_answers_with_the_time_of_its_first_copy(tagged):
    message = b'[2,"2022-01-01_1_subject",null]'
    frame = add_tag(message, 5, 9) if tagged else message
    rig = wire_rigs.WireRig()
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with rig.socket, client:
        client.settimeout(20)
        client.connect(rig.socket.getsockname())
        before = time.time_ns()
        client.send(frame)
        answer = exchange(rig, client, set_ack(frame) if tagged else frame)
        if tagged:
            assert read_reply_number(answer) == 5 << 32 | 9
            client.send(frame)
            assert exchange(rig, client, set_ack(frame)) == answer
        event, ref, when = json.loads(strip_tag(answer) if tagged else answer)
        assert (event, ref) == (2, '2022-01-01_1_subject')
        assert before <= when <= time.time_ns()
        assert (read_tag(answer) is not None) == tagged


def exchange(rig: wire_rigs.WireRig, client: socket.socket, confirmation: bytes) -> bytes:
    """Let the rig handle what it receives; return its answer, which follows the confirmation."""
    rig.socket.settimeout(20)
    rig.socket.recv(1, socket.MSG_PEEK)
    rig.socket.setblocking(False)
    rig.read()
    assert client.recv(65536) == confirmation
    return client.recv(65536)
