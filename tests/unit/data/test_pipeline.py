"""What the state of an iterator of batches says, and that it is taken for the same data alone."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from jomni.data import audio_dataset, lm_dataset
from jomni.data.conversations.tokenize import plan_tokenization, tokenize
from jomni.data.pipeline import endless
from jomni.data.text import train_tokenizer
from jomni.data.turns.parquet import Turn, TurnSource, read_turns, write_turns
from jomni.errors import DataError
from tests.unit.data.cases import WORDS, conversations, encoder, hear
from tests.unit.data.recordings.test_segments import OPTIONS, RATE, corpus

WINDOWS = {
    "tokenizer": train_tokenizer(WORDS), "agent_codebooks": 3, "user_codebooks": 2, "frames": 25, "batch": 4, "seed": 1,
}  # fmt: skip


def draw(number, rng):
    return {"number": np.asarray(number), "noise": rng.random()}


def numbers(count):
    return endless(list(range(count)), draw, batch=5, seed=0)


def state_after_one(dataset):
    iterator = iter(dataset)
    next(iterator)
    return json.loads(json.dumps(iterator.get_state()))


def accepts(dataset, state) -> None:
    iterator, whole = iter(dataset), iter(dataset)
    iterator.set_state(state)
    next(whole)
    for found, wanted in zip(next(iterator).values(), next(whole).values(), strict=True):
        np.testing.assert_array_equal(found, wanted)


def refuses(dataset, state) -> None:
    with pytest.raises(DataError, match=r"\d+ examples, \w+,.* \d+ examples, \w+.*--name"):
        iter(dataset).set_state(state)


def test_a_state_is_taken_for_the_same_data_alone():
    state = state_after_one(numbers(10))
    accepts(numbers(10), state)
    refuses(numbers(12), state)
    refuses(endless(list(range(1, 11)), draw, batch=5, seed=0), state)


def test_a_state_from_before_data_was_told_apart_is_taken_as_it_is():
    accepts(numbers(10), {"next_index": 1})


def test_recordings_may_move_but_not_be_others(tmp_path):
    path = corpus(tmp_path / "one")
    state = state_after_one(audio_dataset(path, **OPTIONS))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    accepts(audio_dataset(tmp_path / "two/all.jsonl", **OPTIONS), state)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[0]]))
    refuses(audio_dataset(path, **OPTIONS), state)
    path.write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    refuses(audio_dataset(path, **OPTIONS), state)


def test_recordings_that_are_left_out_are_other_data_than_those_that_were(tmp_path):
    path = corpus(tmp_path, seconds=(0.5, 0.5, 0.5))
    good = [(tmp_path / f"data/{index}.wav").read_bytes() for index in range(3)]
    states = []
    for index in range(2):
        soundfile.write(tmp_path / f"data/{index}.wav", np.zeros((8000, 2)), RATE)
        dataset = audio_dataset(path, **OPTIONS, skip_bad=True)
        states.append(state_after_one(dataset))
        accepts(dataset, states[index])
        (tmp_path / f"data/{index}.wav").write_bytes(good[index])
    refuses(dataset, states[0])


def test_codes_may_move_but_not_be_others(tmp_path):
    manifest, out = conversations(tmp_path / "corpus"), tmp_path / "codes"

    def codes(codec) -> None:
        shutil.rmtree(out, ignore_errors=True)
        tokenize(plan_tokenization(manifest, out, codec, shard_size=3))

    codes(encoder())
    state = state_after_one(lm_dataset(out, **WINDOWS))
    shutil.copytree(out, tmp_path / "copy")
    accepts(lm_dataset(tmp_path / "copy", **WINDOWS), state)
    codes(encoder("codec 2"))
    refuses(lm_dataset(out, **WINDOWS), state)
    codes(encoder(encode=lambda pcm: hear(pcm)[:, ::-1]))  # of what the header does not tell, the files do
    refuses(lm_dataset(out, **WINDOWS), state)
    codes(encoder())
    accepts(lm_dataset(out, **WINDOWS), state)
    told = {"text": ["three plus four"], "text_share": 0.5}
    refuses(lm_dataset(out, **WINDOWS, **told), state)


def test_spoken_turns_may_move_but_not_be_others(tmp_path):
    pytest.importorskip("pyarrow")
    soundfile.write(tmp_path / "question.wav", np.zeros(160), RATE)
    asked = (tmp_path / "question.wav").read_bytes()

    def source(path, *answers):
        write_turns(path, [Turn("why", asked, answer, np.ones((7, 2), np.int32)) for answer in answers])
        return TurnSource([read_turns(path)])

    (tmp_path / "moved").mkdir()
    first = source(tmp_path / "turns.parquet", "so", "thus", "no")
    assert first.fingerprint == source(tmp_path / "moved/turns.parquet", "so", "thus", "no").fingerprint
    for answers in (("so", "thus"), ("so", "thus", "ha"), ("so", "no", "thus")):
        assert first.fingerprint != source(tmp_path / "moved/turns.parquet", *answers).fingerprint, answers
