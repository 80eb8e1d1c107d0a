"""Text generation: history in the cache, batches, limits, sampling."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import jomni
from jomni.errors import ConfigError, PromptError
from jomni.models.decoder import Decoder
from jomni.models.decoder import generate as text
from jomni.models.decoder.generate import TextGenerator, TextSampling, TextSession, stop_tokens
from tests.decoder_cases import PLAIN, SLIDING, checkpoint, params

pytestmark = pytest.mark.compiled_quickly

GENERATOR = TextGenerator(Decoder(SLIDING), context=120, block=16)
PARAMS = params(SLIDING)


def prompt(length, seed=0):
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


def answer(session, *prompts, count=6, **options):
    steps = list(session.answer(prompts, max_tokens=count, **options))
    return [[step[slot] for step in steps if step[slot] is not None] for slot in range(len(prompts))]


def fresh(tokens, **options):
    return answer(TextSession(GENERATOR, PARAMS), tokens, **options)[0]


def fed(monkeypatch):
    """Counts the tokens that prefill is fed."""
    count, prefill = [], text._prefill
    monkeypatch.setattr(text, "_prefill", lambda *a: (count.append(int(np.sum(a[4]))), prefill(*a))[1])
    return count


def test_a_second_turn_feeds_only_what_is_new_and_answers_as_if_all_were(monkeypatch):
    session, first = TextSession(GENERATOR, PARAMS), prompt(20)
    said = answer(session, first)[0]
    count, second = fed(monkeypatch), [*first, *said, *prompt(5, 1)]
    again = answer(session, second)[0]
    assert sum(count) == 6  # the last token of the answer, and the five
    assert again == fresh(second)


@pytest.mark.parametrize("kept", [0, 3, 30, 49])
def test_a_conversation_that_parts_from_its_history_is_as_if_new(kept):
    session, first = TextSession(GENERATOR, PARAMS), prompt(50)
    answer(session, first)
    other = [*first[:kept], *prompt(12, 2)]
    assert answer(session, other)[0] == fresh(other)
    assert session.held[0][: len(other)] == other


def test_conversations_of_a_batch_know_nothing_of_each_other():
    session = TextSession(GENERATOR, PARAMS, slots=3)
    prompts = [prompt(5), prompt(37, 1), None]
    assert answer(session, *prompts) == [fresh(prompts[0]), fresh(prompts[1]), []]
    third = prompt(18, 2)
    assert answer(session, None, None, third) == [[], [], fresh(third)]


def test_nothing_is_compiled_anew_from_prompt_to_prompt():
    session = TextSession(dataclasses.replace(GENERATOR, context=119), PARAMS)
    assert session.generator.blocks == (16,)
    answer(session, prompt(3))
    sizes = text._prefill._cache_size(), text._decode_step._cache_size()
    for seed, length in enumerate((7, 16, 17, 60)):
        answer(session, prompt(length, seed), sampling=TextSampling(0.5 + seed, seed, 0.5))
    assert (text._prefill._cache_size(), text._decode_step._cache_size()) == sizes


def test_blocks_double_up_to_the_longest():
    assert dataclasses.replace(GENERATOR, block=64).blocks == (16, 32, 64)
    assert dataclasses.replace(GENERATOR, block=256).blocks == (16, 32, 64, 128)


def test_answers_end_at_a_stop_token_at_the_limit_and_where_the_context_is_full():
    start = prompt(20)
    plain = fresh(start, count=10)
    stop = plain[3]
    assert fresh(start, count=10, stop=[stop]) == plain[: plain.index(stop) + 1]
    assert fresh(start, count=4) == plain[:4]
    assert len(fresh(prompt(115), count=50)) == 120 - 115 + 1


@pytest.mark.parametrize(("length", "word"), [(0, "empty"), (120, "120 tokens"), (500, "500 tokens")])
def test_prompts_that_do_not_fit_are_refused_and_leave_the_session_as_it_was(length, word):
    session = TextSession(GENERATOR, PARAMS)
    with pytest.raises(PromptError, match=word):
        session.answer([prompt(length)], max_tokens=1)
    assert session.held == [[]]


def test_a_context_beyond_the_models_is_refused():
    with pytest.raises(ConfigError, match="601"):
        TextGenerator(Decoder(PLAIN), context=601)


def test_a_seed_decides_a_slots_draws_whatever_its_neighbours():
    hot, start = TextSampling(1.5), prompt(9)
    alone = answer(TextSession(GENERATOR, PARAMS, seed=7), start, sampling=hot)[0]
    beside = answer(TextSession(GENERATOR, PARAMS, 3, seed=[3, 4, 7]), start, prompt(30), start, sampling=hot)
    assert beside[2] == alone and beside[0] != alone


def test_sampling_options_are_read_with_transformers_defaults_and_unapplied_ones_named():
    assert TextSampling.from_hf({}) == TextSampling(0.0)
    assert TextSampling.from_hf({"temperature": 0.5}) == TextSampling(0.0)
    assert TextSampling.from_hf({"do_sample": True, "top_p": 0.8}) == TextSampling(1.0, 50, 0.8)
    ignored = TextSampling.from_hf({"repetition_penalty": 1.05, "num_beams": 1}).ignored
    assert ignored == ("repetition_penalty=1.05",)
    with pytest.raises(ConfigError, match=r"generation_config.json: .*'warm'"):
        TextSampling.from_hf({"do_sample": True, "temperature": "warm"})
    assert stop_tokens({"eos_token_id": [1, 2]}) == {1, 2} and stop_tokens({"eos_token_id": 3}) == {3}
    assert stop_tokens({}) == frozenset()


def test_a_chat_streams_its_answer_and_remembers_it():
    chat = jomni.Chat(checkpoint(), system="Be brief.", context=500)
    pieces = [step[0] for step in chat.reply(["Wie groß?"], max_tokens=30)]
    assert [m["role"] for m in chat.messages[0]] == ["system", "user", "assistant"]
    assert chat.messages[0][-1]["content"] == "".join(pieces) != ""
    held = len(chat._session.held[0])
    list(chat.reply(["Und?"], max_tokens=3))
    assert len(chat._session.held[0]) > held and len(chat.messages[0]) == 5


def test_an_answer_broken_off_stays_in_the_conversation_as_far_as_it_went():
    chat = jomni.Chat(checkpoint(), context=500)
    coming = chat.reply(["Hello"], max_tokens=40)
    pieces = [next(coming)[0] for _ in range(5)]
    coming.close()
    assert chat.messages[0][-1] == {"role": "assistant", "content": "".join(pieces)}


@pytest.mark.parametrize(
    ("bad", "said"),
    [("", "empty"), ("  \n", "empty"), ("\udcff", "UTF-8"), ("word " * 200, "1057 tokens.* 300 tokens")],
)
def test_a_chat_refuses_what_it_cannot_take_and_forgets_it(bad, said):
    chat = jomni.Chat(checkpoint(), context=300)
    with pytest.raises(PromptError, match=said):
        chat.reply([bad])
    assert chat.messages == [[]]


def test_a_chat_needs_a_decoder(tiny_moshi):
    with pytest.raises(ConfigError, match="text decoder"):
        jomni.Chat(tiny_moshi)


def test_bfloat16_weights_make_a_bfloat16_cache():
    half = checkpoint()
    half.params["decoder"] = _half(half.params["decoder"])
    chat = jomni.Chat(half, context=100)
    assert chat._session._state.decoder.layers[0].keys.dtype == jnp.bfloat16
    assert len(list(chat.reply(["a"], max_tokens=2, temperature=0))) == 3


def _half(tree):
    return {k: _half(v) if isinstance(v, dict) else v.astype(jnp.bfloat16) for k, v in tree.items()}
