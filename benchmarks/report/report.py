"""A report of a stored run: ``python -m benchmarks.report.report .benchmarks/run.json``.

It writes one HTML page beside the run, the plots for the documentation, and the tables between the markers in
``docs/performance.md`` and ``README.md``.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.gate import budgets
from benchmarks.report import plots

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / 'docs' / 'plots'
KINDS = [(loop, transport) for loop in ('uvloop', 'asyncio') for transport in ('udp', 'tcp')]
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;font-size:.9rem}td,th{padding:.25rem .7rem;text-align:left;
border-bottom:1px solid #ddd}td:nth-child(n+2){font-variant-numeric:tabular-nums}img{max-width:100%}"""
Table = list[tuple[str, ...]]


def machine(info: dict[str, Any]) -> str:
    """Describe the machine, without its name."""
    cpu = info['cpu'].get('brand_raw', 'unknown CPU')
    packages = ', '.join(f'{name} {version}' for name, version in info['packages'].items())
    return f'{cpu}, {info["cores"]} cores, {info["kernel"]}, Python {info["python_version"]}, {packages}'


def costs(run: budgets.Run) -> Table:
    """CPU time of a round trip with one rig, in microseconds."""
    table: Table = [('loop, transport', 'C', 'bare echo', 'echorig', 'iblutil 1.20', 'echorig ÷ bare', '÷ iblutil')]
    for loop, transport in KINDS:
        info = run[f'bench_round_trip[{loop}-{transport}-1rig]']
        cpu = [_figure(info['cpu_us'].get(name), ' µs') for name in ('floor', 'bare', 'echorig', 'iblutil')]
        ratio = [_figure(info['ratio'].get(name)) for name in ('bare', 'iblutil')]
        table.append((f'{loop}, {transport.upper()}', *cpu, *ratio))
    return table


def effects(run: budgets.Run) -> Table:
    """The effect of each setting on the latency between two processes, as a ratio to the default."""
    found = {kind: run[f'bench_latency[{kind[0]}-{kind[1]}]']['latency_us'] for kind in KINDS}
    usual = found['uvloop', 'udp']['echorig']
    rows = {
        'UDP on uvloop, each end on a core of its own': usual,
        '`busy_poll` at both ends': found['uvloop', 'udp'].get('echorig, busy_poll'),
        'not pinned to cores': found['uvloop', 'udp'].get('echorig, not pinned'),
        'not pinned, `busy_poll` at both ends': found['uvloop', 'udp'].get('echorig, busy_poll, not pinned'),
        'TCP': found['uvloop', 'tcp']['echorig'],
        'TCP, `busy_poll` at both ends': found['uvloop', 'tcp'].get('echorig, busy_poll'),
        'the loop of asyncio': found['asyncio', 'udp']['echorig'],
        'for comparison: bare echo': found['uvloop', 'udp']['bare'],
        'for comparison: iblutil 1.20 on asyncio': found['asyncio', 'udp'].get('iblutil'),
    }
    table: Table = [('', 'p50', 'p99', 'p50, ratio', 'p99, ratio')]
    for name, cuts in rows.items():
        if cuts is None:
            table.append((name, *['not measured'] * 4))
            continue
        own = [_figure(cuts[key], ' µs') for key in ('p50', 'p99')]
        table.append((name, *own, *(_figure(cuts[key] / usual[key]) for key in ('p50', 'p99'))))
    return table


def starts(run: budgets.Run) -> Table:
    """Services.start over UDP, in milliseconds."""
    table: Table = [('rigs', 'skew, echorig', 'skew, iblutil', 'all answers, echorig', 'all answers, iblutil')]
    for rigs in (4, 32, 100):
        info = run[f'bench_services[udp-{rigs}rigs]']
        row = [(key, name) for key in ('skew_ms', 'total_ms') for name in ('echorig', 'iblutil on asyncio')]
        table.append((str(rigs), *(_figure(info[key].get(name), ' ms') for key, name in row)))
    return table


def wire(run: budgets.Run) -> Table:
    """The skew of the starts on the wire, in milliseconds."""
    names = {'floor': 'C', 'echorig': 'echorig', 'iblutil on asyncio': 'iblutil'}
    table: Table = [('rigs', *names.values(), 'echorig ÷ C', 'echorig ÷ iblutil')]
    for rigs in (100, 1000):
        info = run[f'bench_wire[{rigs}rigs]']
        skews = [_figure(info['skew_ms'].get(name), ' ms') for name in names]
        table.append((f'{rigs:,}', *skews, *(_figure(info['ratio'].get(name)) for name in names if name != 'echorig')))
    return table


