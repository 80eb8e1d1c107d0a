"""The tokenizer of a small world."""

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from jomni.data.conversations.alignment import Pieces
from jomni.data.text import train_tokenizer
from jomni.errors import DataError

WORDS = ["three", "plus", "four", "a", "is", "o'clock", "apple", "Tuesday", "threes", "seven?", "café", "plus"]


@pytest.fixture(scope="module")
def processor():
    return sentencepiece.SentencePieceProcessor(model_proto=train_tokenizer(WORDS))


def pieces(processor, text):
    return [processor.id_to_piece(index) for index in processor.encode(text)]


def test_it_is_numbered_as_moshis(processor):
    assert [processor.unk_id(), processor.bos_id(), processor.eos_id(), processor.pad_id()] == [0, 1, 2, 3]
    assert len(processor) == 4 + 256 + 11 + len(set("abcdefghijklmnopqrstuvwxyz'?Té")) + 1


def test_each_word_is_one_piece_alone_and_in_a_sentence(processor):
    assert pieces(processor, "three plus four") == ["▁three", "▁plus", "▁four"]
    for word in set(WORDS):
        assert pieces(processor, word) == ["▁" + word]
        assert Pieces(processor)(f" {word} ") == tuple(processor.encode(word))
    assert pieces(processor, "threes is a café seven?") == ["▁threes", "▁is", "▁a", "▁café", "▁seven?"]


def test_other_words_become_letters_and_bytes(processor):
    assert pieces(processor, "bold") == ["▁", "b", "o", "l", "d"]
    assert pieces(processor, "Zoë")[2:] == ["o", "<0xC3>", "<0xAB>"]
    assert Pieces(processor)("a\nb")[1:-2] == tuple(processor.encode("\n")[-1:])


@given(st.lists(st.sampled_from([*WORDS, "Zoë", "bold", "日本", "x-ray"]), min_size=1))
def test_any_text_comes_back_and_is_never_unknown(processor, words):
    text = " ".join(words)
    tokens = processor.encode(text)
    assert processor.decode(tokens) == text and min(tokens) > 3
    one_by_one = [token for word in words for token in processor.encode(word)]
    assert one_by_one == tokens  # the interleaver takes words one by one


def test_a_vocabulary_may_be_larger_than_needed_but_not_smaller(processor):
    larger = sentencepiece.SentencePieceProcessor(model_proto=train_tokenizer(WORDS, 400))
    assert len(larger) == 400 and pieces(larger, "four bold") == pieces(processor, "four bold")
    with pytest.raises(DataError, match="302"):
        train_tokenizer(WORDS, 301)
    for bad in ([], ["two words"], [""]):
        with pytest.raises(DataError, match="words"):
            train_tokenizer(bad)


def test_the_same_words_give_the_same_bytes():
    assert train_tokenizer(WORDS) == train_tokenizer(WORDS)
