"""Mini-Omni's generation: turns, slots, interruption, refusals; answers compared with the model run on the whole."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jomni.errors import ConfigError, PromptError
from jomni.models.decoder.generate import TextSampling
from jomni.models.mini_omni import MiniOmni, place_features, set_apart
from jomni.models.mini_omni import generate as omni
from jomni.models.mini_omni.generate import OmniGenerator
from jomni.models.mini_omni.session import OmniSession
from jomni.models.mini_omni.streams import Task, opening_streams, question_streams
from tests.unit.models.mini_omni.test_model import CASES, CONFIG, VOCABULARY, inputs, made

pytestmark = pytest.mark.compiled_quickly

V = VOCABULARY
PARAMS = {name: made(config) for name, config in CASES.items()}
TEXT = [5, 7, 11, 13, 200]
RNG = np.random.default_rng(3)
SPEECH, MORE_SPEECH = (RNG.standard_normal((n, 12)).astype(np.float32) for n in (6, 9))


def session(name="one head", voice="single", slots=1, context=120, **options):
    generator = OmniGenerator(CASES[name], context, voice, block=16 if name == "gemma" else 32)
    return OmniSession(generator, generator.prepare(PARAMS[name]), slots, **options)


def answers(session, count):
    """Up to `count` steps of the answers under way, by slot: [A+1, T]."""
    found = [[] for _ in session.slots]
    for _ in range(count):
        if any(slot.active for slot in session.slots):
            for held, column in zip(found, session.step(), strict=True):
                held += [] if column is None else [column]
    return [np.array(held, np.int32).reshape(-1, V.streams + 1).T for held in found]


def said(*questions, name="one head", voice="single", task=Task.T1_A2, count=12, **options):
    """One conversation in a session of its own: its last answer."""
    one = session(name, voice, **options)
    for question in questions:
        one.ask([question], task)
        answer = answers(one, count)[0]
    return answer


def steps_of(part):
    """A question's steps, and the features that stand there."""
    count = len(part) if isinstance(part, np.ndarray) else None
    tokens = question_streams(V, part if count is None else count)
    features, heard = np.zeros((tokens.shape[1], 12), np.float32), np.zeros(tokens.shape[1], bool)
    if count is not None:
        features[1 : 1 + count], heard[1 : 1 + count] = part, True
    return tokens, features, heard


def told(name, pieces, mute=False):
    """Best tokens [A+1, T] after each step of a conversation of questions (parts) and other steps (arrays [A+1, T])."""
    tokens, features, heard = [], [], []
    for piece in pieces:
        if isinstance(piece, np.ndarray) and piece.dtype == np.int32:
            piece = piece.copy()
            if mute:
                piece[:-1] = V.pad_audio
            more = piece, np.zeros((piece.shape[1], 12), np.float32), np.zeros(piece.shape[1], bool)
        else:
            more = steps_of(piece)
        for held, x in zip((tokens, features, heard), more, strict=True):
            held.append(x)
    steps = sum(len(x) for x in heard)
    given = np.zeros((1, 8, 80), np.int32), np.zeros((1, 80, 12), np.float32), np.zeros((1, 80), bool)
    given[0][0, :, :steps], given[1][0, :steps], given[2][0, :steps] = (
        np.concatenate(x, axis) for x, axis in ((tokens, 1), (features, 0), (heard, 0))
    )
    return np.array(_best(name, *given))[:, :steps]


@functools.partial(jax.jit, static_argnums=0)
def _best(name, *given):
    text, audio, _ = MiniOmni(CASES[name]).apply({"params": PARAMS[name]}, *given)
    return jnp.concatenate([audio[0].argmax(-1).T, text[0].argmax(-1)[None]])


def expect_answer(name, pieces, answer, voice="single", speaks=True):
    """The answer is what the model, run on the whole conversation, finds most probable at each of its steps."""
    steps, best = answer.shape[1], told(name, [*pieces, answer])[:, :-1]
    if voice == "batch_parallel":
        best[-1] = told(name, [*pieces, answer], mute=True)[-1, :-1]
    best = best[:, -steps:]
    ends = np.flatnonzero(answer[-1] == V.end_of_text)
    if len(ends):
        best[-1, ends[0] + 1 :] = V.pad_text
    if not speaks:
        best[:-1] = V.pad_audio
    np.testing.assert_array_equal(answer, best)


