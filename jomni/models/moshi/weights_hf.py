"""Moshi in Hugging Face's layout (transformers `MoshiForConditionalGeneration`): configuration and tensors.

Differences between the two implementations of the same weights:
  - The delays are not an option: `build_delay_pattern_mask` delays each codebook but the first by one frame, for agent
    and user alike, and the text by none.
  - The depth decoder has one weight set per codebook, stacked on a leading axis. Its context is the whole frame.
  - Rows of queries and keys of the temporal transformer are stored for half-split rotary pairs. The depth decoder has
    no positions.
  - `ffn_dim` counts both halves of the gated layer: twice the hidden width of Kyutai's two-thirds rule.
  - Without a cache the decoder attends to the whole past. Only the cache is limited to `sliding_window`, so outputs
    agree as long as a sequence fits the window.
  - -1 and -2 are not tokens. Kyutai's token for "absent", which embeds to zero, cannot be used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jomni.errors import ConfigError
from jomni.models.moshi.config import MoshiConfig
from jomni.nn.config import TransformerConfig
from jomni.tensors.config_reader import Section
from jomni.tensors.layout import Layout

# Options of transformers/models/moshi/configuration_moshi.py that are read, with their defaults.
_COMMON: dict[str, Any] = {
    "num_key_value_heads": None, "head_dim": None, "hidden_act": "silu", "vocab_size": 32_000, "num_codebooks": 8,
}  # fmt: skip
_DEFAULTS: dict[str, Any] = _COMMON | {
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "audio_vocab_size": None,
    "sliding_window": 3000, "ffn_dim": 22_528, "audio_encoder_config": None, "depth_decoder_config": None,
}  # fmt: skip
_DEPTH_DEFAULTS: dict[str, Any] = _COMMON | {
    "hidden_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 16, "audio_vocab_size": 2048,
    "input_size": 4096, "sliding_window": 8, "ffn_dim": 5632,
}  # fmt: skip
_ONLY: dict[str, tuple[Any, ...]] = {"rms_norm_eps": (1e-8,)}
# Hugging Face's name of an activation -> Kyutai's name. The first of several names is written.
_ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "gelu": "gelu", "relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh",
    "mish": "mish", "leaky_relu": "leaky_relu", "linear": "identity",
}  # fmt: skip


def implied_delays(num_codebooks: int) -> tuple[int, ...]:
    """Return the delays in frames that Hugging Face's generation always uses: text, agent and user codebooks."""
    side = (0, *[1] * (num_codebooks - 1))
    return (0, *side, *side)


