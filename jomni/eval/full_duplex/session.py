"""Conversations of a test set with a full-duplex model, several at once, each in one slot of the jitted step.

Axes: B slots, T samples of a frame.

A slot holds one conversation after another. A conversation's result depends on its recordings and its seed: slots do
not influence each other, and each has its own random numbers. It may also depend on the number of slots, because that
can change the order of sums in a matrix product.
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
from jomni.eval.full_duplex.user_simulator import AgentActivity, Patience, UserSimulator, Utterance, utterances_of
from jomni.generation.controls import UNFORCED
from jomni.models.moshi.conversation import Tokenizer, text_pieces
from jomni.models.moshi.duplex import Duplex

START_EVERY = 8
"""Frames between starts of conversations. A frame in which one starts takes twice as long (see `Duplex`)."""


@dataclasses.dataclass(frozen=True)
class Word:
    """A piece of the agent's text."""

    time: float  # when its frame is heard, seconds since the conversation began
    text: str  # begins with a space at the beginning of a word


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of one recording. Times are seconds since the conversation began, as a live listener hears it."""

    item: Item
    label: str  # of its conversation
    seed: int
    begin: float
    end: float
    utterances: list[Utterance]
    played: list[float]  # when each utterance began
    missed: frozenset[int]  # interruptions and back-channels for which the agent was silent
    endless: bool  # the user continued although an answer had not ended
    agent_pcm: np.ndarray  # int16 [samples]: the agent's audio from `begin` on
    user_pcm: np.ndarray  # int16 [samples]: the user's audio from `begin` on
    sample_rate: int
    sounds: list[Interval]  # of the agent
    words: list[Word]

    def clip(self, start: float, end: float) -> np.ndarray:
        """Return the agent's audio between two times, float32."""
        first, last = (max(round((t - self.begin) * self.sample_rate), 0) for t in (start, end))
        return self.agent_pcm[first:last].astype(np.float32) / 32768

    def text(self, start: float, end: float) -> str:
        """Return the agent's text between two times."""
        return "".join(word.text for word in self.words if start <= word.time < end).strip()


@dataclasses.dataclass
class Conversation:
    """Recordings that are played to the model one after another, without a reset of its state.

    Args:
      label: name in reports.
      seed: of the sampling.
      recordings: returns the next recording, given the seconds since the conversation began; None ends it.
    """

    label: str
    seed: int
    recordings: Callable[[float], Item | None]


def single(item: Item, seed: int) -> Conversation:
    """Return a conversation of one recording."""
    rest = iter([item])
    return Conversation(item.name, seed, lambda _: next(rest, None))


