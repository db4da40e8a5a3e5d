"""`read`, `to_frame`, `export`, `plot` and `starts` with the files of real sessions."""

from __future__ import annotations

import builtins
import csv
import json
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest

from echorig import Rig, Services, run
from echorig.journal import Journal, check, export, plot, read, starts, to_frame
from eventually import eventually_blocking

REF = '2026-01-31_1_mouse7'


def write(path: Path, *records: dict[str, Any]) -> None:
    path.write_bytes(b''.join(orjson.dumps({'kind': 'sent', **fields}) + b'\n' for fields in records))


@pytest.fixture(scope='module')
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journals of a main PC and two rigs, one of which fails once."""
    folder = tmp_path_factory.mktemp('session')

    async def main() -> None:
        rigs = {}
        for name in ('camera', 'ephys'):
            rig = rigs[name] = Rig(name)
            rig.on('EXPSTART')(lambda exp_ref: 'recording')
            rig.on('EXPEND')(lambda: None)
            await rig.open('udp://127.0.0.1:0', journal=folder / f'{name}.jsonl')
        uris = {name: rig.server_uri for name, rig in rigs.items()}
        async with await Services.connect(uris, journal=folder / 'main.jsonl') as services:
            for n in (1, 2):
                async with services.experiment(f'2026-01-31_{n}_mouse7', data={'fps': 60, 'name': 'Zoë\t"x"'}):
                    pass
        for rig in rigs.values():
            rig.close()
            await rig.wait_closed()

    run(main())
    return folder


# --- reading ---


def test_order_of_time_over_several_files(session: Path) -> None:
    reader = read(session)
    times = [fields['time'] for fields in reader]
    assert times == sorted(times)
    assert reader.lines == len(times) > 40
    assert (reader.skipped, reader.lost) == (0, 0)
    files = [session / 'camera.jsonl', session / 'main.jsonl', session / 'ephys.jsonl']
    assert [fields['time'] for fields in read(files)] == times
    assert [fields['time'] for fields in read([*files, files[0]])] == times, 'a file that is given twice counts once'
    assert [fields['time'] for fields in read(str(file) for file in files)] == times


def test_lines_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    """Two programs write their batches one after the other."""
    second = 1_000_000_000
    moments = [base * second // 10 + offset for base in range(200) for offset in (50, 10, 70, 0)]
    write(tmp_path / 'j', *({'time': moment} for moment in moments))
    assert [fields['time'] for fields in read(tmp_path / 'j')] == sorted(moments)


def test_torn_and_foreign_lines(tmp_path: Path) -> None:
    path = tmp_path / 'j'
    write(path, {'time': 1}, {'time': 2})
    whole = path.read_bytes()
    skipped: list[tuple[str, bytes]] = []
    foreign = [
        b'[1, 2]\n',
        b'{"a": 1}\n',
        b'{"kind": 1, "time": 2}\n',
        b'{"kind": "sent", "time": "x"}\n',
        b'\0\0\0\n',
        b'\xff\n',
    ]
    path.write_bytes(b'\n' + whole + b''.join(foreign) + b'\n\n' + whole + b'{"kind":"sent","time":3,"da')
    reader = read(path, on_skipped=lambda path, line: skipped.append((path, line)))
    assert [fields['time'] for fields in reader] == [1, 1, 2, 2]
    assert reader.skipped == len(skipped) == len(foreign) + 1
    assert {where for where, _ in skipped} == {str(path)}
    assert not check(path).is_complete


@pytest.mark.parametrize('cut', range(1, 60, 7))
def test_torn_last_line(session: Path, tmp_path: Path, cut: int) -> None:
    data = (session / 'main.jsonl').read_bytes()
    (tmp_path / 'j').write_bytes(data[:-cut])
    reader = read(tmp_path / 'j')
    n = data.count(b'\n')
    assert len(list(reader)) == n - (cut > 1)
    assert reader.skipped == (cut > 1)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / 'none')
    with pytest.raises(TypeError):
        read(3)  # type: ignore[arg-type]


def test_empty_folder_and_file(tmp_path: Path) -> None:
    assert list(read(tmp_path)) == []
    (tmp_path / 'a.jsonl').write_bytes(b'')
    assert list(read(tmp_path)) == []
    assert check(tmp_path).is_complete


def test_missing_lines(session: Path, tmp_path: Path) -> None:
    lines = (session / 'main.jsonl').read_bytes().splitlines(keepends=True)
    del lines[3:5]
    (tmp_path / 'j').write_bytes(b''.join(lines))
    assert check(tmp_path / 'j').missing == 2


def test_follow(tmp_path: Path) -> None:
    """What is written later is read, also after a rotation, and in files that come later."""
    path = tmp_path / 'a.jsonl'
    found: list[Any] = []
    with Journal(path, max_bytes=2000) as journal:
        recorder = journal.recorder('rig', 'server')
        for n in range(20):
            recorder.note('sent', b'[64, %d]' % n)
        assert journal.flush()
        reader = read(tmp_path, follow=True)

        def work() -> None:
            for fields in reader:
                if fields['kind'] == 'sent':
                    found.append(fields['data'][0])
                if fields['kind'] == 'failed':
                    return

        thread = threading.Thread(target=work)
        thread.start()
        eventually_blocking(lambda: found == [*range(20)], 'what is there is read')
        for n in range(20, 60):
            recorder.note('sent', b'[64, %d]' % n)
            time.sleep(0.001)
            if n % 10 == 0:
                assert journal.flush()
        eventually_blocking(lambda: found == [*range(60)], 'what is written later is read')
        with Journal(tmp_path / 'b.jsonl') as other:
            other.recorder('rig', 'server').note('failed', b'[64, 1]')
        thread.join(10)
        assert not thread.is_alive()
    assert len(list(tmp_path.iterdir())) > 3


@pytest.mark.skipif(sys.platform == 'win32', reason='an open file cannot be renamed there')
def test_reading_while_files_are_renamed(tmp_path: Path) -> None:
    """Each reading has all records up to some point, whatever is renamed meanwhile."""
    path, ends = tmp_path / 'j', threading.Event()

    def work() -> None:
        with Journal(path, max_bytes=3000) as journal:
            recorder = journal.recorder('rig', 'server')
            for n in range(1000):
                recorder.note('sent', b'[64, %d]' % n)
                if n % 25 == 0:
                    journal.flush()
        ends.set()

    thread = threading.Thread(target=work)
    thread.start()
    eventually_blocking(path.exists, 'it is opened')
    lengths = []
    while not ends.is_set():
        numbers = [fields['data'][0] for fields in read(path) if fields['kind'] == 'sent']
        assert numbers == [*range(len(numbers))]
        lengths.append(len(numbers))
    thread.join()
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 5


# --- tables ---


def test_to_frame(session: Path) -> None:
    frame = to_frame(session)
    assert len(frame) == len(list(read(session)))
    start = frame[(frame.event == 'EXPSTART') & (frame.kind == 'sent')].iloc[0]
    assert start.session_time == 0.0
    assert str(frame.utc.dtype) == 'datetime64[ns, UTC]'
    assert start.utc.value == start.time
    assert list(start.data) == [REF, {'fps': 60, 'name': 'Zoë\t"x"'}]
    confirmed = frame[frame.kind == 'confirmed']
    assert (confirmed.rtt > 0).all()
    assert set(frame.rig.dropna()) == {'camera', 'ephys'}


def test_starts(session: Path) -> None:
    """With the journals of the rigs, or with that of the main PC alone."""
    both = starts(session)
    assert [start.exp_ref for start in both] == [REF, REF.replace('_1_', '_2_')]
    for start in both:
        assert start.receipts.keys() == {'camera', 'ephys'}
        assert start.estimated == set()
        assert 0 <= start.skew < 5
        assert all(-1 < receipt < 5 for receipt in start.receipts.values())
    alone = starts(session / 'main.jsonl')
    assert [start.estimated for start in alone] == [{'camera', 'ephys'}] * 2
    rigs = starts([session / 'camera.jsonl', session / 'ephys.jsonl'])
    assert [start.receipts.keys() for start in rigs] == [{'camera', 'ephys'}] * 2


def test_starts_with_other_clocks(tmp_path: Path) -> None:
    """The clock of the second rig is 100 s ahead, and that of the third 7 s behind, as it says itself."""
    ms = 1_000_000
    start = {'event': 'EXPSTART', 'data': [REF]}
    write(
        tmp_path / 'main',
        {**start, 'rig': 'a', 'id': '1:1', 'time': 1000 * ms},
        {**start, 'rig': 'b', 'id': '2:1', 'time': 1001 * ms, 'offset': 100.0, 'error': 0.001},
        {**start, 'rig': 'c', 'id': '3:1', 'time': 1002 * ms},
    )
    rigs = [('a', '1:1', 1003 * ms, {}), ('b', '2:1', 101_005 * ms, {}), ('c', '3:1', -5993 * ms, {'offset': 7.0})]
    for rig, number, moment, clock in rigs:
        write(tmp_path / rig, {**start, 'kind': 'received', 'rig': rig, 'id': number, 'time': moment, **clock})
    [found] = starts([tmp_path / name for name in ('main', 'a', 'b', 'c')])
    assert found.receipts == pytest.approx({'a': 0.003, 'b': 0.005, 'c': 0.007})
    assert found.skew == pytest.approx(0.004)


# --- export ---


def test_csv(session: Path, tmp_path: Path) -> None:
    n = export(session, tmp_path / 'x.csv')
    frame = pd.read_csv(tmp_path / 'x.csv')
    expected = list(read(session))
    assert len(frame) == n == len(expected)
    assert frame.time.tolist() == [fields['time'] for fields in expected]
    for row, fields in zip(frame.itertuples(), expected, strict=True):
        assert row.kind == fields['kind']
        if 'data' in fields:
            assert json.loads(row.data) == fields['data']
        moment = datetime.fromisoformat(f'{row.utc[:26]}+00:00')
        assert moment == datetime.fromtimestamp(fields['time'] // 1000 / 1e6, timezone.utc)
        assert row.utc.endswith(f'{fields["time"] % 1_000_000_000:09d}Z')


def test_parquet(session: Path, tmp_path: Path) -> None:
    pytest.importorskip('pyarrow')
    n = export(session, tmp_path / 'x.parquet')
    frame = pd.read_parquet(tmp_path / 'x.parquet')
    expected = list(read(session))
    assert len(frame) == n == len(expected)
    assert frame.time.tolist() == [fields['time'] for fields in expected]
    assert [value.value for value in frame.utc] == frame.time.tolist()
    assert frame.rtt.dropna().tolist() == [fields['rtt'] for fields in expected if 'rtt' in fields]
    datas = [json.loads(value) for value in frame.data.dropna()]
    assert datas == [fields['data'] for fields in expected if 'data' in fields]


def test_nwb(session: Path, tmp_path: Path) -> None:
    pynwb = pytest.importorskip('pynwb')
    n = export(session, tmp_path / 'x.nwb')
    expected = [fields for fields in read(session) if fields['kind'] in ('sent', 'answered', 'received', 'notice')]
    begin = next(fields['time'] for fields in expected if fields.get('event') == 'EXPSTART')
    with pynwb.NWBHDF5IO(tmp_path / 'x.nwb', 'r') as io:
        file = io.read()
        assert file.session_id == REF
        assert abs(file.session_start_time.timestamp() - begin / 1e9) < 1e-5
        assert set(file.events) == {'messages_camera', 'messages_ephys'}
        total = 0
        for name, table in file.events.items():
            own = [fields for fields in expected if fields['rig'] == name.removeprefix('messages_')]
            frame = table.to_dataframe()
            assert frame.timestamp.tolist() == [(fields['time'] - begin) / 1e9 for fields in own]
            assert frame.event.tolist() == [fields['event'] for fields in own]
            assert frame.utc_ns.tolist() == [fields['time'] for fields in own]
            assert [json.loads(text) for text in frame.data] == [fields['data'] for fields in own]
            total += len(frame)
        assert total == n == len(expected)


def test_nwb_is_valid(session: Path, tmp_path: Path) -> None:
    pynwb = pytest.importorskip('pynwb')
    export(session, tmp_path / 'x.nwb')
    assert pynwb.validate(path=tmp_path / 'x.nwb') == []


def test_nwb_without_messages(tmp_path: Path) -> None:
    pytest.importorskip('pynwb')
    write(tmp_path / 'j', {'kind': 'session', 'time': 1})
    with pytest.raises(ValueError, match='no messages'):
        export(tmp_path / 'j', tmp_path / 'x.nwb')


def test_htsv(session: Path, tmp_path: Path) -> None:
    n = export(session, tmp_path / '_echorig_softwareEvents.log.htsv')
    with open(tmp_path / '_echorig_softwareEvents.log.htsv', encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file, delimiter='\t'))
    assert list(rows[0]) == ['time', 'daq_time', 'name', 'value', 'kind', 'rig', 'utc']
    assert len(rows) == n
    assert all(row['daq_time'] == '' for row in rows)
    first = next(row for row in rows if row['name'] == 'EXPSTART')
    assert float(first['time']) == 0
    assert json.loads(first['value'])[0] == REF
    assert pd.read_csv(tmp_path / '_echorig_softwareEvents.log.htsv', sep='\t').time.is_monotonic_increasing


def test_other_suffix(session: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'target must end with \.csv'):
        export(session, tmp_path / 'x.xlsx')


@pytest.mark.parametrize(
    ('package', 'target', 'extra'),
    [('pyarrow', 'x.parquet', 'parquet'), ('pynwb', 'x.nwb', 'nwb'), ('matplotlib', 'x.png', 'plot')],
)
def test_missing_package(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, target: str, extra: str
) -> None:
    real = builtins.__import__

    def refusing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition('.')[0] == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    import importlib

    real_module = importlib.import_module
    monkeypatch.setattr(
        'echorig.journal.extras.import_module',
        lambda name: refusing(name) if name.partition('.')[0] == package else real_module(name),
    )
    with pytest.raises(ImportError, match=rf"pip install 'echorig\[{extra}\]'"):
        (plot if extra == 'plot' else export)(session, tmp_path / target)


# --- plot ---


@pytest.mark.parametrize('suffix', ['png', 'svg', 'pdf'])
@pytest.mark.filterwarnings('default')
def test_plot(session: Path, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip('matplotlib')
    target = tmp_path / f'x.{suffix}'
    plot(session, target)
    data = target.read_bytes()
    assert data[:4] == {'png': b'\x89PNG', 'svg': b'<?xm', 'pdf': b'%PDF'}[suffix]
    assert len(data) > 5000


@pytest.mark.filterwarnings('default')
def test_plot_of_nothing(tmp_path: Path) -> None:
    pytest.importorskip('matplotlib')
    write(tmp_path / 'j', {'kind': 'session', 'time': 1})
    plot(tmp_path / 'j', tmp_path / 'x.png')
    assert (tmp_path / 'x.png').stat().st_size > 1000