def many(run: budgets.Run) -> Table:
    """CPU time of a round trip with 1,000 rigs in turn ÷ 1 rig: echorig, and the bare echo in the same rounds."""
    table: Table = [('loop, transport', 'echorig', 'bare echo', 'echorig ÷ bare, 1,000 rigs')]
    for loop, transport in KINDS:
        info = run[f'bench_round_trip[{loop}-{transport}-1000rigs]']
        own, bare = info['ratio'].get('echorig, 1 rig'), info['ratio_bare'].get('bare, 1 rig')
        table.append((f'{loop}, {transport.upper()}', *(_figure(x) for x in (own, bare, info['ratio'].get('bare')))))
    return table


def verdicts(run: budgets.Run) -> Table:
    """Every budget, met or missed."""
    return [('what', 'measured', 'budget', ''), *budgets.lines(run)]


def _figure(value: float | None, unit: str = '') -> str:
    return '–' if value is None else f'{budgets.number(value)}{unit}'


def as_markdown(table: Table) -> Iterator[str]:
    """Write a table as Markdown."""
    head, *rows = table
    yield f'| {" | ".join(head)} |'
    yield f'| {" | ".join("---" for _ in head)} |'
    yield from (f'| {" | ".join(row)} |' for row in rows)


def as_html(table: Table) -> str:
    """Write a table as HTML."""
    head, *rows = (tuple(html.escape(cell.replace('`', '')) for cell in row) for row in table)
    lines = [f'<tr>{"".join(f"<td>{cell}</td>" for cell in row)}</tr>' for row in rows]
    return f'<table><tr>{"".join(f"<th>{cell}</th>" for cell in head)}</tr>{"".join(lines)}</table>'


def replace_block(path: Path, name: str, lines: Iterable[str]) -> None:
    """Replace the lines between the markers of a name in a Markdown file."""
    begin, end = f'<!-- {name}: made by benchmarks/report/report.py -->', f'<!-- {name}: end -->'
    text = path.read_text('utf-8')
    block = '\n'.join([begin, '', *lines, '', end])
    new, n = re.subn(f'{re.escape(begin)}.*?{re.escape(end)}', lambda _: block, text, flags=re.DOTALL)
    if n != 1:
        raise ValueError(f'{path.name} has {n} places for {name}')
    path.write_text(new, 'utf-8')


def page(run: budgets.Run, about: str) -> str:
    """Return the report as one page without external files."""
    parts = [f'<!doctype html><meta charset=utf-8><title>echorig: benchmarks</title><style>{STYLE}</style>']
    parts.append(f'<h1>echorig: benchmarks</h1><p>{html.escape(about)}</p>')
    for name, (plot, title) in plots.PLOTS.items():
        drawn = plot(run)
        svg = io.BytesIO()
        drawn.savefig(svg, format='svg')
        IMAGES.mkdir(exist_ok=True)
        drawn.savefig(IMAGES / f'{name}.png', dpi=130, metadata={'Software': None})
        plots.plt.close(drawn)
        data = base64.b64encode(svg.getvalue()).decode()
        parts.append(f'<h2>{title}</h2><img alt="{title}" src="data:image/svg+xml;base64,{data}">')
    for title, table in (
        ('Round trip', costs),
        ('Latency', effects),
        ('Start', starts),
        ('Start on the wire', wire),
        ('1,000 rigs ÷ 1 rig', many),
        ('Budgets', verdicts),
    ):
        parts.append(f'<h2>{title}</h2>{as_html(table(run))}')
    return '\n'.join(parts)


def entry() -> None:
    """Make the report."""
    parser = argparse.ArgumentParser(description='A report of a stored run.')
    parser.add_argument('run', type=Path)
    path = parser.parse_args().run
    run, info = budgets.loaded(path)
    about = machine(info)
    out = path.with_suffix('.html')
    out.write_text(page(run, about), 'utf-8')
    guide = ROOT / 'docs' / 'performance.md'
    for name, table in (
        ('costs', costs),
        ('effects', effects),
        ('starts', starts),
        ('wire', wire),
        ('many', many),
        ('budgets', verdicts),
    ):
        replace_block(guide, name, as_markdown(table(run)))
    replace_block(guide, 'machine', [f'Measured on: {about}.'])
    replace_block(ROOT / 'README.md', 'costs', as_markdown(costs(run)))
    print(f'Report: {out}; plots: {IMAGES.relative_to(ROOT)}; tables: docs/performance.md, README.md')


if __name__ == '__main__':
    entry()
