"""One's own text as spoken turns, with any synthesiser and any codec of SNAC's form."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from jomni.data.turns.parquet import Turn, interleave
from jomni.errors import DataError

Voice = Callable[[str], tuple[Float[np.ndarray, "T"], int]]
"""A synthesiser: the samples of a text, in [-1, 1], and their rate, Hz."""

Encode = Callable[[Float[np.ndarray, "T"], int], Sequence[Int[np.ndarray, "N"]]]
"""A codec: the codes of each of its codebooks, coarse to fine, of samples at a rate."""


def spoken_turns(pairs: Iterable[tuple[str, str]], ask: Voice, tell: Voice, encode: Encode) -> Iterator[Turn]:
    """Turn for `write_turns`.

    Args:
      pairs: questions and answers.
      ask: says a question; let it change its voice from call to call.
      tell: says an answer, in the voice that the model is to have.
      encode: the answer's codes.

    Raises:
      DataError: the synthesiser gave no sound, or the codec has another form than 1, 2 and 4 codes a frame.
    """
    import soundfile

    for question, answer in pairs:
        pcm, rate = ask(question)
        said, said_rate = tell(answer)
        for text, wave in ((question, pcm), (answer, said)):
            if wave.ndim != 1 or not wave.size or not np.isfinite(wave).all():
                raise DataError(f"the synthesiser gave no sound for {text!r}, but {wave.dtype} {list(wave.shape)}.")
        file = io.BytesIO()
        soundfile.write(file, np.clip(pcm, -1, 1), rate, format="FLAC", subtype="PCM_16")
        yield Turn(question, file.getvalue(), answer, interleave(encode(said, said_rate)))
