"""The command line, as a process of its own, on each loop."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
from collections.abc import Iterator

import pytest

import echorig
import secrets_watch
from command_program import REPLY, Program, ended, listens_on
from conftest import LOOPS
from echorig.cli.main import main
from echorig.resolver import own_addresses
from lab import REF, free_port

posix = pytest.mark.skipif(sys.platform == 'win32', reason='POSIX signals')


@pytest.fixture(params=list(LOOPS))
def program(request: pytest.FixtureRequest) -> Program:
    return Program(request.param)


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    """A UDP socket of the test's own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(('127.0.0.1', 0))
        sock.settimeout(REPLY)
        yield sock


def uri_of(sock: socket.socket, scheme: str = 'udp') -> str:
    return f'{scheme}://127.0.0.1:{sock.getsockname()[1]}'


@posix
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_server_prints_what_a_client_sends_and_ends_quietly(program, transport, number):
    with program.started('server', f'{transport}://127.0.0.1:0', '--name', 'camera') as server:
        host, port = listens_on(server)
        uri = f'{transport}://{host}:{port}'
        client = program.run('client', uri, '--exp-ref', '2024-05-06_7_mouse')
        assert (client.returncode, client.stderr) == (0, '')
        assert re.fullmatch(rf'{uri} confirmed EXPSTART 2024-05-06_7_mouse in \d+\.\d\d ms\n', client.stdout)
        heard = server.stdout.readline()
        assert re.fullmatch(r'EXPSTART \[2, "2024-05-06_7_mouse", null\] from 127\.0\.0\.1:\d+\n', heard)
        assert ended(server, number) == ('', '')
    assert server.returncode == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if transport == 'udp' else socket.SOCK_STREAM) as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind((host, port))


@posix
def test_server_shows_no_token(program, sock):
    token = secrets_watch.token()
    alyx = json.dumps([128, 'https://alyx.example.org', {'me': token}]).encode()
    notice = json.dumps([0, 'ValueError: no', alyx.decode()]).encode()
    with program.started('server', 'udp://127.0.0.1:0', '-vv') as server:
        addr = listens_on(server)
        sock.sendto(alyx, addr)
        assert sock.recv(1000) == alyx  # a server that has just opened accepts notices before messages
        sock.sendto(notice, addr)
        heard = [server.stdout.readline(), server.stdout.readline()]
        out, err = ended(server, signal.SIGINT)
    assert heard[0].startswith('ALYX <85 bytes> from 127.0.0.1:')
    assert heard[1].startswith('failure <116 bytes> from 127.0.0.1:')
    assert 'Received' in err  # it did log
    assert token not in ''.join([*heard, out, err])


@posix
def test_server_survives_bad_input(program, sock):
    with program.started('server', 'udp://127.0.0.1:0') as server:
        addr = listens_on(server)
        sock.sendto(b'[1, null]', addr)
        assert sock.recv(100) == b'[1, null]'  # earlier messages would be held back, but not notices
        for data in (b'{}', b'\xff', b'[' * 60_000, b'[3, null]', b'[128, 1, 2]', b'[0]'):
            sock.sendto(data, addr)
        sock.sendto(b'[4, null]', addr)
        heard = [server.stdout.readline() for _ in range(4)]
        _, err = ended(server, signal.SIGINT)
    assert [line.partition(' ')[0] for line in heard] == ['EXPINIT', 'ALYX', 'failure', 'EXPEND']
    assert server.returncode == 0
    assert 'Traceback' not in err
    assert 'RuntimeWarning' not in err
    assert err.count('Ignored') == 4


@posix
def test_server_ends_when_stdout_is_closed(program, sock):
    with program.started('server', 'udp://127.0.0.1:0') as server:
        addr = listens_on(server)
        server.stdout.close()
        sock.sendto(b'[4, null]', addr)
        assert sock.recv(100) == b'[4, null]'
        assert server.wait(REPLY) == 0
        assert server.stderr.read() == ''


@posix
def test_server_in_the_background_ends_on_sigterm(program):
    # A shell without job control starts background programs with SIGINT ignored.
    with program.started('server', 'udp://127.0.0.1:0', prefix=('sh', '-c', 'trap "" INT; exec "$@"', 'sh')) as server:
        listens_on(server)
        server.send_signal(signal.SIGINT)
        assert ended(server, signal.SIGTERM) == ('', '')
    assert server.returncode == 0


def test_client_of_a_silent_rig(program, sock):
    done = program.run('client', uri_of(sock), '--name', 'camera', '--timeout', '0.2')
    assert (done.returncode, done.stdout) == (1, '')
    messages = [json.loads(sock.recv(1000))]
    while not messages[-1]:  # pings ask what it is before it is sent anything
        messages.append(json.loads(sock.recv(1000)))
    assert messages[-1] == [2, REF, None]
    assert re.fullmatch(
        rf'echorig: not confirmed: camera \({uri_of(sock)}\) did not echo EXPSTART within \d+\.\d+ s: '
        'never heard from it: off, wrong address, or firewall; see docs/troubleshooting\n',
        done.stderr,
    )


