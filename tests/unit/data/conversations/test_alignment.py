"""Text-audio alignment: its rules one by one. tests/parity/test_interleaver.py shows that they are moshi-finetune's."""

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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
from jomni.errors import ConfigError

PAD, EPAD, ZERO = 3, 0, -1


def letters(text):
    return [ord(letter) for letter in text.strip()]


def tokens(words, frames, **options):
    found = align([Word(*word) for word in words], frames, letters, Alignment(frame_rate=10.0, **options))
    assert found.dtype == np.int32 and found.shape == (frames,)
    return [{PAD: "_", EPAD: "|", ZERO: "-", 1: "<", 2: ">", 7: "~"}.get(int(x), chr(max(x, 0))) for x in found]


def text(*args, **options):
    return "".join(tokens(*args, **options))


def test_a_word_stands_from_its_first_frame_after_the_end_of_padding():
    assert text([("ab", 0.35, 0.6)], 8) == "__|ab___"
    assert text([("ab", 0.0, 0.6)], 4) == "ab__"
    assert text([("a", 0.1, 0.2), ("b", 0.2, 0.3)], 4) == "|ab_"


def test_the_next_word_cuts_off_what_is_left_unless_shifted():
    words = [("abcd", 0.1, 0.2), ("ef", 0.3, 0.5)]
    assert text(words, 9) == "|abef____"
    assert text(words, 9, keep_and_shift=True) == "|abcdef__"
    assert text([("ab", 0.1, 0.2), ("c", 0.12, 0.2)], 4) == "|c__"
    assert text([("abcd", 0.1, 0.2)], 3) == "|ab"


def test_padding_within_a_word_lasts_to_the_frame_of_its_end():
    assert text([("a", 0.1, 0.45), ("b", 0.7, 0.8)], 10, in_word_padding=7) == "|a~~~_|b~_"
    assert text([("a", 0.1, 0.65), ("b", 0.4, 0.5)], 9, in_word_padding=7) == "|a~|b~___"


def test_speakers_and_turns():
    words = [
        ("a", 0.1, 0.2, "SPEAKER_MAIN"),
        ("b", 0.4, 0.5, "X"),
        ("c", 0.6, 0.7, "X"),
        ("d", 0.9, 1.0, "SPEAKER_MAIN"),
    ]
    assert text(words, 11) == "|a______|d_"
    assert text(words, 11, main_speaker="X") == "___|b|c____"
    assert text(words, 11, keep_main_only=False) == "|a_|b|c_|d_"
    assert text(words, 12, keep_main_only=False, bos_eos=True) == "|<a|>bc_|<d_"
    with pytest.raises(ConfigError, match="keep_main_only"):
        Alignment(bos_eos=True)


def test_words_without_duration_or_text_and_delays():
    assert text([("a", 0.3, 0.3), ("", 0.5, 0.6), ("b", 0.7, 0.8)], 9) == "______|b_"
    assert text([("a", 0.1, 0.15), ("b", 0.5, 0.6)], 6, audio_delay=0.2) == "__|b__"
    assert text([("a", 0.1, 0.2)], 6, audio_delay=-0.2) == "--|a__"
    np.testing.assert_array_equal(align(None, 3, letters, Alignment()), [-1, -1, -1])


def led(lead):
    words = [("a", 0.1, 0.5), ("b", 0.5, 0.9), ("c", 0.9, 1.3), ("d", 1.3, 1.6), ("e", 2.15, 2.2), ("f", 2.2, 2.3)]
    options = Alignment(frame_rate=10.0, keep_and_shift=True, lead=lead)
    return "".join(tokens(lead_words([Word(*word) for word in words], options), 24, keep_and_shift=True))


def test_a_lead_moves_words_to_where_those_before_them_begin_within_their_utterance():
    assert led(0) == "|a__|b__|c__|d______|ef_"
    assert led(1) == "|ab_|c__|d__________|ef_"
    assert led(2) == "|abc|d______________|ef_"
    assert led(9) == "|abcd_______________|ef_"


