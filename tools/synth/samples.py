"""The recordings of a user in jomni/assets/samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from . import room
from .speak import speak
from .voices import HELD_OUT, RATE, TRAIN, Manner, Voice

LEAD, ANSWER, LEVEL = 0.3, 2.6, -25.0
"""Seconds before the first question; seconds left for each answer; level of the speech, dB below full scale."""

SAMPLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "question": ("flite:awb", ("what is seven plus five?",)),
    "opposite": ("espeak:f3", ("what is the opposite of cold?",)),
    "spelling": ("flite:awb", ("how do you spell frog?",)),
    "conversation": ("flite:rms", ("hello, my name is anna.", "what day comes after monday?", "and after that?")),
}
"""Name -> speaker, questions. rms is a held-out voice."""


def voice(name: str) -> Voice:
    """Return a speaker by `Voice.id`."""
    return next(v for v in (*TRAIN, *HELD_OUT) if v.id == name)


def sample(name: str) -> np.ndarray:
    """Return a sample, float32 [n] at 16 kHz, with time for an answer between questions."""
    speaker, questions = SAMPLES[name]
    pieces = [np.zeros(round(LEAD * RATE), np.float32)]
    for number, question in enumerate(questions):
        if number:
            pieces.append(np.zeros(round(ANSWER * RATE), np.float32))
        pieces.append(room.level(speak(question, voice(speaker), Manner()).pcm, LEVEL))
    return np.concatenate(pieces)


def write_samples(folder: Path) -> None:
    """Write all of `SAMPLES` as 16-bit WAV."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SAMPLES:
        soundfile.write(folder / f"{name}.wav", room.to_int16(sample(name)), RATE)
