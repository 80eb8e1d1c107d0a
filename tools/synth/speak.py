"""Synthesis of a text with a voice: samples at 16 kHz, and the times of words and phones."""

from __future__ import annotations

import dataclasses

import numpy as np
import soxr

from . import espeak, flite
from .phones import SILENCE
from .voices import RATE, Manner, Voice

_PUNCTUATION = ",.?!:;"
_MARGIN = 0.01
"""Seconds kept before and after the speech."""
AGENT_GAIN_DB = -8.0
"""Gain of the agent's voice (flite's slt), for an RMS of about -24 dB of full scale."""
_FLOOR_DB = -46.0
"""Level of silence at the ends, relative to the loudest frame."""


@dataclasses.dataclass(frozen=True)
class Speech:
    """Synthesised speech.

    Args:
      pcm: float32 [n] at 16 kHz, peak below 1, without silence at its ends.
      words: (word, start, end), seconds in pcm, without punctuation.
      phones: (phone, start, end), without gaps from 0 to the end of pcm.
    """

    pcm: np.ndarray
    words: tuple[tuple[str, float, float], ...]
    phones: tuple[tuple[str, float, float], ...]

    @property
    def duration(self) -> float:
        return len(self.pcm) / RATE


def plain(text: str) -> list[str]:
    """Return the words of a text, without punctuation and pause marks (`|`)."""
    return [w for w in (t.strip(_PUNCTUATION) for t in text.split()) if w and w != "|"]


def agent_level(pcm: np.ndarray) -> np.ndarray:
    """Return the agent's speech at its fixed level."""
    return pcm * np.float32(10 ** (AGENT_GAIN_DB / 20))


def speak(text: str, voice: Voice, manner: Manner) -> Speech:
    """Synthesise a text.

    Args:
      text: words in lower case; commas, colons, full stops and question marks control the melody; `|` is ignored. A
        single letter is read as its name.
      voice: the speaker.
      manner: accent, rate, pitch and melody.

    Raises:
      ValueError: the synthesiser reads the text as another number of words.
    """
    tokens = [t for t in text.split() if t != "|"]
    if voice.engine == "flite":
        pcm, hz, segments = flite.synthesise(tokens, voice.name, manner.rate, manner.pitch)
    else:
        pcm, hz, segments = espeak.synthesise(
            tokens, voice.name, manner.accent, manner.rate, manner.pitch, manner.melody
        )
    wave = np.asarray(pcm, np.float32) / 32768.0
    if manner.tract != 1.0 or hz != RATE:
        wave = soxr.resample(wave, hz, RATE * manner.tract, quality="HQ")
    scale = manner.tract
    return _trimmed(wave, [(p, s * scale, e * scale, t) for p, s, e, t in segments], plain(text))


def _trimmed(wave: np.ndarray, segments: list[flite.Segment], words: list[str]) -> Speech:
    """Return the speech without silence at its ends, with times from its new start."""
    frame = RATE // 200
    count = len(wave) // frame
    power = np.square(wave[: count * frame]).reshape(count, frame).mean(1)
    loud = np.flatnonzero(power > power.max() * 10 ** (_FLOOR_DB / 10))
    begin = max(loud[0] * frame / RATE - _MARGIN, 0.0)
    end = min((loud[-1] + 1) * frame / RATE + _MARGIN, len(wave) / RATE)
    spoken = [s for s in segments if s[0] != SILENCE]
    begin = max(begin, spoken[0][1] - 0.05)  # a click long before the first phone is not speech
    pcm = wave[round(begin * RATE) : round(end * RATE)]
    length = len(pcm) / RATE

    def inside(t: float) -> float:
        return round(float(min(max(t - begin, 0.0), length)), 4)

    phones: list[tuple[str, float, float]] = []
    for phone, start, stop, _ in segments:
        start, stop = inside(start), inside(stop)
        if phone == SILENCE and phones and phones[-1][0] == SILENCE:
            phones[-1] = (SILENCE, phones[-1][1], stop)
        elif stop > start:
            phones.append((phone, start, stop))
    phones = _closed(phones, round(length, 4))
    times: list[tuple[str, float, float]] = []
    for index, word in enumerate(words):
        mine = [s for s in segments if s[3] == index]
        times.append((word, inside(mine[0][1]), inside(mine[-1][2])))
    return Speech(pcm.astype(np.float32), tuple(times), tuple(phones))


def _closed(phones: list[tuple[str, float, float]], length: float) -> list[tuple[str, float, float]]:
    """Return phones without gaps from 0 to `length`; short silences at the ends are merged with the next phones."""
    if phones[0][0] == SILENCE and len(phones) > 1 and phones[0][2] < 0.06:
        phones[1] = (phones[1][0], phones[0][1], phones[1][2])
        del phones[0]
    if phones[-1][0] == SILENCE and len(phones) > 1 and length - phones[-1][1] < 0.06:
        phones[-2] = (phones[-2][0], phones[-2][1], phones[-1][2])
        del phones[-1]
    phones[0] = (phones[0][0], 0.0, phones[0][2])
    phones[-1] = (phones[-1][0], phones[-1][1], length)
    return phones
