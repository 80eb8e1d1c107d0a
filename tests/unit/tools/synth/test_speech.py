"""Synthesised speech of the corpus: word times, cut answers, pauses, files. Needs flite and espeak-ng."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jomni.data.conversations.alignment import UTTERANCE_GAP
from tools.synth import corpus, espeak, flite, kinds
from tools.synth.conversation import GRID, Stage, Step, conversations, cut_answer, perform, plan, say_question
from tools.synth.phones import PHONES, SILENCE
from tools.synth.readings import readings
from tools.synth.speak import Speech, plain, speak
from tools.synth.testsets import all_sets
from tools.synth.utterances import utterances
from tools.synth.voices import AGENT, AGENT_MANNER, HELD_OUT, RATE, TRAIN, Manner, Voice

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (flite.available() and espeak.available()), reason="needs the synthesisers: apt install flite espeak-ng"
    ),
]
VOICES = {v.id: v for v in (AGENT, *TRAIN, *HELD_OUT)}
SOME = ("flite:slt", "flite:awb", "flite:rms", "flite:kal16", "espeak:m1", "espeak:f2", "espeak:klatt4")
TEXT = "repeat after me, | cat, | dog, | and | fish."


def energy(pcm: np.ndarray, start: float, end: float) -> float:
    return float(np.square(pcm[round(start * RATE) : round(end * RATE)]).mean())


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("manner", [Manner(), Manner(rate=1.2, tract=0.93), Manner("en", 0.85, 1.2, tract=1.1)])
def test_words_lie_inside_the_audio_in_order_and_sound(name: str, manner: Manner) -> None:
    speech = speak(TEXT, VOICES[name], manner)
    assert [w for w, _, _ in speech.words] == plain(TEXT)
    times = [t for _, start, end in speech.words for t in (start, end)]
    assert times == sorted(times) and times[0] >= 0 and times[-1] <= speech.duration + 1e-3
    assert all(end - start > 0.04 for _, start, end in speech.words)
    silent = [energy(speech.pcm, s + 0.02, e - 0.02) for p, s, e in speech.phones if p == SILENCE and e - s > 0.08]
    for _, start, end in speech.words:
        assert energy(speech.pcm, start, end) > 10 * max(silent, default=0.0)


@pytest.mark.parametrize("name", SOME)
def test_phones_fill_the_audio_without_gaps(name: str) -> None:
    speech = speak(TEXT, VOICES[name], Manner())
    assert {p for p, _, _ in speech.phones} <= set(PHONES)
    assert speech.phones[0][1] == 0.0 and abs(speech.phones[-1][2] - speech.duration) < 1e-3
    assert all(abs(a[2] - b[1]) < 1e-3 for a, b in itertools.pairwise(speech.phones))
    assert "".join(p for p, _, _ in speech.phones if p != SILENCE).endswith("fihsh")


@pytest.mark.parametrize("voice", (*TRAIN, *HELD_OUT), ids=lambda v: v.id)
def test_every_speaker_speaks(voice: Voice) -> None:
    speech = speak("say the words cat and dog.", voice, Manner())
    assert 0.8 < speech.duration < 4 and np.abs(speech.pcm).max() > 0.05


def test_both_synthesisers_read_letters_as_letters() -> None:
    for name in ("flite:slt", "espeak:m1"):
        phones = [p for p, _, _ in speak("a b.", VOICES[name], Manner()).phones if p != SILENCE]
        assert phones == ["ey", "b", "iy"]


def test_the_agent_always_sounds_the_same() -> None:
    first = speak("three plus four is seven.", AGENT, AGENT_MANNER)
    speak("something else.", VOICES["flite:awb"], Manner(rate=1.3))
    assert np.array_equal(first.pcm, speak("three plus four is seven.", AGENT, AGENT_MANNER).pcm)


def test_a_cut_answer_keeps_words_heard_by_more_than_half() -> None:
    words = (("one", 0.0, 0.4), ("two", 0.5, 0.9), ("three", 1.0, 1.4))
    answer = Speech(np.ones(int(1.5 * RATE), np.float32), words, (("w", 0.0, 1.5),))
    for seconds, kept in ((0.1, 0), (0.21, 1), (0.6, 1), (0.75, 2), (1.45, 3)):
        heard = cut_answer(answer, seconds)
        assert len(heard.words) == kept
        assert heard.duration == pytest.approx(seconds, abs=1e-3) and heard.pcm[-1] == 0
        assert all(end <= seconds for _, _, end in heard.words)
    assert cut_answer(answer, 2.0) is answer


@pytest.mark.parametrize("phrases", [True, False])
@pytest.mark.parametrize("name", ["flite:awb", "espeak:m1"])
def test_a_pause_is_silent_and_between_its_words(name: str, phrases: bool) -> None:
    for index in range(TEXT.split().count("|")):
        question = say_question(TEXT, VOICES[name], Manner(), (index, 0.8, phrases))
        assert question.pause is not None
        start, end = question.pause
        assert end - start == pytest.approx(0.8, abs=1e-3)
        assert not question.pcm[round(start * RATE) : round(end * RATE)].any()
        before = len(plain(" ".join(TEXT.split("|")[: index + 1])))
        assert question.words[before - 1][2] <= start + 1e-3 and question.words[before][1] >= end - 1e-3
        assert [w for w, _, _ in question.words] == plain(TEXT)


def test_the_agent_stops_within_a_second_and_answers_the_new_question() -> None:
    stage = Stage(VOICES["espeak:m1"], Manner(), -25.0)
    count = next(t for t in kinds.FINITE["count"]() if t.content == "count 0 6")
    day = next(kinds.FINITE["day"]())
    stage.perform(Step(count, 1.0, 0.2))
    stage.perform(Step(day, 0.0, 0.2, "wait", None, 0.3, 0.5))
    first, second = stage.turns
    assert first["cut"] - second["user_start"] == pytest.approx(0.5, abs=0.01)
    assert first["agent_end"] <= first["cut"] and len(first["said"].split()) < len(first["answer"].split())
    unsaid = [w for w, (start, _), s in stage.words if s == "SPEAKER_MAIN_UNSAID" and start == first["cut"]]
    assert [*first["said"].split(), *unsaid] == first["answer"].split()
    assert second["agent_start"] - second["user_end"] < 0.3
    agent, _ = stage.channels(stage.now + 1)
    assert not agent[round(first["cut"] * RATE) + 20 : round(second["agent_start"] * RATE) - 20].any()


def test_conversations_are_consistent() -> None:
    usual = cut = 0
    for i in range(12):
        rng = np.random.default_rng([8, i])
        pcm, about = perform(rng, plan(rng), None)
        length = len(pcm) / RATE
        assert pcm.dtype == np.int16 and pcm.shape[1] == 2 and 5 < length < 75
        main = [(w, *t) for w, t, s in about["alignments"] if s == "SPEAKER_MAIN"]
        assert [w for w, _, _ in main] == [w for t in about["turns"] for w in t["said"].split()]
        assert all(0 <= a < b <= length for _, a, b in main)
        assert all(x[2] <= y[1] + 1e-3 for x, y in itertools.pairwise(main))
        speaking = np.zeros(len(pcm), bool)
        for turn in about["turns"]:
            speaking[round(turn["agent_start"] * RATE) - 20 : round(turn["agent_end"] * RATE) + 20] = True
            if "interrupted_at" not in turn:
                usual += 1
                assert 0.13 < turn["agent_start"] - turn["user_end"] < 0.31
                assert turn["agent_start"] / GRID == pytest.approx(round(turn["agent_start"] / GRID), abs=1e-6)
            assert turn["answer"].startswith(turn["said"])
            if turn["said"] != turn["answer"]:
                assert "cut" in turn
                cut += 1
            assert turn["agent_end"] - turn["agent_start"] > 0.1 and not turn["unseen"]
        assert not pcm[~speaking, 0].any(), "the agent's silence is digital"
    assert usual > 20 and cut > 0


def test_readings_of_facts_have_text_targets_and_others_do_not() -> None:
    known = {" ".join(plain(fact)) for fact in kinds.facts()}
    told = {}
    for facts in (False, True):
        _, about = next(readings(np.random.default_rng(3), 1, facts=facts))
        assert about.get("read", False) is not facts
        said, end = list[list[str]](), -1.0
        for word, (start, stop), _ in about["alignments"]:
            if start - end > UTTERANCE_GAP or not said:
                said.append([])
            said[-1].append(word)
            end = stop
        told[facts] = [" ".join(words) in known for words in said]
    assert all(told[True]) and len(told[True]) > 3 and not all(told[False])


def digest(folder: Path) -> str:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in files)).hexdigest()


@pytest.mark.parametrize("make", [utterances, conversations])
def test_a_corpus_depends_on_its_seed_and_not_on_the_workers(make: corpus.Maker, tmp_path: Path) -> None:
    for name, seed, workers in (("a", 1, 1), ("b", 1, 2), ("c", 2, 2)):
        corpus.write_hours(make, tmp_path / name, 20 / 3600, seed, workers, shard=3)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")
    lines = [json.loads(x) for x in (tmp_path / "a" / "MANIFEST.jsonl").read_text().splitlines()]
    channels = {utterances: 1, conversations: 2}[make]
    assert sum(line["duration"] for line in lines) >= 20
    for line in lines:
        info = soundfile.info(tmp_path / "a" / line["path"])
        assert info.samplerate == RATE and info.duration == pytest.approx(line["duration"])
        assert info.channels == channels and (tmp_path / "a" / line["path"]).with_suffix(".json").is_file()
    with pytest.raises(SystemExit, match=f"{tmp_path}/a"):
        corpus.write_hours(make, tmp_path / "a", 1 / 3600, 9, 1, shard=3)


def test_a_small_corpus_has_small_shards_and_can_grow(tmp_path: Path) -> None:
    assert corpus.shard_size(24, 2.5, 500) == 500 and corpus.shard_size(4, 33) == 100
    assert [corpus.shard_size(hours, 33) for hours in (0.02, 0.5)] == [4, 14]
    for hours, shard in ((15 / 3600, 3), (30 / 3600, 5)):
        corpus.write_hours(utterances, tmp_path / "grown", hours, 1, 1, shard=shard)
    corpus.write_hours(utterances, tmp_path / "whole", 30 / 3600, 1, 1, shard=3)
    assert digest(tmp_path / "grown") == digest(tmp_path / "whole")


def test_test_sets_give_the_time_of_the_next_utterance() -> None:
    for name in ("interruptions", "backchannels"):
        make, _, options = all_sets()[name]
        for _, about in make(np.random.default_rng(1), 2, **options):
            turn, after = about["turns"][0], about["next"]["after"]
            assert 0 < after < turn["agent_end"] - turn["agent_start"]
            assert len(about["files"][".next.wav"]) / RATE == pytest.approx(about["next"]["duration"], abs=1e-3)
    make, _, options = all_sets()["contents-unseen_voices-unseen"]
    for _, about in make(np.random.default_rng(2), 4, **(options | {"two_turns": 2})):
        assert all(turn["unseen"] for turn in about["turns"]) and about["cell"] == "unseen_both"
        assert about["voice"] in {v.id for v in HELD_OUT}
