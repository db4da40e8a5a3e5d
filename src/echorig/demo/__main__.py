"""``python -m echorig.demo``: the command line of the demo."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
from collections.abc import Sequence

from ..checks import words
from ..loop import run
from ..signals import Interrupted, interruptible
from .processes import RigProcess, has_incumbent
from .session import Session

__all__ = ['entry']

_MOST = 64  # processes
_EPILOG = """\
exit codes:
  0  every message was confirmed, and every rig heard each of them exactly once
  1  something was not confirmed or a rig failed (the summary says which and why), or the demo was ended before
     the last round
  2  bad usage, or rich is not installed
"""


def entry(argv: Sequence[str] | None = None) -> int:
    """Run the demo.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, by default those of the process.

    Returns
    -------
    int
        The exit code, as ``--help`` explains.

    Raises
    ------
    SystemExit
        The arguments are not valid (code 2), or help was asked for (0).
    TypeError
        They are no texts.
    """
    parser = _parser()
    options = parser.parse_args(None if argv is None else words(argv))
    if not 1 <= options.rigs + options.tcp <= _MOST:
        parser.error(f'--rigs and --tcp together must be 1 to {_MOST}')
    if importlib.util.find_spec('rich') is None:
        print(
            "The demo shows its tables with rich, which is not installed: pip install 'echorig[demo]'", file=sys.stderr
        )
        return 2
    # What goes wrong is said in the summary, and a log would tear the table apart.
    logging.getLogger('echorig.demo').addHandler(logging.NullHandler())
    return _run(options, _rigs(options))


def _rigs(options: argparse.Namespace) -> list[RigProcess]:
    rigs = [RigProcess(f'udp-{i + 1}', 'udp') for i in range(options.rigs)]
    rigs += [RigProcess(f'tcp-{i + 1}', 'tcp') for i in range(options.tcp)]
    if options.with_iblutil:
        if has_incumbent():
            rigs.append(RigProcess('iblutil', 'udp', incumbent=True))
        else:
            print('iblutil is not installed (pip install iblutil): the demo runs without it', file=sys.stderr)
    return rigs


def _run(options: argparse.Namespace, rigs: list[RigProcess]) -> int:
    from rich.console import Console

    from .view import WIDTH, View, report, save_svg

    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, WIDTH))
    session = Session(rigs, options.rounds)
    view = View(session, console)
    session.changed = view.update
    interrupted = False
    with view:
        try:
            run(interruptible(session.run()))
        except (Interrupted, KeyboardInterrupt):
            interrupted = True
    console.print(report(session, console))
    if interrupted:
        print('The demo was ended before the last round.', file=sys.stderr)
    if options.svg:
        try:
            save_svg(session, options.svg)
        except OSError as ex:
            print(f'No picture was written: {ex}', file=sys.stderr)
            return 2
    return 0 if session.succeeded and not interrupted else 1


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f'{text} is less than 0')
    return number


def _rounds(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(f'{text} is not in 1 to 1,000,000')
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='echorig demo',
        description='Start rigs as processes on this computer, run whole sessions with them, and show how it went.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    parser.add_argument('--rigs', type=_count, default=4, metavar='N', help='rigs over UDP (default: %(default)s)')
    parser.add_argument('--tcp', type=_count, default=2, metavar='N', help='rigs over TCP (default: %(default)s)')
    parser.add_argument(
        '--rounds', type=_rounds, default=500, metavar='N', help='sessions, one after another (default: %(default)s)'
    )
    parser.add_argument('--with-iblutil', action='store_true', help='one more rig over UDP, made of iblutil')
    parser.add_argument('--svg', metavar='FILE', help='also save the result as a picture')
    return parser


if __name__ == '__main__':
    sys.exit(entry())
