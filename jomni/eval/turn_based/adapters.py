"""Adapters that ask a turn-based model questions: each in its own conversation, several at once, greedily."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float

from jomni.checkpoints.checkpoint import Checkpoint
from jomni.data.turns.batches import misfits
from jomni.data.turns.parquet import RowKind, Turn
from jomni.errors import ConfigError
from jomni.generation.tokenizer import TextTokenizer
from jomni.models.decoder.chat import Chat
from jomni.models.mini_omni.chat import OmniChat, OmniParts, Question
from jomni.models.mini_omni.streams import Task, speech_frames
from jomni.models.snac.config import SnacConfig
from jomni.models.whisper import WhisperConfig
from jomni.models.whisper.mel import HOP, SAMPLE_RATE

_SPARE = 8  # steps that an answer may have beyond twice the longest right answer
_REPLIES = {"T2": "text", "A2": "speech", "T1": "transcript"}
"""Output of a task -> its name in `OmniChat.reply`."""


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """Settings of an adapter."""

    slots: int = 16  # questions at once
    seed: int = 0  # of the noise that the codec adds
    voice: str = "single"  # how spoken answers are decoded, one of `jomni.models.mini_omni.generate.VOICES`


@dataclasses.dataclass(frozen=True)
class Response:
    """Response of a model to one question."""

    text: str
    pcm: Float[np.ndarray, "S"]  # float32; empty without speech
    steps: int  # of the answer
    ended: bool  # the model ended the answer; False: it was cut off
    first_text: int | None  # number of the step with the first text, from 1 on
    first_sound: int | None  # number of the step with the first samples


class Adapter(Protocol):
    """What the evaluation needs of a model."""

    left_out: dict[Task, str]  # task that the model cannot do -> the reason
    sample_rate: int  # Hz, of spoken answers; 0 without speech
    slots: int  # questions at once

    def ask(self, task: Task, turns: Sequence[Turn]) -> list[Response]:
        """Return the responses to at most `slots` questions, each asked in its own conversation."""


class MiniOmniAdapter:
    """Adapter of a Mini-Omni. Tasks that need a missing speech encoder or codec are left out.

    Args:
      parts: the model.
      config: settings.
      longest: largest number of steps of an answer.
      context: largest number of steps of question and answer together.
    """

    def __init__(self, parts: OmniParts, config: AdapterConfig, longest: int, context: int) -> None:
        self.parts, self.sample_rate = parts, parts.codec[0].sampling_rate if parts.codec else 0
        self._config, self._longest, self._context, self.slots = config, longest, context, config.slots
        self._chats: dict[bool, OmniChat] = {}  # by whether it speaks; without speech, no audio is computed
        self.left_out: dict[Task, str] = {}
        for task in Task:
            needed = {
                "speech encoder": task.listens and not parts.speech_encoder,
                "codec": task.speaks and not parts.codec,
            }
            lacks = [name for name, missing in needed.items() if missing]
            if lacks:
                self.left_out[task] = f"the model has no {' and no '.join(lacks)}"

    def ask(self, task: Task, turns: Sequence[Turn]) -> list[Response]:
        """See `Adapter`."""
        chat, slots = self._chat(task.speaks), self.slots
        for slot in range(slots):
            chat.forget(slot)
        asked: list[Question | None] = [None] * slots
        asked[: len(turns)] = [turn.question_at(SAMPLE_RATE) if task.listens else turn.question for turn in turns]
        collectors = [_Collector() for _ in turns]
        for piece in chat.reply(asked, _REPLIES[task.value[-2:]], max_steps=self._longest):
            for collector, text, pcm, done in zip(collectors, piece.text, piece.pcm, piece.done, strict=False):
                collector.push(text, pcm, done)
        return [collector.response(self._longest) for collector in collectors]

    def _chat(self, speaks: bool) -> OmniChat:
        if speaks not in self._chats:
            config = self._config
            voice = config.voice if speaks else "text_only"
            self._chats[speaks] = OmniChat(
                self.parts, config.slots, voice=voice, seed=config.seed, context=self._context
            )
        return self._chats[speaks]


class DecoderAdapter:
    """Adapter of a text decoder, which does the task text to text only.

    Args:
      chat: its conversations, one per slot.
      longest: largest number of tokens of an answer.
    """

    def __init__(self, chat: Chat, longest: int) -> None:
        self.sample_rate, self.slots = 0, len(chat.messages)
        self.left_out: dict[Task, str] = {
            task: "the model is a text decoder" for task in Task if task is not Task.T1_T2
        }
        self._chat, self._longest = chat, longest
        self._begun = [list(held) for held in chat.messages]

    def ask(self, task: Task, turns: Sequence[Turn]) -> list[Response]:
        """See `Adapter`."""
        self._chat.messages = [list(held) for held in self._begun]
        asked = [*(turn.question for turn in turns), *[None] * (self.slots - len(turns))]
        pieces = list(self._chat.reply(asked, max_tokens=self._longest, temperature=0.0))
        found = []
        for slot in range(len(turns)):
            written = [step for step, texts in enumerate(pieces, 1) if texts[slot]]
            steps = (written[-1] if written else 0) + 1  # with the token that ends the answer
            text = "".join(texts[slot] for texts in pieces)
            found.append(Response(text, _NOTHING, steps, steps <= self._longest, written[0] if written else None, None))
        return found


_NOTHING = np.zeros(0, np.float32)


class _Collector:
    """Joins the pieces of an answer."""

    def __init__(self) -> None:
        self._texts, self._pcm = list[str](), list[np.ndarray]()
        self._first_text: int | None = None
        self._first_sound: int | None = None
        self._steps, self._done = 0, False

    def push(self, text: str, pcm: np.ndarray, done: bool) -> None:
        if self._done:
            return
        self._steps, self._done = self._steps + 1, done
        if text and self._first_text is None:
            self._first_text = self._steps
        if len(pcm) and self._first_sound is None:
            self._first_sound = self._steps
        self._texts.append(text)
        self._pcm.append(pcm)

    def response(self, longest: int) -> Response:
        pcm = np.concatenate([*self._pcm, _NOTHING])
        ended = self._done and self._steps < longest
        return Response("".join(self._texts), pcm, self._steps, ended, self._first_text, self._first_sound)


def make_adapter(
    checkpoint: Checkpoint, codec: Checkpoint | None, turns: Sequence[Turn], config: AdapterConfig
) -> Adapter:
    """Return the adapter of a checkpoint. Answers may be twice as long as the longest of the set.

    Args:
      checkpoint: a Mini-Omni, as a rule with its speech encoder, or a text decoder; with a tokenizer.
      codec: with the SNAC of the spoken answers; None: the checkpoint's own, or no speech if it has none.
      turns: the set.
      config: settings.

    Raises:
      ConfigError: the checkpoint is neither, or its parts do not fit each other.
      WeightsError: it has no tokenizer.
    """
    if "omni" not in checkpoint.configs and "decoder" not in checkpoint.configs:
        raise ConfigError(
            f"{checkpoint.source}: is neither a Mini-Omni nor a text decoder. 'jomni eval talk' measures models that "
            "talk in full duplex."
        )
    tokenizer = TextTokenizer(checkpoint.files, checkpoint.source)
    question_tokens = max(len(tokenizer.encode(turn.question, special=False)) for turn in turns)
    text_tokens = max(question_tokens, *(len(tokenizer.encode(turn.answer, special=False)) for turn in turns))
    if "omni" not in checkpoint.configs:
        longest = 2 * text_tokens + _SPARE
        assert "decoder" in checkpoint.configs
        # Twice the steps of question and answer, and 256: room for the text that a chat template adds.
        context = min(checkpoint.configs["decoder"].max_positions, 2 * (question_tokens + longest) + 256)
        return DecoderAdapter(Chat(checkpoint, config.slots, context=context), longest)
    parts = OmniParts.from_checkpoint(checkpoint, codec)
    streams = checkpoint.configs["omni"].vocabulary.streams
    frames = max(turn.answer_codes.shape[1] for turn in turns)
    longest = 2 * max(text_tokens, frames) + streams + _SPARE
    question_frames = 0
    if parts.speech_encoder is not None:
        window = parts.speech_encoder[0].mel_frames * HOP
        question_frames = max(speech_frames(turn.samples_at(SAMPLE_RATE), window) for turn in turns)
    context = min(checkpoint.configs["omni"].decoder.max_positions, max(question_tokens, question_frames) + 3 + longest)
    return MiniOmniAdapter(parts, config, longest, context)


def unfit(encoder: WhisperConfig | None, codec: SnacConfig | None) -> Callable[[Turn], Iterator[tuple[RowKind, str]]]:
    """Return a function that tells why a turn cannot be asked, for `jomni.data.turns.parquet.check_turns`."""
    window = None if encoder is None else encoder.mel_frames * HOP
    return functools.partial(misfits, window=window, entries=None if codec is None else codec.codebook_size)
