"""flite's voices through its C library, with the times of words and phones.

Debian: `apt install flite` (libflite1). The utterance structure is read with flite's accessors.
"""

from __future__ import annotations

import ctypes as c
import functools
from typing import Any

import numpy as np

from .phones import from_flite

VOICES = ("awb", "rms", "slt", "kal16")
_LETTER_A = "ay"
"""Input for the name of the letter a, which flite would read as the article."""


class _Wave(c.Structure):
    _fields_ = (
        ("type", c.c_char_p), ("rate", c.c_int), ("samples", c.c_int), ("channels", c.c_int),
        ("data", c.POINTER(c.c_short)),
    )  # fmt: skip


class _Relation(c.Structure):
    _fields_ = (("name", c.c_char_p), ("features", c.c_void_p), ("utterance", c.c_void_p), ("head", c.c_void_p))


class _Voice(c.Structure):
    _fields_ = (("name", c.c_char_p), ("features", c.c_void_p))


class _Flite:
    """Return the library, opened once per process."""

    def __init__(self) -> None:
        self.lib = c.CDLL("libflite.so.1", mode=c.RTLD_GLOBAL)
        for name in ("usenglish", "cmulex"):
            c.CDLL(f"libflite_{name}.so.1", mode=c.RTLD_GLOBAL)
        self.lib.flite_init()
        pointer = c.c_void_p
        self.synth = self._function("flite_synth_text", pointer, c.c_char_p, pointer)
        self.relation = self._function("utt_relation", pointer, pointer, c.c_char_p)
        self.next = self._function("item_next", pointer, pointer)
        self.parent = self._function("item_parent", pointer, pointer)
        self.as_ = self._function("item_as", pointer, pointer, c.c_char_p)
        self.string = self._function("item_feat_string", c.c_char_p, pointer, c.c_char_p)
        self.number = self._function("item_feat_float", c.c_float, pointer, c.c_char_p)
        self.wave = self._function("utt_wave", c.POINTER(_Wave), pointer)
        self.delete = self._function("delete_utterance", None, pointer)
        self.set_number = self._function("flite_feat_set_float", None, pointer, c.c_char_p, c.c_float)
        self.get_number = self._function("flite_get_param_float", c.c_float, pointer, c.c_char_p, c.c_float)
        self.reseed = c.CDLL("libc.so.6").srand
        self.voices: dict[str, tuple[int, float]] = {}

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        function = getattr(self.lib, name)
        function.restype, function.argtypes = result, arguments
        return function

    def voice(self, name: str) -> tuple[int, float]:
        """Return the voice and its own mean fundamental frequency."""
        if name not in self.voices:
            library = c.CDLL(f"libflite_cmu_us_{name}.so.1", mode=c.RTLD_GLOBAL)
            register = getattr(library, f"register_cmu_us_{name}")
            register.restype, register.argtypes = c.c_void_p, (c.c_char_p,)
            voice = register(None)
            features = c.cast(voice, c.POINTER(_Voice)).contents.features
            self.voices[name] = voice, self.get_number(features, b"int_f0_target_mean", 100.0)
        return self.voices[name]


@functools.cache
def _flite() -> _Flite:
    return _Flite()


def available() -> bool:
    """Return whether the library is installed."""
    try:
        _flite()
    except OSError:
        return False
    return True


Segment = tuple[str, float, float, int | None]


def synthesise(tokens: list[str], name: str, rate: float, pitch: float) -> tuple[np.ndarray, int, list[Segment]]:
    """Synthesise speech.

    Args:
      tokens: words, with punctuation; a single letter is read as its name.
      name: one of VOICES.
      rate: factor of the voice's speed.
      pitch: factor of the voice's pitch (only for kal16).

    Returns:
      int16 [n], its rate in Hz, and the segments (phone, start, end in seconds, index of the token or None).
    """
    flite = _flite()
    voice, f0 = flite.voice(name)
    features = c.cast(voice, c.POINTER(_Voice)).contents.features
    flite.set_number(features, b"duration_stretch", 1.0 / rate)
    flite.set_number(features, b"int_f0_target_mean", f0 * pitch)
    text = " ".join(_LETTER_A + t[1:] if t[:1] == "a" and not t[1:].isalpha() else t for t in tokens)
    flite.reseed(1)  # unvoiced sounds come from rand(): reset it, for reproducible samples
    utterance = flite.synth(text.encode(), voice)
    try:
        wave = flite.wave(utterance).contents
        pcm, hz = np.ctypeslib.as_array(wave.data, (wave.samples,)).copy(), int(wave.rate)
        segments: list[Segment] = []
        seen: list[int] = []
        item, start = c.cast(flite.relation(utterance, b"Segment"), c.POINTER(_Relation)).contents.head, 0.0
        while item:
            end, syllable = float(flite.number(item, b"end")), flite.as_(item, b"SylStructure")
            token = None
            if syllable:
                word = flite.parent(flite.parent(syllable))
                owner = flite.parent(flite.as_(word, b"Token"))
                if not seen or seen[-1] != owner:
                    seen.append(owner)
                token = len(seen) - 1
            segments.append((from_flite(flite.string(item, b"name").decode()), start, end, token))
            item, start = flite.next(item), end
    finally:
        flite.delete(utterance)
    if len(seen) != len(tokens):
        raise ValueError(f"flite read {text!r} as {len(seen)} words, not {len(tokens)}: write it differently")
    return pcm, hz, segments
