"""Evaluation of turn-based models, by the definitions of docs/guides/evaluate.md."""

import dataclasses

import numpy as np
import pytest

from jomni.checkpoints.checkpoint import Checkpoint
from jomni.data.turns.parquet import RowKind, Turn
from jomni.errors import ConfigError, WeightsError
from jomni.eval.full_duplex.replies import Reply
from jomni.eval.turn_based.adapters import AdapterConfig, DecoderAdapter, MiniOmniAdapter, Response, make_adapter, unfit
from jomni.eval.turn_based.evaluation import Plan, decode_answers, evaluate, figures, relation
from jomni.models.decoder.chat import Chat
from jomni.models.mini_omni.chat import OmniChat
from jomni.models.mini_omni.streams import Task
from tests import decoder_cases
from tests.mini_omni_train_case import PAIRS, codes, question
from tests.unit.models.mini_omni.test_chat import CODEC, CODEC_PARAMS, CONFIG, ENCODER, PARTS, frames_of, whole

TURNS = [Turn(asked, question(i, 1600 + 800 * i), told, codes(i)) for i, (asked, told) in enumerate(PAIRS[:5])]


class Parrot:
    """Adapter that returns given texts for each task, without a codec."""

    def __init__(self, **texts: list[str]) -> None:
        self.texts = {Task(name.replace("_", "-")): said for name, said in texts.items()}
        self.left_out = {task: "it was not taught" for task in Task if task not in self.texts}
        self.sample_rate, self.slots, self.asked = 0, 2, []

    def ask(self, task, turns):
        self.asked.append([turn.question for turn in turns])
        said = [self.texts[task][TURNS.index(turn)] for turn in turns]
        return [Response(text, np.zeros(0, np.float32), 9, bool(text), 2, None) for text in said]


def test_answers_are_compared_with_the_expected_ones():
    right = [turn.answer for turn in TURNS]
    parrot = Parrot(
        T1_T2=[*right[:3], "It is BLACK!", ""], A1_T2=[right[0], "it is grey", *right[2:4], "so it is white"],
        A1_T1=["say red", "say green", "say it is blue", "say", ""],
    )  # fmt: skip
    result = evaluate(parrot, TURNS, Plan(replies=0))
    assert [len(asked) for asked in parrot.asked] == [2, 2, 1] * 3
    found = {task: figures(result.answers, task) for task in parrot.texts}
    assert {task.value: round(5 * each["exact"].value) for task, each in found.items()} == {
        "T1-T2": 4, "A1-T2": 3, "A1-T1": 2,
    }  # fmt: skip
    assert found[Task.A1_T1]["wer"].value == pytest.approx((0 + 0 + 2 + 1 + 2) / 10)
    assert found[Task.T1_T2]["wer"].value == pytest.approx(3 / 15) and found[Task.T1_T2]["ended"].value == 0.8
    assert relation(result.answers, Task.A1_T2, Task.T1_T2).value == pytest.approx(3 / 4)
    assert found[Task.T1_T2]["first_sound"].count == 0 and found[Task.T1_T2]["steps"].value == 9
    assert set(result.left_out) == {Task.A1_A2, Task.T1_A2} and not result.replies and not result.codec.count


def test_only_chosen_tasks_are_run():
    parrot = Parrot(T1_T2=[turn.answer for turn in TURNS], A1_T2=[""] * 5)
    result = evaluate(parrot, TURNS, Plan(replies=0, tasks=(Task.T1_T2, Task.A1_A2)))
    assert {answer.task for answer in result.answers} == {Task.T1_T2} and len(parrot.asked) == 3
    assert result.left_out[Task.A1_T2] == "not chosen" and result.left_out[Task.A1_A2] == "it was not taught"
    with pytest.raises(ConfigError, match="A1-A2: it was not taught"):
        evaluate(parrot, TURNS, Plan(replies=0, tasks=(Task.A1_A2,)))


def test_questions_with_long_answers_are_batched_together():
    frames = (9, 2, 8, 1, 3)
    longer = [dataclasses.replace(t, answer_codes=np.zeros((7, n), int)) for t, n in zip(TURNS, frames, strict=True)]
    parrot = Parrot(T1_T2=[""])
    parrot.texts[Task.T1_T2], parrot.ask = [], lambda task, turns: parrot.asked.append(turns) or [NOTHING] * len(turns)
    answers = evaluate(parrot, longer, Plan(replies=0)).answers
    assert [[t.answer_codes.shape[1] for t in turns] for turns in parrot.asked] == [[1, 2], [3, 8], [9]]
    assert [answer.question for answer in answers] == [turn.question for turn in TURNS], "in the set's order"


NOTHING = Response("", np.zeros(0, np.float32), 1, False, None, None)


@pytest.fixture(scope="module")
def adapter():
    return MiniOmniAdapter(PARTS, AdapterConfig(slots=2), longest=25, context=120)


