"""Windows of cached conversations for training a language model: text, agent codes and user codes.

Axes: B batch, S streams, N frames of a conversation, T frames of a window.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from jomni.data.conversations.alignment import (
    UNSAID,
    UTTERANCE_GAP,
    Alignment,
    Pieces,
    Word,
    align,
    between,
    lead_words,
)
from jomni.data.conversations.codes import Conversation, Header, decode_record, read_header
from jomni.data.pipeline import Batch, endless, file_mark, fingerprint
from jomni.errors import ConfigError, DataError

if TYPE_CHECKING:
    import grain

ABSENT = -1
"""Value of positions without a token, after the end of a conversation that is shorter than the window."""


def lm_dataset(
    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    tokenizer: bytes,
    agent_codebooks: int,
    user_codebooks: int,
    frames: int,
    batch: int,
    seed: int,
    alignment: Alignment | None = None,
    from_start: float = 0.1,
    heard: bool = False,
    own_share: float = 0.0,
    text: Sequence[str] = (),
    text_share: float = 0.0,
    workers: int = 0,
    prefetch: int = 8,
) -> grain.IterDataset:
    """Return endless batches of windows of conversations, without delays.

    An epoch takes as many windows from a conversation as fit into it, at least one, in random order and at random
    frames. Words that start within the window become text, as in moshi-finetune.

    Args:
      folders: folders of codes, made by `jomni tokenize` with one codec.
      tokenizer: a serialised sentencepiece model.
      agent_codebooks: number of the agent's codebooks.
      user_codebooks: number of the user's codebooks; may be 0.
      frames: T.
      batch: windows in each batch.
      seed: seed of the order and the positions.
      alignment: rules for turning words into text tokens. None: those of moshi-finetune at the codes' frame rate.
      from_start: probability that a window starts at the first frame, as a conversation does at inference.
      heard: also return the other speakers' words, each from the frame after the one in which it ends. This is the
        first frame whose prediction can depend on the whole word.
      own_share: share of the windows with the agent's `own` codes (`jomni self-rollout`), for conversations that have
        them. The prosody of a recording reveals how much of an utterance is left, that of a model does not; a model
        trained on recordings alone would rely on a cue that it lacks at inference.
      text: sentences for text-only training of the agent (Moshi's paper, section 4.2).
      text_share: share of the examples that are text only: random sentences without audio, at a random pace between
        that of speech and one word per frame.
      workers: processes that prepare batches. 0: a thread of this process. The batches do not depend on it.
      prefetch: batches prepared ahead.

    Returns:
      Batches with
      "codes": int32 [B, 1 + agent_codebooks + user_codebooks, T], `ABSENT` after the end of a conversation;
      "read": bool [B], true if the recording's JSON says `"read": true`: the agent reads text aloud that cannot be
        predicted, so its text has no loss;
      "heard": int32 [B, T], the other speakers' words, with `heard`;
      "own": int32 [B, agent_codebooks, T], the agent's past codes to use as input, with `own_share`.

    Raises:
      ConfigError: an option is out of range or does not fit the codes.
      DataError: a folder is not complete, or codes were made by different codecs.
    """
    paths = [Path(f) for f in ([folders] if isinstance(folders, str | os.PathLike) else folders)]
    headers = [read_header(path) for path in paths]
    if not headers:
        raise ConfigError("no folder of codes is given. Give at least one.")
    for path, header in zip(paths, headers, strict=True):
        if header.codec != headers[0].codec:
            raise DataError(f"{path}: its codes are of another codec than those of {paths[0]}. Tokenize one again.")
        if not (0 < agent_codebooks <= header.codebooks and 0 <= user_codebooks <= header.codebooks):
            raise ConfigError(
                f"{path}: has {header.codebooks} codebooks, requested are {agent_codebooks} of the agent and "
                f"{user_codebooks} of the user."
            )
    if alignment is None:
        alignment = Alignment(headers[0].frame_rate)
    if alignment.frame_rate != headers[0].frame_rate:
        raise ConfigError(f"alignment is for {alignment.frame_rate:g} Hz, the codes have {headers[0].frame_rate:g} Hz.")
    if frames < 1 or not 0 <= from_start <= 1:
        raise ConfigError(f"windows need at least 1 frame and from_start in 0 ... 1, got {frames} and {from_start}.")
    if not 0 <= own_share <= 1:
        raise ConfigError(f"own_share is {own_share}. Give a number from 0 to 1.")
    if not 0 <= text_share <= 1 or (text_share and not text):
        raise ConfigError(f"text_share is {text_share}. Give a number from 0 to 1, and sentences in 'text' for it.")
    cutter = _Cutter(
        Pieces(tokenizer), agent_codebooks, user_codebooks, frames, alignment, from_start, heard, own_share,
        tuple(text), text_share,
    )  # fmt: skip
    places = _Places(paths, headers, frames, tuple(text) if text_share else ())
    return endless(places, cutter, batch=batch, seed=seed, data=places.fingerprint, workers=workers, prefetch=prefetch)


_SLOWEST, _PAUSE = 0.5, (UTTERANCE_GAP + 0.05, 1.5)
"""Longest word, and shortest and longest pause between sentences, of text-only examples at the pace of speech, in
seconds."""
_READ = 0.5
"""Share of the text-only examples at one word per frame, which hold five times as many sentences as speech does.

The others have a random pace between that and speech, so that the model does not learn distances of a single pace."""


class _Places:
    """The conversations of an epoch, each as often as windows fit into it. A Grain data source."""

    def __init__(
        self, paths: Sequence[Path], headers: Sequence[Header], frames: int, text: tuple[str, ...] = ()
    ) -> None:
        import grain

        shards = [(path / shard.name, shard) for path, header in zip(paths, headers, strict=True)
                  for shard in header.shards or ()]  # fmt: skip
        held = [count for _, shard in shards for count in shard.frames]
        self._places = np.repeat(np.arange(len(held)), [max(1, round(count / frames)) for count in held])
        self._records = grain.sources.ArrayRecordDataSource([os.fspath(path) for path, _ in shards])
        # The codec's name is left out: it may be a path, which does not identify the content.
        made = [(h.codec, h.manifest, h.own, [(s.name, s.frames) for s in h.shards or ()]) for h in headers]
        self.fingerprint = fingerprint(made, [file_mark(path) for path, _ in shards], text)
        if len(self._records) != len(held):
            raise DataError(
                f"{', '.join(map(str, paths))}: hold {len(self._records)} conversations, their headers promise "
                f"{len(held)}. Run 'jomni tokenize' again."
            )

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Conversation:
        return decode_record(self._records[int(self._places[index])])


@dataclasses.dataclass(frozen=True)
class _Cutter:
    """Draws a window of a conversation, or makes a text-only window."""

    pieces: Pieces
    agent_codebooks: int
    user_codebooks: int
    frames: int
    alignment: Alignment
    from_start: float
    heard: bool
    own_share: float = 0.0
    text: tuple[str, ...] = ()
    text_share: float = 0.0

    def __call__(self, conversation: Conversation, rng: np.random.Generator) -> Batch:
        if self.text_share and rng.random() < self.text_share:
            return self.text_window(rng)
        spare = max(0, conversation.frames - self.frames)
        start = 0 if rng.random() < self.from_start else int(rng.integers(0, spare + 1))
        found = {"codes": self.cut(conversation, start), "read": np.asarray(conversation.meta.get("read") is True)}
        if self.own_share:
            own = rng.random() < self.own_share
            found["own"] = self.own_codes(conversation, start) if own else found["codes"][1 : 1 + self.agent_codebooks]
        return found | {"heard": self.user_words(conversation, start)} if self.heard else found

    def own_codes(self, conversation: Conversation, start: int) -> Int[np.ndarray, "K T"]:
        """Return the agent's `own` codes, int32, or its recorded codes if there are none."""
        codes = conversation.agent if conversation.own is None else conversation.own
        found = np.full((self.agent_codebooks, self.frames), ABSENT, np.int32)
        part = codes[: self.agent_codebooks, start : start + self.frames]
        found[:, : part.shape[1]] = part
        return found

    def cut(self, conversation: Conversation, start: int) -> Int[np.ndarray, "S T"]:
        """Return the window from frame `start` on, int32, S = 1 + the agent's + the user's codebooks."""
        count, rate = min(self.frames, conversation.frames - start), self.alignment.frame_rate
        words = between(lead_words(conversation.words, self.alignment), start / rate, count / rate)
        found = np.full((1 + self.agent_codebooks + self.user_codebooks, self.frames), ABSENT, np.int32)
        text, agent, user = np.split(found[:, :count], [1, 1 + self.agent_codebooks])  # views
        text[0] = align(words, count, self.pieces, self.alignment)
        agent[:] = conversation.agent[: self.agent_codebooks, start : start + count]
        user[:] = conversation.user[: self.user_codebooks, start : start + count]
        return found

    def text_window(self, rng: np.random.Generator) -> Batch:
        """Return a text-only window of random sentences without audio.

        Words and pauses have random lengths. The pace is either one word per frame, or random for the window, with the
        text leading as in conversations.
        """
        frame = 1 / self.alignment.frame_rate
        pace = 0.0 if rng.random() < _READ else float(rng.random())
        word_length, pause = (frame, frame * (_SLOWEST / frame) ** pace), _PAUSE if pace else (frame, frame)
        words, now = list[Word](), frame / 2 + float(rng.uniform(*pause))
        while now < self.frames * frame:
            for word in self.text[int(rng.integers(len(self.text)))].split():
                length = float(rng.uniform(*word_length))
                words.append(Word(word, now, now + length, self.alignment.main_speaker))
                now += length
            now += float(rng.uniform(*pause))
        found = np.full((1 + self.agent_codebooks + self.user_codebooks, self.frames), ABSENT, np.int32)
        spoken = lead_words(words, self.alignment) if pace else words
        found[0] = align(spoken, self.frames, self.pieces, self.alignment)
        nothing = np.full(self.frames, ABSENT, np.int32)
        own = {"own": found[1 : 1 + self.agent_codebooks]} if self.own_share else {}
        return {"codes": found, "read": np.asarray(False)} | own | ({"heard": nothing} if self.heard else {})

    def user_words(self, conversation: Conversation, start: int) -> Int[np.ndarray, "T"]:
        """Return the other speakers' words as text tokens, int32, each from the frame after its end on, none cut."""
        count, frame = min(self.frames, conversation.frames - start), 1 / self.alignment.frame_rate
        others = (w for w in conversation.words if w.speaker not in (self.alignment.main_speaker, UNSAID))
        after = sorted((word._replace(start=word.end + frame, end=word.end + 2 * frame) for word in others), key=_start)
        rules = dataclasses.replace(
            self.alignment, keep_main_only=False, bos_eos=False, keep_and_shift=True, audio_delay=0.0
        )
        found = np.full(self.frames, ABSENT, np.int32)
        found[:count] = align(between(after, start * frame, count * frame), count, self.pieces, rules)
        return found


def _start(word: Word) -> float:
    return word.start
