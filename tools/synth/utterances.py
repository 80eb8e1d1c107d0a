"""The codec's corpus: single utterances with phone times."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import kinds, room, world
from .agent import agent_says
from .sentences import SENTENCES
from .speak import Speech, agent_level, plain, speak
from .voices import AGENT, AGENT_MANNER, GRID, RATE, Voice, draw_manner, draw_voice

Rng = np.random.Generator
Item = dict[str, Any]


def utterances(
    rng: Rng, count: int, agent_share: float = 0.45, names: Sequence[str] = ()
) -> Iterable[tuple[np.ndarray, Item]]:
    """Yield utterances: answers of the agent, and questions, words and sentences of users, without held-out contents.

    Args:
      rng: of the draws.
      count: number of utterances.
      agent_share: fraction of the agent's utterances; 1 for a decoder of the agent's voice.
      names: only turns of these kinds; empty: everything.
    """
    babble = babble_pool()
    for _ in range(count):
        if rng.random() < agent_share:
            voice, manner = AGENT, AGENT_MANNER
        else:
            voice = draw_voice(rng, "train", flite=0.36)
            manner = draw_manner(rng, voice)
        text = codec_text(rng, voice == AGENT, names)
        speech = agent_says(text) if voice == AGENT else speak(text, voice, manner)
        if voice == AGENT:
            pcm, lead = agent_level(speech.pcm), GRID * int(rng.integers(4))  # as in conversations
        else:
            pcm, lead = room.level(speech.pcm, float(rng.uniform(-30, -20))), float(rng.uniform(0.02, 0.4))
        tail = float(rng.uniform(0.05, 0.4))
        pcm = np.pad(pcm, (round(lead * RATE), round(tail * RATE)))
        lead = round(lead * RATE) / RATE
        if voice != AGENT:
            pcm = in_a_room(rng, pcm, babble)
        yield room.to_int16(pcm), about_speech(speech, lead, len(pcm) / RATE, text, voice)


def in_a_room(rng: Rng, pcm: np.ndarray, babble: np.ndarray) -> np.ndarray:
    """Return a user's speech with reverberation and noise, or without."""
    if rng.random() < 0.4:
        pcm = room.reverberate(rng, pcm)
    if rng.random() < 0.6:
        pcm = room.add_noise(rng, pcm, -25.0, babble)
    return pcm


def about_speech(speech: Speech, lead: float, length: float, text: str, voice: Voice) -> Item:
    """Return the json of an utterance that starts at `lead` in a file of `length` seconds."""

    def shifted(times: Iterable[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
        return [(name, round(start + lead, 4), round(end + lead, 4)) for name, start, end in times]

    phones = shifted(speech.phones)
    phones = [("sil", 0.0, phones[0][1]), *phones, ("sil", phones[-1][2], round(length, 4))]
    return {"phones": phones, "words": shifted(speech.words), "text": " ".join(plain(text)), "voice": voice.id}


def codec_text(rng: Rng, agent: bool, names: Sequence[str] = ()) -> str:
    """Return a random text for an utterance, without held-out contents."""
    kind = rng.random()
    if names or kind < (0.7 if agent else 0.5):
        turn = kinds.draw(rng, kinds.draw_kind(rng, among=names))
        return turn.answer if agent else turn.question
    if kind < 0.8:
        return SENTENCES[int(rng.integers(len(SENTENCES)))] + "."
    return words_in_a_row(rng, agent)


def words_in_a_row(rng: Rng, agent: bool) -> str:
    """Return four to nine random words of the agent or of users: too many to contain a combination to repeat."""
    pool = _pool(agent)
    return " ".join(pool[int(i)] for i in rng.integers(len(pool), size=int(rng.integers(4, 10)))) + "."


@functools.cache
def agent_words() -> tuple[str, ...]:
    """Return all words of the agent, sorted."""
    words = {w for kind in kinds.FINITE for turn in kinds.FINITE[kind]() for w in plain(turn.answer)}
    words |= {*world.WORDS, "and", "your", "name", "is"}
    return tuple(sorted(words | {w for number in world.NUMBERS for w in number.split()}))


def _pool(agent: bool) -> tuple[str, ...]:
    numbers = [w for n in world.NUMBERS for w in n.split()]
    users = (*world.WORDS, *world.LETTERS, *numbers, *world.NAMES, *world.DAYS, *world.MONTHS, *world.BACKCHANNELS)
    return agent_words() if agent else users


def babble_pool() -> np.ndarray:
    """Return a minute of training voices, for babble noise. It is the same in all new processes."""
    rng = np.random.default_rng(20)
    pieces = []
    for _ in range(16):
        voice = draw_voice(rng, "train", flite=0.1)
        text = SENTENCES[int(rng.integers(len(SENTENCES)))] + "."
        pieces.append(room.level(speak(text, voice, draw_manner(rng, voice)).pcm, -23.0))
    return np.concatenate(pieces)