@pytest.mark.parametrize("name", ["one head", "untied", "post-adapter"])
def test_rows_apart_give_the_same_logits(name):
    tokens, features, lengths = inputs()
    given = (tokens, *place_features(features, lengths, 9))
    forms = (False, PARAMS[name]), (True, set_apart(PARAMS[name], CASES[name]))
    whole, apart = (
        jax.jit(MiniOmni(CASES[name], apart=is_apart).apply)({"params": p}, *given) for is_apart, p in forms
    )
    for a, b in zip(whole[:2], apart[:2], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "voice", "task", "question"),
    [
        ("one head", "single", Task.A1_A2, SPEECH), ("one head", "single", Task.T1_T2, TEXT),
        ("post-adapter", "batch_parallel", Task.A1_A2, SPEECH), ("post-adapter", "batch_parallel", Task.T1_A2, TEXT),
        ("gemma", "text_only", Task.A1_T1, SPEECH), ("gemma", "text_only", Task.T1_T2, TEXT),
    ],
)  # fmt: skip
def test_an_answer_is_the_models_own_in_every_mode(name, voice, task, question):
    answer = said([question], name=name, voice=voice, task=task)
    assert answer.shape[1] == 12 or V.end_of_audio in answer[-2] or V.end_of_text in answer[-1]
    expect_answer(name, [question, opening_streams(task, V)], answer, voice, task.speaks)


@pytest.mark.parametrize(("name", "voice"), [("one head", "single"), ("post-adapter", "batch_parallel")])
def test_turns_of_text_and_speech_stand_one_after_the_other_behind_a_system_prompt(name, voice):
    one = session(name, voice)
    one.ask([[SPEECH]], Task.A1_A2, before=[[3, 4]])
    first = answers(one, 9)[0]
    one.ask([[TEXT, MORE_SPEECH]], Task.A1_A2)  # the first answer had not ended
    second = answers(one, 9)[0]
    opened = opening_streams(Task.A1_A2, V)
    expect_answer(name, [[3, 4], SPEECH, opened], first, voice)
    text = V.pad_text if V.end_of_text in first[-1] else V.end_of_text
    closed = np.array([[V.end_of_audio]] * 7 + [[text]], np.int32)
    turns = [[3, 4], SPEECH, opened, first, closed, TEXT, MORE_SPEECH]
    if voice == "single":
        expect_answer(name, [*turns, opened], second, voice)
    else:
        assert second.shape[1] == 9


def test_conversations_of_a_batch_know_nothing_of_each_other_and_begin_when_they_like():
    both = session(slots=3)
    both.ask([[TEXT], None, None], Task.T1_A2)
    early = answers(both, 4)
    both.ask([None, [SPEECH], None], Task.A1_T2)
    late = answers(both, 8)
    np.testing.assert_array_equal(np.concatenate([early[0], late[0]], 1), said([TEXT])[:, : 4 + late[0].shape[1]])
    np.testing.assert_array_equal(late[1], said([SPEECH], task=Task.A1_T2, count=8))
    assert late[2].shape[1] == 0 and not both.slots[2].held


def test_nothing_is_compiled_anew_from_utterance_to_utterance():
    one = session()
    assert one.generator.blocks == (16, 32)
    for question in ([TEXT], [np.tile(SPEECH, (4, 1))]):
        one.ask([question], Task.A1_A2)
        answers(one, 2)
    sizes = omni._prefill._cache_size(), omni._decode_step._cache_size()
    for task, question in ((Task.A1_A2, [SPEECH, TEXT]), (Task.T1_T2, [TEXT[:1]]), (Task.A1_T1, [MORE_SPEECH])):
        one.ask([question], task)
        answers(one, 2)
    assert (omni._prefill._cache_size(), omni._decode_step._cache_size()) == sizes


