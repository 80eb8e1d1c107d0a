"""When a conversation ends, and how its text and audio are put together."""

import numpy as np
import pytest
import sentencepiece

from jomni.models.moshi.conversation import Ending, Frame, live_audio, text_pieces

PAD, EPAD = 3, 0


def frame(index, text, level, valid=True):
    """A frame of two samples a slot."""
    text = np.atleast_1d(np.asarray(text, np.int32))
    pcm = np.outer(np.atleast_1d(level), [1, -1]).astype(np.float32)
    codes = text[:, None]
    return Frame(index, np.ones(len(text), bool), np.full(len(text), valid), pcm, text, codes, codes, 1.0)


def run_to_end(ending, said):
    """Feeds frames said(index) -> (text, level) until all is over; returns their number."""
    index = 0
    while ending.active.any():
        ending.update(frame(index, *said(index)))
        index += 1
    return index


def test_silence_counts_only_from_the_end_of_the_recording():
    assert run_to_end(Ending(np.array([10]), 100, 5, [PAD, EPAD]), lambda f: (PAD, 0.0)) == 15


@pytest.mark.parametrize("what", [(7, 0.0), (PAD, 0.1)])
def test_a_word_or_a_sound_begins_the_silence_anew(what):
    ending = Ending(np.array([10]), 100, 5, [PAD, EPAD])
    assert run_to_end(ending, lambda f: what if f == 13 else (PAD, 0.001)) == 14 + 5


def test_end_of_padding_is_silent_too():
    assert run_to_end(Ending(np.array([3]), 100, 4, [PAD, EPAD]), lambda f: (f % 2 * PAD, 0.0)) == 7


def test_the_tail_bounds_an_agent_that_goes_on():
    assert run_to_end(Ending(np.array([3]), 8, 4, [PAD, EPAD]), lambda f: (9, 0.5)) == 11
    assert run_to_end(Ending(np.array([3]), 0, 4, [PAD, EPAD]), lambda f: (9, 0.5)) == 3


def test_each_slot_ends_by_itself():
    ending = Ending(np.array([3, 6]), 20, 2, [PAD])
    ends = {}
    for index in range(30):
        ending.update(frame(index, [PAD, PAD], [0.0, 0.0 if index > 9 else 0.5]))
        for b in range(2):
            if not ending.active[b]:
                ends.setdefault(b, index + 1)
    assert ends == {0: 5, 1: 12}


def test_where_a_token_ends_a_conversation_silence_does_not():
    ending = Ending(np.array([3]), 50, 2, [PAD], end_token=2)
    assert run_to_end(ending, lambda f: (2 if f in (1, 20) else PAD, 0.0)) == 21


class Bytes:
    """A tokenizer of which pieces below 256 + 10 are bytes: token 10 + b is byte b."""

    def get_piece_size(self):
        return 300

    def id_to_piece(self, id):
        return f"<0x{id - 10:02X}>" if self.is_byte(id) else f"\u2581w{id}"

    def is_byte(self, id):
        return 10 <= id < 266

    def is_control(self, id):
        return id in (1, 2)


def test_pieces_have_the_time_at_which_they_are_known_live(tokenizer_bytes):
    tokenizer = sentencepiece.SentencePieceProcessor(model_proto=tokenizer_bytes)
    ids = tokenizer.encode("Hello, how are you today?")
    tokens = [PAD, PAD, -2, 1, 2, EPAD, *ids, PAD, 10_000]
    pieces = text_pieces(tokens, tokenizer, (PAD, EPAD), 12.5)
    assert "".join(piece.text for piece in pieces) == " Hello, how are you today?"
    assert [piece.frame for piece in pieces] == list(range(6, 6 + len(ids)))
    assert pieces[0].time == pytest.approx(7 * 0.08)
    assert text_pieces(tokens, tokenizer, (PAD, EPAD), 12.5, start=0.5)[0].time == pytest.approx(7 * 0.08 - 0.5)


def test_bytes_of_a_character_are_joined_where_its_last_one_stands():
    tokens = [10 + b for b in "é€".encode()]
    pieces = text_pieces([*tokens[:1], PAD, *tokens[1:], 280], Bytes(), (PAD,), 12.5)
    assert [piece.text for piece in pieces] == ["", "é", "", "", "€", " w280"]


@pytest.mark.parametrize(
    ("broken", "text"),
    [([0xE2, 0x82], "\ufffd"), ([0xFF], "\ufffd"), ([0xE2, ord("a")], "\ufffda"), ([0xE2, 280 - 10], "\ufffd w280")],
)
def test_bytes_that_make_no_character_are_replaced(broken, text):
    pieces = text_pieces([10 + b for b in broken], Bytes(), (PAD,), 12.5)
    assert "".join(piece.text for piece in pieces) == text


def test_what_answers_a_frame_is_heard_one_frame_later():
    frames = [frame(f, [1, 1], [f + 1, -f - 1]) for f in range(3)]
    frames[2] = Frame(**{**vars(frames[2]), "active": np.array([True, False])})
    np.testing.assert_array_equal(live_audio(frames, 0), [0, 0, 1, -1, 2, -2, 3, -3])
    np.testing.assert_array_equal(live_audio(frames, 1), [0, 0, -1, 1, -2, 2])
