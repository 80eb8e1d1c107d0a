"""Speakers: the agent, users for training, and held-out users.

A speaker is a voice of flite or a variant of espeak-ng (its formants, voicing and breath). Accent, pitch and rate are a
manner, which varies for each speaker. Held-out speakers are never used in training. Not used at all are variants with
the formants of a held-out one (`Mike` is `m3`, `f5` is `f2`, `belinda` and `linda` are `aunty`), whispers, croaks,
monsters, and variants of which pocketsphinx recognised almost nothing (with a grammar of three numbers).
"""

from __future__ import annotations

import dataclasses

import numpy as np

RATE = 16_000
"""Hz, of all audio of this package."""
GRID = 0.08
"""Seconds, one frame of nano. Answers begin at multiples of it, so that equal answers have nearly equal codes."""

ACCENTS = ("en-us", "en-us", "en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc", "en-gb-x-gbclan")
"""Accents of espeak-ng, and their relative frequencies."""


@dataclasses.dataclass(frozen=True)
class Voice:
    """A speaker.

    Args:
      engine: `flite` or `espeak`.
      name: flite's voice or espeak-ng's variant.
      split: `agent`, `train` or `heldout`.
      female: whether it is a female voice.
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
    """Manner of speaking; the defaults are neutral.

    Args:
      accent: language of espeak-ng; voices of flite have one accent each.
      rate: factor of the speaker's speed.
      pitch: factor of the fundamental frequency (espeak-ng and kal16).
      melody: factor of the range of intonation (espeak-ng).
      tract: factor of the length of the vocal tract. It changes the playback speed, and so pitch, rate and formants.
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
    """Return a random voice of a user.

    Args:
      split: `train` or `heldout`.
      flite: fraction of flite's voices in training. Female variants are fewer and have three times the frequency of
        male ones; held-out speakers have equal frequencies.
    """
    if split == "heldout":
        return HELD_OUT[int(rng.integers(len(HELD_OUT)))]
    voices = {"train": TRAIN}[split]
    engine = "flite" if rng.random() < flite else "espeak"
    voices = tuple(v for v in voices if v.engine == engine)
    weights = np.array([3.0 if v.female else 1.0 for v in voices])
    return voices[int(rng.choice(len(voices), p=weights / weights.sum()))]


def draw_manner(rng: np.random.Generator, voice: Voice, spread: float = 1.0) -> Manner:
    """Return a random manner of a user in a conversation.

    Args:
      spread: 1: as in training; smaller: closer to neutral.
    """

    def around_one(width: float) -> float:
        return float(np.exp(spread * width * rng.uniform(-1, 1)))

    if voice.engine == "flite":
        tract = around_one(0.08) if rng.random() < 0.6 else 1.0
        return Manner(rate=around_one(0.18), pitch=around_one(0.2), tract=tract)
    tract = around_one(0.12) if rng.random() < 0.3 else 1.0
    accent = ACCENTS[int(rng.integers(len(ACCENTS)))]
    return Manner(accent, around_one(0.25), around_one(0.3), around_one(0.5), tract)
