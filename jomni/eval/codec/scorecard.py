"""Evaluation of a codec: comparison of recordings with their decoded codes, for each number of codebooks.

Axes: T samples.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import json
import multiprocessing
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from jomni import audio
from jomni.errors import AudioError
from jomni.eval import intervals as statistics
from jomni.eval.codec.coders import Coder, Codes, bitrate
from jomni.eval.codec.quality import METRICS, Quality, compare_one
from jomni.eval.intervals import NO_DATA, Estimate
from jomni.eval.recogniser import Recogniser, WordErrors, word_errors
from jomni.progress import Progress


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recording to encode and decode."""

    name: str
    wave: np.ndarray  # float32 [T] at the codec's rate
    text: str | None  # its transcript, if known
    voice: str = ""  # name of the speaker, if known


@dataclasses.dataclass(frozen=True)
class Codebook:
    """Use of one codebook over all recordings."""

    used: int  # entries that occur
    entries: int
    perplexity: float  # exp of the entropy of the codes


@dataclasses.dataclass(frozen=True)
class Score:
    """Figures for one number of codebooks."""

    codebooks: int
    bitrate: float  # bit/s
    quality: dict[str, Estimate]  # means over the recordings, by the names of METRICS
    word_errors: Estimate  # of the recogniser on the decoded audio
    above: Estimate  # `word_errors` minus the rate on the original recordings, paired


@dataclasses.dataclass(frozen=True)
class Scorecard:
    """Results of an evaluation."""

    scores: list[Score]
    original: Estimate  # the recogniser's word error rate on the original recordings
    voices: dict[str, tuple[Estimate, Score]]  # voice -> rate on the originals, figures with the most codebooks
    books: list[Codebook]
    seconds: float  # of audio
    recordings: int
    files: list[dict[str, Any]]  # figures of each recording
    decoded: dict[int, list[np.ndarray]]  # number of codebooks -> decoded audio of each recording, float32 [T]


