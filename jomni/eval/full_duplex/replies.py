"""Word error rates of spoken replies, by the recogniser, with two baselines.

The first baseline is the synthesiser's audio of the same text: its errors are the recogniser's own. The second is noise
of the reply's length and level: its errors show what the recogniser's language model produces without speech.
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
from jomni.eval.report import plain

Synthesise = Callable[[str], tuple[np.ndarray, int] | None]
"""Text -> reference audio, float32 [T], and its rate in Hz; None if the synthesiser fails."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """A spoken reply of the agent."""

    text: str  # of the model; "" for a model without text
    pcm: np.ndarray  # float32 [T]
    reference: np.ndarray | None  # the synthesiser's audio of the same text, float32 [T], if the test set has it
    cell: str = ""
    expected: str = ""  # the right answer


@dataclasses.dataclass(frozen=True)
class ReplyErrors:
    """Word error rates of spoken replies. The first four are over the replies that have a reference."""

    model: Estimate  # the reply against the model's own text
    synthesiser: Estimate  # the synthesiser's audio of that text against it
    above: Estimate  # `model` minus `synthesiser`, paired
    noise: Estimate  # noise against that text
    all_replies: Estimate  # all replies against the model's own text, with or without a reference
    expected: Estimate  # all replies against the right answer; also defined for a model without text
    transcripts: list[tuple[str, str, str]]  # text, transcript of the reply, transcript of the reference

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for report.json, where the transcripts are called "heard"."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"heard" if name == "transcripts" else name: plain(value) for name, value in fields.items()}


ERROR_RATES = {
    "model": "the reply",
    "synthesiser": "the synthesiser's audio of the same text",
    "above": "difference of the two",
    "noise": "noise of the same length and level",
    "all_replies": "all replies, with or without the synthesiser's audio",
    "expected": "all replies, against the right answer",
}
"""Field of `ReplyErrors` -> label in tables."""


def measure_replies(
    replies: Sequence[Reply],
    sample_rate: int,
    recogniser: Recogniser,
    synthesise: Synthesise | None = None,
    done: Callable[[int], Any] | None = None,
) -> ReplyErrors:
    """Return the word error rates of replies.

    Args:
      replies: the reply of a model without text is compared with the right answer only.
      sample_rate: of their audio, Hz.
      recogniser: made from the sentences that can be expected.
      synthesise: for texts of which the test set has no audio.
      done: called with the number of recordings transcribed so far.
    """
    replies = sorted(replies, key=lambda reply: not normalise(reply.text))
    references = [_reference(r, sample_rate, synthesise) if normalise(r.text) else None for r in replies]
    paired = [n for n, reference in enumerate(references) if reference is not None]
    waves = [reply.pcm for reply in replies]
    waves += [reference for reference in references if reference is not None]
    waves += [_noise(waves[n], n) for n in paired]
    transcripts = recogniser.transcribe(waves, sample_rate, done) if waves else []
    first, second = len(replies), len(replies) + len(paired)
    of_replies, of_references, of_noise = transcripts[:first], transcripts[first:second], transcripts[second:]
    texts = [reply.text for reply in replies if normalise(reply.text)]
    own = [word_errors(text, found) for text, found in zip(texts, of_replies, strict=False)]
    references_own = [word_errors(texts[n], found) for n, found in zip(paired, of_references, strict=True)]
    noise = [word_errors(texts[n], found) for n, found in zip(paired, of_noise, strict=True)]
    expected = [word_errors(r.expected, found) for r, found in zip(replies, of_replies, strict=True) if r.expected]
    words = [own[n].words for n in paired]
    by_reply = dict(zip(paired, of_references, strict=True))
    return ReplyErrors(
        model=ratio([own[n].errors for n in paired], words),
        synthesiser=ratio([e.errors for e in references_own], words),
        above=ratio_difference([own[n].errors for n in paired], words, [e.errors for e in references_own]),
        noise=ratio([e.errors for e in noise], words),
        all_replies=ratio([e.errors for e in own], [e.words for e in own]),
        expected=ratio([e.errors for e in expected], [e.words for e in expected]),
        transcripts=[(text, of_replies[n], by_reply.get(n, "")) for n, text in enumerate(texts)],
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
    """Return a reference synthesiser, flite, or None if it is not installed (`apt install flite`)."""
    program = shutil.which("flite")
    if program is None:
        return None

    def say(text: str) -> tuple[np.ndarray, int] | None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "said.wav"
            # As a file: flite would read a text that begins with "-" as an option.
            (Path(folder) / "text").write_text(text, encoding="utf-8")
            command = [program, "-voice", voice, "-f", str(Path(folder) / "text"), "-o", str(path)]
            if subprocess.run(command, capture_output=True).returncode or not path.is_file():
                return None
            wave, rate = soundfile.read(path, dtype="float32")
            return np.asarray(wave, np.float32), int(rate)

    return say