def test_a_lead_leaves_other_speakers_alone_and_needs_a_queue():
    words = [Word("a", 0.1, 0.3), Word("x", 0.2, 0.4, "X"), Word("b", 0.3, 0.5)]
    moved = lead_words(words, Alignment(keep_and_shift=True, lead=1))
    assert moved == [words[0], words[2]._replace(start=0.1), words[1]]
    with pytest.raises(ConfigError, match="keep_and_shift"):
        Alignment(lead=1)
    with pytest.raises(ConfigError, match="lead is -1"):
        Alignment(lead=-1, keep_and_shift=True)


def test_words_that_a_cut_left_unsaid_are_text_where_the_lead_had_put_them_before_the_cut():
    said = [Word("a", 0.1, 0.5), Word("b", 0.5, 0.9), Word("c", 0.9, 1.0)]
    unsaid = [Word(letter, 1.0, 1.01, UNSAID) for letter in "def"]
    words = [*said, *unsaid, Word("x", 1.1, 1.4, "X"), Word("g", 2.0, 2.2)]

    def text_of(lead):
        moved = lead_words(words, Alignment(frame_rate=10.0, keep_and_shift=True, lead=lead))
        assert UNSAID not in {word.speaker for word in moved} and Word("x", 1.1, 1.4, "X") in moved
        return "".join(tokens(moved, 24, keep_and_shift=True))

    assert text_of(0) == "|a__|b__|c_________|g___"
    assert text_of(1) == "|ab_|c__|d_________|g___"
    assert text_of(2) == "|abc|d__|e_________|g___"


@given(st.lists(st.tuples(st.floats(0, 1.2), st.floats(0.05, 0.5)), min_size=1, max_size=12), st.integers(1, 4))
def test_a_lead_never_moves_a_word_back_nor_into_another_utterance(spans, lead):
    words, now, utterance = [], 0.0, -1
    for gap, length in spans:
        utterance += gap > UTTERANCE_GAP or utterance < 0
        words.append(Word(f"{utterance}", now + gap, now + gap + length))
        now += gap + length
    moved = lead_words(words, Alignment(keep_and_shift=True, lead=lead))
    starts = {number: min(w.start for w in words if w.text == number) for number in {w.text for w in words}}
    assert [w.end for w in moved] == [w.end for w in words]
    for old, new in zip(words, moved, strict=True):
        assert starts[old.text] <= new.start <= old.start


def test_words_may_come_in_any_order():
    words = [("b", 0.5, 0.6), ("a", 0.1, 0.2)]
    assert text(words, 7) == text(words[::-1], 7) == "|a__|b_"


def test_lines_of_a_word_are_joined_by_the_token_of_a_lines_end():
    class Tokenizer:
        def encode(self, text):
            return [99, 13] if text == "\n" else letters(text)

    assert Pieces(Tokenizer())(" a\nb ") == (97, 13, 98)


starts = st.lists(st.floats(0, 20), max_size=20).map(sorted)


@given(starts, st.floats(0, 20), st.floats(0.1, 5))
@example([0.0, 1.0, 2.5, 3.0], 1.0, 2.0)
def test_windows_hold_the_words_that_begin_in_them_and_no_others(starts, start, seconds):
    words = [Word(str(i), time, time + 1) for i, time in enumerate(starts)]
    held = between(words, start, seconds)
    assert [word.text for word in held] == [w.text for w in words if start <= w.start < start + seconds]
    for word in held:
        original = words[int(word.text)]
        assert word.start == original.start - start and word.end == original.end - start


@given(starts, st.integers(1, 60), st.booleans())
@example([0.0, 1.0, 1.1, 3.0], 60, False)
@example([0.5, 1.0, 1.1, 3.0], 60, True)
def test_every_text_token_is_a_words_and_end_of_padding_stands_before_words_alone(starts, frames, shift):
    words = [(chr(97 + i) * (1 + i % 3), time / 4, time / 4 + 0.2) for i, time in enumerate(starts)]
    found = text(words, frames, keep_and_shift=shift)
    assert re.fullmatch(r"(_|\|(?=[a-z])|(?<!_)[a-z])*", found), "padding, '|' before a word, or a word's token"
    begins = [int(time * 10) for _, time, _ in words if time * 10 < frames]
    assert all(found[frame].isalpha() for frame in begins), "a word's token stands where the word begins"
    assert begins or set(found) == {"_"}
