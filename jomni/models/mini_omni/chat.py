"""Conversations with Mini-Omni: text and speech in, text and speech streamed out, the history kept in the cache.

Axes: S samples of a recording or of audio, A audio streams.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from jomni.errors import ConfigError, PromptError
from jomni.generation.tokenizer import Decoding, TextStream, TextTokenizer
from jomni.models.decoder.chat import check_text
from jomni.models.decoder.generate import TextSampling
from jomni.models.mini_omni import MiniOmniConfig
from jomni.models.mini_omni.generate import OmniGenerator
from jomni.models.mini_omni.prompt import Part
from jomni.models.mini_omni.session import Column, OmniSession
from jomni.models.mini_omni.streams import Task, speech_frames
from jomni.models.mini_omni.voice import Frame, OmniVoice
from jomni.models.mini_omni.weights import SNAC_ON_HUB, check_neighbours
from jomni.models.snac.config import SnacConfig
from jomni.models.whisper import WhisperConfig, WhisperEncoder, embed_audio, log_mel
from jomni.models.whisper.mel import HOP
from jomni.printing import short_repr
from jomni.tensors.component import Loaded

CONTEXT = 2048
"""Default size of a conversation in steps; less if the model supports less."""
ANSWERS = {"speech": "A2", "text": "T2", "transcript": "T1"}
"""Kinds of answer: speech with its text, text alone, or a transcript of the question."""

Question = str | Float[np.ndarray, "S"] | Sequence[str | Float[np.ndarray, "S"]]
"""A text, a recording (mono, 16 kHz, in [-1, 1]), or a sequence of both."""


class Tokenizer(Decoding, Protocol):
    """Protocol of the backbone's tokenizer; `TextTokenizer` follows it."""

    def encode(self, text: str, special: bool = True) -> list[int]: ...


@dataclasses.dataclass(frozen=True)
class OmniParts:
    """Configurations and parameters of a Mini-Omni's components."""

    config: MiniOmniConfig
    params: Any  # parameters of `MiniOmni`, as loaded
    tokenizer: Tokenizer  # the backbone's
    speech_encoder: tuple[WhisperConfig, Any] | None = None  # with its parameters; None: questions are text alone
    codec: tuple[SnacConfig, Any] | None = None  # with its parameters; None: answers are text alone

    def __repr__(self) -> str:
        return short_repr(self)

    @classmethod
    def from_checkpoint(cls, checkpoint: Loaded, codec: Loaded | None = None) -> OmniParts:
        """Return the parts of a loaded Mini-Omni. Without Whisper it takes text alone; without SNAC it gives text.

        Args:
          checkpoint: the model, with its tokenizer and its other components.
          codec: a checkpoint with a SNAC, used instead of the model's own.

        Raises:
          ConfigError: it is not a Mini-Omni, or its Whisper or SNAC does not fit it.
          WeightsError: it has no tokenizer.
        """
        if "omni" not in checkpoint.configs:
            raise ConfigError(
                f"{checkpoint.source}: is not a Mini-Omni. Give a folder with lit_model.pth and model_config.yaml, "
                "or the export of its training."
            )
        voice = codec or checkpoint
        if codec is not None and "snac" not in codec.configs:
            raise ConfigError(f"{codec.source}: holds no SNAC. Give one, such as {SNAC_ON_HUB}.")
        check_neighbours(checkpoint.configs["omni"], checkpoint.configs.get("whisper"), None, checkpoint.source)
        check_neighbours(checkpoint.configs["omni"], None, voice.configs.get("snac"), voice.source)
        tokenizer = TextTokenizer(checkpoint.files, checkpoint.source)
        encoder = (
            None
            if "whisper" not in checkpoint.configs
            else (checkpoint.configs["whisper"], checkpoint.params["whisper"])
        )
        spoken = None if "snac" not in voice.configs else (voice.configs["snac"], voice.params["snac"])
        return cls(checkpoint.configs["omni"], checkpoint.params["omni"], tokenizer, encoder, spoken)


class OmniPiece(NamedTuple):
    """Output of a step, by slot."""

    text: list[str]  # "" where there is none
    pcm: list[Float[np.ndarray, "S"]]  # float32 at the codec's rate, empty where there is none
    frames: list[Frame | None]  # codes of the completed frame; empty for silence
    tokens: list[Column | None]  # int32 [A+1]: the step's tokens of all streams, text last; None: no answer
    done: list[bool]  # the answer ended with this step

    def __repr__(self) -> str:
        return short_repr(self)


