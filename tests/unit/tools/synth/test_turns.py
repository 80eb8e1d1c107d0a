"""Mini-Omni's turns of the synthetic corpus, without held-out contents."""

import numpy as np
import pytest

from jomni.data.turns.parquet import read_turns
from tools.synth import espeak, flite, kinds, turns
from tools.synth.__main__ import agent_sentences
from tools.synth.speak import plain

CODES = [np.arange(3), np.arange(6), np.arange(12)]


def test_pairs_are_on_one_side_of_the_split():
    listed = [turn for kind in kinds.FINITE for turn in kinds.FINITE[kind]()]
    sides = {(turn.question.replace("| ", ""), turn.answer): turn.unseen for turn in listed}
    for unseen in (False, True):
        pairs = list(turns.draw_pairs(np.random.default_rng(0), 40, unseen))
        assert pairs == list(turns.draw_pairs(np.random.default_rng(0), 40, unseen))
        known = [sides[pair] for pair in pairs if pair in sides]
        assert len(known) > 10 and set(known) == {unseen}
        assert all("|" not in question for question, _ in pairs)


def test_only_the_chosen_kinds_are_drawn():
    names = ("day", "compare")
    known = {(t.question.replace("| ", ""), t.answer) for kind in names for t in kinds.FINITE[kind]()}
    pairs = list(turns.draw_pairs(np.random.default_rng(0), 60, names=names))
    assert set(pairs) <= known and {"comes", "than"} <= {word for _, answer in pairs for word in answer.split()}
    unseen = list(turns.draw_pairs(np.random.default_rng(0), 20, True, names))
    assert set(unseen) <= known and all("comes" not in answer for _, answer in unseen), "days are all known"
    said = agent_sentences(names=names)
    assert set(said) == {" ".join(plain(answer)) for _, answer in known} < set(agent_sentences(combinations=0))
    for wrong, told in ((("day", "dance"), "dance.*repeat"), (("day",), "none of these kinds")):
        with pytest.raises(ValueError, match=told):
            list(turns.draw_pairs(np.random.default_rng(0), 1, True, wrong))


def test_sentences_to_read_join_two_answers_and_are_not_held_out():
    names = ("add", "compare", "day")
    pairs = list(turns.draw_readings(np.random.default_rng(0), 300, names))
    assert pairs == list(turns.draw_readings(np.random.default_rng(0), 300, names))
    assert all(question == f"read: {answer}" for question, answer in pairs)
    said = [answer for _, answer in pairs]
    assert len(set(said)) > 280 and max(len(answer.split()) for answer in said) == 8
    assert all(answer.index(".") == len(answer) - 1 for answer in said), "the first one's end is no end here"
    listed = [turn for kind in names for turn in kinds.FINITE[kind]()]
    assert {word for answer in said for word in answer.split()} <= {
        w for t in listed for w in (*t.answer.split(), t.answer.split()[-1][:-1])
    }
    assert not [t.answer for t in listed if t.unseen and any(t.answer in answer for answer in said)]


@pytest.mark.skipif(not (flite.available() and espeak.available()), reason="needs flite and espeak-ng")
def test_a_file_of_pairs_is_synthesised_to_readable_turns(tmp_path, monkeypatch, capsys):
    said = []

    def encode(pcm, rate):
        said.append(pcm)
        return CODES

    monkeypatch.setattr(turns, "_encoder", lambda source: encode)
    monkeypatch.setattr(turns, "babble_pool", lambda: np.random.default_rng(0).normal(size=160_000).astype(np.float32))
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("what is one plus two?\tit is three.\n" * 2)
    turns.write_spoken(pairs, tmp_path / "a.parquet", "codec", "train", seed=1)
    found = list(read_turns(tmp_path / "a.parquet").turns())
    assert "2 turns" in capsys.readouterr().out
    assert [turn.answer for turn in found] == ["it is three."] * 2 and found[0].answer_codes.shape == (7, 3)
    first, second = (turn.question_at(16_000) for turn in found)
    assert len(first) != len(second), "another voice, or another manner"
    assert len(said) == 1, "the agent says it the same way each time, which is encoded once"
