"""Who speaks: the agent, the users of the training part, and whole speakers held out of it.

A speaker is one of flite's voices or one of espeak-ng's variants (its formants, voicing and breath). Accent, pitch and
rate are a manner, which the same speaker varies; a held-out speaker is never trained on in any manner. Left out of both
parts: variants whose formants are those of a held-out one under another name (`Mike` is `m3`, `f5` is `f2`, `belinda`
and `linda` are `aunty`), whispers, croaks, monsters, and those of which a recogniser made for people (pocketsphinx, a
grammar of three numbers, before any model was trained) heard next to nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np

RATE = 16_000
"""Hz, of everything this package makes."""
GRID = 0.08
"""Seconds; answers begin at multiples of it, one of nano's frames, so that the same answer is the same codes."""

ACCENTS = ("en-us", "en-us", "en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc", "en-gb-x-gbclan")
"""espeak-ng's, drawn from with these weights."""


@dataclasses.dataclass(frozen=True)
class Voice:
    """A speaker.

    Args:
      engine: `flite` or `espeak`.
      name: flite's voice or espeak-ng's variant.
      split: `agent`, `train` or `heldout`.
      female: whether it sounds like a woman.
    """

    engine: str
    name: str
    split: str
    female: bool = False

    @property
    def id(self) -> str:
        return f"{self.engine}:{self.name}"


@dataclasses.dataclass(frozen=True)
class Manner:
    """How a speaker speaks this time. Neutral as constructed.

    Args:
      accent: espeak-ng's language; flite's voices have one accent each.
      rate: speed, 1 = the speaker's own.
      pitch: fundamental frequency, 1 = the speaker's own (espeak-ng and kal16).
      melody: range of the intonation, 1 = the speaker's own (espeak-ng).
      tract: length of the vocal tract, 1 = the speaker's own; played faster or slower, so pitch, rate and formants go
        with it.
    """

    accent: str = "en-us"
    rate: float = 1.0
    pitch: float = 1.0
    melody: float = 1.0
    tract: float = 1.0


AGENT = Voice("flite", "slt", "agent", female=True)
AGENT_MANNER = Manner()

_MEN = (
    "m1", "m2", "m4", "m5", "m6", "m7", "m8", "klatt", "klatt2", "klatt3", "klatt4", "klatt5", "adam", "david",
    "edward", "benjamin", "Denis", "Diogo", "Henrique", "Gene", "Hugo", "Michael", "Marco", "antonio", "ed", "max",
    "paul", "pedro", "quincy", "rob", "victor", "Storm", "grandpa", "Alex", "Nguyen", "Jacky",
)  # fmt: skip
_WOMEN = ("f1", "f3", "f4", "anika", "steph")

TRAIN: tuple[Voice, ...] = (
    Voice("flite", "awb", "train"),
    Voice("flite", "kal16", "train"),
    *(Voice("espeak", name, "train") for name in _MEN),
    *(Voice("espeak", name, "train", female=True) for name in _WOMEN),
)
HELD_OUT: tuple[Voice, ...] = (
    Voice("flite", "rms", "heldout"),
    *(Voice("espeak", name, "heldout") for name in ("m3", "john", "pablo", "sandro")),
    *(Voice("espeak", name, "heldout", female=True) for name in ("f2", "aunty")),
)


def draw_voice(rng: np.random.Generator, split: str = "train", flite: float = 0.3) -> Voice:
    """Return a user's voice.

    Args:
      split: `train` or `heldout`.
      flite: share of flite's voices in training. Women's variants are fewer and drawn three times as often as men's;
        held-out speakers are drawn equally often.
    """
    if split == "heldout":
        return HELD_OUT[int(rng.integers(len(HELD_OUT)))]
    voices = {"train": TRAIN}[split]
    engine = "flite" if rng.random() < flite else "espeak"
    voices = tuple(v for v in voices if v.engine == engine)
    weights = np.array([3.0 if v.female else 1.0 for v in voices])
    return voices[int(rng.choice(len(voices), p=weights / weights.sum()))]


def draw_manner(rng: np.random.Generator, voice: Voice, spread: float = 1.0) -> Manner:
    """Return how a user speaks in one conversation.

    Args:
      spread: 1 = as in training; smaller = closer to the speaker's own way.
    """

    def around_one(width: float) -> float:
        return float(np.exp(spread * width * rng.uniform(-1, 1)))

    if voice.engine == "flite":
        tract = around_one(0.08) if rng.random() < 0.6 else 1.0
        return Manner(rate=around_one(0.18), pitch=around_one(0.2), tract=tract)
    tract = around_one(0.12) if rng.random() < 0.3 else 1.0
    accent = ACCENTS[int(rng.integers(len(ACCENTS)))]
    return Manner(accent, around_one(0.25), around_one(0.3), around_one(0.5), tract)
