"""A speech recogniser that is independent of the evaluated models: pocketsphinx with its own English acoustic model.

Its language model is made from given sentences. On synthesised speech the word error rate is about 20 % with
pocketsphinx's general language model, and about 3 % with one made from the sentences that can occur.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jomni import audio
from jomni.errors import JomniError
from jomni.eval.ngram import arpa
from jomni.extras import require

SAMPLE_RATE = 16_000
"""Hz, of the recogniser's acoustic model."""

_MARGIN = 0.25  # seconds of silence around each recording, because words at its edges would be lost


def normalise(text: str) -> str:
    """Return the words in lower case, separated by single spaces. Only apostrophes within words are kept."""
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    return " ".join(re.findall(r"[^\W_]+(?:'[^\W_]+)*", text))


@dataclasses.dataclass(frozen=True)
class WordErrors:
    """Word errors of one transcript."""

    errors: int  # substitutions, deletions and insertions
    words: int  # of the reference

    @property
    def rate(self) -> float:
        """Word error rate; above 1 if many words are inserted."""
        return self.errors / self.words if self.words else float(self.errors > 0)


def word_errors(reference: str, transcript: str) -> WordErrors:
    """Return the word errors of a transcript, both texts normalised, by jiwer's alignment."""
    import jiwer

    reference, transcript = normalise(reference), normalise(transcript)
    if not reference:
        return WordErrors(len(transcript.split()), 0)
    found = jiwer.process_words(reference, transcript)
    return WordErrors(found.substitutions + found.deletions + found.insertions, len(reference.split()))


class Recogniser:
    """Transcribes English speech with a language model made from given sentences.

    Args:
      sentences: the language model's training text; only their words are recognised. Order and repetitions do not
        matter.
      order: n of the n-grams.
      pronunciations: word -> pronunciations in the CMU dictionary's phones ("OY NG K"), for words that the dictionary
        lacks. They take precedence over the dictionary.
      processes: number of parallel processes; None: one per core.

    Raises:
      JomniError: pocketsphinx is missing, or words of the sentences have no pronunciation (the message names them).
    """

    def __init__(
        self,
        sentences: Iterable[str],
        order: int = 2,
        pronunciations: Mapping[str, Sequence[str]] | None = None,
        processes: int | None = None,
    ) -> None:
        require("eval", "pocketsphinx", "jiwer")
        rows = sorted({normalise(sentence) for sentence in sentences} - {""})
        if not rows:
            raise JomniError("the recogniser needs sentences for its language model. Give some (--sentences).")
        words = sorted({word for row in rows for word in row.split()})
        self._dictionary = _dictionary(words, pronunciations or {})
        self._model = arpa((row.split() for row in rows), order)
        self._processes = processes or os.cpu_count() or 1

    def transcribe(
        self, waves: Sequence[np.ndarray], sample_rate: int, done: Callable[[int], Any] | None = None
    ) -> list[str]:
        """Return the transcript of each recording; "" if no word was recognised.

        Transcripts do not depend on the order of the recordings or on the number of processes.

        Args:
          waves: float [T] each, full scale 1.
          sample_rate: of the recordings, Hz.
          done: called with the number of recordings transcribed so far.
        """
        pcm = (_samples(wave, sample_rate) for wave in waves)
        count = min(self._processes, len(waves))
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "lm.arpa").write_text(self._model, encoding="utf-8")
            (Path(folder) / "words.dict").write_text(self._dictionary, encoding="utf-8")
            if count <= 1:
                decoder = _decoder(folder)
                return list(_counted((_transcribe(decoder, piece) for piece in pcm), done))
            # Spawned, because forked processes of a program with JAX's threads can hang.
            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(count, context) as pool:
                return list(_counted(pool.map(functools.partial(_transcribe_in, folder), pcm, chunksize=8), done))


def _counted(transcripts: Iterable[str], done: Callable[[int], Any] | None) -> Iterable[str]:
    for number, text in enumerate(transcripts, 1):
        if done is not None:
            done(number)
        yield text


def _dictionary(words: Sequence[str], given: Mapping[str, Sequence[str]]) -> str:
    """Return the lines of pocketsphinx's dictionary for the words."""
    known = _pronunciations()
    lines, unknown = [], []
    for word in words:
        said = given.get(word) or known.get(word) or ()
        if not said:
            unknown.append(word)
        lines += [f"{word if n == 0 else f'{word}({n + 1})'} {phones}" for n, phones in enumerate(said)]
    if unknown:
        shown = ", ".join(map(repr, unknown[:10])) + (f" and {len(unknown) - 10} more" if len(unknown) > 10 else "")
        raise JomniError(
            f"the recogniser's dictionary has no pronunciation of {shown}. Write numbers as words, or give "
            "pronunciations in a file (--pronunciations)."
        )
    return "\n".join([*lines, ""])


def read_pronunciations(path: Path) -> dict[str, list[str]]:
    """Read a dictionary in CMU's format: one line per pronunciation, "oink OY NG K", "oink(2) ..." for a second one.

    Raises:
      JomniError: the file cannot be read, or a line has no phones.
    """
    found: dict[str, list[str]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise JomniError(f"{path}: the pronunciations cannot be read ({error}). Give a text file in UTF-8.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        word, *phones = line.lower().split()
        if not phones:
            raise JomniError(f"{path}, line {number}: {line!r} has no phones. Write a word and its phones.")
        found.setdefault(re.sub(r"\(\d+\)$", "", word), []).append(" ".join(phones).upper())
    return found


@functools.cache
def _pronunciations() -> dict[str, list[str]]:
    """Return pocketsphinx's copy of the CMU dictionary: word -> pronunciations."""
    return read_pronunciations(_model_folder() / "cmudict-en-us.dict")


def _model_folder() -> Path:
    import pocketsphinx

    return Path(pocketsphinx.get_model_path()) / "en-us"


def _decoder(folder: str) -> Any:
    import pocketsphinx

    return pocketsphinx.Decoder(
        hmm=str(_model_folder() / "en-us"), dict=f"{folder}/words.dict", lm=f"{folder}/lm.arpa", loglevel="FATAL"
    )


_cached_decoder = functools.lru_cache(maxsize=1)(_decoder)


def _transcribe_in(folder: str, pcm: bytes) -> str:
    return _transcribe(_cached_decoder(folder), pcm)


def _transcribe(decoder: Any, pcm: bytes) -> str:
    if not any(pcm):  # digital silence, in which pocketsphinx recognises a word
        return ""
    decoder.reinit_feat()  # forget the noise level and the feature mean of previous recordings
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return found.hypstr if found else ""


def _samples(wave: np.ndarray, sample_rate: int) -> bytes:
    wave = np.pad(audio.resample(wave, sample_rate, SAMPLE_RATE), round(_MARGIN * SAMPLE_RATE))
    return np.clip(np.rint(wave * 32767), -32768, 32767).astype("<i2").tobytes()