class OmniChat:
    """Independent conversations, one in each slot.

        chat.ask([question])              or, both at once:  for piece in chat.reply([question]): ...
        for piece in chat.stream(): ...

    Between two pieces any slot may get a question, be stopped, resumed or forgotten, while the others continue.

    Args:
      parts: the model, its tokenizer, speech encoder and codec.
      slots: conversations.
      voice: one of `VOICES`: how answers are decoded.
      system: a text before each conversation's first question. (The published model was trained without.)
      seed: of slot 0's sampling and its codec's noise; slot i has seed + i.
      context: most steps of a conversation; None: `CONTEXT`, or the model's most.
      sampling: None: greedy, as in the original.
      noise: whether the codec adds the noise that it was trained with.

    Raises:
      ConfigError: `context` is more than the model takes, or the parts do not fit each other.
      PromptError: `system` is empty.
    """

    def __init__(
        self, parts: OmniParts, slots: int = 1, *, voice: str = "single", system: str | None = None, seed: int = 0,
        context: int | None = None, sampling: TextSampling | None = None, noise: bool = True,
    ) -> None:  # fmt: skip
        if parts.speech_encoder is not None and parts.speech_encoder[0].n_audio_state != parts.config.feature_dim:
            raise ConfigError(
                f"the speech encoder gives {parts.speech_encoder[0].n_audio_state} channels, the model's adapter takes "
                f"{parts.config.feature_dim}. Give it the one that it was trained with."
            )
        self.parts = parts
        size = min(CONTEXT, parts.config.decoder.max_positions) if context is None else context
        dtype = str(parts.params["backbone"]["norm"]["alpha"].dtype)
        generator = OmniGenerator(parts.config, size, voice, dtype=dtype)
        self._session = OmniSession(generator, generator.prepare(parts.params), slots, seed, sampling)
        self._voice: OmniVoice | None = None
        if voice != "text_only" and parts.codec is not None:
            codec, params = parts.codec
            self._voice = OmniVoice(codec, params, parts.config.vocabulary, slots, seed if noise else None)
        self._system = None if system is None else self._tokens(system)
        self._greeted = [False] * slots
        self._left = [0] * slots  # remaining steps of each answer
        self._texts = [TextStream(parts.tokenizer) for _ in range(slots)]
        self._taken_back = [False] * slots

    @property
    def active(self) -> list[bool]:
        """Return for each slot whether an answer is in progress."""
        return [slot.active for slot in self._session.slots]

    @property
    def complete(self) -> list[bool]:
        """Return for each slot whether the last answer ended by itself, neither stopped nor cut."""
        return [slot.complete for slot in self._session.slots]

    def reply(
        self, questions: Sequence[Question | None], answer: str | Sequence[str] = "speech", *, max_steps: int = 1024
    ) -> Iterator[OmniPiece]:
        """Call `ask`, then return `stream()`."""
        self.ask(questions, answer, max_steps=max_steps)
        return self.stream()

    def ask(
        self, questions: Sequence[Question | None], answer: str | Sequence[str] = "speech", *, max_steps: int = 1024
    ) -> None:
        """Ask a question in each conversation. This stops an answer in progress there.

        Args:
          questions: by slot; None leaves a conversation unchanged.
          answer: one of `ANSWERS`, for all or for each slot.
          max_steps: longest answer: text tokens, or audio frames plus 7.

        Raises:
          PromptError: a text is empty, a conversation does not fit, or the parts lack what the answer needs.
          AudioError: a recording is empty, longer than 30 s, holds NaN, or is not floating point [samples].
            The conversations are unchanged after either.
        """
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {max_steps}")
        answers = [answer] * len(questions) if isinstance(answer, str) else list(answer)
        parts = [None if question is None else _parts_of(question) for question in questions]
        tasks = [_task(asked, wanted) for asked, wanted in zip(parts, answers, strict=True)]
        if self.parts.codec is None and any(task.speaks for task, asked in zip(tasks, parts, strict=True) if asked):
            raise PromptError(
                "a spoken answer was asked for, and there is no codec. Give OmniParts the SNAC that "
                f"it was trained with (the published one: {SNAC_ON_HUB}), or ask for text."
            )
        read = [None if asked is None else [self._read(part) for part in asked] for asked in parts]
        before = [None if greeted else self._system for greeted in self._greeted]
        self._session.ask(read, tasks, before)
        for slot, asked in enumerate(parts):
            if asked is not None:
                self._greeted[slot], self._left[slot] = True, max_steps
                self._begin(slot)

    def stream(self) -> Iterator[OmniPiece]:
        """Yield the answers in progress, piece by piece, until all are complete or stopped."""
        while any(self.active):
            yield self.step()

    def step(self) -> OmniPiece:
        """Return the next piece of every answer in progress."""
        columns = self._session.step()
        slots = range(len(columns))
        for slot in slots:
            if columns[slot] is not None:
                self._left[slot] -= 1
                if not self._left[slot]:
                    self._session.stop(slot)
        done = [column is not None and not active for column, active in zip(columns, self.active, strict=True)]
        frames: list[Frame | None] = [None] * len(columns)
        pcm = [np.zeros(0, np.float32) for _ in slots]
        if self._voice is not None:
            spoken = [c if held.speaks else None for c, held in zip(columns, self._session.slots, strict=True)]
            frames, pcm = self._voice.push(spoken)
            if any(done):
                pcm = [np.concatenate(pair) for pair in zip(pcm, self._voice.end(done), strict=True)]
        return OmniPiece([self._write(i, columns[i], done[i]) for i in slots], pcm, frames, columns, done)

    def stop(self, slot: int, heard: float | None = None) -> None:
        """Stop an answer, for barge-in. `resume` continues it; the next question drops the rest.

        Args:
          slot: its number.
          heard: seconds of the answer that were played; the rest is removed from the conversation. None: all that was
            returned was played.

        Raises:
          PromptError: so much cannot be removed (sliding layers only).
        """
        keep = None
        if heard is not None and self._session.slots[slot].speaks:
            assert self.parts.codec is not None  # as the answer has audio
            keep = math.ceil(heard * self.parts.codec[0].frame_rate) + self.parts.config.vocabulary.streams
        given = len(self._session.slots[slot].given)
        self._session.stop(slot, keep)
        if keep is not None and keep < given:
            self._taken_back[slot] = True
            self._left[slot] += given - len(self._session.slots[slot].given)

    def resume(self, slot: int) -> None:
        """Continue a stopped answer from the last step that was kept.

        Raises:
          PromptError: there is no answer to resume.
        """
        if not self._left[slot]:
            raise PromptError(f"the answer in slot {slot} has reached max_steps: ask something.")
        self._session.resume(slot)
        if self._taken_back[slot]:
            self._begin(slot, self._session.slots[slot].given)

    def forget(self, slot: int) -> None:
        """Restart a conversation with an empty history."""
        self._session.forget(slot)
        self._greeted[slot] = False
        self._begin(slot)

    def _begin(self, slot: int, given: Sequence[Column] = ()) -> None:
        self._taken_back[slot] = False
        self._texts[slot] = TextStream(self.parts.tokenizer)
        for column in given:
            self._write(slot, column, False)
        if self._voice is not None:
            self._voice.begin(slot, given)

    def _write(self, slot: int, column: Column | None, done: bool) -> str:
        """Return the text that a step adds: none for special tokens; the end of text completes the last character."""
        if column is None:
            return ""
        v, token = self.parts.config.vocabulary, int(column[-1])
        text = self._texts[slot].push(token) if token < v.text_size else ""
        return text + (self._texts[slot].end() if done or token == v.end_of_text else "")

    def _tokens(self, text: str) -> list[int]:
        check_text(text)
        return self.parts.tokenizer.encode(text, special=False)

    def _read(self, part: str | np.ndarray) -> Part:
        """Return text tokens, or the speech features of a recording: one frame for each 20 ms that it began."""
        if isinstance(part, str):
            return self._tokens(part)
        if self.parts.speech_encoder is None:
            raise PromptError(
                "a recording was given, and the model has no speech encoder. Give it the Whisper that it was trained "
                "with (the published one: small.pt, beside its weights), or give text."
            )
        config, params = self.parts.speech_encoder
        pcm: Any = np.asarray(part)[None]
        window = config.mel_frames * HOP
        mel, frames = log_mel(pcm, config.n_mels, window), speech_frames(len(part), window)
        return np.asarray(embed_audio(WhisperEncoder(config), params, mel)[0, :frames], np.float32)


def _parts_of(question: Question) -> list[str | np.ndarray]:
    return [question] if isinstance(question, str | np.ndarray) else list(question)


def _task(parts: Sequence[str | np.ndarray] | None, answer: str) -> Task:
    if answer not in ANSWERS:
        raise PromptError(f"answer {answer!r} is not known, only {', '.join(ANSWERS)}.")
    listens = parts is not None and any(not isinstance(part, str) for part in parts)
    if parts is not None and answer == "transcript" and not listens:
        raise PromptError("a transcript was asked for, and the question has no recording. Give a recording.")
    return Task.A1_T1 if answer == "transcript" else Task(f"{'A1' if listens else 'T1'}-{ANSWERS[answer]}")
