"""Conversations of a test set with a model: many at once, each in a slot of one jitted step.

Axes: B slots, T samples of a frame.

A slot holds one conversation after the other. What it says depends on its own recording and seed alone (slots do not
feel each other, and the sampling's noise is the slot's), so results do not depend on how the work is laid out; only on
the number of slots, as the order of a matrix product's sums may.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jomni.eval.full_duplex.metrics import Interval, SoundRule, sounds
from jomni.eval.full_duplex.test_set import Item
from jomni.eval.full_duplex.user_simulator import Ear, Patience, Piece, Player, pieces_of
from jomni.generation.controls import UNFORCED
from jomni.models.moshi.conversation import Tokenizer, text_pieces
from jomni.models.moshi.duplex import Duplex

START_EVERY = 8
"""Conversations begin at every so many frames: a frame in which any begins costs twice (see `Duplex`)."""


@dataclasses.dataclass(frozen=True)
class Word:
    """A piece of the agent's text."""

    time: float  # when it is heard, seconds since the conversation began
    text: str  # with a blank before it where a word begins


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one recording. Times are seconds since the conversation began, as heard live."""

    item: Item
    label: str  # of the conversation it was part of
    seed: int
    begin: float
    end: float
    pieces: list[Piece]
    played: list[float]  # when each piece began
    missed: frozenset[int]  # pieces meant for the agent's speech that came when it was silent
    endless: bool  # the user lost patience with an answer that did not end
    voice: np.ndarray  # int16 [samples]: what was heard of the agent from `begin` on
    user: np.ndarray  # int16 [samples]: what was played, likewise
    sample_rate: int
    sounds: list[Interval]  # of the agent
    words: list[Word]

    def clip(self, start: float, end: float) -> np.ndarray:
        """Return the agent's audio between two times, float32."""
        first, last = (max(round((t - self.begin) * self.sample_rate), 0) for t in (start, end))
        return self.voice[first:last].astype(np.float32) / 32768

    def text(self, start: float, end: float) -> str:
        """Return what the agent's text says between two times."""
        return "".join(word.text for word in self.words if start <= word.time < end).strip()


@dataclasses.dataclass
class Conversation:
    """What a slot is given: recordings one after the other, without a new beginning.

    Args:
      label: name in reports.
      seed: of the sampling.
      recordings: gives the next recording, from the seconds talked so far; None: the conversation is over.
    """

    label: str
    seed: int
    recordings: Callable[[float], Item | None]


def single(item: Item, seed: int) -> Conversation:
    """Return a conversation of one recording."""
    rest = iter([item])
    return Conversation(item.name, seed, lambda _: next(rest, None))


class _Slot:
    """A conversation that goes on."""

    def __init__(self, talk: Conversation, duplex: Duplex, rule: SoundRule, patience: Patience) -> None:
        self.talk, self._rule, self._patience = talk, rule, patience
        self._rate, self._size = duplex.mimi.config.sample_rate, duplex.frame_size
        self.ear = Ear(self._rate, rule)
        self.ear.hear(np.zeros(self._size, np.float32))  # nothing is heard before the first frame is complete
        self._tokens: list[int] = []
        self._voice: list[np.ndarray] = [np.zeros(self._size, np.int16)]
        self._user: list[np.ndarray] = []
        self._frames = 0  # before this recording
        self.item: Item | None = None
        self._advance()

    @property
    def time(self) -> float:
        return (self._frames + len(self._user)) * self._size / self._rate

    def _advance(self) -> None:
        self.item = self.talk.recordings(self.time)
        if self.item is not None:
            _, user = self.item.read(self._rate)
            self.pieces = pieces_of(self.item, self._rate)
            self.player = Player(user, self.pieces, self._rate, self.ear, self._patience)

    def play(self) -> np.ndarray:
        frame = self.player.next(self._size)
        self._user.append(_int16(frame))
        return frame

    def take(self, pcm: np.ndarray, token: int, tokenizer: Tokenizer, silent: Iterable[int]) -> Outcome | None:
        """Take what the agent says in a call; return the outcome if the recording is over with it."""
        self.ear.hear(pcm)
        self._voice.append(_int16(pcm))
        self._tokens.append(token)
        if not self.player.over:
            return None
        outcome = self._outcome(tokenizer, silent)
        self._frames += len(self._user)
        # The frame heard last sounds while the next recording begins.
        self._voice, self._user, self._tokens = self._voice[-1:], [], []
        self._advance()
        return outcome

    def _outcome(self, tokenizer: Tokenizer, silent: Iterable[int]) -> Outcome:
        assert self.item is not None
        frame = self._size / self._rate
        begin = self._frames * frame
        voice = np.concatenate(self._voice)
        found = sounds(voice.astype(np.float32) / 32768, self._rate, self._rule)
        texts = text_pieces(self._tokens, tokenizer, silent, 1 / frame)
        return Outcome(
            self.item, self.talk.label, self.talk.seed, begin, begin + len(voice) / self._rate, self.pieces,
            self.player.played, frozenset(self.player.missed), self.player.endless, voice, np.concatenate(self._user),
            self._rate, [(begin + a, begin + b) for a, b in found],
            [Word(begin + piece.time, piece.text) for piece in texts],
        )  # fmt: skip


