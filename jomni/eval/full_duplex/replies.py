"""Is what the agent says what its text says? Heard by the independent recogniser, beside two rulers.

The same recogniser hears the synthesiser's own audio of the same text (what is left of its errors then is the
recogniser's), and noise of the reply's length and level (what its language model invents by itself).
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from jomni import audio
from jomni.eval.intervals import Estimate, ratio, ratio_difference
from jomni.eval.recogniser import Recogniser, normalise, word_errors

Synthesise = Callable[[str], tuple[np.ndarray, int] | None]
"""Says a text as the reference agent would: float32 [T] and its rate in Hz; None where it cannot."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """What the agent said."""

    text: str  # of the model; "" where it speaks without
    voice: np.ndarray  # float32 [T]
    reference: np.ndarray | None  # the synthesiser's audio of the same text, float32 [T], where the test set has it
    cell: str = ""
    expected: str = ""  # the right answer


@dataclasses.dataclass(frozen=True)
class ReplyErrors:
    """Word error rates. The first three are over the replies that have a reference."""

    model: Estimate  # of the reply against the model's own text
    synthesiser: Estimate  # of the synthesiser's audio of that text
    above: Estimate  # the difference, paired
    noise: Estimate  # of noise against those texts
    all_replies: Estimate  # of every reply, with or without a reference
    expected: Estimate  # of every reply against the right answer: what counts for a model that speaks without text
    heard: list[tuple[str, str, str]]  # text, heard in the reply, heard in the reference


HEARD = {
    "model": "the reply",
    "synthesiser": "the synthesiser's audio of the same text",
    "above": "above it",
    "noise": "noise of the same length and level",
    "all_replies": "all replies, with or without the synthesiser's audio",
    "expected": "all replies, against the right answer",
}
"""What tables call the error rates."""


def measure(
    replies: Sequence[Reply],
    sample_rate: int,
    recogniser: Recogniser,
    synthesise: Synthesise | None = None,
    done: Callable[[int], Any] | None = None,
) -> ReplyErrors:
    """Word error rates of replies.

    Args:
      replies: those without a text are compared with the right answer alone.
      sample_rate: of their audio, Hz.
      recogniser: made from the sentences that can be expected.
      synthesise: for texts whose audio the test set does not have.
      done: called with the number of recordings heard so far.
    """
    replies = sorted(replies, key=lambda reply: not normalise(reply.text))
    references = [_reference(r, sample_rate, synthesise) if normalise(r.text) else None for r in replies]
    paired = [n for n, reference in enumerate(references) if reference is not None]
    waves = [reply.voice for reply in replies]
    waves += [reference for reference in references if reference is not None]
    waves += [_noise(waves[n], n) for n in paired]
    heard = recogniser.hear(waves, sample_rate, done) if waves else []
    judged = [word_errors(r.expected, said) for r, said in zip(replies, heard, strict=False) if r.expected]
    texts = [reply.text for reply in replies if normalise(reply.text)]
    first, second = len(replies), len(replies) + len(paired)
    own = [word_errors(text, said) for text, said in zip(texts, heard, strict=False)]
    theirs = [word_errors(texts[n], said) for n, said in zip(paired, heard[first:second], strict=True)]
    noise = [word_errors(texts[n], said) for n, said in zip(paired, heard[second:], strict=True)]
    words = [own[n].words for n in paired]
    beside = dict(zip(paired, heard[first:second], strict=True))
    return ReplyErrors(
        model=ratio([own[n].errors for n in paired], words),
        synthesiser=ratio([e.errors for e in theirs], words),
        above=ratio_difference([own[n].errors for n in paired], words, [e.errors for e in theirs]),
        noise=ratio([e.errors for e in noise], words),
        all_replies=ratio([e.errors for e in own], [e.words for e in own]),
        expected=ratio([e.errors for e in judged], [e.words for e in judged]),
        heard=[(text, heard[n], beside.get(n, "")) for n, text in enumerate(texts)],
    )


def _reference(reply: Reply, sample_rate: int, synthesise: Synthesise | None) -> np.ndarray | None:
    if reply.reference is not None or synthesise is None:
        return reply.reference
    made = synthesise(reply.text)
    return None if made is None else audio.resample(*made, sample_rate)


def _noise(wave: np.ndarray, seed: int) -> np.ndarray:
    level = float(np.sqrt(np.square(wave).mean())) if len(wave) else 0.0
    noise = np.random.default_rng(seed).standard_normal(len(wave))
    return (noise * max(level, 0.01)).astype(np.float32)


def flite(voice: str = "slt") -> Synthesise | None:
    """Return the synthesiser of nano's own voice, where it is installed (`apt install flite`); else None."""
    program = shutil.which("flite")
    if program is None:
        return None

    def say(text: str) -> tuple[np.ndarray, int] | None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "said.wav"
            # In a file: a text must never be taken for an option.
            (Path(folder) / "text").write_text(text, encoding="utf-8")
            command = [program, "-voice", voice, "-f", str(Path(folder) / "text"), "-o", str(path)]
            if subprocess.run(command, capture_output=True).returncode or not path.is_file():
                return None
            wave, rate = soundfile.read(path, dtype="float32")
            return np.asarray(wave, np.float32), int(rate)

    return say
