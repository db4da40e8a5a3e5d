"""The plots of a report; each function takes a stored run and returns a figure.

The colours are those of Okabe and Ito, which remain distinguishable with any colour vision. Markers differ as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

Run = dict[str, dict[str, Any]]
STYLES: dict[str, tuple[str, str]] = {
    'echorig': ('#0072B2', 'o'),
    'echorig, busy_poll': ('#56B4E9', 's'),
    'echorig, not pinned': ('#CC79A7', 'v'),
    'echorig, busy_poll, not pinned': ('#009E73', 'P'),
    'bare, not pinned': ('#A6A6A6', 'd'),
    'echorig on asyncio': ('#56B4E9', 's'),
    'bare': ('#595959', 'D'),
    'iblutil': ('#D55E00', '^'),
    'iblutil on asyncio': ('#E69F00', 'X'),
    'floor': ('#009E73', 'P'),
}
LABELS = {
    'bare': 'bare echo',
    'bare, not pinned': 'bare echo, not pinned',
    'floor': 'C, system calls only',
    'iblutil': 'iblutil 1.20',
}
plt.rcParams.update(
    {
        'font.size': 10,
        'axes.spines.top': False,
        'axes.spines.right': False,
        'axes.grid': True,
        'axes.axisbelow': True,
        'grid.color': '#E4E4E4',
        'axes.titlesize': 10.5,
        'axes.titlelocation': 'left',
        'legend.frameon': False,
        'svg.hashsalt': 'echorig',
        'figure.constrained_layout.use': True,
    }
)
PLAIN = FuncFormatter(lambda value, _: f'{value:,.0f}' if value >= 1 else f'{value:g}')


def _label(name: str) -> str:
    return LABELS.get(name, name)


def _log(axis: Any) -> None:
    axis.set_major_formatter(PLAIN)
    axis.set_minor_formatter(NullFormatter())


def round_trip(run: Run) -> Figure:
    """CPU time of one round trip, one rig: C, the bare echo, echorig, iblutil."""
    names = ['floor', 'bare', 'echorig', 'iblutil']
    kinds = [(loop, transport) for loop in ('uvloop', 'asyncio') for transport in ('udp', 'tcp')]
    figure, axes = plt.subplots(1, 4, figsize=(8.2, 2.5), sharex=True, sharey=True)
    for axis, (loop, transport) in zip(axes, kinds, strict=True):
        info = run[f'bench_round_trip[{loop}-{transport}-1rig]']
        costs = info['cpu_us']
        shown = [name for name in names if name in costs]
        bars = axis.barh([_label(name) for name in shown], [costs[name] for name in shown], height=0.68)
        for bar, name in zip(bars, shown, strict=True):
            bar.set_color(STYLES[name][0])
        axis.bar_label(bars, fmt='%.0f', padding=3, fontsize=9)
        axis.set_title(f'{loop}, {transport.upper()}')
        axis.grid(axis='y', visible=False)
        axis.tick_params(axis='y', length=0)
        axis.margins(x=0.2)
    axes[0].invert_yaxis()
    figure.supxlabel('CPU time of one confirmed round trip, both ends together (µs)', fontsize=10)
    return figure


def start_skew(run: Run) -> Figure:
    """Services.start: the skew at the callbacks, the time until all rigs have answered, and the skew on the wire."""
    figure, (*axes, last) = plt.subplots(1, 3, figsize=(10.2, 3.0))
    rigs = [4, 32, 100]
    for axis, key, what in zip(axes, ('skew_ms', 'total_ms'), ('Skew at the callbacks', 'All answers in'), strict=True):
        for name in ('echorig', 'echorig on asyncio', 'iblutil on asyncio'):
            points = [(n, run[f'bench_services[udp-{n}rigs]'][key].get(name)) for n in rigs]
            points = [point for point in points if point[1] is not None]
            if not points:
                continue
            colour, marker = STYLES[name]
            label = f'{name.partition(" on ")[0]}, {"asyncio" if "asyncio" in name else "uvloop"}'
            axis.plot(*zip(*points, strict=True), color=colour, marker=marker, label=label, lw=1.8)
        axis.set(xscale='log', yscale='log', xlabel='rigs, in another process', ylabel='ms', title=f'{what} (median)')
        axis.set_xticks(rigs)
        axis.minorticks_off()
        _log(axis.xaxis)
        _log(axis.yaxis)
    axes[0].legend(fontsize=9)
    _wire_skew(last, run)
    return figure


def _wire_skew(axis: Any, run: Run) -> None:
    for name in ('floor', 'echorig', 'echorig on asyncio', 'iblutil on asyncio'):
        found = {n: run[f'bench_wire[{n}rigs]']['skew_ms'] for n in (100, 1000)}
        points = [(n, skews[name]) for n, skews in found.items() if name in skews]
        if points:
            colour, marker = STYLES[name]
            axis.plot(*zip(*points, strict=True), color=colour, marker=marker, label=_label(name), lw=1.8)
    axis.set(xscale='log', yscale='log', xlabel='rigs, in another process', title='Skew on the wire (median)')
    axis.set_xticks([100, 1000])
    axis.minorticks_off()
    _log(axis.xaxis)
    _log(axis.yaxis)
    axis.legend(fontsize=8)


def latency(run: Run) -> Figure:
    """Two processes: the whole distribution of the round-trip time."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.4), sharey=True)
    for axis, transport in zip(axes, ('udp', 'tcp'), strict=True):
        found = run[f'bench_latency[uvloop-{transport}]']['latency_us']
        for name, cuts in found.items():
            shares = [(100 / (100 - float(key[1:])), value) for key, value in cuts.items() if key != 'max']
            colour, marker = STYLES[name]
            axis.plot(
                *zip(*shares, strict=True), color=colour, marker=marker, markevery=2, ms=5, lw=1.6, label=_label(name)
            )
        axis.set(xscale='log', yscale='log', title=f'uvloop, {transport.upper()}', xlabel='percentile')
        axis.set_xticks([1, 2, 10, 100, 1000], ['0', '50', '90', '99', '99.9'])
        axis.xaxis.set_minor_locator(NullLocator())
        _log(axis.yaxis)
    axes[0].set_ylabel('round trip, two processes (µs)')
    axes[1].legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc='upper left', bbox_to_anchor=(1, 1))
    return figure