class _Slot:
    """A conversation in progress."""

    def __init__(self, conversation: Conversation, duplex: Duplex, rule: SoundRule, patience: Patience) -> None:
        self.conversation, self._rule, self._patience = conversation, rule, patience
        self._rate, self._size = duplex.mimi.config.sample_rate, duplex.frame_size
        self.activity = AgentActivity(self._rate, rule)
        self.activity.push(np.zeros(self._size, np.float32))  # the first frame of audio is heard after the first call
        self._tokens: list[int] = []
        self._agent: list[np.ndarray] = [np.zeros(self._size, np.int16)]
        self._user: list[np.ndarray] = []
        self._frames = 0  # before this recording
        self.item: Item | None = None
        self._advance()

    @property
    def time(self) -> float:
        return (self._frames + len(self._user)) * self._size / self._rate

    def _advance(self) -> None:
        self.item = self.conversation.recordings(self.time)
        if self.item is not None:
            _, user = self.item.read(self._rate)
            self.utterances = utterances_of(self.item, self._rate)
            self.simulator = UserSimulator(user, self.utterances, self._rate, self.activity, self._patience)

    def play(self) -> np.ndarray:
        """Return the user's next frame, float32 [T]."""
        frame = self.simulator.next(self._size)
        self._user.append(_int16(frame))
        return frame

    def push(self, pcm: np.ndarray, token: int, tokenizer: Tokenizer, silent: Iterable[int]) -> Outcome | None:
        """Append what one call of the model returned; return the outcome if that ends the recording."""
        self.activity.push(pcm)
        self._agent.append(_int16(pcm))
        self._tokens.append(token)
        if not self.simulator.over:
            return None
        outcome = self._outcome(tokenizer, silent)
        self._frames += len(self._user)
        # The latest frame of the agent is heard during the next recording's first frame.
        self._agent, self._user, self._tokens = self._agent[-1:], [], []
        self._advance()
        return outcome

    def _outcome(self, tokenizer: Tokenizer, silent: Iterable[int]) -> Outcome:
        assert self.item is not None
        frame = self._size / self._rate
        begin = self._frames * frame
        agent = np.concatenate(self._agent)
        found = sounds(agent.astype(np.float32) / 32768, self._rate, self._rule)
        texts = text_pieces(self._tokens, tokenizer, silent, 1 / frame)
        return Outcome(
            self.item, self.conversation.label, self.conversation.seed, begin, begin + len(agent) / self._rate,
            self.utterances, self.simulator.played, frozenset(self.simulator.missed), self.simulator.endless, agent,
            np.concatenate(self._user), self._rate, [(begin + a, begin + b) for a, b in found],
            [Word(begin + piece.time, piece.text) for piece in texts],
        )  # fmt: skip


def _int16(pcm: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pcm * 32768), -32768, 32767).astype(np.int16)


def run_conversations(
    duplex: Duplex,
    params: Any,
    tokenizer: Tokenizer,
    conversations: Iterable[Conversation],
    slots: int,
    *,
    settings: Mapping[str, float] | None = None,
    rule: SoundRule | None = None,
    patience: Patience | None = None,
) -> Iterator[Outcome]:
    """Run conversations, as many at once as there are slots.

    Args:
      duplex: the model.
      params: its parameters, from `Duplex.prepare`.
      tokenizer: of its text.
      conversations: each starts in the next free slot.
      slots: B.
      settings: of the sampling, as for `Duplex.controls`.
      rule: what counts as the agent's sound.
      patience: how long the simulated user waits.

    Yields:
      The outcome of each recording, when it ends.
    """
    size = duplex.frame_size
    silent = duplex.generator.lm.config.silent_tokens
    controls = duplex.controls(slots, **(settings or {}))
    params = jax.device_put(params)
    state = duplex.init_state(slots, params=params)
    waiting = iter(conversations)
    running: list[_Slot | None] = [None] * slots
    more, frame = True, 0
    while more or any(slot is not None for slot in running):
        starts = np.zeros(slots, bool)
        seeds = np.zeros(slots, np.uint32)
        if more and (frame % START_EVERY == 0 or all(slot is None for slot in running)):
            for b in range(slots):
                if running[b] is None and more:
                    conversation = next(waiting, None)
                    more = conversation is not None
                    if conversation is not None:
                        new = _Slot(conversation, duplex, rule or SoundRule(), patience or Patience())
                        running[b] = new if new.item is not None else None
                        starts[b], seeds[b] = running[b] is not None, conversation.seed
        active = np.array([slot is not None for slot in running])
        if not active.any():
            continue
        pcm = np.stack([slot.play() if slot is not None else np.zeros(size, np.float32) for slot in running])[:, None]
        now = controls._replace(reset=jnp.asarray(starts), active=jnp.asarray(active), seed=jnp.asarray(seeds))
        state, out = duplex.step(params, state, jnp.asarray(pcm), now)
        voice, text, valid = jax.device_get((out.pcm, out.text, out.valid))
        for b, slot in enumerate(running):
            if slot is None:
                continue
            spoken = np.asarray(voice[b].reshape(-1), np.float32)
            outcome = slot.push(spoken, int(text[b]) if valid[b] else UNFORCED, tokenizer, silent)
            if outcome is not None:
                yield outcome
                if slot.item is None:
                    running[b] = None
        frame += 1
