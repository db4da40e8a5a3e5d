"""What fuzzing has kept and found, tried again on an ordinary build and without a fuzzer."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from operator import ne
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echorig.delivery._exchange import Exchange
from echorig.delivery.verdicts import Verdict
from echorig.events.message_log import MessageLog
from echorig.security._signing import Signer
from echorig.wire._framing import FrameSplitter
from echorig.wire._tags import is_ping
from fuzz import TARGETS, codec, corpus, end, framing, signing
from fuzz.corpus import inputs, pack, unpack

HERE = Path(__file__).parent
HEADERS = Path(__file__).parents[2] / 'ext' / 'echorig'
COMPILER = shutil.which(os.environ.get('CC', 'cc'))


pytestmark = pytest.mark.skipif(not (HERE / 'corpus').exists(), reason='the source distribution has no corpus')


def replay(target: str) -> None:
    one_input = importlib.import_module(f'fuzz.{target}').one_input
    for name, data in inputs(target).items():
        try:
            one_input(data)
        except Exception as ex:
            raise AssertionError(f'{target} fails with {name}: {ex!r}') from ex


@pytest.mark.parametrize('target', TARGETS)
def test_nothing_is_wrong_with_any_input(target: str) -> None:
    assert len(inputs(target)) > 20
    replay(target)


def test_every_target_has_its_corpus_and_the_other_way_round() -> None:
    assert {path.stem for path in (HERE / 'corpus').iterdir()} == {*TARGETS, 'core'}
    assert {path.stem for path in (HERE / 'found').iterdir()} <= {*TARGETS, 'core'}
    assert sum(path.stat().st_size for path in HERE.rglob('*') if path.is_file()) < 2**20


@pytest.mark.parametrize('target', TARGETS)
def test_nothing_is_wrong_with_inputs_that_hypothesis_makes(target: str) -> None:
    """Try bytes of any kind, and two inputs of the corpus spliced: elsewhere only a fuzzer tries new ones."""
    kept = st.sampled_from([*inputs(target).values()])
    spliced = st.tuples(kept, kept, st.integers(0, 300), st.integers(0, 300), st.binary(max_size=6)).map(
        lambda parts: parts[0][: parts[2]] + parts[4] + parts[1][parts[3] :]
    )
    given(st.one_of(st.binary(max_size=300), spliced))(importlib.import_module(f'fuzz.{target}').one_input)()


def test_a_corpus_is_packed_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpack('framing', tmp_path / 'inputs')
    monkeypatch.setattr(corpus, 'HERE', tmp_path)
    (tmp_path / 'corpus').mkdir()
    pack('framing', tmp_path / 'inputs')
    first = corpus.archive('framing').read_bytes()
    assert corpus.inputs('framing') == {path.name: path.read_bytes() for path in (tmp_path / 'inputs').iterdir()}
    pack('framing', tmp_path / 'inputs')
    assert corpus.archive('framing').read_bytes() == first


# --- that something wrong would be seen: each target with a mistake put into what it tries ---


def test_a_mistake_in_the_codec_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = codec.decode
    monkeypatch.setattr(codec, 'decode', lambda text: honest(text.replace(b'\\u', b'\\\\u')))
    with pytest.raises(AssertionError, match='codec fails with'):
        replay('codec')


def test_a_mistake_in_the_splitter_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful:
        """Forgets at the end of each chunk that it is inside of a string."""

        def __init__(self, limit: int) -> None:
            self.real, self.limit = FrameSplitter(limit), limit

        def feed(self, chunk: bytes) -> list[bytes]:
            return self.real.feed(chunk.replace(b'\\"', b'"'))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    monkeypatch.setattr(framing, 'FrameSplitter', Forgetful)
    with pytest.raises(AssertionError, match='framing fails with'):
        replay('framing')


def test_a_mistake_in_the_exchange_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Repeating:
        """Delivers what comes a second time."""

        def __init__(self, *args: Any) -> None:
            self.real = Exchange(*args)

        def classify(self, *args: Any) -> int:
            verdict = self.real.classify(*args)
            return Verdict.DELIVER if verdict == Verdict.ECHO and not is_ping(args[0]) else verdict

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    monkeypatch.setattr(end, 'Exchange', Repeating)
    with pytest.raises(AssertionError, match=r'exchange fails with.*delivered twice'):
        replay('exchange')


def test_a_message_that_comes_too_late_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Patient:
        """Takes no notice of how long something lay in its socket."""

        def __init__(self, *args: Any) -> None:
            self.real = Exchange(*args)

        def classify(self, frame: bytes, addr: Any, now: float, waited: float, sure: bool) -> int:
            return self.real.classify(frame, addr, now, 0.0, sure)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    monkeypatch.setattr(end, 'Exchange', Patient)
    with pytest.raises(AssertionError, match=r'exchange fails with.*delivered too late'):
        replay('exchange')


def test_a_mistake_in_tags_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, 'is_damaged', lambda frame: False)
    with pytest.raises(AssertionError, match='codec fails with'):
        replay('codec')


def test_a_mistake_in_signatures_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trusting:
        """Believes a message whose signature has no more than one byte changed."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.real, self.believed = Signer(*args, **kwargs), b''

        def open(self, frame: bytes, addr: Any, now: float) -> bytes | None:
            believed = self.believed
            if len(frame) == len(believed) and sum(map(ne, frame, believed)) == 1:
                frame = believed
            plain = self.real.open(frame, addr, now)
            if plain is not None:
                self.believed = frame
            return plain

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    monkeypatch.setattr(signing, 'Signer', Trusting)
    with pytest.raises(AssertionError, match=r'signing fails with.*was not signed for it'):
        replay('signing')


