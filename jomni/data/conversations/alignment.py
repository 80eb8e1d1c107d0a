"""Words in time to one text token per frame: the inner monologue as training data.

The rules are those of moshi-finetune's `Interleaver` (finetune/data/interleaver.py), compared with it in
tests/parity/test_interleaver.py. A word's tokens stand from the frame in which it begins, one a frame; the next word
cuts off what is left of it. Elsewhere stands padding, whose last frame before each word is "end of padding".

Axis letter: T frames.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from jomni.errors import ConfigError

MAIN = "SPEAKER_MAIN"
"""The label of the agent's words."""

UNSAID = "SPEAKER_MAIN_UNSAID"
"""The label of words that the agent was about to say when it was cut off, all at the moment of the cut: text that leads
its audio was ahead of that moment (`lead_words`)."""


class Word(NamedTuple):
    """A word, or other piece of text, and when it is said."""

    text: str
    start: float  # seconds
    end: float  # seconds
    speaker: str = MAIN


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How words become a stream of tokens. The defaults are those of moshi-finetune's training.

    Raises:
      ConfigError: options that exclude each other, or a frame rate that is not positive.
    """

    frame_rate: float = 12.5  # Hz
    text_padding: int = 3  # no text in this frame
    end_of_text_padding: int = 0  # the frame before a word, where that would be padding
    zero_padding: int = -1  # no input at all: the embedding is zero
    in_word_padding: int | None = None  # within a word, after its tokens; None: text_padding
    keep_main_only: bool = True  # the main speaker's words alone
    main_speaker: str = MAIN
    bos_eos: bool = False  # with all speakers: BOS before the main speaker's turns, EOS before the others' after them
    keep_and_shift: bool = False  # queue a word's tokens behind those of words before it, instead of cutting those off
    audio_delay: float = 0.0  # seconds by which the text is ahead of the audio; below zero it is behind
    lead: int = 0  # words by which the main speaker's text is ahead of its audio within an utterance (`lead_words`)
    bos: int = 1
    eos: int = 2

    def __post_init__(self) -> None:
        if not self.frame_rate > 0:
            raise ConfigError(f"frame_rate must be positive, but it is {self.frame_rate} Hz.")
        if self.keep_main_only and self.bos_eos:
            raise ConfigError("bos_eos marks the turns of several speakers: set keep_main_only to False with it.")
        if self.lead < 0 or (self.lead and not self.keep_and_shift):
            raise ConfigError(f"lead {self.lead} is a number of words, and needs keep_and_shift: they come together.")


class Pieces:
    """A sentencepiece model's tokens of a word, as moshi-finetune makes them: word by word, no begin or end.

    Args:
      tokenizer: a serialised sentencepiece model, or a processor.
    """

    def __init__(self, tokenizer: bytes | Any) -> None:
        import sentencepiece

        if isinstance(tokenizer, bytes):
            tokenizer = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
        self._tokenizer = tokenizer
        self._known: dict[str, tuple[int, ...]] = {}

    def __call__(self, text: str) -> tuple[int, ...]:
        """Return the tokens of one word; lines of a word of several lines are joined by the token of a line's end."""
        if text not in self._known:
            lines = [self._tokenizer.encode(line) for line in text.strip().split("\n")]
            found = list(lines[0])
            for line in lines[1:]:
                found += [self._tokenizer.encode("\n")[-1], *line]
            self._known[text] = tuple(found)
        return self._known[text]

    def __reduce__(self) -> tuple[Any, ...]:
        return (Pieces, (self._tokenizer,))


def words_of(content: Mapping[str, Any]) -> list[Word]:
    """Return the words of a checked json's "alignments"."""
    return [Word(text, float(start), float(end), speaker) for text, (start, end), speaker in content["alignments"]]


def between(words: Sequence[Word], start: float, seconds: float) -> list[Word]:
    """Return the words that begin within `seconds` from `start` on, their times counted from `start`.

    Args:
      words: in the order of their starts.
      start: seconds.
      seconds: length of the window.
    """
    first = bisect_left(words, start, key=lambda word: word.start)
    last = bisect_left(words, start + seconds, key=lambda word: word.start)
    return [word._replace(start=word.start - start, end=word.end - start) for word in words[first:last]]


UTTERANCE_GAP = 0.5
"""Seconds without a word of the main speaker between which two words are of different utterances."""


