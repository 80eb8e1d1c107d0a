"""Alignment of timed words to one text token per frame: training data for the inner monologue.

The rules are those of moshi-finetune's `Interleaver` (finetune/data/interleaver.py);
tests/parity/test_interleaver.py compares the two. The tokens of a word start at the frame in which the word starts, one
per frame. The next word overwrites those that are left. All other frames hold padding; the last padding before a word
is "end of padding".

Axes: T frames.
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
"""Label of the agent's words."""

UNSAID = "SPEAKER_MAIN_UNSAID"
"""Label of words that the agent had not yet said when it was interrupted. All have the time of the interruption.

Text that leads its audio includes some of them (`lead_words`)."""


class Word(NamedTuple):
    """A word or another piece of text, with the time at which it is said."""

    text: str
    start: float  # seconds
    end: float  # seconds
    speaker: str = MAIN


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Rules for turning words into a stream of text tokens. The defaults are those of moshi-finetune.

    Raises:
      ConfigError: options contradict each other, or the frame rate is not positive.
    """

    frame_rate: float = 12.5  # Hz
    text_padding: int = 3  # token of frames without text
    end_of_text_padding: int = 0  # token of the last padding frame before a word
    zero_padding: int = -1  # token of frames without text input: the embedding is zero
    in_word_padding: int | None = None  # token of the frames of a word after its tokens; None: text_padding
    keep_main_only: bool = True  # drop the words of all speakers but the main one
    main_speaker: str = MAIN
    bos_eos: bool = False  # with all speakers: BOS before the main speaker's turns, EOS before the turn after them
    keep_and_shift: bool = False  # delay a word's tokens until those of the word before it end, instead of cutting them
    audio_delay: float = 0.0  # seconds by which the text is ahead of the audio; negative: behind it
    lead: int = 0  # words by which the main speaker's text is ahead of its audio within an utterance (`lead_words`)
    bos: int = 1
    eos: int = 2

    def __post_init__(self) -> None:
        if not self.frame_rate > 0:
            raise ConfigError(f"frame_rate must be positive, but it is {self.frame_rate} Hz.")
        if self.keep_main_only and self.bos_eos:
            raise ConfigError("bos_eos marks the turns of several speakers: set keep_main_only to False as well.")
        if self.lead < 0 or (self.lead and not self.keep_and_shift):
            raise ConfigError(f"lead is {self.lead}: it must be a number of words, and needs keep_and_shift set.")


class Pieces:
    """Tokenizes single words with sentencepiece as moshi-finetune does, without begin and end tokens.

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
        """Return the tokens of one word. If it spans several lines, they are joined by the token of a newline."""
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
    """Return the words of the "alignments" in a recording's JSON, which must be checked already."""
    return [Word(text, float(start), float(end), speaker) for text, (start, end), speaker in content["alignments"]]


def between(words: Sequence[Word], start: float, seconds: float) -> list[Word]:
    """Return the words that start in a window, with times relative to the start of the window.

    Args:
      words: in the order of their starts.
      start: start of the window, seconds.
      seconds: length of the window.
    """
    first = bisect_left(words, start, key=lambda word: word.start)
    last = bisect_left(words, start + seconds, key=lambda word: word.start)
    return [word._replace(start=word.start - start, end=word.end - start) for word in words[first:last]]


UTTERANCE_GAP = 0.5
"""Seconds of silence of the main speaker that separate two utterances."""


def lead_words(words: Sequence[Word], options: Alignment) -> list[Word]:
    """Move each word of the main speaker to the start of the word `options.lead` words before it in its utterance.

    The duration of a word depends on the words after it. If text were placed at the time of its audio, a model could
    learn to read the following words from that duration, which it cannot do when it generates its own text. With a lead
    of one or two words, the text is decided before its audio. Delayed-streams TTS uses lookahead for the same reason
    (arXiv:2509.08753).

    `UNSAID` words become text if their moved start is before the interruption, and are dropped otherwise. Without them,
    all text before an interruption would also be spoken, and a model would learn to finish all text that it has
    written before it stops.

    Args:
      words: words of a conversation, in the order of their starts.
      options: `lead` and the main speaker.

    Returns:
      The words in the order of their new starts, without the dropped ones.
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
    """Return one text token for each of `frames` frames, int32 [T].

    Args:
      words: with times relative to the first frame. None: no text; all tokens are `zero_padding`.
      frames: T.
      pieces: returns the tokens of a word, such as `Pieces`.
      options: the rules.
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
    """Return the tokens of the words that `options` keeps, ordered by start and shifted by the delay."""
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
        # Words without duration are dropped, and words that the delay moves before the first frame.
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
        # `within` fills the frames up to the end of the word, or to the start of the next word if that is earlier.
        stream[begin : max(begin, min(until, int(word.end * options.frame_rate) + 1))] = within
    free = 0
    for word, begin, until in zip(words, begins, begins[1:], strict=False):
        if options.keep_and_shift:
            begin, until = max(begin, free), frames
        ids = word.ids[: max(until - begin, 0)]
        free = begin + len(ids)
        stream[begin:free], taken[begin:free] = ids, True
    # Tokens of words may equal the padding value, so `taken` tells where a word starts.
    before = taken[1:] & np.isin(stream[:-1], [padding, within])
    stream[:-1][before] = options.end_of_text_padding
    return stream