def test_a_mistake_in_receiving_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def notice(self: Any, content: list[Any], addr: Any) -> None:
        len(content[1])  # there need not be one

    monkeypatch.setattr(MessageLog, 'notice', notice)
    with pytest.raises(AssertionError, match=r'receive fails with.*could not be processed'):
        replay('receive')


# --- the compiled core ---


def build(tmp_path: Path, old: str = '', new: str = '') -> Path:
    """Build the program that tries what is named to it; with something in the headers changed."""
    changed = 0
    for header in HEADERS.glob('*/*.h'):
        text = header.read_text('utf-8')
        changed += old in text
        (tmp_path / header.name).write_text(text.replace(old, new) if old else text, 'utf-8')
    assert changed
    program = tmp_path / 'core'
    command = [
        COMPILER,
        '-O1',
        '-Wall',
        '-Wextra',
        '-Werror',
        '-DER_REPLAY',
        '-I',
        tmp_path,
        HERE / 'core.c',
        '-o',
        program,
    ]
    subprocess.run(list(map(str, command)), check=True, timeout=60)
    return program


def run(program: Path) -> subprocess.CompletedProcess[str]:
    folder = program.parent / 'inputs'
    unpack('core', folder)
    paths = sorted(folder.iterdir())
    assert len(paths) > 20
    return subprocess.run([program, *paths], capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(os.name != 'posix' or COMPILER is None, reason='the program is for POSIX, and needs a C compiler')
class TestCore:
    def test_nothing_is_wrong_with_any_input(self, tmp_path: Path) -> None:
        done = run(build(tmp_path))
        assert (done.returncode, done.stdout) == (0, f'{len(inputs("core"))} inputs\n'), done.stderr[-1000:]

    @pytest.mark.parametrize(
        ('old', 'new'),
        [
            ('ER_FLIP 0x29u', 'ER_FLIP 0x28u'),
            ('(c == 92)', '(c == 93)'),
            ('*text != 34', '*text != 35'),
            ('er_crc_table[4][word >> 24 & 255]', 'er_crc_table[4][word >> 25 & 255]'),
            ('stamp.tv_sec * 1000000000', 'stamp.tv_sec * 1000000'),
            ('htons((unsigned short)port)', 'htons((unsigned short)(port + 1))'),
            ('got[i].size = (ssize_t)heads[i].msg_len', 'got[i].size = (ssize_t)heads[0].msg_len'),
        ],
    )
    def test_a_mistake_is_seen(self, tmp_path: Path, old: str, new: str) -> None:
        if ('heads' in old or 'stamp' in old) and not Path('/proc/self').exists():
            pytest.skip('only Linux reads datagrams together, and tells when they came')
        done = run(build(tmp_path, old, new))
        assert done.returncode != 0
        assert 'not so' in done.stderr
