"""`Journal`: what is in the file after errors of the disk, rotation, forks and the end of a program."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import pytest

from echorig.journal import Journal, check, log_file, read
from echorig.journal.lines import MOST_BYTES
from eventually import eventually_blocking
from programs import Program
from systems import needs_fork

POSIX = pytest.mark.skipif(sys.platform == 'win32', reason='POSIX only')


def records(path: Path | str, *kinds: str) -> list[dict[str, Any]]:
    return [fields for fields in read(path) if not kinds or fields['kind'] in kinds]


def test_first_line_and_note(tmp_path: Path) -> None:
    path = tmp_path / 'session.jsonl'
    with Journal(path) as journal:
        journal.recorder('camera', 'client').note('connection', None, ('127.0.0.1', 11001), state='opened')
    first, second = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert first['kind'] == 'session'
    assert {'version', 'host', 'pid', 'program', 'time_zone', 'utc_offset'} <= first.keys()
    assert first['pid'] == os.getpid()
    assert second['rig'] == 'camera'
    assert second['role'] == 'client'
    assert second['addr'] == '127.0.0.1:11001'
    assert second['state'] == 'opened'
    assert first['time'] <= second['time'] <= time.time_ns()
    assert first['mono'] <= second['mono'] <= time.monotonic_ns()
    assert (first['seq'], second['seq']) == (1, 2)


def test_ipv6_and_no_message(tmp_path: Path) -> None:
    with Journal(tmp_path / 'j') as journal:
        journal.recorder('rig', 'server').note('sent', b'hello', ('::1', 5))
    [line] = records(tmp_path / 'j', 'sent')
    assert line['addr'] == '[::1]:5'
    assert line['data'] == '<5 bytes>'  # no message, so its content is not known to be harmless
    assert 'event' not in line


def test_written_within_a_moment_without_closing(tmp_path: Path) -> None:
    with Journal(tmp_path / 'j') as journal:
        journal.recorder('rig', 'server').note('sent', b'[1, 2]')
        eventually_blocking(lambda: records(tmp_path / 'j', 'sent'), 'the record is written')


def test_durable_is_synced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = threading.Event()
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        if (tmp_path / 'j').read_bytes().count(b'"sent"'):
            synced.set()

    with Journal(tmp_path / 'j', durable=True) as journal:
        monkeypatch.setattr(os, 'fsync', fsync)
        journal.recorder('rig', 'server').note('sent', b'[1, 2]')
        assert synced.wait(10)


def test_synced_each_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = threading.Event()
    with Journal(tmp_path / 'j') as journal:
        monkeypatch.setattr(os, 'fsync', lambda fd: synced.set())
        journal.recorder('rig', 'server').note('sent', b'[1, 2]')
        assert synced.wait(10)


def test_flush(tmp_path: Path) -> None:
    with Journal(tmp_path / 'j') as journal:
        recorder = journal.recorder('rig', 'server')
        for n in range(5):
            recorder.note('sent', b'[1, 2]')
            assert journal.flush()
            assert len(records(tmp_path / 'j', 'sent')) == n + 1
    assert not Path(journal.path).with_suffix('.1').exists()


def test_long_data_is_cut(tmp_path: Path) -> None:
    from hashlib import sha256

    body = b'[64, 20, "' + b'x' * 20_000 + b'"]'
    with Journal(tmp_path / 'j') as journal:
        journal.recorder('rig', 'server').note('received', body)
        journal.recorder('rig', 'server').note('received', b'[64, 20, "' + b'x' * (MOST_BYTES - 20) + b'"]')
    cut, whole = records(tmp_path / 'j', 'received')
    assert (cut['event'], cut['size'], cut['sha256']) == ('EXPINFO', len(body), sha256(body).hexdigest())
    assert cut['data'] == body[:MOST_BYTES].decode()
    assert 'size' not in whole
    assert whole['data'] == [20, 'x' * (MOST_BYTES - 20)]


def test_values_that_orjson_does_not_write(tmp_path: Path) -> None:
    with Journal(tmp_path / 'j') as journal:
        recorder = journal.recorder('rig', 'server')
        recorder.note('received', b'[64, 20, [NaN, 123456789012345678901234567890]]')
        recorder.note('received', b'[64, 20, ' + b'[' * 300 + b']' * 300 + b']')
        recorder.note('received', b'[64, 20, "\xe9\xff"]')  # a byte for each character, as MATLAB writes
        recorder.note('received', b'[64, 20, "\\ud800"]')
    lines = records(tmp_path / 'j', 'received')
    assert len(lines) == 4
    assert [line['event'] for line in lines[:3]] == ['EXPINFO'] * 3
    assert lines[2]['data'] == [20, 'éÿ']
    assert check(tmp_path / 'j').is_complete


TOKEN = 'deadbeef00deadbeef11deadbeef22deadbeef33'


@pytest.mark.parametrize(
    'frame',
    [
        [128, 'https://alyx.example.org', {'user': {'token': TOKEN}}],
        [128, 'https://alyx.example.org', {'user': TOKEN}],
        [128, None, TOKEN, [TOKEN], [[{'x': [TOKEN]}]]],
        [128, f'https://user:{TOKEN}@alyx.example.org'],
        [0, f'HTTPError: 401 token {TOKEN}', 128],
        [0, f'HTTPError: 401 token {TOKEN}', 2],
        [0, f'error {TOKEN}'],
        [64, 20, {'alyx': {'user': TOKEN}}],
        [2, 'ref', {'settings': [{'ALYX_TOKEN': TOKEN, 'password': TOKEN}]}],
        [64, 20, f'my token is {TOKEN}'],
        [64, 20, {'token': TOKEN, 'long': 'x' * 20_000}],
        [128, 'https://alyx.example.org', {'user': TOKEN, 'long': 'x' * 20_000}],
    ],
    ids=range(12),
)
def test_no_token_in_the_file(tmp_path: Path, frame: list[Any]) -> None:
    with Journal(tmp_path / 'j') as journal:
        for kind in ('sent', 'received', 'notice', 'failed'):
            journal.recorder('rig', 'server').note(kind, orjson.dumps(frame))
    assert len(records(tmp_path / 'j')) == 5
    assert TOKEN.encode() not in (tmp_path / 'j').read_bytes()
    assert b'***' in (tmp_path / 'j').read_bytes() or frame[0] == 0


def test_users_and_address_of_alyx_are_kept(tmp_path: Path) -> None:
    with Journal(tmp_path / 'j') as journal:
        journal.recorder('rig', 'server').note(
            'sent', b'[128, "https://alyx.example.org", {"anna": {"token": "secret"}}]'
        )
    [line] = records(tmp_path / 'j', 'sent')
    assert line['data'] == ['https://alyx.example.org', {'anna': '***'}]


def test_notices_say_what_they_are_about(tmp_path: Path) -> None:
    with Journal(tmp_path / 'j') as journal:
        journal.recorder('rig', 'server').note('notice', b'[0, "OSError: no disk", 2]')
    [line] = records(tmp_path / 'j', 'notice')
    assert (line['event'], line['about'], line['data']) == ('NOTICE', 'EXPSTART', ['OSError: no disk', 2])


def test_clock_of(tmp_path: Path) -> None:
    with Journal(tmp_path / 'j') as journal:
        recorder = journal.recorder('rig', 'client')
        recorder.clock_of = {('127.0.0.1', 1): (0.5, 0.001)}.get
        recorder.note('sent', b'[1, 2]', ('127.0.0.1', 1))
        recorder.note('sent', b'[1, 2]', ('127.0.0.1', 2))
    known, unknown = records(tmp_path / 'j', 'sent')
    assert (known['offset'], known['error']) == (0.5, 0.001)
    assert 'offset' not in unknown


# --- the disk ---


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='Cannot open the journal: there is no folder'):
        Journal(tmp_path / 'none' / 'j')


def test_path_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match='Cannot open the journal'):
        Journal(tmp_path)


@POSIX
def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """As another user, since root may write everywhere."""
    program = """
    import os, sys
    from echorig.journal import Journal
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        Journal(sys.argv[1] + '/j')
    except PermissionError as ex:
        print(ex)
    """
    folder = tmp_path / 'locked'
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)
    try:
        with Program(program, str(folder)) as process:
            assert process.wait() == 0, process.lines
            assert 'Cannot open the journal' in process.lines[-1]
    finally:
        folder.chmod(0o700)


@pytest.mark.parametrize('wrong', [3, None, b'x', ''])
def test_path_of_a_wrong_type(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match='path'):
        Journal(wrong)


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='Linux')
def test_full_disk(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), Journal('/dev/full') as journal:
        recorder = journal.recorder('rig', 'server')
        for _ in range(5):
            for _ in range(100):
                recorder.note('sent', b'[1, 2]')
            journal.flush()
        assert journal.lost == 500
    assert len(caplog.records) == 1
    assert 'No space left' in caplog.text


class Disk:
    """A disk that takes `room` bytes and is then full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: float = float('inf')
        self._real = os.write
        monkeypatch.setattr(os, 'write', self._write)

    def _write(self, fd: int, data: bytes) -> int:
        if self.room <= 0 and data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        n = self._real(fd, data[: int(min(self.room, len(data)))])
        self.room -= n
        return n


