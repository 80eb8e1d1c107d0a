"""The agent alone: reading answers and words, the user silent, so that a model learns to say the rare ones too.

In conversations most of the time the agent listens, and a word that is asked for seldom is said seldom. Here it speaks
nearly all the time, and every word of its world comes as often as any other.
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
"""Seconds between two utterances: more than `jomni.data.conversations.alignment.UTTERANCE_GAP`."""
_KINDS, _SHARES = ("repeat", "say", "spell", "greeting", ""), (0.28, 0.17, 0.1, 0.05, 0.15)
"""Answers of rare words; "": of any kind. What is left are words in a row."""


_COUNTS = 0.6
"""Share of counts among the facts: where to stop is the hardest of them."""


def readings(rng: Rng, count: int, facts: bool = False) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Readings of about half a minute: (int16 [n, 2], agent left, silence right; json). No held-out content is said.

    Args:
      rng: of what is drawn.
      count: readings.
      facts: read facts, each of which can be foretold from its beginning: their text is to be learnt too.
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
    """Return what is read at once: an answer that a trained question has, or words in a row."""
    rest = 1 - sum(_SHARES)
    kind = (*_KINDS, None)[int(rng.choice(len(_KINDS) + 1, p=(*_SHARES, rest)))]
    if kind is None:
        return words_in_a_row(rng, agent=True)
    return kinds.draw(rng, kind or kinds.draw_kind(rng)).answer