@pytest.mark.parametrize(("name", "voice"), [("one head", "single"), ("post-adapter", "batch_parallel")])
def test_an_answer_goes_on_as_if_it_had_not_been_interrupted(name, voice):
    whole = said([TEXT], name=name, voice=voice)
    one = session(name, voice)
    one.ask([[TEXT]], Task.T1_A2)
    first = answers(one, 5)[0]
    one.stop(0)
    assert answers(one, 1)[0].shape[1] == 0
    one.resume(0)
    second = answers(one, 3)[0]
    one.stop(0, keep=6)
    one.resume(0)
    rest = answers(one, whole.shape[1] - 6)[0]
    both = np.concatenate([first, second], 1)
    np.testing.assert_array_equal(both, whole[:, :8])
    np.testing.assert_array_equal(np.concatenate([both[:, :6], rest], 1), whole)


def test_what_was_not_heard_is_as_if_it_had_not_been_said():
    one, other = session(), session()
    one.ask([[TEXT]], Task.T1_A2)
    answers(one, 9)
    one.stop(0, keep=4)
    other.ask([[TEXT]], Task.T1_A2)
    answers(other, 4)
    for held in (one, other):
        held.ask([[SPEECH]], Task.A1_A2)
    np.testing.assert_array_equal(answers(one, 8)[0], answers(other, 8)[0])


def test_sliding_layers_refuse_to_take_back_what_they_have_forgotten():
    one = session("gemma", "text_only")
    one.ask([[TEXT]], Task.T1_T2)
    given = answers(one, 60)[0].shape[1]
    assert given > 40
    with pytest.raises(PromptError, match=r" 50 .* 16 "):
        one.stop(0, keep=10)
    one.stop(0, keep=given - 10)


def test_answers_end_where_the_context_is_full():
    answer = said([TEXT], count=200)
    assert answer.shape[1] == 120 - 8 + 1 or V.end_of_audio in answer[-2]


@pytest.mark.parametrize(
    ("question", "task", "options", "word"),
    [
        ([], Task.T1_T2, {}, "asked"),
        ([[]], Task.T1_T2, {}, "empty"),
        ([TEXT * 30], Task.T1_T2, {}, " 153 .* 120 "),
        ([np.zeros((117, 12), np.float32)], Task.A1_T2, {}, " 120 .* 120 "),
        ([np.zeros((3, 13), np.float32)], Task.A1_T2, {}, " 13.* 12"),
        ([[V.text_size]], Task.T1_T2, {}, "250"),
        ([TEXT], Task.T1_A2, {"voice": "text_only"}, "text_only"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_changes_nothing(question, task, options, word):
    one = session(slots=2, **options)
    with pytest.raises(PromptError, match=word):
        one.ask([[TEXT], question], [Task.T1_T2, task])
    assert not any(slot.held or slot.active for slot in one.slots)
    with pytest.raises(PromptError, match="slot 0 "):
        one.resume(0)


def test_configurations_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="601"):
        OmniGenerator(CONFIG, 601)
    with pytest.raises(ConfigError, match="'loud'"):
        OmniGenerator(CONFIG, 100, "loud")


def test_a_seed_decides_a_slots_draws_whatever_its_neighbours():
    hot = TextSampling(1.5, 50, 0.9)
    alone = said([TEXT], seed=7, sampling=hot)
    beside = session(slots=3, seed=[3, 4, 7], sampling=hot)
    beside.ask([[TEXT], [SPEECH], [TEXT]], [Task.T1_A2, Task.A1_T2, Task.T1_A2])
    found = answers(beside, 12)
    np.testing.assert_array_equal(found[2], alone)
    assert not np.array_equal(found[0][:, :5], alone[:, :5])


def test_caches_take_the_dtype_that_is_asked_for():
    state = dataclasses.replace(session().generator, dtype="bfloat16", voice="batch_parallel").init_state(2)
    assert state.backbone.layers[0].keys.dtype == jnp.bfloat16
    assert {leaf.shape[0] for leaf in jax.tree.leaves(state)} == {2} and state.backbone.offset.shape == (2, 2)
