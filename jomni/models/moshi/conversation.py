"""Conversations with recordings, frame by frame as if live, and their transcripts.

Axes: B batch (one recording per row), T samples of a frame, Q agent codebooks, U user codebooks, C classes of a head.

Time: user frame f holds the samples from f to f + 1 frames. The agent's answer to it is audible from f + 1 frames on,
because the frame must be complete first. Computing time is not included.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from sentencepiece import SentencePieceProcessor

from jomni.errors import AudioError, ConfigError
from jomni.generation.controls import UNFORCED, Controls
from jomni.models.mimi.config import MimiConfig
from jomni.models.moshi.duplex import Duplex, DuplexState
from jomni.printing import short_repr
from jomni.tensors.component import Loaded

SILENCE_RMS = 10 ** (-50 / 20)
"""RMS below which an agent frame without text counts as silent: -50 dB of full scale 1."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame of all conversations, as numpy arrays."""

    index: int  # number of the user frame, from 0
    active: np.ndarray  # bool [B]: the conversation is in progress; False: ignore the row in all other arrays
    valid: np.ndarray  # bool [B]: there is agent output, as the delays between the streams have passed
    pcm: np.ndarray  # float32 [B, T]: the agent's audio; zeros where there is none
    text: np.ndarray  # int32 [B]: the agent's text token; UNFORCED (-2) where there is none
    codes: np.ndarray  # int32 [B, Q]: the agent's codes, likewise
    user_codes: np.ndarray  # int32 [B, U]: the codes of the user frame, or `end_code`
    milliseconds: float  # time of the step, including the transfer of its results to the host
    heads: tuple[np.ndarray, ...] = ()  # float32 [B, C] each: probabilities of the model's extra heads

    def __repr__(self) -> str:
        return short_repr(self)


