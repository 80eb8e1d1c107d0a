"""What was said in a conversation: the agent's words with their times, and its voice as a live listener hears it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from sentencepiece import SentencePieceProcessor

from jomni.errors import ConfigError
from jomni.models.mimi.config import MimiConfig
from jomni.models.moshi.conversation import Frame, silent_tokens
from jomni.tensors.component import Loaded


class Tokenizer(Protocol):
    """What is needed of a `sentencepiece.SentencePieceProcessor`."""

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
    """What a row of text tokens says, piece by piece.

    Padding and control tokens say nothing. Bytes of one character (sentencepiece's fallback) are joined, and stand
    where the last of them does; bytes that make no character become U+FFFD.

    Args:
      tokens: one a frame.
      tokenizer: the model's.
      silent: tokens that say nothing, from `silent_tokens`.
      frame_rate: Hz.
      start: when the recording begins, seconds from the first frame; the pieces' times count from there.
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
    """The characters complete in `data`, and the bytes of one that has only begun."""
    try:
        return data.decode(), b""
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return data[: error.start].decode(errors="replace"), data[error.start :]
        return data.decode(errors="replace"), b""


def joined(pieces: Iterable[Piece]) -> str:
    """The text that pieces make."""
    return "".join(piece.text for piece in pieces).strip()


def heard(frames: Iterable[Frame], slot: int) -> np.ndarray:
    """The agent's audio in one slot as a live listener hears it, float32 [samples], the first at the recording's begin.

    The agent's frame for user frame f stands at f + 1 frames; before its first frame there is silence.
    """
    kept = [frame.pcm[slot] for frame in frames if frame.active[slot]]
    return np.concatenate([np.zeros_like(kept[0]), *kept]) if kept else np.zeros(0, np.float32)


@dataclasses.dataclass(frozen=True)
class Transcript:
    """One slot's conversation, taken out of its batch."""

    codec: MimiConfig
    frames: list[Frame]  # those in which it went on; the arrays in them still have a row for each slot
    slot: int
    lead_in: float  # silence fed before the recording, seconds
    pieces: list[Piece]  # of text; none where the model brings no tokenizer
    voice: np.ndarray  # float32 [T], as heard since the recording began; empty where the model has no voice
    heard: list[Piece]  # what the model understood of the user; none where it has no head for that

    @property
    def text(self) -> str:
        """All that the agent said."""
        return joined(self.pieces)

    @property
    def words(self) -> list[tuple[float, str]]:
        """The words, each with the time in seconds at which its first piece is known."""
        words: list[tuple[float, str]] = []
        for piece in self.pieces:
            if words and not piece.text.startswith(" "):
                words[-1] = (words[-1][0], words[-1][1] + piece.text)
            else:
                words.append((piece.time, piece.text))
        return [(time, word.strip()) for time, word in words if word.strip()]


def transcribe(frames: Iterable[Frame], checkpoint: Loaded, slot: int = 0, lead_in: float = 0.0) -> Transcript:
    """Takes one slot's conversation out of a batch.

    Args:
      frames: all that `jomni.converse` gave.
      checkpoint: the model that talked.
      slot: the conversation's.
      lead_in: silence that was fed before the recording, seconds; times count from the recording's begin.

    Raises:
      ConfigError: the checkpoint has no language model, or no codec.
    """
    codec, lm = checkpoint.configs.get("mimi"), checkpoint.configs.get("lm")
    if codec is None or lm is None:
        raise ConfigError(f"{checkpoint.source}: a model that talks has a codec and a language model.")
    mine = [frame for frame in frames if frame.active[slot]]
    tokenizer = None if checkpoint.tokenizer is None else SentencePieceProcessor(model_proto=checkpoint.tokenizer)
    said, understood = list[Piece](), list[Piece]()
    if tokenizer is not None:
        tell = functools.partial(
            text_pieces, tokenizer=tokenizer, silent=silent_tokens(lm), frame_rate=codec.frame_rate, start=lead_in
        )
        said = tell([int(frame.text[slot]) for frame in mine])
        if lm.says_heard_words:
            understood = tell([int(frame.heads[0][slot].argmax()) for frame in mine if frame.heads])
    voice = np.zeros(0, np.float32)
    if lm.dep_q:
        voice = heard(mine, slot)[round(lead_in * codec.sample_rate) :]
    return Transcript(codec, mine, slot, lead_in, said, voice, understood)
