"""``echorig journal``: shows, follows, checks, exports and plots the journals of sessions."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson

from ..journal import check, export, plot, read
from .command import fail
from .options import add_output
from .output import Output, duration

__all__ = ['add_options', 'run']

_AGO = {'s': 1, 'm': 60, 'h': 3600, 'd': 86400}
_STYLES = {'failed': 'red', 'notice': 'red', 'lost': 'red', 'confirmed': 'dim', 'session': 'bold', 'connection': 'cyan'}
_WIDTH = 100  # characters of data in a line


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        'files', nargs='+', metavar='FILE', help='a journal, or a folder of journals; with FILE.1, FILE.2 and so on'
    )
    parser.add_argument('-f', '--follow', action='store_true', help='wait for what is written later, until Ctrl-C')
    parser.add_argument('--check', action='store_true', help='count records; exit code 1 if some are torn or missing')
    parser.add_argument('--export', metavar='TARGET', help='write a file .csv, .parquet, .nwb or .htsv')
    parser.add_argument('--plot', metavar='TARGET', help='draw the session into a file, such as .png or .svg')
    some = parser.add_argument_group('what to show (each may be repeated, except --since)')
    some.add_argument('--event', action='append', metavar='EVENT', help='such as EXPSTART, with its failures')
    some.add_argument('--rig', action='append', metavar='NAME', help='only of this rig')
    some.add_argument('--kind', action='append', metavar='KIND', help='sent, confirmed, failed, received and so on')
    some.add_argument('--since', type=_moment, metavar='TIME', help='2026-01-31T10:00, 10:00 (today), or 10m ago')
    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    output = Output(options.json)
    if (options.export or options.plot) and (options.event or options.rig or options.kind or options.since):
        return fail('--event, --rig, --kind and --since are for showing: --export and --plot take everything', 2)
    try:
        code = _check(options.files, output) if options.check else 0
        if options.export or options.plot:
            _write(options, output)
        elif not options.check:
            _show(options, output)
        return code
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:  # the reader of stdout has closed it; nothing must be flushed to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as ex:
        return fail(f'{ex.strerror or ex}: {ex.filename}' if ex.filename else str(ex), 2)
    except (ValueError, TypeError, ImportError) as ex:
        return fail(str(ex), 2)


def _check(files: list[str], output: Output) -> int:
    found = check(files)
    output.record(
        lines=found.lines,
        torn=found.skipped,
        missing=found.missing,
        lost=found.lost,
        complete=found.is_complete,
        programs=list(found.programs.values()),
    )
    for program in found.programs.values():
        output.line(f'written by {program}')
    output.line(f'{output.mark(True)} {found.lines:,} records')
    for n, what in (
        (found.skipped, 'lines are torn, or are no records'),
        (found.missing, 'records were written and are not there'),
        (found.lost, 'records could not be written'),
    ):
        output.line(f'{output.mark(not n)} {n:,} {what}', 'red' if n else '')
    return 0 if found.is_complete else 1


def _write(options: argparse.Namespace, output: Output) -> None:
    if options.export:
        n = export(options.files, options.export)
        output.line(f'{n:,} rows in {options.export}', target=options.export, rows=n)
    if options.plot:
        plot(options.files, options.plot)
        output.line(f'drawn in {options.plot}', target=options.plot)


def _show(options: argparse.Namespace, output: Output) -> None:
    is_wanted = _filter(options)
    reader = read(options.files, follow=options.follow)
    for fields in reader:
        if not is_wanted(fields):
            continue
        if options.json:
            print(orjson.dumps(fields).decode(), flush=True)
        else:
            output.line(_text(fields), _STYLES.get(fields['kind'], ''))
    if reader.skipped and not options.json:
        print(f'echorig: skipped {reader.skipped:,} torn lines', file=sys.stderr)


def _filter(options: argparse.Namespace) -> Callable[[dict[str, Any]], bool]:
    events = {event.upper() for event in options.event or ()}
    rigs, kinds = set(options.rig or ()), {kind.lower() for kind in options.kind or ()}
    since = options.since

    def is_wanted(fields: dict[str, Any]) -> bool:
        if events and fields.get('event') not in events and fields.get('about') not in events:
            return False
        if rigs and fields.get('rig') not in rigs:
            return False
        if kinds and fields['kind'] not in kinds:
            return False
        return since is None or fields['time'] >= since

    return is_wanted


def _text(fields: dict[str, Any]) -> str:
    """Return a record as one line of text, in local time."""
    whole, rest = divmod(fields['time'], 1_000_000_000)
    clock = f'{datetime.fromtimestamp(whole):%Y-%m-%d %H:%M:%S}.{rest // 1000:06d}'
    kind, event = fields['kind'], fields.get('event', '')
    parts = [clock, f'{fields.get("rig", ""):<12}', f'{kind:<10}', f'{event:<12}']
    if kind == 'session':
        parts.append(f'{fields.get("program")}, pid {fields.get("pid")} on {fields.get("host")}')
    elif kind == 'connection':
        parts.append(f'{fields.get("state")} {fields.get("addr") or fields.get("uri", "")}')
    elif kind == 'clock':
        parts.append(
            f'{fields.get("addr")} {fields.get("offset", 0) * 1e3:+.3f} ± {fields.get("error", 0) * 1e3:.3f} ms'
        )
    elif kind == 'lost':
        parts.append(f'{fields.get("n")} records')
    elif kind == 'confirmed':
        tries = fields.get('tries', 1)
        parts.append(duration(fields.get('rtt')) + (f', sent {tries} times' if tries > 1 else ''))
    if 'data' in fields:
        data = orjson.dumps(fields['data']).decode()
        parts.append(data if len(data) <= _WIDTH else f'{data[:_WIDTH]}…')
    if fields.get('reason'):
        parts.append(str(fields['reason']))
    return ' '.join(parts).rstrip()


def _moment(text: str) -> int:
    """Return a time in nanoseconds since 1970."""
    if ago := re.fullmatch(r'(\d+(?:\.\d+)?)\s*([smhd])', text.strip()):
        return time.time_ns() - int(float(ago.group(1)) * _AGO[ago.group(2)] * 1e9)
    try:
        if re.fullmatch(r'\d{1,2}:\d\d(:\d\d)?', text.strip()):
            text = f'{datetime.now():%Y-%m-%d}T{text.strip():0>5}'
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is no time such as 2026-01-31T10:00, 10:00 or 10m') from None
