"""Plot of a conversation: both waveforms and the text on one time axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jomni.models.moshi.conversation import Transcript

_USER, _AGENT, _TEXT = "#3b6ea5", "#c8553d", "#222222"
_DPI = 110
_INCHES_PER_SECOND, _NARROWEST, _WIDEST = 0.9, 9.0, 60.0
_CHARACTER = 0.075  # approximate width of a character, inches
_ROW = 0.19  # inches between rows of text


def plot_conversation(user: np.ndarray, transcript: Transcript, title: str = "") -> Figure:
    """Plot the user's waveform, the agent's waveform, and the agent's words at the times at which they were generated.

    Args:
      user: the recording, float [T] at the codec's sample rate, full scale 1.
      transcript: the agent's output for it, from `jomni.transcribe`.
      title: title of the plot.

    Returns:
      A figure without a window. Notebooks show it; `savefig` writes it.
    """
    agent, sample_rate, words = transcript.voice, transcript.codec.sample_rate, transcript.words
    seconds = max([len(user) / sample_rate, len(agent) / sample_rate, 1.0, *(time + 0.8 for time, _ in words)])
    width = float(np.clip(seconds * _INCHES_PER_SECOND, _NARROWEST, _WIDEST))
    rows = _rows(words, scale=(width - 1.1) / seconds)
    count = max([*rows, 1]) + 1
    height = 3.2 + _ROW * count
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    left, span, base = 0.8 / width, 1 - 1.1 / width, 0.5 / height
    wave_share, text_share = 1.15 / height, _ROW * count / height
    text = figure.add_axes((left, base, span, text_share))
    lower = figure.add_axes((left, base + text_share, span, wave_share), sharex=text)
    upper = figure.add_axes((left, base + text_share + wave_share, span, wave_share), sharex=text)
    for axes, wave, name, color in ((upper, user, "user", _USER), (lower, agent, "agent", _AGENT)):
        times, low, high = envelope(wave, sample_rate, round(width * _DPI))
        axes.fill_between(times, low, high, color=color, linewidth=0.4, step=None)
        peak = max(float(np.abs(wave).max(initial=0)), 0.05)
        axes.set_ylim(-1.1 * peak, 1.1 * peak)
        axes.set_ylabel(name, color=color)
        axes.tick_params(labelbottom=False, bottom=False)
        axes.set_yticks([-peak, 0, peak], [f"{-peak:.2g}", "0", f"{peak:.2g}"], fontsize=7)
        _grid(axes)
        if not len(wave):
            axes.text(0.5, 0.5, "no voice", transform=axes.transAxes, ha="center", va="center", color="#888888")
    text.set_ylim(count - 0.4, -0.6)
    text.set_yticks([])
    text.set_ylabel("text", color=_TEXT)
    _grid(text)
    for (time, word), row in zip(words, rows, strict=True):
        text.plot([time, time], [row - 0.45, row + 0.35], color=_AGENT, linewidth=0.8)
        text.text(time, row, f" {word}", fontsize=8, va="center", color=_TEXT, parse_math=False)
    text.set_xlim(0, seconds)
    step = next((s for s in (0.5, 1, 2, 5, 10, 20, 60) if s * width / seconds > 0.6), 120)
    text.set_xticks(np.arange(0, seconds + 1e-9, step))
    text.set_xlabel("seconds since the recording began")
    upper.set_title(title, fontsize=9, loc="left", parse_math=False)
    return figure


def _grid(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)


def envelope(wave: np.ndarray, sample_rate: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times (seconds), minima and maxima of at most `columns` equal sections of a waveform."""
    size = max(1, -(-len(wave) // columns))
    padded = np.pad(wave, (0, -len(wave) % size), mode="edge") if len(wave) else wave
    blocks = padded.reshape(-1, size)
    times = np.arange(len(blocks)) * size / sample_rate
    return times, blocks.min(axis=1, initial=np.inf), blocks.max(axis=1, initial=-np.inf)


def _rows(words: Sequence[tuple[float, str]], scale: float) -> list[int]:
    """Return the first text row with space for each word, at `scale` inches per second."""
    ends: list[float] = []
    rows = []
    for time, word in words:
        start = time * scale
        row = next((r for r, end in enumerate(ends) if end <= start), len(ends))
        if row == len(ends):
            ends.append(0.0)
        ends[row] = start + _CHARACTER * (len(word) + 2)
        rows.append(row)
    return rows