def lead_words(words: Sequence[Word], options: Alignment) -> list[Word]:
    """Move the main speaker's words ahead: each to where the word `options.lead` before it in its utterance begins.

    How long a word takes to say depends on what follows it, so words that stand where they are heard tell of those to
    come, and a model that learns from them looks into a future that it does not have when it speaks itself. A text
    ahead by a word or two is settled before its audio is (delayed-streams TTS, arXiv:2509.08753, looks ahead likewise).

    `UNSAID` words become text where their place comes before the cut, and are dropped elsewhere: without them the text
    would know of an interruption before it happens, and all of it would have been spoken, so that a model learnt to
    say out what it has written before it stops.

    Args:
      words: of a conversation, in the order of their starts.
      options: `lead` and the main speaker.

    Returns:
      All the words, in the order of their new starts.
    """
    if not options.lead:
        return [word for word in words if word.speaker != UNSAID]
    found, utterance, last = list[Word](), list[float](), -math.inf
    for word in words:
        if word.speaker not in (options.main_speaker, UNSAID):
            found.append(word)
            continue
        if word.start - last > UTTERANCE_GAP:
            utterance = []
        utterance.append(word.start)
        last = word.end
        start = utterance[max(0, len(utterance) - 1 - options.lead)]
        if word.speaker != UNSAID or start < word.start:
            found.append(word._replace(start=start, speaker=options.main_speaker))
    return sorted(found, key=lambda word: word.start)


def align(
    words: Sequence[Word] | None, frames: int, pieces: Callable[[str], Sequence[int]], options: Alignment
) -> Int[np.ndarray, "T"]:
    """One text token for each of `frames` frames.

    Args:
      words: with times counted from the first frame; None: there is no text, all is `zero_padding`.
      frames: T.
      pieces: the tokens of a word, such as `Pieces`.
      options: the rules.

    Returns:
      int32 [T].
    """
    if words is None:
        return np.full(frames, options.zero_padding, np.int32)
    stream = _lay_out(_tokenized(words, pieces, options), frames, options)
    if options.audio_delay < 0:
        stream[: int(options.frame_rate * -options.audio_delay)] = options.zero_padding
    return stream


class _Tokens(NamedTuple):
    ids: list[int]
    start: float  # seconds
    end: float


def _tokenized(words: Sequence[Word], pieces: Callable[[str], Sequence[int]], options: Alignment) -> list[_Tokens]:
    """Return the words that count, as tokens in the order of their starts, shifted by the delay."""
    found = []
    last_speaker: str | None = None
    for word in sorted(words, key=lambda word: word.start):
        if options.keep_main_only and word.speaker != options.main_speaker:
            continue
        ids = list(pieces(word.text))
        if options.bos_eos and word.speaker != last_speaker:
            if word.speaker == options.main_speaker:
                ids.insert(0, options.bos)
            elif last_speaker == options.main_speaker:
                ids.insert(0, options.eos)
        last_speaker = word.speaker
        # A word without duration is left out, as is one that a delay moves before the beginning.
        if word.start < word.end and (not options.audio_delay or word.end > options.audio_delay):
            found.append(_Tokens(ids, word.start - options.audio_delay, word.end - options.audio_delay))
    return found


def _lay_out(words: Sequence[_Tokens], frames: int, options: Alignment) -> Int[np.ndarray, "T"]:
    padding = options.text_padding
    within = padding if options.in_word_padding is None else options.in_word_padding
    stream = np.full(frames, padding, np.int32)
    taken = np.zeros(frames, bool)
    begins = [min(max(math.floor(word.start * options.frame_rate), 0), frames) for word in words] + [frames]
    for word, begin, until in zip(words, begins, begins[1:], strict=False):
        # Up to the frame in which the next word begins, this one's end decides what padding is within a word.
        stream[begin : max(begin, min(until, int(word.end * options.frame_rate) + 1))] = within
    free = 0
    for word, begin, until in zip(words, begins, begins[1:], strict=False):
        if options.keep_and_shift:
            begin, until = max(begin, free), frames
        ids = word.ids[: max(until - begin, 0)]
        free = begin + len(ids)
        stream[begin:free], taken[begin:free] = ids, True
    # The last padding before a word. Text comes from its own value, so that a token may be padding itself.
    before = taken[1:] & np.isin(stream[:-1], [padding, within])
    stream[:-1][before] = options.end_of_text_padding
    return stream
