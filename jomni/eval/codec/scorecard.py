"""A codec's scorecard: what is lost between a recording and its decoded codes, for each number of codebooks.

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
    """What is coded."""

    name: str
    wave: np.ndarray  # float32 [T] at the codec's rate
    text: str | None  # what is said in it
    voice: str = ""  # who says it, where that is known


@dataclasses.dataclass(frozen=True)
class Codebook:
    """How one codebook is used over all recordings."""

    used: int  # entries that occur
    entries: int
    perplexity: float  # exp of the codes' entropy: as many equally frequent entries would have it


@dataclasses.dataclass(frozen=True)
class Score:
    """The figures of one number of codebooks."""

    codebooks: int
    bitrate: float  # bit/s
    quality: dict[str, Estimate]  # means over the recordings, by the names of METRICS
    word_errors: Estimate  # of the recogniser on the decoded audio
    above: Estimate  # the same minus its rate on the originals, paired


@dataclasses.dataclass(frozen=True)
class Scorecard:
    """All figures."""

    scores: list[Score]
    original: Estimate  # the recogniser's word error rate on the recordings themselves
    voices: dict[str, tuple[Estimate, Score]]  # by voice: that rate, and the figures with the most codebooks
    books: list[Codebook]
    seconds: float  # of audio
    recordings: int
    files: list[dict[str, Any]]  # every recording's figures
    decoded: dict[int, list[np.ndarray]]  # by number of codebooks: float32 [T] for each recording


def find_recordings(paths: Iterable[Path]) -> list[Path]:
    """The audio files meant: of a folder those that its manifest lists, else its WAV and FLAC files at any depth.

    Raises:
      AudioError: a folder without audio, or a manifest that is none.
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
                raise AudioError(f"{manifest}: no manifest ({error!r}). Its lines are {{'path': ...}}.") from None
        else:
            here = sorted(p for p in path.rglob("*") if p.suffix.lower() in audio.FORMATS)
        if not here:
            raise AudioError(f"{path}: holds no WAV or FLAC files. Give audio files, or folders of them.")
        found += here
    return found


def read_recording(path: Path, sample_rate: int) -> Recording:
    """Read a recording and, where x.json beside x.wav has them, its "text" and "voice"."""
    beside, text, voice = path.with_suffix(".json"), None, ""
    if beside.is_file():
        try:
            held = json.loads(beside.read_text(encoding="utf-8"))
        except ValueError as error:
            raise AudioError(f"{beside}: no JSON ({error}). Correct or remove it.") from None
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
    """Encode and decode recordings, and compare them.

    Args:
      coder: the codec.
      recordings: at the codec's rate.
      codebooks: numbers of codebooks to decode from.
      sentences: more of what may be said, for the recogniser's language model.
      pronunciations: of words that the recogniser's dictionary lacks, see `Recogniser`.
      batch: recordings coded at once.
      processes: that measure side by side; None: one for each core.
      progress: see `jomni.progress.Progress`.

    Raises:
      JomniError: the recogniser does not know a word of a text.
    """
    texts = [r.text for r in recordings if r.text is not None]
    recogniser = None
    if texts:
        recogniser = Recogniser([*texts, *sentences], pronunciations=pronunciations, processes=processes)
    total = len(recordings)
    # By length: those coded together should be about equally long.
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
    heard = _heard(recogniser, recordings, decoded, coder.codec.sample_rate, progress)
    scores = [_score(coder, number, quality[number], heard.get(number), heard.get(0)) for number in decoded]
    files = [
        {"name": r.name, "seconds": len(r.wave) / coder.codec.sample_rate, "text": r.text, "voice": r.voice}
        | {str(k): dataclasses.asdict(quality[k][n]) for k in decoded}
        for n, r in enumerate(recordings)
    ]
    by_voice = {
        voice: _voice(coder, max(decoded), voice, recordings, quality, heard)
        for voice in sorted({r.voice for r in recordings} - {""})
    }
    seconds = sum(len(r.wave) for r in recordings) / coder.codec.sample_rate
    return Scorecard(
        scores, _rate(heard.get(0)), by_voice, usage(codes, coder.codec.codebook_size), seconds, total, files, decoded
    )


def usage(codes: Sequence[Codes], entries: int) -> list[Codebook]:
    """Return how each codebook is used."""
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
        context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
        with concurrent.futures.ProcessPoolExecutor(count, context) as pool:
            take(pool.map(compare_one, work, chunksize=4))
    size = len(recordings)
    return {number: found[n * size : (n + 1) * size] for n, number in enumerate(decoded)}


def _heard(
    recogniser: Recogniser | None, recordings: Sequence[Recording], decoded: dict[int, list[np.ndarray]],
    sample_rate: int, progress: Progress,
) -> dict[int, list[WordErrors]]:  # fmt: skip
    """Word errors by number of codebooks, 0 for the originals, of the recordings with a text."""
    if recogniser is None:
        return {}
    spoken = [n for n, r in enumerate(recordings) if r.text is not None]
    sides = {0: [r.wave for r in recordings]} | decoded
    waves = [voices[n] for voices in sides.values() for n in spoken]
    heard = recogniser.transcribe(waves, sample_rate, lambda n: progress("hearing", n, len(waves), "recordings"))
    found: dict[int, list[WordErrors]] = {}
    for index, number in enumerate(sides):
        said = heard[index * len(spoken) : (index + 1) * len(spoken)]
        found[number] = [word_errors(recordings[n].text or "", text) for n, text in zip(spoken, said, strict=True)]
    return found


def _rate(errors: Sequence[WordErrors] | None) -> Estimate:
    return statistics.ratio([e.errors for e in errors], [e.words for e in errors]) if errors else NO_DATA


def _voice(
    coder: Coder, number: int, voice: str, recordings: Sequence[Recording], quality: dict[int, list[Quality]],
    heard: dict[int, list[WordErrors]],
) -> tuple[Estimate, Score]:  # fmt: skip
    """One voice's figures: the recogniser's rate on the recordings, and the score of a number of codebooks."""
    mine = [r.voice == voice for r in recordings]
    said = [one for one, r in zip(mine, recordings, strict=True) if r.text is not None]
    errors = {n: list(itertools.compress(found, said)) for n, found in heard.items()}
    score = _score(coder, number, list(itertools.compress(quality[number], mine)), errors.get(number), errors.get(0))
    return _rate(errors.get(0)), score


def _score(
    coder: Coder, number: int, quality: Sequence[Quality], heard: Sequence[WordErrors] | None,
    original: Sequence[WordErrors] | None,
) -> Score:  # fmt: skip
    means = {}
    for name in METRICS:
        values = np.array([getattr(q, name) for q in quality])
        means[name] = statistics.mean(values[np.isfinite(values)])
    above = NO_DATA
    if heard and original:
        above = statistics.ratio_difference(
            [e.errors for e in heard], [e.words for e in heard], [e.errors for e in original]
        )
    return Score(number, bitrate(coder.codec, number), means, _rate(heard), above)
