"""Mimi in Hugging Face's layout (transformers `MimiModel`): conversion of configuration and tensors.

Differences between the two implementations of the same weights:
  - Hugging Face pads each convolution separately, so a trailing partial frame gives other codes than in Kyutai's, which
    pads the samples once. On whole frames the two agree.
  - `MimiModel.decode` keeps only the transformer's cache between calls, not the state of the convolutions. Decoding
    frame by frame with it differs from decoding the whole.
  - Rows of queries and keys are stored for half-split rotary pairs, not for interleaved ones.
  - Hugging Face has one `hidden_size` for the latent and the transformer, and always a layer scale, ELU(1) and GELU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jomni.errors import ConfigError
from jomni.models.mimi.config import MimiConfig, QuantizerConfig, SeanetConfig
from jomni.nn.config import TransformerConfig
from jomni.tensors.config_reader import Section
from jomni.tensors.layout import Layout

# Options of transformers/models/mimi/configuration_mimi.py that are read, with their defaults.
_DEFAULTS: dict[str, Any] = {
    "sampling_rate": 24_000, "frame_rate": None, "_frame_rate": None, "audio_channels": 1, "hidden_size": 512,
    "num_filters": 64, "num_residual_layers": 1, "upsampling_ratios": (8, 6, 5, 4), "kernel_size": 7,
    "last_kernel_size": 3, "residual_kernel_size": 3, "dilation_growth_rate": 2, "pad_mode": "constant", "compress": 2,
    "codebook_size": 2048, "codebook_dim": 256, "num_quantizers": 32, "use_conv_shortcut": False,
    "vector_quantization_hidden_dimension": 256, "num_semantic_quantizers": 1, "upsample_groups": 512,
    "num_hidden_layers": 8, "intermediate_size": 2048, "num_attention_heads": 8, "num_key_value_heads": 8,
    "head_dim": None, "sliding_window": 250, "layer_scale_initial_scale": 0.01,
}  # fmt: skip
_ONLY: dict[str, tuple[Any, ...]] = {
    "use_causal_conv": (True,), "trim_right_ratio": (1.0,), "hidden_act": ("gelu",), "norm_eps": (1e-5,),
    "attention_bias": (False,), "normalize": (False,),
}  # fmt: skip


def read_mimi_config(raw: Mapping[str, Any], where: str) -> MimiConfig:
    """Return the codec's configuration of Hugging Face's `MimiConfig` dictionary.

    Raises:
      ConfigError: options are unknown or not supported. The message names all of them.
    """
    options = Section(raw, _DEFAULTS, _ONLY)
    for half in ("encoder_config", "decoder_config"):
        if half in raw:  # present only if the model was saved without that half
            options.problems.append(f"the model was saved without its {half.removesuffix('_config')}")
    width, heads = options["hidden_size"], options["num_attention_heads"]
    options.require("upsample_groups", width)
    options.require("codebook_dim", options["vector_quantization_hidden_dimension"])
    if options["head_dim"] is not None:
        options.require("head_dim", width // heads)
    if options["vector_quantization_hidden_dimension"] == width:
        options.refuse("vector_quantization_hidden_dimension", width, "it must differ from 'hidden_size'")
    if options["num_key_value_heads"] is None or heads % options["num_key_value_heads"]:
        options.refuse("num_key_value_heads", options["num_key_value_heads"], f"it must divide {heads} heads")
    options.finish(where)
    hop = math.prod(options["upsampling_ratios"])
    rate = options["frame_rate"] or options["_frame_rate"] or options["sampling_rate"] / hop / 2
    try:
        config = MimiConfig(
            sample_rate=options["sampling_rate"],
            frame_rate=float(rate),
            channels=options["audio_channels"],
            seanet=SeanetConfig(
                dimension=width, channels=options["audio_channels"], n_filters=options["num_filters"],
                n_residual_layers=options["num_residual_layers"], ratios=tuple(options["upsampling_ratios"]),
                kernel_size=options["kernel_size"], last_kernel_size=options["last_kernel_size"],
                residual_kernel_size=options["residual_kernel_size"], dilation_base=options["dilation_growth_rate"],
                pad_mode=options["pad_mode"], true_skip=not options["use_conv_shortcut"], compress=options["compress"],
            ),
            transformer=TransformerConfig(
                dim=width, num_heads=heads, num_layers=options["num_hidden_layers"],
                dim_feedforward=options["intermediate_size"], context=options["sliding_window"],
                positional_embedding="rope", max_period=options.rope_theta,
                layer_scale=options["layer_scale_initial_scale"], kv_repeat=heads // options["num_key_value_heads"],
            ),
            quantizer=QuantizerConfig(
                dimension=options["vector_quantization_hidden_dimension"], n_q=options["num_quantizers"],
                n_q_semantic=options["num_semantic_quantizers"], bins=options["codebook_size"],
            ),
        )  # fmt: skip
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if config.resample_stride == 1:
        raise ConfigError(f"{where}: 'frame_rate' = {rate:g} Hz must be lower than the transformer's rate")
    return config


def write_mimi_config(config: MimiConfig) -> dict[str, Any]:
    """Return Hugging Face's `MimiConfig` dictionary of the codec's configuration.

    Raises:
      ConfigError: Hugging Face's Mimi cannot express options. The message names all of them.
    """
    s, t, q = config.seanet, config.transformer, config.quantizer
    wanted: list[tuple[str, object, object]] = [
        ("seanet.activation", s.activation, "ELU"),
        ("seanet.elu_alpha", s.elu_alpha, 1.0),
        ("transformer.d_model", t.dim, s.dimension),
        ("transformer.norm", t.norm, "layer_norm"),
        ("transformer.gating", t.gating, "none"),
        ("transformer.positional_embedding", t.positional_embedding, "rope"),
    ]
    problems = [f"'{name}' = {value!r} (only {only!r})" for name, value, only in wanted if value != only]
    if config.channels > 2:
        problems.append(f"'channels' = {config.channels} (only 1 or 2)")
    if t.layer_scale is None:
        problems.append("'transformer.layer_scale' = None (a layer scale is required)")
    if t.context is None:
        problems.append("'transformer.context' = None (a number of steps is required)")
    if q.dimension == s.dimension:
        problems.append(f"'quantizer.dimension' = {q.dimension} (it must differ from 'seanet.dimension')")
    if q.bins & (q.bins - 1):
        problems.append(f"'quantizer.bins' = {q.bins} (only a power of 2)")
    if config.resample_stride == 1:
        problems.append(f"'frame_rate' = {config.frame_rate:g} (the transformer must run at twice this rate or more)")
    if problems:
        raise ConfigError(
            "Hugging Face's Mimi cannot express " + "; ".join(problems) + ". Use the layout 'kyutai' or 'orbax'."
        )
    return {
        "architectures": ["MimiModel"], "model_type": "mimi", "attention_bias": False, "attention_dropout": 0.0,
        "audio_channels": config.channels, "codebook_dim": q.dimension, "codebook_size": q.bins,
        "compress": s.compress, "dilation_growth_rate": s.dilation_base, "frame_rate": config.frame_rate,
        "head_dim": t.head_dim, "hidden_act": "gelu", "hidden_size": s.dimension, "initializer_range": 0.02,
        "intermediate_size": t.dim_feedforward, "kernel_size": s.kernel_size, "last_kernel_size": s.last_kernel_size,
        "layer_scale_initial_scale": t.layer_scale, "max_position_embeddings": 8000, "norm_eps": 1e-5,
        "num_attention_heads": t.num_heads, "num_filters": s.n_filters, "num_hidden_layers": t.num_layers,
        "num_key_value_heads": t.num_kv_heads, "num_quantizers": q.n_q, "num_residual_layers": s.n_residual_layers,
        "num_semantic_quantizers": q.n_q_semantic, "pad_mode": s.pad_mode,
        "residual_kernel_size": s.residual_kernel_size,
        "rope_parameters": {"rope_theta": t.max_period, "rope_type": "default"}, "rope_theta": t.max_period,
        "sampling_rate": config.sample_rate, "sliding_window": t.context, "trim_right_ratio": 1.0,
        "upsample_groups": s.dimension, "upsampling_ratios": list(s.ratios), "use_cache": False,
        "use_causal_conv": True, "use_conv_shortcut": not s.true_skip,
        "vector_quantization_hidden_dimension": q.dimension,
    }  # fmt: skip


def mimi_layout(config: MimiConfig, prefix: str = "") -> Layout:
    """Return the correspondence of Mimi's tensors. Hugging Face's names start with `prefix`."""
    layout = Layout()
    _add_seanet(layout, config.seanet, prefix)
    for side in ("encoder_transformer", "decoder_transformer"):
        for index in range(config.transformer.num_layers):
            kyutai, hf = f"{side}.transformer.layers.{index}.", f"{prefix}{side}.layers.{index}."
            _add_transformer_layer(layout, config.transformer, kyutai, hf)
    width, kernel = config.seanet.dimension, 2 * config.resample_stride
    layout.add("downsample.conv.conv.conv.weight", f"{prefix}downsample.conv.weight", (width, width, kernel))
    layout.add("upsample.convtr.convtr.convtr.weight", f"{prefix}upsample.conv.weight", (width, 1, kernel))
    q = config.quantizer
    for rvq, name, count in (
        ("rvq_first", "semantic_residual_vector_quantizer", q.n_q_semantic),
        ("rvq_rest", "acoustic_residual_vector_quantizer", q.n_q - q.n_q_semantic),
    ):
        kyutai, hf = f"quantizer.{rvq}.", f"{prefix}quantizer.{name}."
        layout.add(f"{kyutai}input_proj.weight", f"{hf}input_proj.weight", (q.dimension, width, 1))
        layout.add(f"{kyutai}output_proj.weight", f"{hf}output_proj.weight", (width, q.dimension, 1))
        for k in range(count):
            book, hf_book = f"{kyutai}vq.layers.{k}._codebook.", f"{hf}layers.{k}.codebook."
            layout.add(f"{book}_initialized", f"{hf_book}initialized", (1,))
            layout.add(f"{book}cluster_usage", f"{hf_book}cluster_usage", (q.bins,))
            layout.add(f"{book}embedding_sum", f"{hf_book}embed_sum", (q.bins, q.dimension))
    return layout


def _add_seanet(layout: Layout, s: SeanetConfig, prefix: str) -> None:
    """Add the convolutions. Both sides number the layers of `model` in the same way, including activations."""

    def conv(kyutai: str, hf: str, out: int, inp: int, kernel: int, kind: str = "conv") -> None:
        shape = (out, inp, kernel) if kind == "conv" else (inp, out, kernel)
        layout.add(f"{kyutai}.{kind}.{kind}.weight", f"{prefix}{hf}.conv.weight", shape)
        layout.add(f"{kyutai}.{kind}.{kind}.bias", f"{prefix}{hf}.conv.bias", (out,))

    def block(side: str, index: int, width: int) -> None:
        kyutai, hf = f"{side}.model.{index}", f"{side}.layers.{index}"
        hidden = width // s.compress
        conv(f"{kyutai}.block.1", f"{hf}.block.1", hidden, width, s.residual_kernel_size)
        conv(f"{kyutai}.block.3", f"{hf}.block.3", width, hidden, 1)
        if not s.true_skip:
            conv(f"{kyutai}.shortcut", f"{hf}.shortcut", width, width, 1)

    def top(side: str, index: int, out: int, inp: int, kernel: int, kind: str = "conv") -> None:
        conv(f"{side}.model.{index}", f"{side}.layers.{index}", out, inp, kernel, kind)

    width, index = s.n_filters, 1
    top("encoder", 0, width, s.channels, s.kernel_size)
    for ratio in reversed(s.ratios):
        for _ in range(s.n_residual_layers):
            block("encoder", index, width)
            index += 1
        top("encoder", index + 1, 2 * width, width, 2 * ratio)  # after an activation
        width, index = 2 * width, index + 2
    top("encoder", index + 1, s.dimension, width, s.last_kernel_size)

    index = 1
    top("decoder", 0, width, s.dimension, s.kernel_size)
    for ratio in s.ratios:
        top("decoder", index + 1, width // 2, width, 2 * ratio, "convtr")
        width, index = width // 2, index + 2
        for _ in range(s.n_residual_layers):
            block("decoder", index, width)
            index += 1
    top("decoder", index + 1, s.channels, width, s.last_kernel_size)


def _add_transformer_layer(layout: Layout, t: TransformerConfig, kyutai: str, hf: str) -> None:
    width = t.feedforward_width()
    layout.join_qkv(
        f"{kyutai}self_attn.in_proj_weight", f"{hf}self_attn.{{}}_proj.weight", t.dim, t.num_heads, t.num_kv_heads,
        rope=True,
    )  # fmt: skip
    layout.add(f"{kyutai}self_attn.out_proj.weight", f"{hf}self_attn.o_proj.weight", (t.dim, t.dim))
    layout.add(f"{kyutai}linear1.weight", f"{hf}mlp.fc1.weight", (width, t.dim))
    layout.add(f"{kyutai}linear2.weight", f"{hf}mlp.fc2.weight", (t.dim, width))
    for ours, theirs in (("norm1", "input_layernorm"), ("norm2", "post_attention_layernorm")):
        layout.add(f"{kyutai}{ours}.weight", f"{hf}{theirs}.weight", (t.dim,))
        layout.add(f"{kyutai}{ours}.bias", f"{hf}{theirs}.bias", (t.dim,))
    layout.add(f"{kyutai}layer_scale_1.scale", f"{hf}self_attn_layer_scale.scale", (t.dim,))
    layout.add(f"{kyutai}layer_scale_2.scale", f"{hf}mlp_layer_scale.scale", (t.dim,))