def read_moshi_config(raw: Mapping[str, Any], where: str) -> MoshiConfig:
    """Return the language model's configuration of Hugging Face's `MoshiConfig` dictionary.

    Of `audio_encoder_config` only `codebook_size` is read, as default of `audio_vocab_size`;
    `jomni.models.mimi.weights_hf.read_mimi_config` reads the rest.

    Raises:
      ConfigError: options are unknown or not supported. The message names all of them.
    """
    options = Section(raw, _DEFAULTS, _ONLY)
    depth = Section(options["depth_decoder_config"] or {}, _DEPTH_DEFAULTS, _ONLY, "depth_decoder_config.")
    codebooks = options["num_codebooks"]
    for section in (options, depth):
        heads = section["num_attention_heads"]
        if section["head_dim"] is not None:
            section.require("head_dim", section["hidden_size"] // heads)
        if section["num_key_value_heads"] is None:
            section.values["num_key_value_heads"] = heads
        elif heads % section["num_key_value_heads"]:
            section.refuse("num_key_value_heads", section["num_key_value_heads"], f"it must divide {heads} heads")
        if section["hidden_act"] not in _ACTIVATIONS:
            section.refuse("hidden_act", section["hidden_act"], f"only {', '.join(_ACTIVATIONS)}")
    if codebooks < 2:
        options.refuse("num_codebooks", codebooks, "only 2 or more")
    # Options that Hugging Face overwrites in the nested section (vocab_size, num_codebooks, ...) are not read there.
    if depth["sliding_window"] is not None and depth["sliding_window"] < codebooks:
        depth.refuse("sliding_window", depth["sliding_window"], f"only num_codebooks = {codebooks} or more")
    options.finish(where, depth)
    card = options["audio_vocab_size"] or (options["audio_encoder_config"] or {}).get("codebook_size", 2048)
    dim = options["hidden_size"]
    try:
        return MoshiConfig(
            dim=dim, num_heads=options["num_attention_heads"], num_layers=options["num_hidden_layers"],
            delays=implied_delays(codebooks), n_q=2 * codebooks, dep_q=codebooks, card=card,
            text_card=options["vocab_size"], text_card_out=options["vocab_size"],
            hidden_scale=_hidden_scale(options["ffn_dim"], dim), norm="rms_norm_f32", context=options["sliding_window"],
            max_period=options.rope_theta, positional_embedding="rope", gating=_ACTIVATIONS[options["hidden_act"]],
            kv_repeat=options["num_attention_heads"] // options["num_key_value_heads"],
            depformer_dim=depth["hidden_size"], depformer_num_heads=depth["num_attention_heads"],
            depformer_dim_feedforward=_ungated_width(depth["ffn_dim"], depth["hidden_size"]),
            depformer_num_layers=depth["num_hidden_layers"], depformer_multi_linear=True,
            depformer_weights_per_step=True, depformer_pos_emb="none", depformer_max_period=options.rope_theta,
            depformer_gating=_ACTIVATIONS[depth["hidden_act"]],
            depformer_kv_repeat=depth["num_attention_heads"] // depth["num_key_value_heads"],
        )  # fmt: skip
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def write_moshi_config(config: MoshiConfig, mimi: dict[str, Any]) -> dict[str, Any]:
    """Return Hugging Face's `MoshiConfig` dictionary of the language model's configuration.

    Args:
      config: configuration of the language model.
      mimi: dictionary of the codec, from `jomni.models.mimi.weights_hf.write_mimi_config`.

    Raises:
      ConfigError: Hugging Face's Moshi cannot express options. The message names all of them.
    """
    problems = [f"'{name}' = {value!r} (only {only!r})" for name, value, only in _fixed(config) if value != only]
    if config.dep_q < 2:
        problems.append(f"'dep_q' = {config.dep_q} (only 2 or more)")
    if not isinstance(config.depformer_dim_feedforward, int):
        problems.append("'depformer_dim_feedforward' with one width per step (only one width)")
    if config.context is None:
        problems.append("'context' = None (a number of frames is required)")
    activations = {kyutai: hf for hf, kyutai in reversed(_ACTIVATIONS.items())}
    for name in ("gating", "depformer_gating"):
        if getattr(config, name) not in activations:
            problems.append(f"'{name}' = {getattr(config, name)!r} (only {', '.join(activations)})")
    if mimi["num_quantizers"] < config.dep_q:
        problems.append(f"'dep_q' = {config.dep_q} (the codec has only {mimi['num_quantizers']} codebooks)")
    if problems:
        raise ConfigError(
            "Hugging Face's Moshi cannot express " + "; ".join(problems) + ". Use the layout 'kyutai' or 'orbax'"
            + (", or fuse the LoRA weights first (fuse_lora)." if config.lora_rank else ".")
        )  # fmt: skip

    def common(t: TransformerConfig) -> dict[str, Any]:
        return {
            "attention_dropout": 0.0, "audio_vocab_size": config.card, "ffn_dim": 2 * t.gated_width(),
            "head_dim": t.head_dim, "hidden_act": activations[t.gating], "hidden_size": t.dim,
            "initializer_range": 0.02, "num_attention_heads": t.num_heads, "num_codebooks": config.dep_q,
            "num_hidden_layers": t.num_layers, "num_key_value_heads": t.num_kv_heads, "rms_norm_eps": 1e-8,
            "tie_word_embeddings": False, "use_cache": True, "vocab_size": config.text_card,
        }  # fmt: skip

    depth = common(config.depth) | {
        "input_size": config.dim, "max_position_embeddings": config.dep_q + 1, "model_type": "moshi_depth",
        "sliding_window": config.dep_q,
    }  # fmt: skip
    return common(config.temporal) | {
        "architectures": ["MoshiForConditionalGeneration"], "audio_encoder_config": mimi,
        "depth_decoder_config": depth, "max_position_embeddings": config.context, "model_type": "moshi",
        "rope_parameters": {"rope_theta": config.max_period, "rope_type": "default"}, "rope_theta": config.max_period,
        "sliding_window": config.context,
    }  # fmt: skip


def _fixed(config: MoshiConfig) -> list[tuple[str, object, object]]:
    """Return the options for which Hugging Face supports one value: name, value, supported value."""
    codebooks = config.dep_q
    return [
        ("n_q", config.n_q, 2 * codebooks),
        ("delays", config.delays, implied_delays(codebooks)),
        ("text_card_out", config.text_card_out, config.text_card),
        ("demux_second_text_stream", config.demux_second_text_stream, False),
        ("norm", config.norm, "rms_norm_f32"),
        ("norm_emb", config.norm_emb, False),
        ("bias_proj", config.bias_proj, False),
        ("positional_embedding", config.positional_embedding, "rope"),
        ("layer_scale", config.layer_scale, None),
        ("cross_attention", config.cross_attention, False),
        ("existing_text_padding_id", config.existing_text_padding_id, 3),
        ("existing_text_end_padding_id", config.existing_text_end_padding_id, 0),
        ("extra_heads_num_heads", config.extra_heads_num_heads, 0),
        ("depformer_multi_linear", config.depformer_multi_linear, True),
        ("depformer_weights_per_step", config.depformer_weights_per_step, True),
        ("depformer_weights_per_step_schedule", config.depformer_weights_per_step_schedule, None),
        ("depformer_low_rank_embeddings", config.depformer_low_rank_embeddings, None),
        ("depformer_pos_emb", config.depformer_pos_emb, "none"),
        ("depformer_norm", config.depformer_norm, None),
        ("depformer_layer_scale", config.depformer_layer_scale, None),
        ("conditioners", tuple(c.name for c in config.conditioners), ()),
        ("fuser", config.fuser, None),
        ("lora_rank", config.lora_rank, 0),
        ("text_eos_reads_as_padding", config.text_eos_reads_as_padding, False),
    ]


def _ungated_width(ffn_dim: int, dim: int) -> int:
    """Return the feed-forward width for which Kyutai's rule gives a gated layer of `ffn_dim` / 2 hidden units."""
    hidden = ffn_dim // 2
    for width in (4 * dim, -(-3 * hidden // 2), -(-3 * hidden // 2) + 1):
        gated = TransformerConfig(dim=dim, num_heads=1, num_layers=1, dim_feedforward=width).gated_width()
        if ffn_dim % 2 == 0 and gated == hidden:
            return width
    raise ConfigError(f"option 'ffn_dim' = {ffn_dim} with 'hidden_size' = {dim} is not a width that Moshi's rule gives")


def _hidden_scale(ffn_dim: int, dim: int) -> float:
    width = _ungated_width(ffn_dim, dim)
    scale = width / dim
    return scale if int(scale * dim) == width else math.nextafter(scale, math.inf)


def moshi_layout(config: MoshiConfig) -> Layout:
    """Return the correspondence of the language model's tensors. `write_moshi_config` must accept the configuration."""
    layout = Layout()
    books, dim, depth_dim = config.dep_q, config.dim, config.depformer_dim
    for k in range(config.n_q):
        layout.add(f"emb.{k}.weight", f"embed_tokens.{k}.weight", (config.card + 1, dim))
    layout.add("text_emb.weight", "decoder.model.embed_tokens.weight", (config.text_card + 1, dim))
    layout.add("text_linear.weight", "decoder.lm_head.weight", (config.text_card, dim))
    layout.add("out_norm.alpha", "decoder.model.norm.weight", (1, 1, dim), (dim,))
    for index in range(config.num_layers):
        _add_layer(layout, config.temporal, f"transformer.layers.{index}.", f"decoder.model.layers.{index}.", None)

    layout.add("depformer_text_emb.weight", "depth_decoder.text_embed_tokens.weight", (config.text_card + 1, depth_dim))
    for k in range(books - 1):
        layout.add(f"depformer_emb.{k}.weight", f"depth_decoder.embed_tokens.{k}.weight", (config.card + 1, depth_dim))
    inputs, heads = ([f"{name}.{k}.weight" for k in range(books)] for name in ("depformer_in", "linears"))
    layout.stack(inputs, "depth_decoder.input_projections.weight", (depth_dim, dim))
    layout.stack(heads, "depth_decoder.lm_heads.weight", (config.card, depth_dim))
    for index in range(config.depformer_num_layers):
        _add_layer(layout, config.depth, f"depformer.layers.{index}.", f"depth_decoder.layers.{index}.", books)
    return layout


def _add_layer(layout: Layout, t: TransformerConfig, kyutai: str, hf: str, sets: int | None) -> None:
    """Add one transformer layer. `sets`: weight sets of the depth transformer; None: the temporal transformer."""
    hidden = t.gated_width()
    layout.join_qkv(
        f"{kyutai}self_attn.in_proj_weight", f"{hf}self_attn.{{}}_proj.linear.weight", t.dim, t.num_heads,
        t.num_kv_heads, rope=sets is None, sets=sets,
    )  # fmt: skip
    out_proj, hf_out = f"{kyutai}self_attn.out_proj.weight", f"{hf}self_attn.o_proj.linear.weight"
    fc1, fc2 = f"{hf}mlp.fc1.weight", f"{hf}mlp.fc2.weight"
    if sets is None:
        layout.add(out_proj, hf_out, (t.dim, t.dim))
        layout.add(f"{kyutai}gating.linear_in.weight", fc1, (2 * hidden, t.dim))
        layout.add(f"{kyutai}gating.linear_out.weight", fc2, (t.dim, hidden))
    else:
        layout.refold(out_proj, hf_out, sets, (t.dim, t.dim))
        layout.stack([f"{kyutai}gating.{s}.linear_in.weight" for s in range(sets)], fc1, (2 * hidden, t.dim))
        layout.stack([f"{kyutai}gating.{s}.linear_out.weight" for s in range(sets)], fc2, (t.dim, hidden))
    layout.add(f"{kyutai}norm1.alpha", f"{hf}input_layernorm.weight", (1, 1, t.dim), (t.dim,))
    layout.add(f"{kyutai}norm2.alpha", f"{hf}post_attention_layernorm.weight", (1, 1, t.dim), (t.dim,))
