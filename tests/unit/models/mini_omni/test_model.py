"""Mini-Omni: steps equal the whole, features stand where they should, surgery keeps the text."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jomni.errors import ConfigError
from jomni.models.decoder import Decoder
from jomni.models.mini_omni import MiniOmni, MiniOmniConfig, Vocabulary, add_speech_parts, place_features
from tests import decoder_cases
from tests.cases import slow_except

pytestmark = pytest.mark.compiled_quickly

VOCABULARY = Vocabulary(text_size=250, text_special=6, audio_size=16, audio_special=5)
CONFIG = MiniOmniConfig(
    dataclasses.replace(decoder_cases.PLAIN, vocab_size=410), VOCABULARY, feature_dim=12, post_adapter_layers=0
)
CASES = {
    "one head": CONFIG,
    "post-adapter": dataclasses.replace(CONFIG, post_adapter_layers=2, adapter="mlp"),
    "gemma": dataclasses.replace(CONFIG, decoder=dataclasses.replace(decoder_cases.SLIDING, vocab_size=410)),
    "untied": dataclasses.replace(CONFIG, decoder=dataclasses.replace(CONFIG.decoder, tied=False)),
    "sum": dataclasses.replace(CONFIG, merge="sum"),
}
PUBLISHED = dict(
    name="qwen2-0.5b", block_size=2048, n_layer=24, n_head=14, n_embd=896, n_query_groups=2, padded_vocab_size=181_120,
    intermediate_size=4864, parallel_residual=False, bias=False, add_qkv_bias=True, norm_class_name="RMSNorm",
    norm_eps=1e-6, mlp_class_name="LLaMAMLP", rotary_percentage=1.0, rope_base=1_000_000, tie_word_embeddings=True,
)  # fmt: skip


def made(config: MiniOmniConfig) -> dict:
    text = dataclasses.replace(config.decoder, vocab_size=260)
    return add_speech_parts(decoder_cases.params(text), config, jax.random.key(0))


def inputs(steps: int = 9):
    rng = np.random.default_rng(1)
    audio, text = rng.integers(0, 21, (2, 7, steps)), rng.integers(0, 256, (2, 1, steps))
    features = jnp.asarray(rng.standard_normal((2, 6, 12)), jnp.float32)
    return jnp.asarray(np.concatenate([audio, text], 1), jnp.int32), features, jnp.asarray([4, 0])


@pytest.mark.parametrize("name", slow_except({"one head", "post-adapter", "gemma"}, CASES))
def test_blocks_equal_the_whole(name):
    model, params = MiniOmni(CASES[name]), made(CASES[name])
    tokens, features, lengths = inputs()
    placed, heard = place_features(features, lengths, 9)
    text, audio, _ = model.apply({"params": params}, tokens, placed, heard)
    assert text.shape == (2, 9, 256) and audio.shape == (2, 9, 7, 21)
    state, at = model.init_state(2, 12, block=5), 0
    for size in (5, 1, 1, 2):
        now = slice(at, at + size)
        some, more, state = model.apply({"params": params}, tokens[..., now], placed[:, now], heard[:, now], state)
        np.testing.assert_allclose(some, text[:, now], atol=2e-5)
        np.testing.assert_allclose(more, audio[:, now], atol=2e-5)
        at += size


def test_speech_stands_in_for_audio_streams_alone_from_step_one_on():
    model, params = MiniOmni(CONFIG), made(CONFIG)
    tokens, features, lengths = inputs()
    x = model.apply({"params": params}, tokens, *place_features(features, lengths, 9), method="embed")
    table = np.asarray(params["backbone"]["embed_tokens"]["weight"])
    rows = np.asarray(tokens) + (np.append(256 + 21 * np.arange(7), 0))[:, None]
    expected = table[rows]
    p = {k: np.asarray(v["weight"]) for k, v in params["whisper_adapter"].items()}
    gate = np.asarray(features[0]) @ p["fc_1"].T
    speech = (gate / (1 + np.exp(-gate)) * (np.asarray(features[0]) @ p["fc_2"].T)) @ p["proj"].T
    expected[0, :7, 1:5] = speech[:4]
    np.testing.assert_allclose(x, expected.mean(1), atol=1e-5)


@pytest.mark.parametrize("name", ["one head", "untied"])
def test_surgery_keeps_the_text_decoder(name):
    config = CASES[name]
    text = dataclasses.replace(config.decoder, vocab_size=260)
    params, voiced = decoder_cases.params(text), made(config)
    hidden = jnp.asarray(np.random.default_rng(2).standard_normal((1, 5, 16)), jnp.float32)

    def logits(decoder, params):
        model = Decoder(decoder)
        return model.apply({"params": params}, model.apply({"params": params}, hidden)[0], method="logits")

    after, before = logits(config.decoder, voiced["backbone"]), logits(text, params)
    np.testing.assert_allclose(after[..., :250], before[..., :250], atol=1e-5)
    rows = np.asarray(voiced["backbone"]["embed_tokens"]["weight"])
    assert len(np.unique(rows, axis=0)) == 410 and 0.5 < rows[250:].std() / rows[:250].std() < 2


@pytest.mark.parametrize("name", ["sum", "untied"])
def test_special_tokens_begin_as_the_tokens_they_are_similar_to(name):
    config = CASES[name]
    v, text = config.vocabulary, decoder_cases.params(dataclasses.replace(config.decoder, vocab_size=260))
    similar = add_speech_parts(text, config, jax.random.key(0), {v.answer_text: [7, 9], v.end_of_text: [3]})["backbone"]
    drawn = made(config)["backbone"]
    for table in ("embed_tokens",) if config.decoder.tied else ("embed_tokens", "lm_head"):
        after, before, own = (np.asarray(p[table]["weight"]) for p in (similar, drawn, text))
        np.testing.assert_allclose(after[v.answer_text], (own[7] + own[9]) / 2, rtol=1e-6)
        np.testing.assert_array_equal(after[v.end_of_text], own[3])
        others = np.delete(np.arange(410), [v.answer_text, v.end_of_text])
        np.testing.assert_array_equal(after[others], before[others])


def test_text_with_silent_streams_is_answered_as_before_where_streams_are_summed():
    config = CASES["sum"]
    text, v = dataclasses.replace(config.decoder, vocab_size=260), config.vocabulary
    tokens = jnp.asarray(np.random.default_rng(2).integers(0, 250, (2, 9)), jnp.int32)
    logits = Decoder(text).apply({"params": decoder_cases.params(text)}, tokens, method="whole")
    silent = jnp.full((2, 7, 9), v.pad_audio, jnp.int32)
    streams = jnp.concatenate([silent, tokens[:, None]], 1)
    after, _, _ = MiniOmni(config).apply({"params": made(config)}, streams)
    np.testing.assert_allclose(after[..., :250], logits[..., :250], atol=1e-4)
    mean, _, _ = MiniOmni(CONFIG).apply({"params": made(CONFIG)}, streams)
    assert np.abs(mean[..., :250] - logits[..., :250]).max() > 0.1


def test_speech_is_added_to_the_text_beside_it_where_streams_are_summed():
    model, params = MiniOmni(CASES["sum"]), made(CASES["sum"])
    tokens, features, lengths = inputs()
    placed, heard = place_features(features, lengths, 9)
    x = model.apply({"params": params}, tokens, placed, heard, method="embed")
    other = model.apply({"params": params}, tokens.at[:, :7].set(0), placed, heard, method="embed")
    np.testing.assert_array_equal(x[0, 1:5], other[0, 1:5])
    assert (np.abs(x - other).max(-1) > 0)[0, 5:].all()
    with pytest.raises(ConfigError, match=r"'max'.*mean.*sum"):
        dataclasses.replace(CONFIG, merge="max")


def test_surgery_refuses_another_decoder():
    with pytest.raises(ConfigError, match=r"'layers_0/mlp/down_proj/weight' .*\(16, 8\).*\(16, 24\)"):
        other = decoder_cases.params(dataclasses.replace(CONFIG.decoder, vocab_size=260, hidden_dim=8))
        add_speech_parts(other, CONFIG, jax.random.key(0))


def test_published_configuration():
    config = MiniOmniConfig.from_published(PUBLISHED)
    assert config.vocabulary == Vocabulary() and config.vocabulary.size == config.decoder.vocab_size == 181_120
    assert config.decoder.head_dim == 64 and config.decoder.qkv_bias and not config.decoder.mlp_bias
    with pytest.raises(ConfigError, match=r"model_config.yaml: .*'n_layer'.*'parallel_residual'.*True"):
        MiniOmniConfig.from_published({**PUBLISHED, "n_layer": None, "parallel_residual": True})
    with pytest.raises(ConfigError, match=r" 402 .* 403"):
        dataclasses.replace(CONFIG, decoder=dataclasses.replace(CONFIG.decoder, vocab_size=402))
