"""``python -m echorig.demo``: the command line of the demo."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence

from ..checks import arguments
from ..loop import run as run_loop
from ..signals import Interrupted, interruptible
from . import results
from .rig_process import RigProcess, has_iblutil
from .session import Session

__all__ = ['add_options', 'main', 'run']

_MAX_PROCESSES = 64
_EPILOG = """\
exit codes:
  0  every message was confirmed, and every rig received each of them exactly once
  1  a message was not confirmed or a rig failed (the summary names it), or the demo was ended before the last round
  2  bad usage, or no picture could be written
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo with the given arguments, or those of the process; return the exit code."""
    parser = argparse.ArgumentParser(
        prog='echorig demo',
        description='Start rigs as processes on this computer, run sessions with them, and show the results.',
    )
    add_options(parser)
    return run(parser.parse_args(None if argv is None else arguments(argv)))


def run(options: argparse.Namespace) -> int:
    """Run the demo with the given options and return the exit code."""
    if not 1 <= options.rigs + options.tcp <= _MAX_PROCESSES:
        return _fail(f'echorig demo: --rigs and --tcp together must be 1 to {_MAX_PROCESSES}', 2)
    has_rich = importlib.util.find_spec('rich') is not None
    if options.svg and not has_rich:
        return _fail("The picture of --svg needs rich, which is not installed: pip install 'echorig[cli]'", 2)
    # The summary names every failure, and log lines would break the table.
    logging.getLogger('echorig.demo').addHandler(logging.NullHandler())
    rigs = [RigProcess(f'udp-{i + 1}', 'udp') for i in range(options.rigs)]
    rigs += [RigProcess(f'tcp-{i + 1}', 'tcp') for i in range(options.tcp)]
    if options.with_iblutil and has_iblutil():
        rigs.append(RigProcess('iblutil', 'udp', is_iblutil=True))
    elif options.with_iblutil:
        print('iblutil is not installed (pip install iblutil): the demo runs without it', file=sys.stderr)
    session = Session(rigs, options.rounds)
    return _run(session, options.svg) if has_rich else _run_plain(session)


def _run_plain(session: Session) -> int:
    """Run the session and print the report without rich."""
    code = _run_session(session)
    mark = '█' if (sys.stdout.encoding or '').lower().startswith('utf') else '#'
    print(results.report(session, mark), flush=True)
    return _ended(session, code)


def _run(session: Session, svg: str | None) -> int:
    from . import view

    console = view.new_console()
    with view.live(session, console) as update:
        session.on_change = update
        code = _run_session(session)
    console.print(view.report(session, console))
    code = _ended(session, code)
    if svg:
        try:
            view.save_svg(session, svg)
        except OSError as ex:
            return _fail(f'No picture was written: {ex}', 2)
    return code


def _run_session(session: Session) -> int:
    try:
        run_loop(interruptible(session.run()))
    except (Interrupted, KeyboardInterrupt):
        return 1
    return 0


def _ended(session: Session, code: int) -> int:
    """Return the exit code of a session."""
    if code:
        _fail('The demo was ended before the last round.', code)
    return code if session.succeeded else 1


def _fail(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


def _int_in(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f'{text} is not in {low:,} to {high:,}')
        return value

    return number


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the demo."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, _EPILOG
    count, rounds = _int_in(0, _MAX_PROCESSES), _int_in(1, 1_000_000)
    parser.add_argument('--rigs', type=count, default=4, metavar='N', help='rigs over UDP (default: %(default)s)')
    parser.add_argument('--tcp', type=count, default=2, metavar='N', help='rigs over TCP (default: %(default)s)')
    parser.add_argument(
        '--rounds', type=rounds, default=500, metavar='N', help='sessions, one after another (default: %(default)s)'
    )
    parser.add_argument('--with-iblutil', action='store_true', help='one more rig over UDP, which runs iblutil')
    parser.add_argument('--svg', metavar='FILE', help='also save the result as a picture')


if __name__ == '__main__':
    sys.exit(main())
