"""Questions, answers and plans of the synthetic corpus; training data has no held-out contents."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tools.synth import kinds, voices, world
from tools.synth.__main__ import facts, user_words
from tools.synth.conversation import LONG_ANSWER, Plan, plan
from tools.synth.readings import reading
from tools.synth.speak import plain
from tools.synth.testsets import draw_turn
from tools.synth.utterances import agent_words, codec_text

PLANS = 2000


def plans(count: int = PLANS) -> list[Plan]:
    return [plan(np.random.default_rng([3, i])) for i in range(count)]


@pytest.fixture(scope="module")
def planned() -> list[Plan]:
    return plans()


def numbers_in(words: list[str]) -> list[int]:
    """Return the numbers in a text; `twenty one` is 21."""
    values, i = [], 0
    while i < len(words):
        for size in (2, 1):
            text = " ".join(words[i : i + size])
            if len(words) >= i + size and text in world.NUMBERS:
                values.append(world.NUMBERS.index(text))
                i += size
                break
        else:
            i += 1
    return values


def held_out_text(question: str) -> bool:
    """Return whether the words of a question are a held-out combination, independently of `kinds`."""
    words = question.split()
    values = numbers_in(words)
    if len(values) == 2 and {"plus", "minus", "add", "take"} & set(words):
        return kinds.is_unseen(f"sum {min(values)} {max(values)}")
    if len(values) == 2 and {"bigger", "smaller"} & set(words):
        return kinds.is_unseen(f"compare {min(values)} {max(values)}")
    if len(values) == 2 and "count" in words:
        return kinds.is_unseen(f"range {values[0]} {values[1]}")
    return False


def test_at_least_5000_different_questions_of_at_least_12_kinds() -> None:
    questions = {" ".join(plain(turn.question)) for kind in kinds.FINITE for turn in kinds.FINITE[kind]()}
    assert len(questions) >= 5000
    assert len(kinds.KINDS) >= 12


def test_no_question_has_two_answers() -> None:
    answers: dict[str, str] = {}
    for kind in kinds.FINITE:
        for turn in kinds.FINITE[kind]():
            assert answers.setdefault(" ".join(plain(turn.question)), turn.answer) == turn.answer


def test_every_kind_that_combines_holds_out_about_its_share() -> None:
    for kind, low, high in (("add", 0.08, 0.17), ("subtract", 0.08, 0.17), ("compare", 0.08, 0.17),
                            ("count", 0.10, 0.22)):  # fmt: skip
        seen, unseen = (len(kinds.listed(kind, side)) for side in (False, True))
        assert low < unseen / (seen + unseen) < high, kind


def test_both_orders_of_a_pair_are_on_one_side() -> None:
    sides: dict[frozenset[int], set[bool]] = {}
    for a in range(21):
        for b in range(21):
            turns = [*kinds.sum_turns(a, b), *(kinds.difference_turns(a, b) if a >= b else ())]
            sides.setdefault(frozenset((a, b)), set()).update(t.unseen for t in turns)
    assert all(len(side) == 1 for side in sides.values())


def test_arithmetic_is_right() -> None:
    for kind, sign in (("add", 1), ("subtract", -1)):
        for turn in kinds.FINITE[kind]():
            a, b, result = numbers_in(plain(turn.answer))
            assert a + sign * b == result, turn


def test_no_held_out_content_in_thousands_of_training_conversations(planned: list[Plan]) -> None:
    turns = [step.turn for made in planned for step in made.steps if step.turn is not None]
    spoken_after = [turn for turn in turns if turn.kind in ("repeat", "say")]
    assert len(turns) > 10_000 and len(spoken_after) > 500
    for turn in turns:
        assert not turn.unseen, turn
        assert not held_out_text(" ".join(plain(turn.question))), turn
        assert not held_out_text(" ".join(plain(turn.answer)[:4])), turn
    for turn in spoken_after:
        words = [w for w in plain(turn.answer) if w != "and"]
        family = "three" if turn.kind == "repeat" else "two"
        assert not kinds.is_unseen(f"{family} {' '.join(words)}"), turn


def test_no_held_out_content_in_the_codecs_texts() -> None:
    rng = np.random.default_rng(4)
    for _ in range(5000):
        assert not held_out_text(" ".join(plain(codec_text(rng, agent=bool(rng.integers(2))))))


def test_the_codecs_texts_have_only_the_chosen_kinds() -> None:
    said = {codec_text(np.random.default_rng(i), True, ("day", "colour")) for i in range(60)}
    answers = {turn.answer for name in ("day", "colour") for turn in kinds.FINITE[name]()}
    assert said <= answers and len(said) > 10
    whole = {codec_text(np.random.default_rng(i), True) for i in range(60)}
    assert not whole <= answers


def test_readings_have_all_words_of_the_agent_and_no_held_out_content() -> None:
    rng, missing, repeated = np.random.default_rng(4), set(agent_words()), 0
    for _ in range(5000):
        words = plain(reading(rng))
        assert not held_out_text(" ".join(words[:4])), words
        missing -= set(words)
        if len(words) in (3, 4) and words[-2] == "and":  # repeated words
            said = [w for w in words if w != "and"]
            assert not kinds.is_unseen(f"{'two' if len(said) == 2 else 'three'} {' '.join(said)}"), words
            repeated += 1
    assert repeated > 100
    assert missing <= {"your"}, missing  # only in an answer that needs a conversation


def test_facts_exceed_the_questions_and_have_no_held_out_content() -> None:
    beyond, compared, counts = 0, 0, set()
    for fact in facts():
        values = numbers_in(fact.split())
        if {"plus", "minus"} & set(fact.split()):
            asked = max(values[:2]) <= 20
            beyond += not asked
            assert not (asked and kinds.is_unseen(f"sum {min(values[:2])} {max(values[:2])}")), fact
            assert values[2] == values[0] + (values[1] if "plus" in fact else -values[1]) <= 40
        elif {"bigger", "smaller"} & set(fact.split()):
            assert not kinds.is_unseen(f"compare {min(values)} {max(values)}"), fact
            compared += 1
        elif fact.startswith("from"):
            first, last, *series = values
            step = 1 if first < last else -1
            assert series == list(range(first, last + step, step)), fact
            assert not kinds.is_unseen(f"range {first} {last}"), fact
            counts.add(fact)
    assert beyond > 1000 and compared > 100 and len(counts) > 550


def test_facts_without_a_rule_are_repeated() -> None:
    found = facts()
    assert found.count("the opposite of hot is cold") > found.count("one plus four is five") == 1


def test_test_questions_are_held_out_where_they_should_be() -> None:
    rng = np.random.default_rng(5)
    for unseen in (False, True):
        assert {draw_turn(rng, unseen).unseen for _ in range(1000)} == {unseen}


def test_no_held_out_speaker_in_training(planned: list[Plan]) -> None:
    held_out = {v.name for v in voices.HELD_OUT}
    assert {"rms"} <= held_out and len(held_out) >= 5
    assert not held_out & {v.name for v in voices.TRAIN}
    used = {made.voice.name for made in planned}
    assert not used & {*held_out, voices.AGENT.name}
    assert used == {v.name for v in voices.TRAIN}


def test_every_word_number_and_fact_occurs_in_training() -> None:
    missing = set(agent_words())
    for kind in kinds.FINITE:
        for turns in kinds.listed(kind, False):
            missing -= set(plain(turns[0].answer))
    assert missing <= {*world.WORDS, "your"}  # these are said in `repeat`, `say` and `name again`
    for position in (0, 1):
        operands = {numbers_in(plain(t[0].answer))[position] for t in kinds.listed("add", False)}
        assert operands == set(range(21))


def test_conversations_have_the_events_they_promise(planned: list[Plan]) -> None:
    steps = [s for made in planned for s in made.steps]
    with_marks = [s for s in steps if s.turn is not None and "|" in s.turn.question]
    paused = [s for s in with_marks if s.pause is not None]
    assert 0.2 < len(paused) / len(with_marks) < 0.4
    assert all(s.pause is not None and 0.5 <= s.pause[1] <= 1.2 for s in paused)
    assert all(0.14 <= s.gap <= 0.22 for s in steps if s.turn is not None)
    assert sum(s.interrupts is not None for s in steps) > 0.05 * len(steps)
    assert all(0.35 <= s.reaction <= 0.6 for s in steps if s.interrupts is not None)
    assert sum(s.backchannel is not None for s in steps) > 0.04 * len(steps)
    assert any(s.turn is None for s in steps) and any(made.lead > 8 for made in planned)
    assert {s.turn.kind for s in steps if s.turn is not None} == {*kinds.KINDS, *kinds.FOLLOW_UPS}
    assert LONG_ANSWER == 1.2


def test_cut_answers_have_no_follow_up(planned: list[Plan]) -> None:
    pairs = [pair for made in planned for pair in itertools.pairwise(made.steps)]
    follow_ups = [(a, b) for a, b in pairs if b.turn is not None and b.turn.kind in kinds.FOLLOW_UPS]
    assert len(follow_ups) > 100
    for before, step in follow_ups:
        assert step.interrupts is None and before.turn is not None


def test_answers_to_follow_ups_depend_on_the_conversation() -> None:
    last = next(iter(kinds.sum_turns(3, 4)))
    answers = {" ".join(plain(t.question)): " ".join(plain(t.answer)) for t in kinds.follow_ups(last, "tom")}
    assert answers["and plus one"] == "seven plus one is eight"
    assert answers["and minus two"] == "seven minus two is five"
    assert answers["say that again"] == "three plus four is seven"
    assert answers["what is my name"] == "your name is tom"
    day = next(t for t in kinds.FINITE["day"]() if "after | monday" in t.question)
    assert any(t.answer == "after tuesday comes wednesday." for t in kinds.follow_ups(day, None))


def test_questions_are_incomplete_before_a_pause() -> None:
    questions = {" ".join(plain(t.question)) for kind in kinds.FINITE for t in kinds.FINITE[kind]()}
    begins = set()
    for kind in kinds.FINITE:
        for turn in kinds.FINITE[kind]():
            parts = turn.question.split("|")
            begins |= {" ".join(plain(" ".join(parts[:i]))) for i in range(1, len(parts))}
    assert len(begins) > 50 and not begins & questions


def test_words_are_plain_and_few() -> None:
    words = {*agent_words(), *user_words()}
    assert len(words) <= 900
    assert all(w.isalpha() and w == w.lower() for w in words)


def test_the_same_seed_plans_the_same_conversation() -> None:
    assert plans(5) == plans(5)
    assert plan(np.random.default_rng(1)) != plan(np.random.default_rng(2))


def test_frequent_kinds_have_no_held_out_content() -> None:
    drawn = [plan(np.random.default_rng([3, i]), more={"count": 8.0}) for i in range(300)]
    turns = [step.turn for some in drawn for step in some.steps if step.turn is not None]
    usual = [step.turn for some in plans(300) for step in some.steps if step.turn is not None]
    shares = [sum(turn.kind == "count" for turn in some) / len(some) for some in (usual, turns)]
    assert shares[1] > 3 * shares[0]
    assert not any(turn.unseen for turn in turns)
    assert plan(np.random.default_rng(1), more={}) == plan(np.random.default_rng(1))


def test_far_counts_have_no_held_out_content() -> None:
    drawn = [plan(np.random.default_rng([3, i]), more={"count": 8.0}, far=0.7) for i in range(300)]
    counts = {(step.turn.question, step.turn.content, step.turn.unseen) for some in drawn for step in some.steps
              if step.turn is not None and step.turn.kind == "count"}  # fmt: skip
    ends = [numbers_in(plain(question)) for question, _, _ in counts]
    assert max(itertools.chain(*ends)) > 35 and {abs(a - b) for a, b in ends} == {*kinds.FAR}
    assert all(content == f"count {a} {b}" for (_, content, _), (a, b) in zip(counts, ends, strict=True))
    assert len({content for _, content, _ in counts}) > 400
    assert not any(unseen for _, _, unseen in counts)
    assert plan(np.random.default_rng(1), far=0.0) == plan(np.random.default_rng(1))
