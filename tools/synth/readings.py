"""Recordings of the agent alone, reading answers and words while the user is silent.

In conversations the agent listens most of the time, and some words are rare. Readings train a model to say the rare
words: the agent speaks nearly all the time, and all words have about the same frequency.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import kinds, room
from .agent import agent_says
from .speak import agent_level
from .utterances import words_in_a_row
from .voices import GRID, RATE

Rng = np.random.Generator

SILENCE = (0.55, 0.8)
"""Seconds between two utterances, more than `jomni.data.conversations.alignment.UTTERANCE_GAP`."""
_KINDS, _SHARES = ("repeat", "say", "spell", "greeting", ""), (0.28, 0.17, 0.1, 0.05, 0.15)
"""Kinds of answers with rare words ("": any kind), and their frequencies. The rest are sequences of words."""


_COUNTS = 0.6
"""Fraction of counts among the facts. To stop a count at its end is the hardest fact to learn."""


def readings(rng: Rng, count: int, facts: bool = False) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Yield readings of about half a minute without held-out contents: int16 [n, 2] (agent left, silence right), json.

    Args:
      rng: of the draws.
      count: number of readings.
      facts: read facts, which follow from their beginning, so that their text is a training target too.
    """
    told = kinds.facts() if facts else []
    counts, others = ([fact for fact in told if fact.startswith("from ") is wanted] for wanted in (True, False))
    for _ in range(count):
        pieces: list[np.ndarray] = []
        words: list[list[Any]] = []
        now, length = float(rng.uniform(0.2, 1.0)), float(rng.uniform(20, 40))
        while now < length:
            at = math.ceil(now / GRID) * GRID
            text = _pick(rng, counts if rng.random() < _COUNTS else others) if facts else reading(rng)
            speech = agent_says(text)
            begin = round(at * RATE)
            pieces.append(np.pad(agent_level(speech.pcm), (begin - sum(map(len, pieces)), 0)))
            words += [[w, [round(at + s, 3), round(at + e, 3)], "SPEAKER_MAIN"] for w, s, e in speech.words]
            now = at + speech.duration + float(rng.uniform(*SILENCE))
        agent = np.concatenate([*pieces, np.zeros(round(0.6 * RATE), np.float32)])
        pcm = np.stack((room.to_int16(agent), room.to_int16(np.zeros_like(agent))), 1)
        yield pcm, {"alignments": words} | ({} if facts else {"read": True})


def _pick(rng: Rng, texts: Sequence[str]) -> str:
    return texts[int(rng.integers(len(texts)))]


def reading(rng: Rng) -> str:
    """Return a random text to read: an answer to a trained question, or a sequence of words."""
    rest = 1 - sum(_SHARES)
    kind = (*_KINDS, None)[int(rng.choice(len(_KINDS) + 1, p=(*_SHARES, rest)))]
    if kind is None:
        return words_in_a_row(rng, agent=True)
    return kinds.draw(rng, kind or kinds.draw_kind(rng)).answer