def _int16(pcm: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pcm * 32768), -32768, 32767).astype(np.int16)


def hold(
    duplex: Duplex,
    params: Any,
    tokenizer: Tokenizer,
    conversations: Iterable[Conversation],
    slots: int,
    *,
    settings: Mapping[str, float] | None = None,
    rule: SoundRule | None = None,
    patience: Patience | None = None,
    tick: Callable[[int], Any] | None = None,
) -> Iterator[Outcome]:
    """Hold conversations, as many at once as there are slots.

    Args:
      duplex: the model.
      params: its parameters, from `Duplex.prepare`.
      tokenizer: of its text.
      conversations: taken one after the other.
      slots: B.
      settings: of the sampling, as for `Duplex.controls`.
      rule: what counts as the agent's sound.
      patience: of the user.
      tick: called after each frame with the number of slots in use.

    Yields:
      An outcome whenever a recording is over.
    """
    size = duplex.frame_size
    silent = duplex.generator.lm.config.silent_tokens
    controls = duplex.controls(slots, **(settings or {}))
    params = jax.device_put(params)
    state = duplex.init_state(slots, params=params)
    waiting = iter(conversations)
    held: list[_Slot | None] = [None] * slots
    more, frame = True, 0
    while more or any(slot is not None for slot in held):
        begins = np.zeros(slots, bool)
        seeds = np.zeros(slots, np.uint32)
        if more and (frame % START_EVERY == 0 or all(slot is None for slot in held)):
            for b in range(slots):
                if held[b] is None and more:
                    talk = next(waiting, None)
                    more = talk is not None
                    if talk is not None:
                        new = _Slot(talk, duplex, rule or SoundRule(), patience or Patience())
                        held[b] = new if new.item is not None else None
                        begins[b], seeds[b] = held[b] is not None, talk.seed
        active = np.array([slot is not None for slot in held])
        if not active.any():
            continue
        pcm = np.stack([slot.play() if slot is not None else np.zeros(size, np.float32) for slot in held])[:, None]
        now = controls._replace(reset=jnp.asarray(begins), active=jnp.asarray(active), seed=jnp.asarray(seeds))
        state, out = duplex.step(params, state, jnp.asarray(pcm), now)
        voice, text, valid = jax.device_get((out.pcm, out.text, out.valid))
        for b, slot in enumerate(held):
            if slot is None:
                continue
            said = np.asarray(voice[b].reshape(-1), np.float32)
            outcome = slot.take(said, int(text[b]) if valid[b] else UNFORCED, tokenizer, silent)
            if outcome is not None:
                yield outcome
                if slot.item is None:
                    held[b] = None
        frame += 1
        if tick is not None:
            tick(int(active.sum()))
