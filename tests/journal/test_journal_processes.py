"""Real programs: killed while they write, two with one file, many messages."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from echorig.journal import check, read
from programs import Program

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='SIGKILL')

# Sends messages and notes in a file that is mapped into memory how many were sent at which time.
SENDER = """
    import asyncio, mmap, struct, sys, time
    from echorig import EchoProtocol

    async def main(path, notes, rate):
        with open(notes, 'r+b') as file:
            shared = mmap.mmap(file.fileno(), 0)
        server = await EchoProtocol.server('udp://127.0.0.1:0', 'server')
        server.assign_callback('EXPINFO', lambda data, addr: None)
        client = await EchoProtocol.client(server.server_uri, sys.argv[4], journal=path)
        print('ready', flush=True)
        begun, n = time.monotonic(), 0
        while True:
            ahead = int((time.monotonic() - begun) * rate) - n
            for _ in range(min(max(ahead, 0), 200)):
                n += 1
                client.send([64, 20, n])
            slot = int((time.monotonic() - begun) * 10)
            if slot < len(shared) // 8:
                struct.pack_into('q', shared, slot * 8, n)
            await asyncio.sleep(0.001)

    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
    """
SLOTS = 600  # of 0.1 s
MISSING = 20  # slots that may be missing: much more than 0.1 s, since the machine may be busy


@pytest.mark.parametrize('rate', [200, 1_000])  # more than a busy machine writes would be no test of losses
@pytest.mark.parametrize('when', [3.2, 3.73])
def test_killed_while_writing(tmp_path: Path, rate: int, when: float) -> None:
    """All is there that was sent two seconds before; the file is readable, with one torn line at most."""
    notes, path = tmp_path / 'notes', tmp_path / 'j'
    notes.write_bytes(bytes(8 * SLOTS))
    with Program(SENDER, str(path), str(notes), str(rate), 'rig') as process:
        process.wait_for('ready')
        time.sleep(when)
        process.send_signal(signal.SIGKILL)
        process.wait()
    counts = struct.unpack(f'{SLOTS}q', notes.read_bytes())
    last = max(slot for slot, n in enumerate(counts) if n)
    before = max(counts[: max(0, last - MISSING)], default=0)
    assert before > 0, 'it has sent for so long'
    reader = read(path)
    numbers = [fields['data'][1] for fields in reader if fields['kind'] == 'sent']
    assert numbers == [*range(1, len(numbers) + 1)]
    assert len(numbers) >= before
    assert reader.skipped <= 1
    found = check(path)
    assert (found.missing, found.lost) == (0, 0)


def test_two_programs_with_one_file(tmp_path: Path) -> None:
    """One is killed; the lines of both are whole."""
    path = tmp_path / 'j'
    for name in 'ab':
        (tmp_path / name).write_bytes(bytes(8 * SLOTS))
    with (
        Program(SENDER, str(path), str(tmp_path / 'a'), '3000', 'a') as one,
        Program(SENDER, str(path), str(tmp_path / 'b'), '3000', 'b') as other,
    ):
        for process in (one, other):
            process.wait_for('ready')
        time.sleep(1.5)
        one.send_signal(signal.SIGKILL)
        time.sleep(0.5)
        other.send_signal(signal.SIGKILL)
        one.wait()
        other.wait()
    reader = read(path)
    numbers: dict[str, list[int]] = {'a': [], 'b': []}
    for fields in reader:
        if fields['kind'] == 'sent':
            numbers[fields['rig']].append(fields['data'][1])
    for sent in numbers.values():
        assert len(sent) > 100
        assert sent == [*range(1, len(sent) + 1)]
    assert reader.skipped <= 2
    found = check(path)
    assert len(found.programs) == 2
    assert (found.missing, found.lost) == (0, 0)


FULL = """
    import asyncio, os, shutil, sys
    from echorig import EchoProtocol, run

    async def main():
        path = sys.argv[1] + '/j'
        filler = os.open(sys.argv[1] + '/filler', os.O_WRONLY | os.O_CREAT)
        os.write(filler, bytes(40_000))
        server = await EchoProtocol.server('udp://127.0.0.1:0', 'server')
        heard = []
        server.assign_callback('EXPINFO', lambda data, addr: heard.append(data[1]))
        client = await EchoProtocol.client(server.server_uri, 'client', journal=path)
        for n in range(1000):
            await client.confirmed_send([64, 20, n])  # the session goes on
        while not client.journal.lost:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        lost = client.journal.lost
        os.unlink(sys.argv[1] + '/filler')
        os.close(filler)
        await client.confirmed_send([64, 20, 1000])
        client.close()
        await client.wait_closed()
        server.close()
        assert heard == [*range(1001)]
        shutil.copy(path, sys.argv[2])
        print(lost)

    run(main())
    """


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='mounts a file system in a namespace')
def test_full_file_system(tmp_path: Path) -> None:
    """A real one of 128 kB, mounted in a namespace: the session goes on, and the file says what is missing."""
    (tmp_path / 'disk').mkdir()
    program = tmp_path / 'program.py'
    program.write_text(textwrap.dedent(FULL))
    command = f'mount -t tmpfs -o size=128k none {tmp_path}/disk && exec "$0" {program} {tmp_path}/disk {tmp_path}/out'
    done = subprocess.run(
        ['unshare', '-rm', 'sh', '-c', command, sys.executable], capture_output=True, text=True, timeout=90
    )
    if 'unshare' in done.stderr or 'mount' in done.stderr:
        pytest.skip(f'no namespaces here: {done.stderr}')
    assert done.returncode == 0, done.stderr
    assert done.stderr.count('cannot be written, and the session goes on') == 1
    lost, found = int(done.stdout), check(tmp_path / 'out')
    assert found.lost == lost > 100
    assert found.missing == 0
    assert found.skipped <= 2
    assert len(list(read(tmp_path / 'out'))) == 1 + 2 * 1001 + 1 + 2 - lost  # session, messages, lost, connection


def test_the_last_second_is_there_after_sigterm(tmp_path: Path) -> None:
    """A program that ends in the ordinary way loses nothing."""
    program = """
    import asyncio, sys
    from echorig import EchoProtocol, run

    async def main():
        server = await EchoProtocol.server('udp://127.0.0.1:0', 'server', journal=sys.argv[1])
        client = await EchoProtocol.client(server.server_uri, 'client', journal=sys.argv[1])
        for n in range(1000):
            await client.confirmed_send([64, 20, n])
        print('ready', flush=True)

    run(main())
    """
    with Program(program, str(tmp_path / 'j')) as process:
        assert process.wait() == 0, process.lines
    confirmed = [fields for fields in read(tmp_path / 'j') if fields['kind'] == 'confirmed']
    assert len(confirmed) == 1000
    assert check(tmp_path / 'j').is_complete
