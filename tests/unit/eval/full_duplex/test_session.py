"""The closed loop: the user simulator with a rule-based agent, and the figures."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from jomni.eval.full_duplex.evaluation import LONGEST, Plan, evaluate
from jomni.eval.full_duplex.figures import accuracy, behaviours
from jomni.eval.full_duplex.report import summary_table, write_report
from jomni.eval.full_duplex.session import Conversation, run_conversations, single
from jomni.eval.full_duplex.test_set import load_test_set
from jomni.eval.full_duplex.turns import turns_of
from jomni.eval.full_duplex.user_simulator import utterances_of
from tests.unit.eval.cases import FRAME, RATE, SIZE, Agent, Manners, noise, turn, write_item


@pytest.fixture(scope="module")
def tokenizer(tiny_moshi):
    return tiny_moshi.text_tokenizer()


@pytest.fixture(scope="module")
def words(tokenizer):
    """Return the tokens of "I am well"."""
    return tuple(tokenizer.encode("I am well"))


def talk(folder, tokenizer, manners, slots=2, seeds=(0,), settings=None):
    agent = Agent(manners)
    talks = (single(item, seed) for seed in seeds for item in load_test_set(folder))
    return agent, list(run_conversations(agent, {}, tokenizer, talks, slots, settings=settings))


def only(folder, tokenizer, manners):
    (outcome,) = talk(folder, tokenizer, manners)[1]
    return outcome, turns_of(outcome)


def test_answers_are_timed_as_a_listener_hears_them(tmp_path, tokenizer, words):
    write_item(tmp_path, "a", [turn(0.8, 1.6, (1.84, 2.8))], 6.0)
    outcome, (found,) = only(tmp_path, tokenizer, Manners(delay=3, words=words))
    assert found.user == pytest.approx((0.8, 1.6))
    # Frames 20, 21, 22 are silent; what call 22 returns is heard when frame 22 has ended, at frame 23.
    assert found.latency == pytest.approx(3 * FRAME, abs=0.011)
    assert found.said == "I am well" and found.correct and found.takes_over
    assert not found.takes_turn  # 0.96 s and three words: too little for Full-Duplex-Bench
    assert not found.speaks_over and found.waits is None and found.continued is None and not found.interrupted
    clip = outcome.clip(*found.user)
    assert len(clip) == round(0.8 * RATE) and not clip.any()
    assert np.abs(outcome.clip(1.85, 2.7)).max() == pytest.approx(0.2, abs=0.01)


def test_the_next_question_waits_for_a_slow_agent(tmp_path, tokenizer):
    write_item(tmp_path, "a", [turn(0.8, 1.6, (1.84, 2.8)), turn(3.6, 4.4, (4.6, 5.6))], 8.0)
    for delay in (3, 25):
        _, (first, second) = only(tmp_path, tokenizer, Manners(delay=delay))
        assert first.latency == pytest.approx(delay * FRAME, abs=0.011)
        assert -0.011 < second.latency - delay * FRAME < FRAME + 0.011  # its question ends within a frame
        # The recorded gap of 0.8 s after the answer, give or take a frame, however late the answer came.
        gap = second.user[0] - (first.user[1] + first.latency + 12 * FRAME)
        assert gap == pytest.approx(0.8, abs=1.01 * FRAME), delay
        assert not first.speaks_over and not second.speaks_over


def test_the_user_continues_if_the_agent_stays_silent(tmp_path, tokenizer):
    write_item(tmp_path, "a", [turn(0.8, 1.6, (1.84, 2.8)), turn(3.6, 4.4, None)], 8.0)
    outcome, (first, second) = only(tmp_path, tokenizer, Manners(delay=10_000))
    assert first.latency is None and not first.takes_over and first.said == "" and first.correct is False
    assert second.user[0] - first.user[1] == pytest.approx(4.1, abs=0.2)  # patience, and the lead
    assert outcome.end - second.user[1] == pytest.approx(4.0, abs=0.2) and not outcome.endless


def test_the_user_continues_if_an_answer_does_not_end(tmp_path, tokenizer):
    write_item(tmp_path, "a", [turn(0.8, 1.6, (1.84, 2.8)), turn(3.6, 4.4, (4.6, 5.0))], 8.0)
    outcome, (first, second) = only(tmp_path, tokenizer, Manners(length=10_000, stops=None))
    assert outcome.endless and first.endless and second.speaks_over and second.latency == 0
    assert second.user[0] - first.user[1] == pytest.approx(15.1, abs=0.2)


def test_speaking_over_the_user_is_detected(tmp_path, tokenizer):
    item = turn(0.8, 3.0, (3.2, 4.0))
    write_item(tmp_path, "a", [item], 6.0)
    path = write_item(tmp_path, "b", [item | {"pause": [1.4, 2.2]}], 6.0)
    assert path.exists()
    (steady, _), (paused, pause_outcome) = (
        (turns_of(outcome)[0], outcome) for outcome in talk(tmp_path, tokenizer, Manners(delay=3))[1]
    )
    assert not steady.speaks_over and steady.waits is None
    assert paused.waits is False and paused.pause_takes_turn is False  # the user stopped it before a second was over
    assert paused.speaks_over  # from the pause into what follows it
    assert pause_outcome.sounds[0][0] == pytest.approx(1.4 + 3 * FRAME, abs=1.1 * FRAME)
    waiting = [turns_of(o)[0] for o in talk(tmp_path, tokenizer, Manners(delay=11))[1]]
    assert [t.waits for t in waiting] == [None, True] and not waiting[1].speaks_over
    counted = behaviours(waiting)
    assert counted["waits"].count == 1 and counted["speaks_over"].count == 2 and counted["latency"].count == 2


@pytest.mark.parametrize(("stops", "time"), [(4, 4 * FRAME), (None, None)])
def test_an_interruption_comes_while_the_agent_speaks(tmp_path, tokenizer, words, stops, time):
    following = {"after": 0.5, "kind": "halt", "question": "wait who are you", "answer": "i am well"}
    write_item(tmp_path, "a", [turn(0.8, 1.6, (1.84, 4.5))], 12.0, following=(following, 1.2), background=0.002)
    for delay in (3, 20):  # however late the answer comes
        manners = Manners(delay=delay, length=30, stops=stops, words=words)
        _, (first, second) = only(tmp_path, tokenizer, manners)
        assert first.interrupted and first.correct is None and not first.interruption_missed
        spoken = second.user[0] - (first.user[1] + first.latency)
        assert spoken == pytest.approx(0.5, abs=1.1 * FRAME)
        if time is None:
            # The quick one begins anew when the user has ended, while it still speaks: one stretch.
            due = 1.2 + (delay + 30) * FRAME if delay == 3 else 30 * FRAME - spoken
            assert first.stop == pytest.approx(due, abs=1.1 * FRAME)
        else:
            assert first.stop == pytest.approx(time, abs=1.1 * FRAME)
            assert second.correct and second.said == "I am well"  # the rest of the first answer is not in it
        assert second.speaks_over is None
        assert behaviours([first, second])["stops"].value == float(time is not None)


def test_interrupted_speech_is_not_part_of_the_next_answer(tmp_path, tokenizer, words):
    following = {"after": 0.5, "question": "who are you", "answer": "i am well i am well"}
    write_item(tmp_path, "a", [turn(0.8, 1.6, (1.84, 4.5))], 12.0, following=(following, 1.2))
    outcome, (first, second) = only(tmp_path, tokenizer, Manners(length=30, words=words * 2))
    assert any(second.user[0] < word.time < second.user[1] for word in outcome.words)
    assert second.said == "I am well I am well" and second.correct and first.interrupted


def test_sound_in_a_pause_is_neither_waiting_nor_speaking_over(tmp_path, tokenizer):
    write_item(tmp_path, "a", [turn(0.8, 3.0, (3.2, 4.0), pause=[1.4, 2.2])], 6.0)
    outcome, (found,) = only(tmp_path, tokenizer, Manners(delay=3, length=4))
    assert outcome.sounds[0][1] < 2.2
    assert found.waits is False and found.pause_takes_turn is False and not found.speaks_over


def test_an_interruption_of_a_silent_agent_is_counted_separately(tmp_path, tokenizer):
    following = {"after": 1.5, "question": "who are you", "answer": "i am well"}
    write_item(tmp_path, "a", [turn(0.8, 1.6, (1.84, 4.5))], 12.0, following=(following, 1.2))
    outcome, (first, _) = only(tmp_path, tokenizer, Manners(length=6))
    assert outcome.missed == {1} and not first.interrupted and first.interruption_missed and first.stop is None
    found = behaviours([first])
    assert found["stops"].count == 0 and found["interruptions_missed"].value == 1 and found["latency"].count == 0


@pytest.mark.parametrize(("stops", "length", "continued"), [(None, 30, True), (2, 30, False), (None, 4, None)])
def test_backchannels(tmp_path, tokenizer, stops, length, continued):
    following = {"after": 0.5, "word": "uh huh"}
    write_item(tmp_path, "a", [turn(0.8, 1.6, (1.84, 4.5))], 12.0, following=(following, 0.4))
    _, (found,) = only(tmp_path, tokenizer, Manners(length=length, stops=stops))
    assert found.continued is continued and not found.interrupted and found.correct is False


def test_a_halt_in_the_recording_stops_the_agent(tmp_path, tokenizer):
    halted = turn(0.8, 1.6, (1.84, 2.8), halted_by=["stop", 2.4, 2.9], cut=2.8)
    write_item(tmp_path, "a", [halted, turn(4.2, 5.0, (5.2, 6.0))], 8.0, user=[(2.4, 2.9)])
    outcome, (first, second) = only(tmp_path, tokenizer, Manners(length=30))
    assert [piece.role for piece in outcome.utterances] == ["question", "interruption", "question"]
    assert first.interrupted and first.stop < 0.5 and second.correct is False and not second.interrupted


def test_background_continues_while_the_user_waits(tmp_path, tokenizer):
    write_item(tmp_path, "a", [turn(0.8, 1.6, (1.84, 2.8)), turn(3.6, 4.4, (4.6, 5.6))], 8.0, background=0.01)
    outcome, (first, second) = only(tmp_path, tokenizer, Manners(delay=40))
    waiting = outcome.user_pcm[round((first.user[1] + 0.1) * RATE) : round((second.user[0] - 0.1) * RATE)] / 32768
    level = np.sqrt(np.square(waiting[: len(waiting) // SIZE * SIZE].reshape(-1, SIZE)).mean(1))
    assert len(level) > 50 and level.min() > 0.007 and level.max() < 0.013


def test_the_user_plays_the_recorded_samples(tmp_path, tokenizer):
    write_item(tmp_path, "a", [turn(0.83, 1.61, (1.84, 2.8)), turn(3.6, 4.4, (4.6, 5.6))], 8.0)
    outcome, found = only(tmp_path, tokenizer, Manners(delay=7))
    wave = np.rint(load_test_set(tmp_path)[0].read(RATE)[1] * 32768).astype(np.int16)
    for at, piece in zip(outcome.played, outcome.utterances, strict=True):
        first = round(at * RATE)
        assert (outcome.user_pcm[first : first + piece.end - piece.start] == wave[piece.start : piece.end]).all()
    assert len(found) == 2


def test_slots_seeds_and_order_do_not_change_an_outcome(tmp_path, tokenizer, words):
    for n in range(5):
        write_item(tmp_path, f"i{n}", [turn(0.5 + 0.1 * n, 1.6, (1.84, 2.8))], 5.0)
    alone, together = Agent(Manners(words=words)), Agent(Manners(words=words))
    items = load_test_set(tmp_path)

    def run(agent, slots):
        talks = [single(item, seed) for seed in (0, 1) for item in items]
        found = [t for o in run_conversations(agent, {}, tokenizer, talks, slots) for t in turns_of(o)]
        return sorted(found, key=lambda t: (t.seed, t.item))

    assert run(alone, 1) == run(together, 4)
    assert sorted(alone.seeds) == sorted(together.seeds) == [0] * 5 + [1] * 5
    assert together.calls < alone.calls / 2


def test_a_conversation_can_have_many_recordings(tmp_path, tokenizer, words):
    write_item(tmp_path, "a", [turn(0.8, 1.6, (1.84, 2.8))], 6.0)
    (item,) = load_test_set(tmp_path)
    rest = [item] * 3
    agent = Agent(Manners(words=words))
    times = []

    def following(now):
        times.append(now)
        return rest.pop() if rest else None

    outcomes = list(run_conversations(agent, {}, tokenizer, [Conversation("long", 5, following)], 1))
    assert len(outcomes) == 3 and agent.seeds == [5] and times[0] == 0 and times == sorted(times)
    for before, after in itertools.pairwise(outcomes):
        assert after.begin == pytest.approx(before.end - FRAME)
    for outcome in outcomes:
        (found,) = turns_of(outcome)
        assert found.latency == pytest.approx(3 * FRAME, abs=0.011) and found.correct
        assert found.user[0] - outcome.begin == pytest.approx(0.8)


def test_a_whole_evaluation(tmp_path, tokenizer, words):
    for cell in ("seen", "unseen_contents", "unseen_voices", "unseen_both"):
        for n in range(3):
            right = {} if n else {"answer": "i am ill"}
            write_item(tmp_path, f"{cell}{n}", [turn(0.6, 1.6, (1.84, 2.8), **right)], 4.5, cell=cell)
    write_item(tmp_path, "long", [turn(0.6, 1.6, (1.84, 2.8))], LONGEST + 1)
    agent = Agent(Manners(words=words))
    plan = Plan(seeds=2, slots=3, replies=0, minutes=0.5, probes=4, long_slots=2, frames=30, examples=2)
    told = []
    result = evaluate(agent, {}, tokenizer, load_test_set(tmp_path), plan, progress=lambda *a: told.append(a))
    (tmp_path / "report").mkdir()
    assert len(result.turns) == 24 and len(result.examples) == 2 and len(result.frames) == 30
    found = accuracy(result.turns, cell="unseen_both")
    assert (found.value, found.count) == (pytest.approx(2 / 3), 6)
    once = accuracy([turn for turn in result.turns if turn.seed == 0], cell="unseen_both")
    assert (found.low, found.high) == pytest.approx((once.low, once.high)), "two seeds tell no more than one"
    assert ("conversing", 24, 24, "conversations") in told and told[-1][0] == "conversing at length"
    assert len(result.long) == 4
    for first, again in result.long:
        assert first.item == again.item and first.user[0] < 15 < again.user[0] and first.correct == again.correct
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in summary_table(result, plan).splitlines()]
    assert [row[0] for row in rows[2:]] == [
        "answer text exact: seen", "answer text exact: unseen_both", "answer text exact: unseen_contents",
        "answer text exact: unseen_voices", "speaks over the user, share of turns", "response latency, median",
        "waits through a pause inside a question", "stops within 1 s when interrupted",
        "whole duplex frame, 99th percentile", "answers around minute 0.5, against the start",
    ]  # fmt: skip
    assert rows[3][1].startswith("66.7 %") and rows[8][1] == "-" and rows[11][1:] == ["+0.0 points [+0.0, +0.0]", "4"]
    assert behaviours(result.turns)["latency"].value == pytest.approx(0.24, abs=0.011)
    write_report(tmp_path / "report", result, plan, {})
    held = json.loads((tmp_path / "report/report.json").read_text())
    assert held["slowest_frames"]["count"] == 30 and held["long"]["gain"]["value"] == 0
    assert held["long"]["minutes"] == 0.5 and held["seeds"]["1"]["count"] == 12 and len(held["kinds"]["greeting"]) == 4


def test_accuracy_by_kind_counts_only_plain_questions(tmp_path, tokenizer, words):
    write_item(tmp_path, "a", [turn(0.6, 1.6, (1.84, 2.8))], 4.5, cell="plain")
    write_item(tmp_path, "b", [turn(0.6, 1.6, (1.84, 2.8), pause=[0.9, 1.3])], 4.5, cell="pauses")
    items = load_test_set(tmp_path)
    assert [item.plain for item in items] == [True, False]
    plan = Plan(seeds=1, slots=2, replies=0, minutes=0, frames=0)
    result = evaluate(Agent(Manners(words=words)), {}, tokenizer, items, plan)
    (tmp_path / "report").mkdir()
    write_report(tmp_path / "report", result, plan, {})
    held = json.loads((tmp_path / "report/report.json").read_text())
    assert set(held["cells"]) == {"plain", "pauses"} and set(held["kinds"]["greeting"]) == {"plain"}
    assert held["seeds"]["0"]["count"] == 1 and held["behaviour"]["waits"]["count"] == 1


def test_utterances_of_an_item(tmp_path):
    halted = turn(1.0, 2.0, (2.2, 3.0), pause=[1.3, 1.6], backchannel=["yeah", 2.5, 2.7])
    write_item(tmp_path, "a", [halted, turn(2.9, 3.5, (3.7, 4.2), interrupted_at=2.9), turn(5.0, 5.5, None)], 6.0)
    (item,) = load_test_set(tmp_path)
    found = [(p.start / RATE, p.turn, p.role, p.opening, round(p.wait, 3)) for p in utterances_of(item, RATE)]
    assert found == [
        (1.0, 0, "question", False, 0.0), (2.5, 0, "backchannel", False, 0.3), (2.9, 1, "question", True, 0.7),
        (5.0, 2, "question", False, 0.8),
    ]  # fmt: skip
    assert dataclasses.is_dataclass(item) and noise(0.1, 1.0).shape == (1600,)
