"""Folders of text decoders: configurations, tensors in and out, and what is refused."""

import dataclasses
import json

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import jomni
from jomni.checkpoints import hf
from jomni.errors import ConfigError, WeightsError
from jomni.models.decoder import DecoderConfig, RopeConfig
from jomni.models.decoder.rope import frequencies, magnitude
from jomni.models.decoder.weights import read_decoder_config, write_decoder_config
from tests.checkpoint_files import assert_same, read_all
from tests.decoder_cases import PLAIN, SLIDING, checkpoint
from tools.goldens.decoder import CASES, PUBLISHED

pytestmark = pytest.mark.compiled_quickly


@pytest.mark.parametrize("case", CASES)
def test_a_configuration_is_written_so_that_it_reads_as_it_was(case):
    family = CASES[case]["model_type"]
    config = read_decoder_config(CASES[case], case)
    assert read_decoder_config(write_decoder_config(config, family), case) == config


def test_qwen2_is_read_from_its_published_configuration():
    assert read_decoder_config(PUBLISHED["Qwen2-0.5B"], "config.json") == DecoderConfig(
        vocab_size=151_936, dim=896, num_layers=24, num_heads=14, num_kv_heads=2, head_dim=64, hidden_dim=4864,
        max_positions=131_072, rope=RopeConfig(1_000_000.0), qkv_bias=True, tied=True,
    )  # fmt: skip


def test_gemma3_is_read_from_the_keys_of_transformers_4_as_from_those_of_5():
    shared = {"model_type": "gemma3_text", "num_hidden_layers": 8, "hidden_size": 64, "sliding_window": 512}
    old = {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window_pattern": 6,
           "rope_scaling": {"rope_type": "linear", "factor": 8.0}}  # fmt: skip
    full = {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0}
    new = {"rope_parameters": {"full_attention": full, "sliding_attention": {"rope_type": "default",
                                                                            "rope_theta": 1e4}},
           "layer_types": [*["sliding_attention"] * 5, "full_attention", *["sliding_attention"] * 2]}  # fmt: skip
    config = read_decoder_config(shared | old, "old")
    assert config == read_decoder_config(shared | new, "new")
    assert config.rope == RopeConfig(1e6, "linear", 8.0) and config.local_rope == RopeConfig(1e4)
    assert (config.embedding_scale, config.attention_scale, config.tied) == (8.0, 1 / 16, True)


@pytest.mark.parametrize(
    ("family", "options", "words"),
    [("qwen2", {"use_magic": True}, ["use_magic"]),
     ("qwen2", {"quantization_config": {"bits": 4}, "hidden_act": "snake"}, ["quantization_config", "snake"]),
     ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, ["dynamic"]),
     ("llama", {"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, ["longrope"]),
     ("llama", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, ["partial_rotary_factor"]),
     ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "mscale": 1.0}}, ["mscale"]),
     ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 0.5}}, ["factor"]),
     ("llama", {"pretraining_tp": 2}, ["pretraining_tp"]),
     ("gemma2", {"use_bidirectional_attention": True}, ["use_bidirectional_attention"]),
     ("gemma3_text", {"attn_logit_softcapping": 50.0}, ["attn_logit_softcapping"]),
     ("qwen3", {"layer_types": ["chunked_attention"] * 32}, ["chunked_attention"]),
     ("qwen3", {"layer_types": ["sliding_attention"] * 32}, ["window"]),
     ("qwen3", {"num_key_value_heads": 5}, ["32 query heads"]), ("qwen3", {"hidden_size": "wide"}, ["wide"])],
)  # fmt: skip
def test_options_that_are_not_supported_are_refused_by_name(family, options, words):
    with pytest.raises(ConfigError) as error:
        read_decoder_config({"model_type": family} | options, "config.json")
    for word in ("config.json", *words):
        assert word in str(error.value)


def test_a_family_that_cannot_express_a_configuration_says_why():
    with pytest.raises(ConfigError, match="'qk_norm' = True"):
        write_decoder_config(dataclasses.replace(PLAIN, qk_norm=True), "qwen2")
    with pytest.raises(ConfigError, match=r"'gpt2'.*qwen2"):
        write_decoder_config(PLAIN, "gpt2")