@pytest.mark.parametrize('room', [0, 1, 200, 1000, 3333, 5001])
def test_disk_that_is_full_for_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """What is not lost is there, once; the number of lost records is in the file; a torn line harms no other."""
    disk = Disk(monkeypatch)
    with Journal(tmp_path / 'j') as journal:
        recorder = journal.recorder('rig', 'server')
        recorder.note('sent', b'[1, 0]')
        assert journal.flush()
        disk.room = room
        for n in range(1, 101):
            recorder.note('sent', b'[1, %d]' % n)
        assert journal.flush()
        lost = journal.lost
        assert 0 < lost <= 100
        disk.room = float('inf')
        recorder.note('sent', b'[1, 101]')
        assert journal.flush()
    numbers = [fields['data'][0] for fields in records(tmp_path / 'j', 'sent')]
    assert numbers == [*range(101 - lost), 101]
    assert [fields['n'] for fields in records(tmp_path / 'j', 'lost')] == [lost]
    found = check(tmp_path / 'j')
    assert (found.lost, found.missing) == (lost, 0)
    assert found.skipped <= 2


@POSIX
def test_file_size_limit(tmp_path: Path) -> None:
    """A limit of the system: the program goes on, and says so when it may write again."""
    program = """
    import resource, sys
    from echorig.journal import Journal
    journal = Journal(sys.argv[1])
    recorder = journal.recorder('rig', 'server')
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
    for n in range(100):
        recorder.note('sent', b'[1, %d]' % n)
    assert journal.flush()
    print(journal.lost, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    recorder.note('sent', b'[1, 100]')
    journal.close()
    """
    with Program(program, str(tmp_path / 'j')) as process:
        assert process.wait() == 0, process.lines
        lost = int(process.lines[-1])
    assert 0 < lost < 100
    assert [fields['n'] for fields in records(tmp_path / 'j', 'lost')] == [lost]
    assert [fields['data'][0] for fields in records(tmp_path / 'j', 'sent')] == [*range(100 - lost), 100]


