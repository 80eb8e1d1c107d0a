"""Plots of a report, written as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jomni.eval.full_duplex.metrics import Interval
from jomni.eval.full_duplex.session import Outcome
from jomni.eval.intervals import Estimate

_USER, _AGENT, _GRID, _TEXT = "#3b6ea5", "#c8553d", "#dddddd", "#222222"
_COLORS = ("#3b6ea5", "#c8553d", "#5a9367", "#8d6a9f", "#b8860b", "#4f4f4f")


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    with path.open("wb") as file:
        figure.savefig(file, format="png")


def bars(path: Path, groups: Mapping[str, Mapping[str, Estimate]], title: str) -> None:
    """Plot shares with their intervals: a group of bars for each key, with one bar for each series."""
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    figure, axes = _figure(max(6.0, 0.28 * len(groups) * max(len(series), 2) + 2), 4.0)
    width = 0.8 / max(len(series), 1)
    for n, name in enumerate(series):
        at = [i for i, group in enumerate(groups.values()) if name in group and group[name].count]
        found = [group[name] for group in groups.values() if name in group and group[name].count]
        x = np.array(at) - 0.4 + width * (n + 0.5)
        values = np.array([100 * e.value for e in found])
        error = np.array([[100 * (e.value - e.low) for e in found], [100 * (e.high - e.value) for e in found]])
        axes.bar(x, values, width * 0.92, color=_COLORS[n % len(_COLORS)], label=name)
        axes.errorbar(x, values, np.maximum(error, 0), fmt="none", ecolor=_TEXT, elinewidth=0.8, capsize=1.5)
    axes.set_xticks(range(len(groups)), list(groups), rotation=45, ha="right", fontsize=8)
    axes.set_ylim(0, 105)
    axes.set_ylabel("%")
    axes.grid(axis="y", color=_GRID, linewidth=0.6)
    axes.set_title(title, fontsize=9, loc="left")
    if len(series) > 1:
        axes.legend(fontsize=7, ncols=min(len(series), 4), loc="lower left")
    _save(figure, path)


def histogram(path: Path, values: Sequence[float], unit: str, title: str, marks: Mapping[str, float]) -> None:
    """Plot a histogram of values, with vertical lines at the marked values."""
    figure, axes = _figure(7, 3.4)
    if len(values):
        high = max([float(np.quantile(values, 0.99)), *marks.values()]) * 1.1
        axes.hist(np.clip(values, None, high), bins=50, color=_AGENT)
    for n, (name, value) in enumerate(marks.items()):
        axes.axvline(value, color=_COLORS[(n + 2) % len(_COLORS)], linewidth=1.2, label=f"{name}: {value:.0f} {unit}")
    axes.set_xlabel(unit)
    axes.set_ylabel("count")
    axes.grid(axis="y", color=_GRID, linewidth=0.6)
    axes.set_title(title, fontsize=9, loc="left")
    if marks:
        axes.legend(fontsize=7)
    _save(figure, path)


def lines(path: Path, x: Sequence[float], series: Mapping[str, Sequence[Estimate]], label: str, title: str) -> None:
    """Plot figures with their intervals against numbers, each series in axes of its own."""
    count = max(len(series), 1)
    figure = Figure(figsize=(7, 1.5 * count + 0.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    below = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for n, (axes, (name, found)) in enumerate(zip(below, series.items(), strict=False)):
        color = _COLORS[n % len(_COLORS)]
        axes.plot(x, [e.value for e in found], marker="o", markersize=3, color=color)
        axes.fill_between(x, [e.low for e in found], [e.high for e in found], color=color, alpha=0.2, linewidth=0)
        axes.set_ylabel(name, fontsize=8)
        axes.grid(color=_GRID, linewidth=0.6)
    below[-1].set_xlabel(label)
    below[-1].set_xticks(list(x))
    below[0].set_title(title, fontsize=9, loc="left")
    _save(figure, path)


def timeline(path: Path, outcome: Outcome, title: str) -> None:
    """Plot a conversation: waveforms, intervals of the agent's sound and of the user's utterances, and words."""
    rate = outcome.sample_rate
    seconds = outcome.end - outcome.begin
    figure, axes = _figure(float(np.clip(1.1 * seconds, 7, 40)), 3.8)
    for row, wave, color in ((1.0, outcome.user_pcm, _USER), (-1.0, outcome.agent_pcm, _AGENT)):
        size = max(1, len(wave) // 4000)
        blocks = wave[: len(wave) // size * size].reshape(-1, size).astype(np.float32)
        peak = max(float(np.abs(blocks).max(initial=0)), 1.0)
        times = np.arange(len(blocks)) * size / rate
        axes.fill_between(
            times, row + 0.8 * blocks.min(1) / peak, row + 0.8 * blocks.max(1) / peak, color=color, lw=0.3
        )
    _spans(axes, [(a - outcome.begin, b - outcome.begin) for a, b in outcome.sounds], -1.95, _AGENT)
    said = [
        (at - outcome.begin, at - outcome.begin + (piece.end - piece.start) / rate)
        for at, piece in zip(outcome.played, outcome.utterances, strict=False)
    ]
    _spans(axes, said, 1.95, _USER)
    for n, word in enumerate(outcome.words):
        at = word.time - outcome.begin
        axes.text(at, -2.35 - 0.3 * (n % 3), word.text.strip(), fontsize=7, color=_TEXT, parse_math=False)
    axes.set_yticks([1, -1], ["user", "agent"])
    axes.set_ylim(-3.3, 2.2)
    axes.set_xlim(0, seconds)
    axes.set_xlabel("seconds, as heard live")
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    axes.set_title(title, fontsize=9, loc="left", parse_math=False)
    _save(figure, path)


def _spans(axes: Axes, spans: Sequence[Interval], height: float, color: str) -> None:
    axes.broken_barh([(a, b - a) for a, b in spans], (height - 0.06, 0.12), color=color)
