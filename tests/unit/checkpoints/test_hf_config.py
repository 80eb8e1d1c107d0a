"""Configurations of transformers' Mimi and Moshi: what is read, what is written, what is refused by name."""

from __future__ import annotations

import dataclasses
import json

import pytest

from jomni.checkpoints.detect import detect
from jomni.checkpoints.hf import is_hf_config
from jomni.errors import ConfigError
from jomni.models.mimi.config import MIMI
from jomni.models.mimi.weights_hf import read_mimi_config, write_mimi_config
from jomni.models.moshi.config import MOSHI_7B, ConditionerConfig, FuserConfig
from jomni.models.moshi.weights_hf import read_moshi_config, write_moshi_config
from tests.paths import PARITY_DATA
from tests.unit.checkpoints.test_hf_layout import TINY_MIMI, TINY_MOSHI

DATA = PARITY_DATA

# As transformers 4.45 wrote them: rope_theta and frame_rate of their own, generation defaults in every section.
GENERIC_4 = {
    "_name_or_path": "", "add_cross_attention": False, "bad_words_ids": None, "chunk_size_feed_forward": 0,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "max_length": 20, "pruned_heads": {}, "temperature": 1.0,
    "torch_dtype": "float32", "typical_p": 1.0, "use_bfloat16": False, "return_dict": True,
}  # fmt: skip
MIMI_4 = GENERIC_4 | {
    "architectures": ["MimiModel"], "attention_bias": False, "attention_dropout": 0.0, "audio_channels": 1,
    "codebook_dim": 256, "codebook_size": 2048, "compress": 2, "dilation_growth_rate": 2, "frame_rate": 12.5,
    "head_dim": 64, "hidden_act": "gelu", "hidden_size": 512, "initializer_range": 0.02, "intermediate_size": 2048,
    "kernel_size": 7, "last_kernel_size": 3, "layer_scale_initial_scale": 0.01, "max_position_embeddings": 8000,
    "model_type": "mimi", "norm_eps": 1e-05, "normalize": False, "num_attention_heads": 8, "num_filters": 64,
    "num_hidden_layers": 8, "num_key_value_heads": 8, "num_quantizers": 32, "num_residual_layers": 1,
    "num_semantic_quantizers": 1, "pad_mode": "constant", "residual_kernel_size": 3, "rope_theta": 10000.0,
    "sampling_rate": 24000, "sliding_window": 250, "transformers_version": "4.45.0.dev0", "trim_right_ratio": 1.0,
    "upsample_groups": 512, "upsampling_ratios": [8, 6, 5, 4], "use_cache": False, "use_causal_conv": True,
    "use_conv_shortcut": False, "vector_quantization_hidden_dimension": 256,
}  # fmt: skip
MOSHI_4 = {
    "architectures": ["MoshiForConditionalGeneration"], "attention_dropout": 0.0, "audio_encoder_config": MIMI_4,
    "audio_vocab_size": 2048, "ffn_dim": 22528, "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096,
    "depth_decoder_config": GENERIC_4 | {
        "attention_dropout": 0.0, "audio_vocab_size": 2048, "ffn_dim": 5632, "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 1024, "initializer_range": 0.02, "input_size": 4096, "max_position_embeddings": 9,
        "model_type": "moshi_depth", "num_attention_heads": 16, "num_codebooks": 8, "num_hidden_layers": 6,
        "num_key_value_heads": 16, "rms_norm_eps": 1e-08, "sliding_window": 8, "use_cache": True, "vocab_size": 32000,
    },
    "initializer_range": 0.02, "max_position_embeddings": 3000, "model_type": "moshi", "num_attention_heads": 32,
    "num_codebooks": 8, "num_hidden_layers": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-08,
    "rope_theta": 10000.0, "sliding_window": 3000, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "transformers_version": "4.46.0.dev0", "use_cache": True, "vocab_size": 32000,
}  # fmt: skip


def test_published_configurations_are_the_presets():
    assert read_mimi_config(MIMI_4, "") == MIMI
    assert read_moshi_config(MOSHI_4, "") == MOSHI_7B


def test_keys_left_out_hold_transformers_defaults():
    assert read_mimi_config({}, "") == MIMI
    assert read_moshi_config({}, "") == MOSHI_7B


@pytest.mark.parametrize("config", [MIMI, TINY_MIMI], ids=["full", "tiny"])
def test_mimi_configurations_survive_the_round_trip(config):
    assert read_mimi_config(json.loads(json.dumps(write_mimi_config(config))), "") == config


@pytest.mark.parametrize(
    "config",
    [
        MOSHI_7B,
        TINY_MOSHI,
        dataclasses.replace(TINY_MOSHI, hidden_scale=4.0, gating="gelu", depformer_gating="identity"),
        dataclasses.replace(TINY_MOSHI, max_period=500.0, depformer_max_period=500.0),
        *(dataclasses.replace(TINY_MOSHI, hidden_scale=width / 8) for width in (9, 12, 15, 18, 21, 27)),
    ],
)
def test_moshi_configurations_survive_the_round_trip(config):
    raw = json.loads(json.dumps(write_moshi_config(config, write_mimi_config(MIMI))))
    assert read_moshi_config(raw, "") == config