def test_client_of_a_silent_tcp_rig(program):
    with socket.create_server(('127.0.0.1', 0)) as listener:
        uri = uri_of(listener, 'tcp')
        done = program.run('client', uri, '--timeout', '0.2')
    assert (done.returncode, done.stdout) == (1, '')
    assert f'({uri}) did not echo EXPSTART' in done.stderr


def test_client_without_a_server(program, transport):
    uri = f'{transport}://127.0.0.1:{free_port()}'
    done = program.run('client', uri, '--name', 'camera')
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr.startswith('echorig: not confirmed: ')
    assert f'camera ({uri})' in done.stderr
    assert done.stderr.count('\n') == 1


@posix
def test_client_ended_before_the_confirmation(program, sock):
    with program.started('client', uri_of(sock), '--timeout', '60') as client:
        sock.recv(1000)
        out, err = ended(client, signal.SIGINT)
    assert (client.returncode, out) == (1, '')
    assert err == f'echorig: not confirmed: {uri_of(sock)}: ended before the confirmation\n'


@pytest.mark.parametrize(
    'args',
    [
        [],
        ['observer'],
        ['client', 'udp://a b'],
        ['client', 'udp://127.0.0.1:0'],
        ['client', 'udp://127.0.0.1:99999'],
        ['client', 'http://127.0.0.1'],
        ['client', '--timeout', '0'],
        ['client', '--timeout', 'nan'],
        ['client', '--timeout', 'soon'],
        ['server', 'wss://127.0.0.1:0'],
        ['server', 'udp://192.0.2.1:11001'],
        ['server', 'tcp://192.0.2.1:11001'],
        ['server', '--exp-ref', REF],
    ],
)
def test_bad_usage(args, capfd):
    try:
        code = main(args)
    except SystemExit as ex:
        code = ex.code
    out, err = capfd.readouterr()
    assert (code, out) == (2, '')
    assert err.splitlines()[-1].startswith('echorig')


@pytest.mark.parametrize('args', [['server', '--colour'], ['client', '--timeout', 'soon'], ['observe']])
def test_bad_usage_is_one_line(args, capfd):
    with pytest.raises(SystemExit) as ended:
        main(args)
    out, err = capfd.readouterr()
    assert (ended.value.code, out, err.count('\n')) == (2, '', 1)
    assert err.startswith('echorig')


@posix
def test_server_on_all_addresses_says_which_ones_others_can_use(program, transport):
    with program.started('server', f'{transport}://0.0.0.0:0') as server:
        port = re.search(r':(\d+); Ctrl-C', server.stdout.readline())[1]
        line = server.stdout.readline()
        assert line.startswith('Other computers ')
        uris = re.findall(rf'{transport}://\S+:{port}', line)
        assert len(uris) == len(own_addresses()) or ':' in str(own_addresses())
        for uri in uris:
            done = program.run('client', uri)
            assert (done.returncode, done.stderr) == (0, '')
        assert ended(server, signal.SIGINT)[1] == ''


def test_server_listens_on_all_addresses_by_default(capsys):
    with pytest.raises(SystemExit):
        main(['server', '--help'])
    assert 'udp://0.0.0.0:11001' in capsys.readouterr().out


def test_address_in_use(program, transport):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if transport == 'udp' else socket.SOCK_STREAM) as taken:
        taken.bind(('127.0.0.1', 0))
        if transport == 'tcp':
            taken.listen()
        uri = uri_of(taken, transport)
        done = program.run('server', uri)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith(f'echorig: cannot listen on {uri}: ')
    assert 'Traceback' not in done.stderr


def test_main_leaves_the_signal_handlers_as_they_were(sock, capsys):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    assert main(['client', uri_of(sock), '--timeout', '0.05']) == 1
    assert {number: signal.getsignal(number) for number in before} == before
    assert capsys.readouterr().out == ''


def test_version_and_help(capsys):
    for option in ('--version', '--help'):
        with pytest.raises(SystemExit) as end:
            main([option])
        assert end.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f'echorig {echorig.__version__} ({echorig.loop_name()})\n')
    assert 'exit codes:\n  0 ' in out


async def test_main_as_a_function(lab, capsys):
    server = await lab.server('tcp', 'camera')
    heard = []
    server.assign_callback('EXPSTART', lambda data, addr: heard.append(data))
    await echorig.main('client', server.server_uri, 'me', exp_ref={'date': '2024-05-06', 'sequence': 7, 'subject': 'm'})
    assert heard == [['2024-05-06_7_m', None]]
    assert 'confirmed EXPSTART' in capsys.readouterr().out
    with pytest.raises(ValueError, match='observer'):
        await echorig.main('observer', server.server_uri)
    with pytest.raises(ValueError, match='Timeout'):
        await echorig.main('client', server.server_uri, timeout=0)
