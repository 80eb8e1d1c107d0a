"""Windows of cached conversations for the language model."""

import json
import re

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from jomni.data import lm_dataset
from jomni.data.conversations import tokenize, windows
from jomni.data.conversations.alignment import Alignment, Pieces, Word, align, between, lead_words
from jomni.data.conversations.codes import Conversation
from jomni.data.conversations.tokenize import plan_tokenization, read_shard
from jomni.data.text import train_tokenizer
from jomni.errors import ConfigError, DataError
from tests.unit.data.cases import READ, WORDS, conversations, encoder
from tests.unit.data.recordings.test_segments import same, take

TOKENIZER = train_tokenizer(WORDS)
OPTIONS = {
    "tokenizer": TOKENIZER, "agent_codebooks": 3, "user_codebooks": 2, "frames": 25, "batch": 4, "seed": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("codes")
    plan = plan_tokenization(conversations(base / "corpus"), base / "out", encoder(), shard_size=3)
    tokenize.tokenize(plan)
    return base / "out"


@pytest.fixture(scope="module")
def held(folder) -> list[Conversation]:
    return [c for path in sorted(folder.glob("*.array_record")) for c in read_shard(path)]


def place(window, held):
    """Which conversation a window is of, and its first frame."""
    count = int((window[1] >= 0).sum())
    found = [
        (index, start) for index, c in enumerate(held) for start in range(c.frames - count + 1)
        if (c.agent[:, start : start + count] == window[1:4, :count]).all() and (count == 25 or count == c.frames)
    ]  # fmt: skip
    assert len(found) == 1
    return *found[0], count


def test_text_may_lead_by_words_counted_over_the_whole_conversation(folder, held):
    options, changed = Alignment(keep_and_shift=True, lead=2), 0
    for batch in take(lm_dataset(folder, **OPTIONS, alignment=options), 20):
        for window in batch["codes"]:
            index, start, count = place(window, held)
            words = between(lead_words(held[index].words, options), start * 0.08, count * 0.08)
            np.testing.assert_array_equal(window[0, :count], align(words, count, Pieces(TOKENIZER), options))
            plain = align(between(held[index].words, start * 0.08, count * 0.08), count, Pieces(TOKENIZER), options)
            changed += (plain != window[0, :count]).any()
    assert changed > 10


def test_windows_hold_the_codes_and_the_text_of_their_place_and_nothing_after_the_end(folder, held):
    seen = set()
    for batch in take(lm_dataset(folder, **OPTIONS), 30):
        assert set(batch) == {"codes", "read"} and batch["read"].shape == (4,)
        assert batch["codes"].shape == (4, 6, 25) and batch["codes"].dtype == np.int32
        for window in batch["codes"]:
            index, start, count = place(window, held)
            seen.add((index, start))
            np.testing.assert_array_equal(window[4:, :count], held[index].user[:2, start : start + count])
            words = between(held[index].words, start * 0.08, count * 0.08)
            np.testing.assert_array_equal(window[0, :count], align(words, count, Pieces(TOKENIZER), Alignment()))
            assert (window[:, count:] == -1).all() and (window[:, :count] >= 0).all()
    assert {index for index, _ in seen} == set(range(7)) and len(seen) > 40
    assert {start for index, start in seen if index == 4} > {0, held[4].frames - 25}


def test_the_text_is_the_agents_words(folder, held):
    processor = sentencepiece.SentencePieceProcessor(model_proto=TOKENIZER)
    options = {**OPTIONS, "frames": 100, "batch": 1}
    for batch in take(lm_dataset(folder, **options), 9):
        text = batch["codes"][0, 0]
        conversation = next(c for c in held if c.frames == (text >= 0).sum())
        said = processor.decode([int(token) for token in text if token > 3])
        assert said == " ".join(w.text for w in conversation.words if w.speaker == "SPEAKER_MAIN")


def test_windows_tell_where_the_agent_only_reads_aloud(folder, held):
    for batch in take(lm_dataset(folder, **OPTIONS), 10):
        for window, read in zip(batch["codes"], batch["read"], strict=True):
            index, *_ = place(window, held)
            assert read == (held[index].meta["turns"][0]["n"] in READ)


def test_some_examples_are_text_alone(folder):
    text = ["three plus four", "seven"]
    options = {**OPTIONS, "frames": 40, "batch": 50, "text": text, "heard": True}
    batch = take(lm_dataset(folder, **options, text_share=0.4), 1)[0]
    silent = (batch["codes"][:, 1:] == -1).all((1, 2))
    assert 10 < silent.sum() < 30 and (batch["heard"][silent] == -1).all()
    processor = sentencepiece.SentencePieceProcessor(model_proto=TOKENIZER)
    for row in batch["codes"][silent, 0]:
        assert (row >= 0).all()
        said = processor.decode([int(token) for token in row if token > 3])
        assert re.fullmatch(r"(seven|three plus four| )+(three( plus)?)?", said), said
        assert (row[np.flatnonzero(row > 3) - 1] != 3).all()  # as in a conversation: a word follows a word or EPAD
    assert not batch["read"][silent].any()
    with pytest.raises(ConfigError, match="text_share"):
        lm_dataset(folder, **OPTIONS, text_share=0.1)


def test_an_epoch_takes_conversations_in_proportion_and_each_epoch_another_order(folder, held):
    options = {**OPTIONS, "batch": 1}
    epoch = sum(max(1, round(c.frames / 25)) for c in held)
    windows = [batch["codes"][0] for batch in take(lm_dataset(folder, **options), 2 * epoch)]
    orders = [[place(w, held)[0] for w in windows[i * epoch : (i + 1) * epoch]] for i in range(2)]
    counts = [np.bincount(order, minlength=7).tolist() for order in orders]
    assert counts[0] == counts[1] == [max(1, round(c.frames / 25)) for c in held]
    assert orders[0] != orders[1]


def test_windows_begin_with_their_conversation_as_often_as_asked(folder, held):
    starts = [place(w, held)[:2] for b in take(lm_dataset(folder, **OPTIONS, from_start=1.0), 5) for w in b["codes"]]
    assert {start for _, start in starts} == {0}


def test_the_same_batches_after_a_checkpoint_and_with_another_number_of_worker_processes(folder):
    whole = take(lm_dataset(folder, **OPTIONS), 8)
    for workers in (0, 2):
        first = iter(lm_dataset(folder, **OPTIONS, workers=workers))
        same(whole[:3], [next(first) for _ in range(3)])
        state = json.loads(json.dumps(first.get_state()))
        first.close()
        resumed = iter(lm_dataset(folder, **OPTIONS, workers=2 - workers))
        resumed.set_state(state)
        same(whole[3:], [next(resumed) for _ in range(5)])
        resumed.close()
    assert (take(lm_dataset(folder, **{**OPTIONS, "seed": 2}), 1)[0]["codes"] != whole[0]["codes"]).any()


def test_several_folders_of_one_codec_are_mixed_and_of_two_refused(folder, tmp_path):
    manifest = conversations(tmp_path / "corpus", seconds=(9.0,))
    tokenize.tokenize(plan_tokenization(manifest, tmp_path / "more", encoder()))
    lengths = {
        int((w[0] >= 0).sum())
        for b in take(lm_dataset([folder, tmp_path / "more"], **{**OPTIONS, "frames": 200}), 6)
        for w in b["codes"]
    }
    assert 113 in lengths and len(lengths) == 8
    tokenize.tokenize(plan_tokenization(manifest, tmp_path / "other", encoder("codec 2")))
    with pytest.raises(DataError, match="codec"):
        lm_dataset([folder, tmp_path / "other"], **OPTIONS)


def test_options_without_sense_are_refused(folder, tmp_path):
    for changed, says in [
        ({"agent_codebooks": 4}, " 3 codebooks.* 4 "), ({"agent_codebooks": 0}, " 3 codebooks.* 0 "),
        ({"frames": 0}, " 0 .*0.1"), ({"alignment": Alignment(25.0)}, "25 Hz.* 12.5 Hz"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            lm_dataset(folder, **{**OPTIONS, **changed})
    with pytest.raises(DataError, match=r"codes\.json"):
        lm_dataset(tmp_path, **OPTIONS)
    with pytest.raises(ConfigError, match="folder"):
        lm_dataset([], **OPTIONS)


@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 3), st.integers(0, 3), st.data())
def test_a_window_is_a_piece_of_each_stream_filled_up_to_its_length(length, frames, agents, users, data):
    codes = np.arange(length, dtype=np.uint16) + 100 * np.arange(3, dtype=np.uint16)[:, None]
    words = tuple(Word("four", frame * 0.08 + 0.01, frame * 0.08 + 0.05) for frame in range(0, length, 2))
    start = data.draw(st.integers(0, max(0, length - frames)))
    cutter = windows._Cutter(Pieces(TOKENIZER), agents, users, frames, Alignment(), 0.0, False)
    window = cutter.cut(Conversation("x", codes, codes + 1000, words), start)
    count = min(frames, length)
    assert window.shape == (1 + agents + users, frames) and window.dtype == np.int32
    at = np.arange(start, start + count)
    np.testing.assert_array_equal(window[1 : 1 + agents, :count], at + 100 * np.arange(agents)[:, None])
    np.testing.assert_array_equal(window[1 + agents :, :count], 1000 + at + 100 * np.arange(users)[:, None])
    np.testing.assert_array_equal(window[0, :count] > 3, at % 2 == 0)
    assert (window[:, count:] == -1).all()


def test_the_users_words_stand_in_the_frame_after_they_end_and_none_is_lost():
    words = (
        Word("a", 0.00, 0.50, "SPEAKER_MAIN"), Word("a", 0.10, 0.30, "SPEAKER_USER"),
        Word("b", 0.30, 0.33, "SPEAKER_USER"), Word("c", 0.34, 0.39, "SPEAKER_USER"),
        Word("b", 0.40, 0.85, "SPEAKER_USER"),
    )  # fmt: skip
    codes = np.zeros((3, 20), np.uint16)
    cutter = windows._Cutter(Pieces(train_tokenizer(["a", "b", "c"])), 3, 2, 12, Alignment(), 0.0, True)
    a, b, c = (cutter.pieces(x)[0] for x in "abc")
    heard = cutter.user_words(Conversation("x", codes, codes[:2], words), 0)
    # "a" ends in frame 3 and stands in frame 4; "b" and "c" end in frame 4; the last ends in frame 10.
    np.testing.assert_array_equal(heard, [3, 3, 3, 0, a, b, c, 3, 3, 3, 0, b])
    np.testing.assert_array_equal(cutter.user_words(Conversation("x", codes, codes[:2], words), 8)[:4], [3, 3, 0, b])
    ahead = windows._Cutter(cutter.pieces, 3, 2, 12, Alignment(audio_delay=0.4), 0.0, True)
    np.testing.assert_array_equal(ahead.user_words(Conversation("x", codes, codes[:2], words), 0), heard)
    short = cutter.user_words(Conversation("x", codes[:, :5], codes[:2, :5], words), 0)
    np.testing.assert_array_equal(short, [3, 3, 3, 0, a] + [-1] * 7)


def test_windows_give_the_users_words_where_asked(folder):
    with_words, without = (next(iter(lm_dataset(folder, **OPTIONS, heard=h))) for h in (True, False))
    np.testing.assert_array_equal(with_words["codes"], without["codes"])
    assert with_words["heard"].shape == (4, 25)
    np.testing.assert_array_equal(with_words["heard"] < 0, with_words["codes"][:, 0] < 0)