def test_full_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk hangs, records beyond the limit are counted."""
    monkeypatch.setattr('echorig.journal.writer.MOST_RECORDS', 50)
    hangs, real = threading.Event(), os.write

    def write(fd: int, data: bytes) -> int:
        assert hangs.wait(30)
        return real(fd, data)

    monkeypatch.setattr(os, 'write', write)
    with Journal(tmp_path / 'j') as journal:
        recorder = journal.recorder('rig', 'server')
        recorder.note('sent', b'[1, 0]')
        time.sleep(0.3)  # the thread hangs now
        for _ in range(120):
            recorder.note('sent', b'[1, 1]')
        assert journal.lost >= 69
        lost = journal.lost
        hangs.set()
    assert sum(fields['n'] for fields in records(tmp_path / 'j', 'lost')) == lost
    assert len(records(tmp_path / 'j', 'sent')) == 121 - lost


def test_long_frames_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, real = threading.Event(), os.write

    def write(fd: int, data: bytes) -> int:
        assert hangs.wait(30)
        return real(fd, data)

    monkeypatch.setattr(os, 'write', write)
    frame = b'[64, 20, "' + b'x' * 1_000_000 + b'"]'
    with Journal(tmp_path / 'j') as journal:
        recorder = journal.recorder('rig', 'server')
        recorder.note('sent', b'[1, 0]')
        time.sleep(0.3)
        for _ in range(100):
            recorder.note('sent', frame)
        assert journal.lost >= 100 - 67
        hangs.set()
        assert journal.flush()
        lost = journal.lost
        for _ in range(10):  # there is room again
            recorder.note('sent', frame)
        assert journal.flush()
        assert journal.lost == lost


def test_error_of_the_program_in_clock_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), Journal(tmp_path / 'j') as journal:
        recorder = journal.recorder('rig', 'client')
        recorder.clock_of = lambda addr: (1 / 0, 0.0)
        recorder.note('sent', b'[1, 2]', ('127.0.0.1', 1))
        assert journal.flush()
        recorder.clock_of = None
        recorder.note('sent', b'[1, 3]', ('127.0.0.1', 1))
    assert [fields['data'] for fields in records(tmp_path / 'j', 'sent')] == [[3]]
    assert 'division by zero' in caplog.text


def test_file_that_is_renamed_or_removed(tmp_path: Path) -> None:
    """As by logrotate: the path is opened again."""
    path = tmp_path / 'j'
    with Journal(path) as journal:
        recorder = journal.recorder('rig', 'server')
        recorder.note('sent', b'[1, 0]')
        assert journal.flush()
        if sys.platform == 'win32':
            return
        path.rename(tmp_path / 'old')
        recorder.note('sent', b'[1, 1]')
        assert journal.flush()
        path.unlink()
        recorder.note('sent', b'[1, 2]')
        assert journal.flush()
        assert journal.lost == 0
    assert [fields['data'][0] for fields in records(tmp_path / 'old', 'sent')] == [0]
    assert [fields['data'][0] for fields in records(path, 'sent')] == [2]
    assert orjson.loads(path.read_bytes().splitlines()[0])['continued'] is True


@pytest.mark.parametrize('renames_open_files', [True, False])
def test_rotation(tmp_path: Path, monkeypatch, renames_open_files: bool) -> None:
    """False is Windows, which renames a file when it is closed."""
    monkeypatch.setattr(log_file, 'RENAMES_OPEN_FILES', renames_open_files and log_file.RENAMES_OPEN_FILES)
    path = tmp_path / 'j'
    with Journal(path, max_bytes=5000) as journal:
        recorder = journal.recorder('rig', 'server')
        for n in range(200):
            recorder.note('sent', b'[1, %d]' % n)
            if n % 7 == 0:
                assert journal.flush()
    files = sorted(tmp_path.iterdir())
    assert len(files) > 3
    assert {file.name for file in files} == {'j', *(f'j.{n}' for n in range(1, len(files)))}
    assert all(file.stat().st_size <= 5600 for file in files)  # the first line of each comes on top
    assert [fields['data'][0] for fields in records(path, 'sent')] == [*range(200)]
    assert check(path).is_complete
    assert all(orjson.loads(file.read_bytes().splitlines()[0])['kind'] == 'session' for file in files)
    (tmp_path / 'j.2').unlink()
    assert check(path).missing > 0


@pytest.mark.parametrize('renames_open_files', [True, False])
def test_a_file_that_cannot_be_renamed_grows(tmp_path: Path, monkeypatch, renames_open_files: bool) -> None:
    """On Windows, while another program has it open."""
    monkeypatch.setattr(log_file, 'RENAMES_OPEN_FILES', renames_open_files)
    tried = []

    def rename(*paths: str) -> None:
        tried.append(paths)
        raise PermissionError(errno.EACCES, 'another program has it open')

    monkeypatch.setattr(os, 'rename', rename)
    path = tmp_path / 'j'
    with Journal(path, max_bytes=1000) as journal:
        recorder = journal.recorder('rig', 'server')
        for n in range(50):
            recorder.note('sent', b'[1, %d]' % n)
            assert journal.flush()
        assert journal.lost == 0
    assert tried
    assert [fields['data'][0] for fields in records(path, 'sent')] == [*range(50)]
    assert len(records(path, 'session')) == 1


def test_a_file_that_cannot_be_opened_again_is_opened_later(tmp_path: Path, monkeypatch) -> None:
    """On Windows it is closed meanwhile; nothing is written to a file that has its number."""
    path = str(tmp_path / 'j')
    file = log_file.LogFile(path, 10)
    monkeypatch.setattr(log_file, 'RENAMES_OPEN_FILES', False)
    file.append(b'12345678\n')
    with monkeypatch.context() as patch:
        patch.setattr(os, 'open', mock.Mock(side_effect=PermissionError(errno.EACCES, 'scanned for viruses', path)))
        with pytest.raises(OSError, match='scanned for viruses'):
            file.append(b'12345678\n')
        with pytest.raises(OSError, match='scanned for viruses'):
            file.append(b'12345678\n')
        file.sync()
    file.append(b'abcdefgh\n')
    file.close()
    assert Path(path).read_bytes() == b'abcdefgh\n'
    assert Path(f'{path}.1').read_bytes() == b'12345678\n'


@POSIX
def test_two_programs_that_rotate_one_file(tmp_path: Path) -> None:
    pytest.importorskip('fcntl')
    program = """
    import sys
    from echorig.journal import Journal
    with Journal(sys.argv[1], max_bytes=20_000) as journal:
        recorder = journal.recorder(sys.argv[2], 'server')
        for n in range(3000):
            recorder.note('sent', b'[1, %d]' % n)
            if n % 100 == 0:
                journal.flush()
        print(journal.lost)
    """
    path = tmp_path / 'j'
    with Program(program, str(path), 'a') as one, Program(program, str(path), 'b') as other:
        assert one.wait(60) == other.wait(60) == 0
        assert one.lines == other.lines == ['0']
    lines = records(path, 'sent')
    for rig in 'ab':
        assert sorted(fields['data'][0] for fields in lines if fields['rig'] == rig) == [*range(3000)]
    assert check(path).is_complete
    assert len(list(tmp_path.iterdir())) > 10


def test_torn_end_of_an_earlier_program(tmp_path: Path) -> None:
    path = tmp_path / 'j'
    path.write_bytes(b'{"kind":"sent","ti')
    with Journal(path) as journal:
        journal.recorder('rig', 'server').note('sent', b'[1, 0]')
    reader = read(path)
    assert [fields['kind'] for fields in reader] == ['session', 'sent']
    assert reader.skipped == 1


# --- the process ---


def test_written_at_exit(tmp_path: Path) -> None:
    program = """
    import sys
    from echorig.journal import Journal
    recorder = Journal(sys.argv[1]).recorder('rig', 'server')
    for n in range(30_000):
        recorder.note('sent', b'[1, %d]' % n)
    """
    with Program(program, str(tmp_path / 'j')) as process:
        assert process.wait(60) == 0
    assert process.lines == []
    assert len(records(tmp_path / 'j', 'sent')) == 30_000
    assert check(tmp_path / 'j').is_complete


def test_records_after_close_are_not_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / 'j')
    recorder = journal.recorder('rig', 'server')
    journal.close()
    journal.close()
    recorder.note('sent', b'[1, 0]')
    assert 'closed' in repr(journal)
    assert records(tmp_path / 'j', 'sent') == []


def _child(recorder: Any, journal: Journal, numbers: list[int]) -> None:
    for n in numbers:
        recorder.note('sent', b'[1, %d]' % n)
    assert journal.flush()


@needs_fork
@pytest.mark.filterwarnings('ignore:This process .* is multi-threaded:DeprecationWarning')
def test_fork(tmp_path: Path) -> None:
    """The child writes none of the records of its parent, and its own ones."""
    context = multiprocessing.get_context('fork')
    with Journal(tmp_path / 'j') as journal:
        recorder = journal.recorder('rig', 'server')
        for n in range(1000):
            recorder.note('sent', b'[1, %d]' % n)
        processes = [
            context.Process(target=_child, args=(recorder, journal, [*range(start, start + 100)]))
            for start in (2000, 3000)
        ]
        for process in processes:
            process.start()
        for n in range(1000, 1100):
            recorder.note('sent', b'[1, %d]' % n)
        for process in processes:
            process.join(30)
            assert process.exitcode == 0
    numbers = [fields['data'][0] for fields in records(tmp_path / 'j', 'sent')]
    assert sorted(numbers) == [*range(1100), *range(2000, 2100), *range(3000, 3100)]
    found = check(tmp_path / 'j')
    assert found.is_complete
    assert len(found.programs) == 3


def test_several_threads(tmp_path: Path) -> None:
    with Journal(tmp_path / 'j') as journal:

        def work() -> None:
            recorder = journal.recorder(threading.current_thread().name, 'server')
            for n in range(2000):
                recorder.note('sent', b'[1, %d]' % n)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(records(tmp_path / 'j', 'sent')) == 8000
    assert check(tmp_path / 'j').is_complete
