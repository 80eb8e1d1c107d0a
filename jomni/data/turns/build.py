"""Spoken turns from text, with any synthesiser and any codec that has SNAC's 1, 2 and 4 codes per frame."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from jomni.data.turns.parquet import Turn, interleave
from jomni.errors import DataError

Voice = Callable[[str], tuple[Float[np.ndarray, "T"], int]]
"""A synthesiser: maps a text to samples in [-1, 1] and their rate in Hz."""

Encode = Callable[[Float[np.ndarray, "T"], int], Sequence[Int[np.ndarray, "N"]]]
"""A codec: maps samples and their rate to the codes of each codebook, coarse to fine."""


def spoken_turns(pairs: Iterable[tuple[str, str]], ask: Voice, tell: Voice, encode: Encode) -> Iterator[Turn]:
    """Yield a `Turn` for each pair of question and answer, for `write_turns`.

    Args:
      pairs: questions and answers.
      ask: synthesises questions. It may use another voice at each call.
      tell: synthesises answers, in the voice that the model is to learn.
      encode: returns the codes of an answer.

    Raises:
      DataError: the synthesiser returned no finite mono samples, or the codec has not 1, 2 and 4 codes per frame.
    """
    import soundfile

    for question, answer in pairs:
        pcm, rate = ask(question)
        said, said_rate = tell(answer)
        for text, wave in ((question, pcm), (answer, said)):
            if wave.ndim != 1 or not wave.size or not np.isfinite(wave).all():
                raise DataError(f"the synthesiser returned {wave.dtype} {list(wave.shape)} for {text!r}, not audio.")
        file = io.BytesIO()
        soundfile.write(file, np.clip(pcm, -1, 1), rate, format="FLAC", subtype="PCM_16")
        yield Turn(question, file.getvalue(), answer, interleave(encode(said, said_rate)))
