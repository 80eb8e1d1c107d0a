"""Tiny configurations in Kyutai's format that together use all options of the family."""

from __future__ import annotations

import copy
from typing import Any

Config = dict[str, Any]


def _mimi(seanet: Config, transformer: Config, quantizer: Config, **top: Any) -> Config:
    width = seanet.get("dimension", 32)
    return {
        "sample_rate": 24_000, "channels": seanet.get("channels", 1), "frame_rate": 12.5,
        "seanet": {
            "channels": 1, "dimension": width, "causal": True, "n_filters": 4, "n_residual_layers": 1,
            "activation": "ELU", "compress": 2, "dilation_base": 2, "disable_norm_outer_blocks": 0, "kernel_size": 7,
            "residual_kernel_size": 3, "last_kernel_size": 3, "norm": "none", "pad_mode": "constant",
            "ratios": [8, 6, 5, 4], "true_skip": True,
        } | seanet,
        "quantizer": {
            "dimension": 16, "n_q": 8, "bins": 128, "input_dimension": width, "output_dimension": width,
        } | quantizer,
        "transformer": {
            "d_model": width, "num_heads": 4, "num_layers": 2, "causal": True, "layer_scale": 0.01, "context": 20,
            "conv_layout": True, "max_period": 10000, "gating": "none", "norm": "layer_norm",
            "positional_embedding": "rope", "dim_feedforward": 64, "input_dimension": width,
            "output_dimensions": [width],
        } | transformer,
    } | top  # fmt: skip


MIMI: dict[str, Config] = {
    # A narrow version of Kyutai's configuration, with a context that wraps after ten frames.
    "base": _mimi({}, {}, {}),
    # 32 codebooks, two of them semantic; a gated transformer narrower than the latent; three steps per frame.
    "wide_books": _mimi(
        {"ratios": [4, 2], "n_filters": 8},
        {"d_model": 24, "gating": "silu", "norm": "rms_norm_f32", "positional_embedding": "rope_concat",
         "kv_repeat": 2, "context": 15, "max_period": 500, "dim_feedforward": 96},
        {"n_q": 32, "n_q_semantic": 2, "bins": 64},
        sample_rate=2_400, frame_rate=100,
    ),
    # Replicated padding, convolutional shortcuts, two dilated residual blocks per stage, stereo, absolute positions.
    "replicate": _mimi(
        {"ratios": [4, 3], "n_filters": 8, "pad_mode": "replicate", "true_skip": False, "n_residual_layers": 2,
         "dilation_base": 3, "kernel_size": 3, "channels": 2, "activation_params": {"alpha": 0.7}, "compress": 1},
        {"layer_scale": None, "positional_embedding": "sin", "positional_scale": 0.5, "gating": "gelu",
         "norm": "layer_norm_f32", "dim_feedforward": 128, "context": 9},
        {"n_q": 4},
        sample_rate=1_200, frame_rate=50,
    ),
    # No resampling of the latent, wide kernels, another activation, absolute and rotary positions together.
    "one_step": _mimi(
        {"ratios": [5, 2], "n_filters": 8, "n_residual_layers": 3, "dilation_base": 3, "kernel_size": 5,
         "last_kernel_size": 7, "activation": "LeakyReLU", "activation_params": {}},
        {"d_model": 40, "num_heads": 2, "positional_embedding": "sin_rope", "norm": "rms_norm", "context": 30},
        {"n_q": 6, "bins": 96},
        sample_rate=2_000, frame_rate=200,
    ),
}  # fmt: skip


def _lm(**options: Any) -> Config:
    return {
        "dim": 48, "text_card": 160, "existing_text_padding_id": 3, "n_q": 16, "dep_q": 8, "card": 128,
        "num_heads": 4, "num_layers": 3, "hidden_scale": 4.125, "causal": True, "layer_scale": None, "context": 30,
        "max_period": 10000, "gating": "silu", "norm": "rms_norm_f32", "positional_embedding": "rope",
        "depformer_dim": 32, "depformer_dim_feedforward": 132, "depformer_num_heads": 4, "depformer_num_layers": 2,
        "depformer_causal": True, "depformer_layer_scale": None, "depformer_multi_linear": True,
        "depformer_context": 8, "depformer_max_period": 10000, "depformer_gating": "silu",
        "depformer_pos_emb": "none", "depformer_weights_per_step": True,
        "delays": [0, 0, *[1] * 7, 0, *[1] * 7],
    } | options  # fmt: skip


_LUT: Config = {"n_bins": 31, "dim": 16, "tokenizer": "noop"}
_DESCRIPTION: Config = {
    "type": "lut", "lut": _LUT | {"possible_values": ["very_bad", "bad", "neutral", "good", "very_good"]}
}  # fmt: skip

