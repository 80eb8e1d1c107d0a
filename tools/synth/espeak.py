"""espeak-ng's voices through its C library, with the times of words and phones.

Debian: `apt install espeak-ng` (libespeak-ng1). The library is not thread safe. Some voices keep noise from one
utterance to the next, so only a new process with the same utterances in the same order gives the same samples.
"""

from __future__ import annotations

import ctypes as c
import functools
import zlib
from typing import Any

import numpy as np

from .phones import SILENCE, from_espeak

_RATE, _PITCH, _RANGE = 1, 3, 4
_WORD, _PHONE, _END = 1, 7, 6
_WORDS_A_MINUTE = 165
_LETTER_A = "[[eI]]"
_PHONE_EVENTS, _SYNCHRONOUS, _UTF8, _READ_PHONES = 1, 2, 1, 0x100


class _Id(c.Union):
    _fields_ = (("number", c.c_int), ("name", c.c_char_p), ("string", c.c_char * 8))


class _Event(c.Structure):
    _fields_ = (
        ("type", c.c_int), ("uid", c.c_uint), ("position", c.c_int), ("length", c.c_int), ("audio", c.c_int),
        ("sample", c.c_int), ("user", c.c_void_p), ("id", _Id),
    )  # fmt: skip


class _Espeak:
    """Return the library, initialised once per process."""

    def __init__(self) -> None:
        self.lib: Any = c.CDLL("libespeak-ng.so.1")
        self.hz: int = self.lib.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONE_EVENTS | 0x8000)
        if self.hz <= 0:
            raise OSError("espeak-ng cannot start: apt install espeak-ng")
        self.audio: list[bytes] = []
        self.events: list[tuple[int, int, int, str]] = []
        kind = c.CFUNCTYPE(c.c_int, c.POINTER(c.c_short), c.c_int, c.POINTER(_Event))
        self.callback = kind(self._receive)
        self.lib.espeak_SetSynthCallback(self.callback)
        self.reseed = c.CDLL("libc.so.6").srand
        self.voice = ""

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count:
            self.audio.append(c.string_at(samples, 2 * count))
        i = 0
        while events[i].type:
            event = events[i]
            if event.type in (_WORD, _PHONE):
                name = event.id.string.decode() if event.type == _PHONE else ""
                self.events.append((event.type, event.position, event.sample, name))
            i += 1
        return 0

    def say(self, text: str, voice: str, rate: float, pitch: float, melody: float) -> np.ndarray:
        self.audio, self.events = [], []
        if voice != self.voice:
            if self.lib.espeak_SetVoiceByName(voice.encode()):
                raise ValueError(f"espeak-ng has no voice {voice!r}")
            self.voice = voice
        for parameter, value in (
            (_RATE, int(np.clip(_WORDS_A_MINUTE * rate, 80, 400))),
            (_PITCH, int(np.clip(50 + 100 * np.log2(pitch), 0, 99))),
            (_RANGE, int(np.clip(50 * melody, 0, 99))),
        ):
            self.lib.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        self.reseed(zlib.crc32(data))  # its noise comes from rand(), which flite uses too
        self.lib.espeak_Synth(data, c.c_size_t(len(data) + 1), 0, 1, 0, _UTF8 | _READ_PHONES, None, None)
        return np.frombuffer(b"".join(self.audio), np.int16)


@functools.cache
def _espeak() -> _Espeak:
    return _Espeak()


def available() -> bool:
    """Return whether the library is installed."""
    try:
        c.CDLL("libespeak-ng.so.1")
    except OSError:
        return False
    return True


Segment = tuple[str, float, float, int | None]


def synthesise(
    tokens: list[str], variant: str, accent: str, rate: float, pitch: float, melody: float
) -> tuple[np.ndarray, int, list[Segment]]:
    """Synthesise speech.

    Args:
      tokens: words, with punctuation; a single letter is read as its name.
      variant: the speaker, a file of espeak-ng-data/voices/!v.
      accent: such as en-gb.
      rate, pitch, melody: factors of the variant's own.

    Returns:
      int16 [n], its rate in Hz, and the segments (phone, start, end in seconds, index of the token or None). If
      espeak-ng joins words (`of the`), its phones are divided among them in proportion to their letters.
    """
    espeak = _espeak()
    shown = [_LETTER_A + t[1:] if t[:1] == "a" and not t[1:].isalpha() else t for t in tokens]
    pcm = espeak.say(" ".join(shown), f"{accent}+{variant}", rate, pitch, melody)
    starts = np.cumsum([0, *(len(s) + 1 for s in shown)])
    groups: list[tuple[int, int]] = []
    raw: list[list[Any]] = []
    for kind, position, sample, name in espeak.events:
        if kind == _WORD:
            index = int(np.searchsorted(starts, position - 1, side="right")) - 1
            if index >= len(tokens) or (groups and index <= groups[-1][0]):
                continue
            if groups:
                groups[-1] = groups[-1][0], index
            groups.append((index, len(tokens)))
            continue
        phone = from_espeak(name)
        if phone is None:
            continue
        raw.append([phone, sample / espeak.hz, 0.0, len(groups) - 1 if phone != SILENCE and groups else None])
    for this, following in zip(raw, [*raw[1:], ["", len(pcm) / espeak.hz]], strict=True):
        this[2] = following[1]
    if not groups or groups[0][0] != 0:
        raise ValueError(f"espeak-ng did not say where the words of {' '.join(shown)!r} begin")
    grouped = [[s for s in raw if s[3] == number] for number in range(len(groups))]
    for (first, last), members in zip(groups, grouped, strict=True):
        ends = np.cumsum([len(tokens[i]) for i in range(first, last)])
        if len(members) < last - first:
            raise ValueError(f"espeak-ng left out words of {' '.join(shown)!r}")
        cuts = np.maximum(np.round(ends / ends[-1] * len(members)), np.arange(1, len(ends) + 1))
        for i, segment in enumerate(members):
            segment[3] = first + int(np.searchsorted(cuts, i, side="right"))
    return pcm, espeak.hz, [(p, s, e, t) for p, s, e, t in raw if e > s]
