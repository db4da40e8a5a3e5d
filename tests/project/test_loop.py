"""The event loop of a program; each test starts a process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

uvloop = pytest.importorskip('uvloop')
NAME = "type(asyncio.get_running_loop()).__module__.partition('.')[0]"


def program(code: str, **env: str) -> str:
    """Run a program with warnings as errors; return what it printed, which must be on stdout only."""
    environ = {key: value for key, value in os.environ.items() if key != 'ECHORIG_LOOP'}
    environ['PYTHONPATH'] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, '-W', 'error', '-c', textwrap.dedent(code)],
        env={**environ, **env}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ''
    return done.stdout.strip()


MAIN = f"""
    async def main():
        print({NAME}, echorig.loop_name())
"""


def test_asyncio_run_uses_uvloop():
    assert program(
        f'import asyncio, echorig\n{textwrap.dedent(MAIN)}\nasyncio.run(main())\nprint(echorig.loop_name())'
    ) == ('uvloop uvloop\nuvloop')


def test_the_environment_selects_asyncio():
    code = f'import asyncio, echorig\n{textwrap.dedent(MAIN)}\nasyncio.run(main())\necho' + 'rig.run(main())'
    assert program(code, ECHORIG_LOOP='asyncio') == 'asyncio asyncio\nasyncio asyncio'


def test_a_policy_of_the_program_is_kept():
    code = """
        import asyncio
        class Mine(asyncio.DefaultEventLoopPolicy): pass
        asyncio.set_event_loop_policy(Mine())
        import echorig
        print(type(asyncio.get_event_loop_policy()).__name__, echorig.loop_name())
    """
    if sys.version_info >= (3, 14):
        pytest.skip('setting a policy is itself a warning here')
    assert program(code) == 'Mine __main__'


def test_asyncio_without_uvloop():
    code = f"""
        import sys, asyncio
        sys.modules['uvloop'] = None
        import echorig
        async def main():
            async with await echorig.EchoProtocol.server('127.0.0.1:0') as s, \\
                       await echorig.EchoProtocol.client(s.server_uri) as c:
                await c.init()
                print({NAME})
        asyncio.run(main())
        echorig.run(main())
    """
    assert program(code) == 'asyncio\nasyncio'


def test_a_loop_that_is_set_is_kept():
    code = """
        import asyncio
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        import echorig
        print(asyncio.get_event_loop() is loop, echorig.loop_name())
        asyncio.set_event_loop(None)
        loop.close()
    """
    assert program(code) == 'True uvloop'


def test_run_does_not_touch_the_policy():
    code = f"""
        import asyncio, os
        import echorig
        asyncio.set_event_loop_policy(None)
        async def main():
            print({NAME})
            return 5
        print(echorig.run(main()))
        asyncio.run(main())
    """
    if sys.version_info >= (3, 14):
        pytest.skip('setting a policy is itself a warning here')
    assert program(code) == 'uvloop\n5\nasyncio'


def test_importing_inside_a_running_loop():
    code = f"""
        import asyncio
        async def main():
            import echorig
            print({NAME}, echorig.loop_name())
            async with await echorig.EchoProtocol.server('127.0.0.1:0') as s:
                async with await echorig.EchoProtocol.client(s.server_uri) as c:
                    await c.init()
        asyncio.run(main())
    """
    assert program(code) == 'asyncio asyncio'


def test_an_unknown_choice():
    code = """
        try:
            import echorig
        except ValueError as ex:
            print(ex)
    """
    assert "ECHORIG_LOOP is 'uvlop'" in program(code, ECHORIG_LOOP='uvlop')


def test_loops_of_asyncio_can_still_start_processes():
    code = """
        import asyncio, sys, echorig
        async def main():
            process = await asyncio.create_subprocess_exec(sys.executable, '-c', 'raise SystemExit(7)')
            print(await process.wait())
        for factory in (asyncio.SelectorEventLoop, None):
            loop = factory() if factory else asyncio.new_event_loop()
            loop.run_until_complete(main())
            loop.close()
    """
    assert program(code) == '7\n7'


def test_importing_is_light():
    code = """
        import sys, echorig
        heavy = ['numpy', 'pandas', 'requests', 'yaml', 'rich', 'one', 'iblutil', 'urllib.request', 'http.client']
        heavy += ['zeroconf', 'pyarrow', 'pynwb', 'matplotlib', 'echorig.discovery', 'echorig.journal.writer']
        print([m for m in heavy if m in sys.modules])
    """
    assert program(code) == '[]'