@pytest.mark.slow
@pytest.mark.parametrize("task", [Task.A1_A2, Task.T1_T2, Task.A1_T1])
def test_answers_do_not_depend_on_the_batch(adapter, task):
    waves = [adapter.ask(task, TURNS[:2]), adapter.ask(task, TURNS[2:3])]
    chat = OmniChat(PARTS, 2, context=120, voice="single" if task.speaks else "text_only")
    turn, given = TURNS[2], waves[1][0]
    asked = turn.question_at(16_000) if task.listens else turn.question
    kind = {"A2": "speech", "T2": "text", "T1": "transcript"}[task.value[-2:]]
    pieces = list(chat.reply([asked, None], kind, max_steps=25))
    assert given.text == "".join(piece.text[0] for piece in pieces) and given.steps == len(pieces)
    np.testing.assert_array_equal(given.pcm, np.concatenate([piece.pcm[0] for piece in pieces]))
    first = next((n for n, piece in enumerate(pieces, 1) if len(piece.pcm[0])), None)
    assert given.first_sound == first and (first is not None) == task.speaks
    assert given.ended == (given.steps < 25) and [len(wave) for wave in waves] == [2, 1]


def test_a_text_decoder_answers_greedily_in_text():
    made = decoder_cases.checkpoint()
    adapter = make_adapter(made, None, TURNS, AdapterConfig(slots=2))
    assert isinstance(adapter, DecoderAdapter) and set(adapter.left_out) == set(Task) - {Task.T1_T2}
    both, one = adapter.ask(Task.T1_T2, TURNS[:2]), adapter.ask(Task.T1_T2, TURNS[1:2])
    assert both[1] == dataclasses.replace(one[0], pcm=both[1].pcm), "alone, and with another"
    pieces = Chat(made, 2, context=adapter._chat._session.generator.context).reply(
        [TURNS[1].question, None], max_tokens=adapter._longest, temperature=0
    )
    assert "".join(piece[0] for piece in pieces) == both[1].text and both[0].text != both[1].text


def test_tasks_that_need_missing_parts_are_left_out():
    mute = MiniOmniAdapter(dataclasses.replace(PARTS, codec=None), AdapterConfig(), 9, 99)
    assert mute.left_out == dict.fromkeys((Task.A1_A2, Task.T1_A2), "the model has no codec") and not mute.sample_rate
    deaf = MiniOmniAdapter(dataclasses.replace(PARTS, speech_encoder=None), AdapterConfig(), 9, 99)
    assert set(deaf.left_out) == {Task.A1_A2, Task.A1_T2, Task.A1_T1} and deaf.sample_rate == CODEC.sampling_rate
    with pytest.raises(ConfigError, match=r"Mini-Omni.*text decoder"):
        make_adapter(Checkpoint("snac", {"snac": CODEC}, {"snac": {}}), None, TURNS, AdapterConfig())
    bare = Checkpoint("mini_omni", {"omni": CONFIG}, {"omni": {}}, source="here")
    with pytest.raises(WeightsError, match=r"^here: .*tokenizer"):
        make_adapter(bare, None, TURNS, AdapterConfig())


def test_turns_that_cannot_be_asked_are_reported():
    long = dataclasses.replace(TURNS[0], question_audio=question(0, 16_001))  # the encoder takes 1 s
    loud = dataclasses.replace(TURNS[0], answer_codes=np.full((7, 1), 16))
    ((kind, detail),) = unfit(ENCODER, CODEC)(long)
    assert kind is RowKind.NOT_TAKEN and "longer than the 1 s" in detail
    ((kind, detail),) = unfit(ENCODER, CODEC)(loud)
    assert "code 16" in detail and not [*unfit(ENCODER, CODEC)(TURNS[4]), *unfit(None, None)(long)]


@pytest.mark.slow
def test_codes_of_different_lengths_are_decoded_as_a_whole():
    frames = [frames_of(count, count) for count in (12, 3, 7)]
    turns = [dataclasses.replace(TURNS[0], answer_codes=each.T) for each in frames]
    found = decode_answers(turns, CODEC, CODEC_PARAMS, slots=2)
    assert [len(pcm) for pcm in found] == [len(each) * CODEC.frame_size for each in frames]
    np.testing.assert_allclose(found[0], whole(frames[0]), atol=1e-5)
    alone = decode_answers(turns[2:], CODEC, CODEC_PARAMS, slots=2)
    np.testing.assert_array_equal(found[2], alone[0])


def test_spoken_replies_of_every_task_are_transcribed(monkeypatch):
    from jomni.eval.turn_based import evaluation as module

    class Recogniser:
        def __init__(self, sentences, pronunciations, processes):
            self.sentences = list(sentences)

        def transcribe(self, waves, rate, done):
            return ["it is"] * len(waves)

    replies = []

    def measured(spoken, rate, recogniser, synthesise, done):
        replies.append(spoken)
        return rate

    monkeypatch.setattr(module, "Recogniser", Recogniser)
    monkeypatch.setattr(module, "measure_replies", measured)
    monkeypatch.setattr(module, "decode_answers", lambda turns, *codec: [np.zeros(9, np.float32)] * len(turns))
    parrot = Parrot(T1_A2=[turn.answer for turn in TURNS])
    parrot.sample_rate = 160
    result = evaluate(parrot, TURNS, Plan(replies=3, examples=2), (CODEC, CODEC_PARAMS))
    assert (
        result.replies == {Task.T1_A2: 160} and result.codec.value == pytest.approx(1 / 3) and result.codec.count == 3
    )
    assert len(replies[0]) == 3 and all(isinstance(reply, Reply) and reply.cell == "T1-A2" for reply in replies[0])
    assert {reply.expected for reply in replies[0]} < {turn.answer for turn in TURNS} and len(result.examples) == 2