def converse(
    duplex: Duplex,
    params: Any,
    waveforms: Sequence[np.ndarray],
    *,
    seed: int = 0,
    controls: Controls | None = None,
    conditions: Mapping[str, Any] | None = None,
    unguided: Mapping[str, Any] | None = None,
    silence: float = 2.0,
    tail: float = 20.0,
    end_code: int | None = None,
    end_token: int | None = None,
) -> Iterator[Frame]:
    """Hold a conversation with every recording, one per row of a batch, until all are over.

    After a recording ends, silence is fed until the agent has been silent for `silence` seconds, at most for `tail`
    seconds. A row that is done is paused while the others continue.

    Args:
      duplex: the model.
      params: its parameters.
      waveforms: one float array [samples] per row, at the codec's sampling rate; zeros complete a trailing partial
        frame.
      seed: of row 0's sampling; row i has seed + i.
      controls: from `duplex.controls(len(waveforms), ...)`; None: the checkpoint's defaults.
      conditions: for models that take them, see `Duplex.init_state`.
      unguided: conditions of the unguided branch, see `Duplex.init_state`.
      silence: seconds of agent silence that end a conversation.
      tail: longest time after the recording, seconds.
      end_code: user code of every codebook in the first frame after a recording, instead of the audio's (Hibiki).
      end_token: text token that ends a conversation after a recording, instead of silence (Hibiki).

    Returns:
      An iterator of `Frame`. The step is compiled before it is returned, so that no frame's time includes compilation.

    Raises:
      AudioError: a waveform is empty, not one-dimensional, or holds NaN or infinity.
    """
    size, rate, batch = duplex.frame_size, duplex.mimi.config.frame_rate, len(waveforms)
    for b, wave in enumerate(waveforms):
        if wave.ndim != 1 or not len(wave) or not np.isfinite(wave).all():
            raise AudioError(f"waveform {b}: must be a non-empty row of finite samples, got shape {list(wave.shape)}")
    lengths = np.array([-(-len(wave) // size) for wave in waveforms])
    silent = duplex.generator.lm.config.silent_tokens
    ending = Ending(lengths, round(tail * rate), round(silence * rate), silent, end_token)
    controls = duplex.controls(batch) if controls is None else controls

    def beginning() -> DuplexState:
        return duplex.init_state(batch, seed=seed, params=params, conditions=conditions, unguided=unguided)

    jax.block_until_ready(duplex.step(params, beginning(), jnp.zeros((batch, 1, size)), controls))
    return _frames(duplex, params, beginning(), waveforms, controls, ending, end_code)


def _frames(
    duplex: Duplex,
    params: Any,
    state: DuplexState,
    waveforms: Sequence[np.ndarray],
    controls: Controls,
    ending: Ending,
    end_code: int | None,
) -> Iterator[Frame]:
    batch, size, index = len(waveforms), duplex.frame_size, 0
    while ending.active.any():
        pcm = np.zeros((batch, 1, size), np.float32)
        for b, wave in enumerate(waveforms):
            piece = wave[index * size : (index + 1) * size]
            pcm[b, 0, : len(piece)] = piece
        now = controls._replace(active=jnp.asarray(ending.active))
        ended = (ending.lengths == index)[:, None]
        if end_code is not None:
            now = now._replace(force_user=jnp.where(ended, end_code, controls.force_user))
        begin = time.perf_counter()
        state, out = duplex.step(params, state, jnp.asarray(pcm), now)
        out = jax.device_get(out)
        milliseconds = (time.perf_counter() - begin) * 1e3
        voice = out.pcm.astype(np.float32).reshape(batch, -1)
        user_codes = np.asarray(out.user_codes)
        if end_code is not None:
            user_codes = np.where(ended, end_code, user_codes)
        active = ending.active.copy()
        frame = Frame(index, active, out.valid, voice, out.text, out.codes, user_codes, milliseconds, out.heads)
        yield frame
        ending.update(frame)
        index += 1


class Ending:
    """Decides for each row when its conversation is over; `active` is True until then.

    Args:
      lengths: frames of each recording, [B].
      tail: most frames of silence fed after a recording.
      silence: consecutive frames of agent silence after the recording that end a conversation.
      silent: text tokens without text.
      end_token: text token that ends a conversation after the recording, instead of silence.
    """

    def __init__(
        self, lengths: np.ndarray, tail: int, silence: int, silent: Iterable[int], end_token: int | None = None
    ) -> None:
        self.lengths = lengths
        self.tail = tail
        self.silence = silence
        self.silent = [*silent, UNFORCED]
        self.end_token = end_token
        self.quiet = np.zeros(len(lengths), int)  # frames that each agent has been silent
        self.active = np.ones(len(lengths), bool)

    def update(self, frame: Frame) -> None:
        """Update `active` with a frame."""
        since_end = frame.index + 1 - self.lengths  # frames fed after the recording
        level = np.sqrt(np.square(frame.pcm, dtype=np.float64).mean(axis=-1))
        quiet = (level < SILENCE_RMS) & np.isin(frame.text, self.silent)
        self.quiet = np.where(quiet & (since_end > 0), self.quiet + 1, 0)
        done = self.quiet >= self.silence if self.end_token is None else frame.text == self.end_token
        self.active = self.active & ~((since_end > 0) & done) & (since_end < self.tail)


class Tokenizer(Protocol):
    """The part of `sentencepiece.SentencePieceProcessor` that is used here."""

    def get_piece_size(self) -> int: ...
    def id_to_piece(self, id: int) -> str: ...
    def is_byte(self, id: int) -> bool: ...
    def is_control(self, id: int) -> bool: ...


@dataclasses.dataclass(frozen=True)
class Piece:
    """A piece of the agent's text."""

    frame: int  # number of the user frame that it answers
    time: float  # when it is known, live: seconds since the recording began
    token: int
    text: str  # with a blank before it where a word begins


def text_pieces(
    tokens: Sequence[int], tokenizer: Tokenizer, silent: Iterable[int], frame_rate: float, start: float = 0.0
) -> list[Piece]:
    """Return the text of a row of tokens, piece by piece.

    Padding and control tokens have no text. Bytes of one character (sentencepiece's fallback) are joined at the frame
    of the last; bytes that make no character become U+FFFD.

    Args:
      tokens: one per frame.
      tokenizer: the model's.
      silent: tokens without text, from `MoshiConfig.silent_tokens`.
      frame_rate: Hz.
      start: begin of the recording, seconds from the first frame; the pieces' times count from there.
    """
    silent = set(silent)
    pieces: list[Piece] = []
    waiting = b""
    for frame, token in enumerate(int(t) for t in tokens):
        if token in silent or not 0 <= token < tokenizer.get_piece_size() or tokenizer.is_control(token):
            continue
        name = tokenizer.id_to_piece(token)
        if tokenizer.is_byte(token):
            waiting += bytes([int(name[1:-1], 16)])  # <0xE2>
            text, waiting = _characters(waiting)
        else:
            text, waiting = waiting.decode(errors="replace") + name.replace("\u2581", " "), b""
        pieces.append(Piece(frame, round((frame + 1) / frame_rate - start, 6), token, text))
    if waiting:
        pieces[-1] = dataclasses.replace(pieces[-1], text=pieces[-1].text + waiting.decode(errors="replace"))
    return pieces


def _characters(data: bytes) -> tuple[str, bytes]:
    """Return the complete characters in `data`, and the bytes of an incomplete one at its end."""
    try:
        return data.decode(), b""
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return data[: error.start].decode(errors="replace"), data[error.start :]
        return data.decode(errors="replace"), b""


def joined(pieces: Iterable[Piece]) -> str:
    """Return the text of pieces."""
    return "".join(piece.text for piece in pieces).strip()


def live_audio(frames: Iterable[Frame], row: int) -> np.ndarray:
    """Return one row's agent audio at live times, float32 [samples]; sample 0 is the start of the recording.

    The agent's frame for user frame f begins at f + 1 frames; there is silence before its first frame.
    """
    kept = [frame.pcm[row] for frame in frames if frame.active[row]]
    return np.concatenate([np.zeros_like(kept[0]), *kept]) if kept else np.zeros(0, np.float32)


@dataclasses.dataclass(frozen=True)
class Transcript:
    """One conversation of a batch, with its text, audio and times."""

    codec: MimiConfig
    frames: list[Frame]  # those in which it was in progress; their arrays hold all rows of the batch
    row: int
    lead_in: float  # silence fed before the recording, seconds
    pieces: list[Piece]  # the agent's text; empty where there is no tokenizer
    voice: np.ndarray  # float32 [T], from the start of the recording; empty for a model without audio
    user_pieces: list[Piece]  # the user's words, recognised by the user ASR head; empty where the model has none

    def __repr__(self) -> str:
        return short_repr(self)

    @property
    def text(self) -> str:
        """Return the agent's text."""
        return joined(self.pieces)

    @property
    def words(self) -> list[tuple[float, str]]:
        """Return the words, each with the time in seconds at which its first piece is known."""
        words: list[tuple[float, str]] = []
        for piece in self.pieces:
            if words and not piece.text.startswith(" "):
                words[-1] = (words[-1][0], words[-1][1] + piece.text)
            else:
                words.append((piece.time, piece.text))
        return [(time, word.strip()) for time, word in words if word.strip()]


def transcribe(frames: Iterable[Frame], checkpoint: Loaded, row: int = 0, lead_in: float = 0.0) -> Transcript:
    """Return one conversation of a batch: text with times, audio, and the user's recognised words.

    Args:
      frames: all that `jomni.converse` yielded.
      checkpoint: the model of the conversation.
      row: number of the conversation in the batch.
      lead_in: silence that was fed before the recording, seconds; times count from the recording's begin.

    Raises:
      ConfigError: the checkpoint has no language model, or no codec.
    """
    codec, lm = checkpoint.configs.get("mimi"), checkpoint.configs.get("lm")
    if codec is None or lm is None:
        raise ConfigError(f"{checkpoint.source}: a transcript needs a codec and a language model; one is missing.")
    mine = [frame for frame in frames if frame.active[row]]
    tokenizer = None if checkpoint.tokenizer is None else SentencePieceProcessor(model_proto=checkpoint.tokenizer)
    said, understood = list[Piece](), list[Piece]()
    if tokenizer is not None:
        tell = functools.partial(
            text_pieces, tokenizer=tokenizer, silent=lm.silent_tokens, frame_rate=codec.frame_rate, start=lead_in
        )
        said = tell([int(frame.text[row]) for frame in mine])
        if lm.has_user_asr_head:
            understood = tell([int(frame.heads[0][row].argmax()) for frame in mine if frame.heads])
    voice = np.zeros(0, np.float32)
    if lm.dep_q:
        voice = live_audio(mine, row)[round(lead_in * codec.sample_rate) :]
    return Transcript(codec, mine, row, lead_in, said, voice, understood)
