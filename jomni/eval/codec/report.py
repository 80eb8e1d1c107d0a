"""Report of `jomni eval codec`: tables, plot and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jomni import audio
from jomni.eval import plots
from jomni.eval.codec.quality import METRICS
from jomni.eval.codec.scorecard import Recording, Scorecard
from jomni.eval.report import number, percent, table, write_json
from jomni.extras import missing

EXAMPLES = 4
"""Recordings whose decoded audio is kept, for each number of codebooks."""


def score_table(card: Scorecard) -> str:
    """Return the figures for each number of codebooks, in Markdown."""
    rows = [["original", "-", "-", "-", "-", "-", percent(card.original), "-"]]
    for score in card.scores:
        found = score.quality
        rows.append([
            str(score.codebooks), f"{score.bitrate / 1e3:.2f}", number(found["pesq"]), number(found["stoi"], 3),
            number(found["si_snr"], 1), number(found["mel"], 3), percent(score.word_errors), percent(score.above),
        ])  # fmt: skip
    return table(["codebooks", "kbit/s", "PESQ", "STOI", "SI-SNR dB", "mel", "WER", "WER above original"], rows)


def voice_table(card: Scorecard) -> str:
    """Return the figures of each voice for the most codebooks in Markdown."""
    rows = [
        [voice, str(score.quality["mel"].count), number(score.quality["pesq"]), number(score.quality["stoi"], 3),
         number(score.quality["mel"], 3), percent(original), percent(score.word_errors)]
        for voice, (original, score) in card.voices.items()
    ]  # fmt: skip
    return table(["voice", "recordings", "PESQ", "STOI", "mel", "WER, original", "WER, decoded"], rows)


def book_table(card: Scorecard) -> str:
    """Return the use of the codebooks in Markdown."""
    rows = [
        [str(n), f"{book.used} of {book.entries} ({100 * book.used / book.entries:.0f} %)", f"{book.perplexity:.1f}"]
        for n, book in enumerate(card.books)
    ]
    return table(["codebook", "entries used", "perplexity"], rows)


def write_report(folder: Path, card: Scorecard, recordings: Sequence[Recording], settings: Mapping[str, Any],
                 sample_rate: int) -> None:  # fmt: skip
    """Write report.md, report.json, files.json (each recording's figures), codec.png and examples/*.wav."""
    figures = {
        "settings": dict(settings), "scores": card.scores, "original": card.original, "codebooks": card.books,
        "voices": card.voices,
        "seconds": card.seconds, "recordings": card.recordings,
    }  # fmt: skip
    write_json(folder / "report.json", figures)
    write_json(folder / "files.json", card.files)
    series = {
        {"pesq": "PESQ", "stoi": "STOI", "si_snr": "SI-SNR, dB", "mel": "mel distance"}[name]:
        [score.quality[name] for score in card.scores]
        for name in METRICS if any(score.quality[name].count for score in card.scores)
    }  # fmt: skip
    if card.original.count:
        series["WER"] = [score.word_errors for score in card.scores]
    numbers = [score.codebooks for score in card.scores]
    plots.lines(folder / "codec.png", numbers, series, "codebooks", "quality of the decoded audio, 95 % intervals")
    (folder / "examples").mkdir()
    for n, recording in enumerate(recordings[:EXAMPLES]):
        audio.write(folder / f"examples/{n:02d}-original.wav", recording.wave, sample_rate)
        for count, voices in card.decoded.items():
            audio.write(folder / f"examples/{n:02d}-{count}.wav", voices[n], sample_rate)
    absent = missing("pesq", "pystoi")
    notes = [f"{', '.join(absent)} not installed: its column is empty.", ""] if absent else []
    parts = [
        "# Evaluation of a codec", "", *(f"- {name}: {value}" for name, value in settings.items()),
        f"- {card.recordings} recordings, {card.seconds:.1f} s", "",
        "Means over the recordings; word error rates pooled over them, by an independent recogniser. Intervals are "
        "95 % (bootstrap over recordings). Definitions: docs/guides/evaluate.md.", "",
        *notes, score_table(card), "", "![quality](codec.png)", "", "## Codebooks", "", book_table(card), "",
        *(["## Voices, with the most codebooks", "", voice_table(card), ""] if card.voices else []),
        *(f"- {name}: {text}" for name, text in METRICS.items()), "",
    ]  # fmt: skip
    (folder / "report.md").write_text("\n".join(parts), encoding="utf-8")