@pytest.mark.parametrize("name", ["mimi", "moshi"])
def test_what_transformers_wrote_is_written_again(name):
    """All that both have a word for; transformers adds defaults of its own."""
    folder, theirs = detect(DATA / f"hf_{name}"), json.loads((DATA / f"hf_{name}" / "config.json").read_text())
    ours = write_mimi_config(folder.configs["mimi"])
    if name == "moshi":
        ours = write_moshi_config(folder.configs["lm"], ours)

    def leaves(config, path=()):
        for key, value in config.items():
            yield from leaves(value, (*path, key)) if isinstance(value, dict) else [((*path, key), value)]

    written, expected = dict(leaves(ours)), dict(leaves(theirs))
    both = written.keys() & expected.keys()
    assert len(both) == {"mimi": 39, "moshi": 78}[name]
    assert {key: written[key] for key in both} == {key: expected[key] for key in both}
    assert {key[-1] for key in expected.keys() - written.keys()} <= {
        "_frame_rate", "dtype", "transformers_version", "tie_word_embeddings", "use_streaming", "bos_token_id",
        "eos_token_id", "pad_token_id",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"use_causal_conv": False}, "'use_causal_conv' = False"),
        ({"trim_right_ratio": 0.5}, "'trim_right_ratio' = 0.5"),
        ({"hidden_act": "relu"}, "'hidden_act' = 'relu'"),
        ({"norm_eps": 1e-6}, "'norm_eps'"),
        ({"attention_bias": True}, "'attention_bias'"),
        ({"upsample_groups": 1}, "'upsample_groups' = 1"),
        ({"head_dim": 32}, "'head_dim' = 32"),
        ({"codebook_dim": 128}, "'codebook_dim' = 128"),
        ({"vector_quantization_hidden_dimension": 512, "codebook_dim": 512}, "'vector_quantization_hidden_dimension'"),
        ({"pad_mode": "reflect"}, "pad_mode"),
        ({"encoder_config": None}, "encoder"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "'rope_parameters'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "'rope_scaling'"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "'quantization_config'"),
        ({"frame_rate": 25.0}, "'frame_rate'"),
        ({"num_key_value_heads": 3}, "'num_key_value_heads' = 3"),
    ],
)
def test_mimi_options_that_are_not_supported_are_refused_by_name(change, named):
    with pytest.raises(ConfigError) as caught:
        read_mimi_config(MIMI_4 | change, "there/config.json")
    assert named in str(caught.value) and "there/config.json" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rms_norm_eps": 1e-5}, "'rms_norm_eps' = 1e-05"),
        ({"hidden_act": "quick_gelu"}, "'hidden_act' = 'quick_gelu'"),
        ({"head_dim": 64}, "'head_dim' = 64"),
        ({"num_codebooks": 1}, "'num_codebooks' = 1"),
        ({"ffn_dim": 22527}, "'ffn_dim' = 22527"),
        ({"depth_decoder_config": {"sliding_window": 4}}, "'depth_decoder_config.sliding_window' = 4"),
        ({"depth_decoder_config": {"rope_scaling": {"factor": 2}}}, "'depth_decoder_config.rope_scaling'"),
        ({"depth_decoder_config": {"experts": 4}}, "'depth_decoder_config.experts'"),
        ({"conditioner": "x"}, "'conditioner'"),
    ],
)
def test_moshi_options_that_are_not_supported_are_refused_by_name(change, named):
    with pytest.raises(ConfigError) as caught:
        read_moshi_config(MOSHI_4 | change, "there/config.json")
    assert named in str(caught.value) and "there/config.json" in str(caught.value)


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        read_moshi_config(MOSHI_4 | {"hidden_act": "xielu", "mystery": 1, "depth_decoder_config": {"enigma": 2}}, "")
    assert all(word in str(caught.value) for word in ("xielu", "mystery", "depth_decoder_config.enigma"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n_q": 17, "delays": (0,) * 18}, "'n_q'"),
        ({"delays": (0, *[2] * 16)}, "'delays'"),
        ({"text_card_out": 5}, "'text_card_out'"),
        ({"demux_second_text_stream": True}, "'demux_second_text_stream'"),
        ({"norm": "rms_norm"}, "'norm'"),
        ({"norm_emb": True}, "'norm_emb'"),
        ({"bias_proj": True}, "'bias_proj'"),
        ({"positional_embedding": "rope_concat"}, "'positional_embedding'"),
        ({"layer_scale": 0.1}, "'layer_scale'"),
        ({"cross_attention": True}, "'cross_attention'"),
        ({"existing_text_padding_id": 0}, "'existing_text_padding_id'"),
        ({"extra_heads_num_heads": 2}, "'extra_heads_num_heads'"),
        ({"depformer_weights_per_step_schedule": (0,) * 8}, "'depformer_weights_per_step_schedule'"),
        ({"depformer_weights_per_step": False}, "'depformer_weights_per_step'"),
        ({"depformer_multi_linear": False}, "'depformer_multi_linear'"),
        ({"depformer_low_rank_embeddings": 4}, "'depformer_low_rank_embeddings'"),
        ({"depformer_pos_emb": "sin"}, "'depformer_pos_emb'"),
        ({"depformer_norm": "rms_norm_f32"}, "'depformer_norm'"),
        ({"depformer_gating": "softsign"}, "'depformer_gating'"),
        ({"depformer_dim_feedforward": (4224,) * 8}, "'depformer_dim_feedforward'"),
        ({"gating": "none"}, "'gating'"),
        ({"context": None}, "'context'"),
        ({"lora_rank": 4}, "'lora_rank'"),
        ({"text_eos_reads_as_padding": True}, "'text_eos_reads_as_padding'"),
        ({"conditioners": (ConditionerConfig("style", "tensor", 4),)}, "'conditioners'"),
        ({"fuser": FuserConfig()}, "'fuser'"),
        ({"dep_q": 0, "n_q": 0, "delays": (0,)}, "'dep_q'"),
    ],
)
def test_moshi_options_that_transformers_cannot_express_are_refused_by_name(change, named):
    config = dataclasses.replace(MOSHI_7B, **change)
    with pytest.raises(ConfigError, match=f"Moshi .*{named}"):
        write_moshi_config(config, write_mimi_config(MIMI))