def test_llama3_keeps_short_waves_and_stretches_long_ones():
    plain = frequencies(RopeConfig(10_000.0), 64)
    scaled = frequencies(RopeConfig(10_000.0, "llama3", 8.0, 8192, 1.0, 4.0), 64)
    ratio, turns = plain / scaled, 8192 * plain / (2 * np.pi)
    np.testing.assert_allclose(ratio[turns > 4], 1, rtol=1e-6)
    np.testing.assert_allclose(ratio[turns < 1], 8, rtol=1e-6)
    between = ratio[(turns >= 1) & (turns <= 4)]
    assert len(between) and np.all((between > 1) & (between < 8)) and np.all(np.diff(ratio) >= 0)
    assert magnitude(RopeConfig(1e4, "yarn", 4.0, 32)) == pytest.approx(0.1 * np.log(4) + 1)


def folder_of(config, family, path, dtype=None, **options):
    jomni.save(checkpoint(config, family), path, "hf", dtype)
    raw = json.loads((path / "config.json").read_text()) | options
    (path / "config.json").write_text(json.dumps(raw))
    return path


GEMMA = dataclasses.replace(SLIDING, embedding_scale=16**0.5, attention_scale=6**-0.5, attention_softcap=None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("config", "family"), [(PLAIN, "qwen2"), (GEMMA, "gemma3_text")], ids=["qwen2", "gemma3"])
def test_what_was_imported_exports_byte_for_byte(config, family, dtype, tmp_path):
    folder = folder_of(config, family, tmp_path / "in", dtype)
    held = read_all(folder)
    assert {tensor.dtype.name for tensor in held.values()} == {dtype}
    first = jomni.load(folder)
    assert (
        first.configs["decoder"] == config and first.model_type == family and first.generation["eos_token_id"] == [257]
    )
    jomni.save(first, tmp_path / "out", "hf")
    assert_same(read_all(tmp_path / "out"), held)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    assert jomni.load(tmp_path / "out").configs["decoder"] == config


def test_shards_are_written_and_read_as_one(tmp_path):
    whole = checkpoint()
    (tmp_path / "shards").mkdir()
    hf.write(whole, tmp_path / "shards", shard_bytes=5000)
    assert len(list(tmp_path.glob("shards/*.safetensors"))) > 3
    back = jomni.load(tmp_path / "shards")
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), back.params, whole.params))


def test_a_head_that_is_the_embedding_again_is_left_out_and_another_refused(tmp_path):
    folder = folder_of(PLAIN, "qwen2", tmp_path / "in")
    held = dict(read_all(folder))
    embedding = held["model.embed_tokens.weight"]
    save_file(held | {"lm_head.weight": embedding.copy()}, folder / "model.safetensors")
    jomni.save(jomni.load(folder), tmp_path / "out", "hf")
    assert_same(read_all(tmp_path / "out"), held)
    save_file(held | {"lm_head.weight": embedding + 1}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match="tie_word_embeddings"):
        jomni.load(folder)


def test_tensors_that_do_not_fit_are_all_named(tmp_path):
    folder = folder_of(PLAIN, "qwen2", tmp_path / "in", num_key_value_heads=4, num_hidden_layers=3)
    with pytest.raises(WeightsError) as error:
        jomni.load(folder)
    for word in ("model.layers.2.mlp.up_proj.weight", "model.layers.0.self_attn.k_proj.weight", "[8, 16]"):
        assert word in str(error.value)


def test_another_class_of_the_family_and_other_layouts_are_refused(tmp_path):
    folder = folder_of(PLAIN, "qwen2", tmp_path / "in", architectures=["Qwen2ForSequenceClassification"])
    with pytest.raises(ConfigError, match="Qwen2ForSequenceClassification"):
        jomni.load(folder)
    for layout in ("kyutai", "orbax"):
        with pytest.raises(ConfigError, match=rf"'{layout}'.*'decoder'.*hf"):
            jomni.save(checkpoint(), tmp_path / "out", layout)


def test_a_dtype_may_be_asked_for(tmp_path):
    folder = folder_of(PLAIN, "qwen2", tmp_path / "in")
    leaves = jax.tree.leaves(jomni.load(folder, dtype="bfloat16").params)
    assert {leaf.dtype for leaf in leaves} == {np.dtype(ml_dtypes.bfloat16)}