LM: dict[str, Config] = {
    # A small Moshi 7B.
    "moshi": _lm(),
    # As in the original's own test: sinusoids, layer norm, different delays, all streams generated.
    "sinusoidal": _lm(
        n_q=4, dep_q=4, delays=[0, 1, 2, 4, 3], norm="layer_norm", gating="none", positional_embedding="sin",
        hidden_scale=1, depformer_weights_per_step_schedule=[0, 1, 1, 2], depformer_low_rank_embeddings=8,
        depformer_pos_emb="sin",
    ),
    # Speech to text: no depth transformer, 32 audio streams in, extra heads, a long rotary period.
    "stt": _lm(
        n_q=32, dep_q=0, delays=[0] * 33, max_period=100000, extra_heads_num_heads=4, extra_heads_dim=6,
        conditioners={}, fuser=None, cross_attention=False, demux_second_stream=False, text_card=256,
    ),
    # Hibiki: 16 generated streams, two frames of delay, a summed text condition, end of text read as padding.
    "hibiki": _lm(
        n_q=32, dep_q=16, delays=[0, 0, *[2] * 15, 0, *[2] * 15], max_period=100000, depformer_context=16,
        depformer_weights_per_step_schedule=[0, 1, 2, 3, 4, 5, 6, 7, *[8] * 8], depformer_low_rank_embeddings=12,
        conditioners={"description": _DESCRIPTION}, fuser={"sum": ["description"]}, model_type="hibiki",
    ),
    # Text to speech: two text streams in one token, all streams generated, cross attention, text and tensor conditions.
    "tts": _lm(
        n_q=8, dep_q=8, delays=[0, 0, *[2] * 7], card=96, text_card=140, text_card_out=120,
        demux_second_text_stream=True, num_layers=2, cross_attention=True, layer_scale=0.3,
        depformer_weights_per_step_schedule=[0, 1, 2, 3, 4, 4, 5, 5], depformer_low_rank_embeddings=8,
        depformer_num_layers=1, depformer_norm="rms_norm_f32",
        conditioners={
            "control": {"type": "lut", "lut": _LUT | {"possible_values": ["also_ok", "ok"]}},
            "cfg": {"type": "lut", "lut": _LUT | {"learn_padding": False}},
            "speaker": {"type": "tensor", "tensor": {"dim": 20}},
            "scene": {"type": "tensor", "tensor": {"dim": 48, "force_linear": False}},
        },
        fuser={"sum": ["control", "cfg"], "cross": ["speaker", "scene"], "cross_attention_pos_emb": True,
               "cross_attention_pos_emb_scale": 0.7},
    ),
    # The largest number of generated streams.
    "wide": _lm(
        n_q=32, dep_q=32, delays=[0, 0, *[2] * 31], card=96, num_layers=2, depformer_num_layers=1,
        depformer_weights_per_step_schedule=[0, 1, 2, 3, *[4] * 4, *[5] * 24], depformer_low_rank_embeddings=8,
    ),
    # Options that have default values in all published models, first set of values.
    "mixed": _lm(
        n_q=12, dep_q=8, delays=[1, 0, 2, 4, 3, 1, 0, 2, 4, 3, 0, 2, 1], norm="layer_norm_f32", gating="gelu",
        positional_embedding="rope_concat", kv_repeat=2, norm_emb=True, bias_proj=True, layer_scale=0.1,
        depformer_kv_repeat=4, depformer_norm="layer_norm_f32", depformer_pos_emb="rope",
        depformer_low_rank_embeddings=12, depformer_weights_per_step_schedule=[0, 0, 1, 1, 2, 2, 0, 1],
        depformer_dim_feedforward=[132, 128, 60],
    ),
    # The same options, second set of values.
    "mixed_too": _lm(
        n_q=6, dep_q=3, delays=[2, 0, 1, 0, 3, 0, 1], norm="rms_norm", gating="none", hidden_scale=4,
        positional_embedding="sin_rope", positional_scale=0.5, depformer_multi_linear=False, depformer_gating="mish",
        depformer_norm="rms_norm", depformer_pos_emb="rope_concat", depformer_dim_feedforward=128,
        depformer_positional_scale=0.3, depformer_layer_scale=0.1, extra_heads_num_heads=2,
    ),
    # A schedule with one weight set for all steps.
    "one_set": _lm(
        n_q=6, dep_q=4, delays=[0, 0, 1, 1, 1, 0, 1], depformer_weights_per_step_schedule=[0] * 4,
        depformer_dim_feedforward=None,
    ),
    # LoRA on all linear layers, including factorised embeddings, heads and a conditioner's projection.
    "lora": _lm(
        n_q=8, dep_q=4, delays=[0, 0, 1, 1, 1, 0, 1, 1, 1], lora=True, lora_rank=4, lora_scaling=1.5,
        depformer_low_rank_embeddings=12, depformer_weights_per_step_schedule=[0, 1, 1, 2],
        conditioners={"description": _DESCRIPTION}, fuser={"sum": ["description"]},
    ),
    # The defaults of the class: one weight set and no context, which the original cannot stream.
    "defaults": {
        "num_layers": 2, "dim": 48, "num_heads": 4, "n_q": 5, "dep_q": 3, "card": 64, "text_card": 80,
        "delays": [0, 1, 0, 2, 0, 1], "depformer_dim": 32, "depformer_num_heads": 4,
    },
}  # fmt: skip

UNSTREAMABLE = ("defaults",)  # without a context, the original cannot size its cache
GATINGS = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "mish", "softsign", "identity")


def mimi_config(name: str) -> Config:
    """Return a copy, because the original modifies its arguments."""
    return copy.deepcopy(MIMI[name])


def lm_config(name: str, **overrides: Any) -> Config:
    """Return a copy with some options replaced."""
    return copy.deepcopy(LM[name] | overrides)