def test_every_option_of_moshi_is_written_or_refused():
    """A new field of the configuration must be given a place here."""
    no_effect = {
        "positional_scale": 0.5, "extra_heads_dim": 3, "depformer_positional_scale": 0.5, "depformer_max_period": 5.0,
        "lora_scaling": 1.0,
    }  # fmt: skip
    written = {
        "dim", "num_heads", "num_layers", "dep_q", "card", "text_card", "hidden_scale", "context", "max_period",
        "gating", "kv_repeat", "depformer_dim", "depformer_dim_feedforward", "depformer_num_heads",
        "depformer_num_layers", "depformer_gating", "depformer_kv_repeat",
    }  # fmt: skip
    from jomni.models.moshi.weights_hf import _fixed

    refused = {name for name, _, _ in _fixed(MOSHI_7B)}
    fields = {field.name for field in dataclasses.fields(MOSHI_7B)}
    assert written | refused | set(no_effect) == fields
    base = write_moshi_config(MOSHI_7B, {"num_quantizers": 32})
    assert write_moshi_config(dataclasses.replace(MOSHI_7B, **no_effect), {"num_quantizers": 32}) == base


@pytest.mark.parametrize(
    ("section", "change", "named"),
    [
        ("seanet", {"activation": "SiLU"}, "'seanet.activation'"),
        ("seanet", {"elu_alpha": 0.5}, "'seanet.elu_alpha'"),
        ("transformer", {"dim": 256}, "'transformer.d_model'"),
        ("transformer", {"gating": "silu"}, "'transformer.gating'"),
        ("transformer", {"norm": "rms_norm"}, "'transformer.norm'"),
        ("transformer", {"positional_embedding": "sin"}, "'transformer.positional_embedding'"),
        ("transformer", {"layer_scale": None}, "'transformer.layer_scale'"),
        ("transformer", {"context": None}, "'transformer.context'"),
        ("quantizer", {"dimension": 512}, "'quantizer.dimension'"),
        ("quantizer", {"bins": 1000}, "'quantizer.bins'"),
    ],
)
def test_mimi_options_that_transformers_cannot_express_are_refused_by_name(section, change, named):
    config = dataclasses.replace(MIMI, **{section: dataclasses.replace(getattr(MIMI, section), **change)})
    with pytest.raises(ConfigError, match=f"Mimi .*{named}"):
        write_mimi_config(config)


def test_a_codec_that_does_not_downsample_cannot_be_written():
    with pytest.raises(ConfigError, match="'frame_rate' = 25"):
        write_mimi_config(dataclasses.replace(MIMI, frame_rate=25.0))


def test_a_model_with_more_codebooks_than_its_codec_cannot_be_written():
    with pytest.raises(ConfigError, match=r"'dep_q' = 8 .*5"):
        write_moshi_config(MOSHI_7B, write_mimi_config(TINY_MIMI))


def test_kyutai_configurations_are_not_taken_for_transformers():
    assert is_hf_config(MIMI_4) and is_hf_config(MOSHI_4)
    assert not is_hf_config(MOSHI_7B.to_kyutai() | {"model_type": "moshi"})
    assert not is_hf_config(MIMI.to_kyutai()) and not is_hf_config([1])