def find_recordings(paths: Iterable[Path]) -> list[Path]:
    """Return audio files, with each folder replaced by the files of its manifest or all WAV and FLAC files below it.

    Raises:
      AudioError: a folder has no audio files, or its manifest is not valid.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        manifest = path / "MANIFEST.jsonl"
        if manifest.is_file():
            try:
                rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines() if line.strip()]
                here = [path / row["path"] for row in rows]
            except (ValueError, KeyError, TypeError) as error:
                raise AudioError(
                    f'{manifest}: not a manifest ({error!r}). Its lines must be {{"path": ...}}.'
                ) from None
        else:
            here = sorted(p for p in path.rglob("*") if p.suffix.lower() in audio.FORMATS)
        if not here:
            raise AudioError(f"{path}: holds no WAV or FLAC files. Give audio files, or folders of them.")
        found += here
    return found


def read_recording(path: Path, sample_rate: int) -> Recording:
    """Read a recording x.wav and, if x.json beside it has them, its "text" and "voice"."""
    beside, text, voice = path.with_suffix(".json"), None, ""
    if beside.is_file():
        try:
            held = json.loads(beside.read_text(encoding="utf-8"))
        except ValueError as error:
            raise AudioError(f"{beside}: not JSON ({error}). Correct or remove it.") from None
        if isinstance(held, dict):
            text, voice = held.get("text"), str(held.get("voice") or "")
    text = text if isinstance(text, str) and text.strip() else None
    return Recording(str(path), audio.read(path, sample_rate), text, voice)


def evaluate(
    coder: Coder,
    recordings: Sequence[Recording],
    codebooks: Sequence[int],
    *,
    sentences: Sequence[str] = (),
    pronunciations: Mapping[str, Sequence[str]] = MappingProxyType({}),
    batch: int = 8,
    processes: int | None = None,
    progress: Progress = lambda *_: None,
) -> Scorecard:
    """Encode and decode recordings, and compare the results with the originals.

    Args:
      coder: the codec.
      recordings: at the codec's rate.
      codebooks: numbers of codebooks to decode from.
      sentences: more sentences for the recogniser's language model.
      pronunciations: of words that the recogniser's dictionary lacks, see `Recogniser`.
      batch: recordings processed at once.
      processes: number of parallel processes for the measures and the recogniser; None: one per core.
      progress: see `jomni.progress.Progress`.

    Raises:
      JomniError: the recogniser has no pronunciation of a word.
    """
    texts = [r.text for r in recordings if r.text is not None]
    recogniser = None
    if texts:
        recogniser = Recogniser([*texts, *sentences], pronunciations=pronunciations, processes=processes)
    total = len(recordings)
    # Sorted by length, so that the recordings of a batch have similar lengths.
    order = np.argsort([len(r.wave) for r in recordings], kind="stable")
    place = np.argsort(order)
    batches = [order[first : first + batch] for first in range(0, total, batch)]
    codes: list[Codes] = []
    for some in batches:
        codes += coder.encode([recordings[n].wave for n in some], max(codebooks), batch)
        progress("encoding", len(codes), total, "recordings")
    codes = [codes[n] for n in place]
    decoded: dict[int, list[np.ndarray]] = {}
    for number in sorted(set(codebooks)):
        voices: list[np.ndarray] = []
        for some in batches:
            waves = coder.decode([codes[n][:number] for n in some], batch)
            voices += [wave[: len(recordings[n].wave)] for n, wave in zip(some, waves, strict=True)]
            progress(f"decoding {number} codebooks", len(voices), total, "recordings")
        decoded[number] = [voices[n] for n in place]
    quality = _qualities(recordings, decoded, coder.codec.sample_rate, processes, progress)
    errors = _transcribed(recogniser, recordings, decoded, coder.codec.sample_rate, progress)
    scores = [_score(coder, number, quality[number], errors.get(number), errors.get(0)) for number in decoded]
    files = [
        {"name": r.name, "seconds": len(r.wave) / coder.codec.sample_rate, "text": r.text, "voice": r.voice}
        | {str(k): dataclasses.asdict(quality[k][n]) for k in decoded}
        for n, r in enumerate(recordings)
    ]
    by_voice = {
        voice: _voice(coder, max(decoded), voice, recordings, quality, errors)
        for voice in sorted({r.voice for r in recordings} - {""})
    }
    seconds = sum(len(r.wave) for r in recordings) / coder.codec.sample_rate
    return Scorecard(
        scores, _rate(errors.get(0)), by_voice, usage(codes, coder.codec.codebook_size), seconds, total, files, decoded
    )


def usage(codes: Sequence[Codes], entries: int) -> list[Codebook]:
    """Return the use of each codebook."""
    found = []
    for book in zip(*codes, strict=True):
        counts = np.bincount(np.concatenate(book), minlength=entries)
        p = counts[counts > 0] / counts.sum()
        found.append(Codebook(int((counts > 0).sum()), entries, float(np.exp(-(p * np.log(p)).sum()))))
    return found


def _qualities(
    recordings: Sequence[Recording], decoded: dict[int, list[np.ndarray]], sample_rate: int, processes: int | None,
    progress: Progress,
) -> dict[int, list[Quality]]:  # fmt: skip
    work = [(r.wave, voice, sample_rate) for voices in decoded.values() for r, voice in zip(recordings, voices)]  # noqa: B905
    count = min(processes or os.cpu_count() or 1, len(work))
    found: list[Quality] = []

    def take(results: Iterable[Quality]) -> None:
        for quality in results:
            found.append(quality)
            progress("comparing", len(found), len(work), "recordings")

    if count <= 1 or len(work) < 8:
        take(map(compare_one, work))
    else:
        context = multiprocessing.get_context("spawn")  # forked processes of a program with JAX's threads can hang
        with concurrent.futures.ProcessPoolExecutor(count, context) as pool:
            take(pool.map(compare_one, work, chunksize=4))
    size = len(recordings)
    return {number: found[n * size : (n + 1) * size] for n, number in enumerate(decoded)}


def _transcribed(
    recogniser: Recogniser | None, recordings: Sequence[Recording], decoded: dict[int, list[np.ndarray]],
    sample_rate: int, progress: Progress,
) -> dict[int, list[WordErrors]]:  # fmt: skip
    """Return number of codebooks (0: the originals) -> word errors of the recordings that have a text."""
    if recogniser is None:
        return {}
    spoken = [n for n, r in enumerate(recordings) if r.text is not None]
    sides = {0: [r.wave for r in recordings]} | decoded
    waves = [voices[n] for voices in sides.values() for n in spoken]
    texts = recogniser.transcribe(waves, sample_rate, lambda n: progress("transcribing", n, len(waves), "recordings"))
    errors: dict[int, list[WordErrors]] = {}
    for index, number in enumerate(sides):
        part = texts[index * len(spoken) : (index + 1) * len(spoken)]
        errors[number] = [word_errors(recordings[n].text or "", text) for n, text in zip(spoken, part, strict=True)]
    return errors


def _rate(errors: Sequence[WordErrors] | None) -> Estimate:
    return statistics.ratio([e.errors for e in errors], [e.words for e in errors]) if errors else NO_DATA


def _voice(
    coder: Coder, number: int, voice: str, recordings: Sequence[Recording], quality: dict[int, list[Quality]],
    errors: dict[int, list[WordErrors]],
) -> tuple[Estimate, Score]:  # fmt: skip
    """Return a voice's word error rate on the originals and its figures for a number of codebooks."""
    mine = [r.voice == voice for r in recordings]
    with_text = [one for one, r in zip(mine, recordings, strict=True) if r.text is not None]
    errors = {n: list(itertools.compress(found, with_text)) for n, found in errors.items()}
    score = _score(coder, number, list(itertools.compress(quality[number], mine)), errors.get(number), errors.get(0))
    return _rate(errors.get(0)), score


def _score(
    coder: Coder, number: int, quality: Sequence[Quality], errors: Sequence[WordErrors] | None,
    original: Sequence[WordErrors] | None,
) -> Score:  # fmt: skip
    means = {}
    for name in METRICS:
        values = np.array([getattr(q, name) for q in quality])
        means[name] = statistics.mean(values[np.isfinite(values)])
    above = NO_DATA
    if errors and original:
        above = statistics.ratio_difference(
            [e.errors for e in errors], [e.words for e in errors], [e.errors for e in original]
        )
    return Score(number, bitrate(coder.codec, number), means, _rate(errors), above)