def rigs(run: Run) -> Figure:
    """Cost of a round trip against the number of rigs on one server, which take turns."""
    counts = {1: '1rig', 10: '10rigs', 100: '100rigs', 1000: '1000rigs'}
    figure, axes = plt.subplots(1, 2, figsize=(8.2, 3.2), sharey=True)
    for axis, transport in zip(axes, ('udp', 'tcp'), strict=True):
        for name in ('echorig', 'bare', 'iblutil'):
            found = {n: run[f'bench_round_trip[uvloop-{transport}-{text}]']['cpu_us'] for n, text in counts.items()}
            points = [(n, costs[name]) for n, costs in found.items() if name in costs]
            colour, marker = STYLES[name]
            axis.plot(*zip(*points, strict=True), color=colour, marker=marker, label=_label(name), lw=1.8)
        axis.set(xscale='log', title=f'uvloop, {transport.upper()}', xlabel='rigs on one server', ylim=(0, None))
        axis.set_xticks(list(counts))
        axis.minorticks_off()
        _log(axis.xaxis)
    axes[0].set_ylabel('CPU time of a round trip (µs)')
    axes[1].legend(*axes[0].get_legend_handles_labels(), fontsize=9, loc='upper right')
    return figure


def ratios(run: Run) -> Figure:
    """Echorig's CPU time divided by that of each of the others, in the rounds of one run."""
    kinds = [(loop, transport) for loop in ('uvloop', 'asyncio') for transport in ('udp', 'tcp')]
    figure, axis = plt.subplots(figsize=(8.2, 2.6))
    for name in ('floor', 'bare', 'iblutil'):
        found = [run[f'bench_round_trip[{loop}-{transport}-1rig]']['ratio'].get(name) for loop, transport in kinds]
        colour, marker = STYLES[name]
        points = [(value, i) for i, value in enumerate(found) if value is not None]
        if not points:
            continue
        axis.plot(*zip(*points, strict=True), color=colour, marker=marker, ms=8, ls='', label=f'÷ {_label(name)}')
        for value, i in points:
            axis.annotate(f'{value:.2f}', (value, i), (0, 7), textcoords='offset points', ha='center', fontsize=9)
    axis.axvline(1, color='black', lw=1)
    axis.set(xscale='log', xlabel="echorig's CPU time ÷ that of the other (left of the line: echorig needs less)")
    axis.set_yticks(range(len(kinds)), [f'{loop}, {transport.upper()}' for loop, transport in kinds])
    axis.set_ylim(len(kinds) - 0.5, -0.7)
    axis.margins(x=0.12)
    axis.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10])
    _log(axis.xaxis)
    axis.grid(axis='y', visible=False)
    axis.legend(fontsize=9, loc='upper left', bbox_to_anchor=(1, 1))
    return figure


PLOTS: dict[str, tuple[Callable[[Run], Figure], str]] = {
    'round-trip': (round_trip, 'Cost of a confirmed round trip'),
    'ratios': (ratios, 'As a ratio to the others'),
    'start-skew': (start_skew, 'Skew of the starts'),
    'latency': (latency, 'Latency between two processes'),
    'rigs': (rigs, 'Cost of many rigs'),
}
