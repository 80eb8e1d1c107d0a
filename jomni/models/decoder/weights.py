"""Text decoders in Hugging Face's layout: configuration and tensor names, in both directions.

The families share most options, which are read once, and differ in a few defaults. Rotary positions are read from
transformers 4's `rope_theta`, `rope_scaling` and `rope_local_base_freq`, or from transformers 5's `rope_parameters`.

Not supported, and rejected by name: rotary positions that depend on the current sequence length ("dynamic",
"longrope"), because cached keys would have to be rotated again; rotary positions on part of a head; bidirectional
attention; quantised weights. Gemma 3's option `attn_logit_softcapping` must be null, because its attention in
transformers does not use it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jomni.errors import ConfigError
from jomni.models.decoder.config import FULL, ROPES, SLIDING, DecoderConfig, RopeConfig
from jomni.models.decoder.model import Decoder
from jomni.tensors.component import abstract_init
from jomni.tensors.config_reader import Section
from jomni.tensors.weight_map import Rule, WeightMap

_ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
_KINDS = {"full_attention": FULL, "sliding_attention": SLIDING}

_COMMON: dict[str, Any] = {
    "vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 22_016, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": None, "head_dim": None, "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
}  # fmt: skip
_QWEN: dict[str, Any] = _COMMON | {
    "num_key_value_heads": 32, "hidden_act": "silu", "use_sliding_window": False, "sliding_window": 4096,
    "max_window_layers": 28, "layer_types": None,
}  # fmt: skip
_GEMMA: dict[str, Any] = _COMMON | {
    "vocab_size": 256_000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 8192,
    "tie_word_embeddings": True, "hidden_activation": "gelu_pytorch_tanh", "attention_bias": False,
    "query_pre_attn_scalar": 256, "sliding_window": 4096, "layer_types": None, "final_logit_softcapping": None,
}  # fmt: skip
_DEFAULTS: dict[str, dict[str, Any]] = {
    "qwen2": _QWEN,
    "qwen3": _QWEN | {"head_dim": 128, "attention_bias": False},
    "llama": _COMMON | {
        "vocab_size": 32_000, "intermediate_size": 11_008, "max_position_embeddings": 2048, "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False,
    },
    "gemma2": _GEMMA | {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0},
    "gemma3_text": _GEMMA | {
        "vocab_size": 262_208, "max_position_embeddings": 131_072, "sliding_window_pattern": 6,
        "rope_local_base_freq": 10_000.0,
    },
}  # fmt: skip
"""Family (`model_type`) -> the options that are read, with transformers' defaults (configuration_*.py)."""

_ONLY: dict[str, dict[str, tuple[Any, ...]]] = {
    "qwen2": {"attention_bias": (True,), "use_mrope": (False,)},
    "qwen3": {},
    "llama": {"pretraining_tp": (1, None), "rope_interleaved": (False,)},
    "gemma2": {"use_bidirectional_attention": (None, False)},
    "gemma3_text": {"use_bidirectional_attention": (None, False), "attn_logit_softcapping": (None,)},
}
_NO_EFFECT = frozenset([
    "_sliding_window_pattern", "cache_implementation", "hidden_act", "hidden_activation", "is_llama_config",
    "transformers.js_config",
])  # fmt: skip
"""Options in published files that the family's code does not read, such as Gemma's `hidden_act`."""

ARCHITECTURES = {
    "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM",
    "gemma2": "Gemma2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM",
}  # fmt: skip
"""Supported families, and the class of each in transformers."""


class _Options(Section):
    """Options of a decoder, without rotary positions, which `_ropes` reads."""

    def _read_rope(self, raw: Mapping[str, Any]) -> float:
        return float(raw.get("rope_theta") or 10_000.0)


def abstract_params(config: DecoderConfig) -> dict[str, Any]:
    """Return the shapes of a text decoder's parameters, as a nested dict of `jax.ShapeDtypeStruct`."""
    tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    return abstract_init(Decoder(config), tokens, method=Decoder.whole)


def read_decoder_config(raw: Mapping[str, Any], where: str) -> DecoderConfig:
    """Return the decoder's configuration of a config.json.

    Raises:
      ConfigError: options are unknown or not supported. The message names all of them.
    """
    family = raw["model_type"]
    defaults = _DEFAULTS[family]
    options = _Options({k: v for k, v in raw.items() if k in defaults or k not in _NO_EFFECT}, defaults, _ONLY[family])
    kinds, window = _layer_kinds(options, family)
    rope, local_rope = _ropes(raw, options, family)
    activation = options["hidden_activation" if "hidden_activation" in defaults else "hidden_act"]
    if activation not in _ACTIVATIONS:
        options.refuse("hidden_act", activation, f"only {', '.join(_ACTIVATIONS)}")
    options.finish(where)
    gemma = family.startswith("gemma")
    dim, heads = options["hidden_size"], options["num_attention_heads"]
    bias = options.values.get("attention_bias", False)
    try:
        return DecoderConfig(
            vocab_size=options["vocab_size"], dim=dim, num_layers=options["num_hidden_layers"], num_heads=heads,
            num_kv_heads=options["num_key_value_heads"] or heads, head_dim=options["head_dim"] or dim // heads,
            hidden_dim=options["intermediate_size"], max_positions=options["max_position_embeddings"],
            rope=rope, local_rope=local_rope, layer_kinds=kinds, window=window, activation=_ACTIVATIONS[activation],
            norm_epsilon=options["rms_norm_eps"], norm_offset=1.0 if gemma else 0.0, post_norms=gemma,
            qk_norm=family in ("qwen3", "gemma3_text"), qkv_bias=bias or family == "qwen2", out_bias=bias,
            mlp_bias=options.values.get("mlp_bias", False),
            attention_scale=options["query_pre_attn_scalar"] ** -0.5 if gemma else None,
            attention_softcap=options.values.get("attn_logit_softcapping"),
            logit_softcap=options.values.get("final_logit_softcapping"),
            embedding_scale=dim**0.5 if gemma else 1.0, tied=options["tie_word_embeddings"],
        )  # fmt: skip
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"{where}: an option has a value of the wrong type ({error}). Correct it.") from None


def _layer_kinds(options: _Options, family: str) -> tuple[tuple[str, ...], int | None]:
    """Return the kind of each layer and the window of the sliding ones; no kinds if all layers are full."""
    values, count = options.values, options["num_hidden_layers"]
    window = values.get("sliding_window")
    if "use_sliding_window" in values:
        window = window if values["use_sliding_window"] else None
    names = values.get("layer_types")
    if names is not None:
        if unknown := set(names) - set(_KINDS):
            options.refuse("layer_types", sorted(unknown), f"only {', '.join(_KINDS)}")
        kinds = tuple(_KINDS.get(name, FULL) for name in names)
    elif family.startswith("qwen") and window is not None:
        kinds = tuple(SLIDING if i >= values["max_window_layers"] else FULL for i in range(count))
    elif family.startswith("gemma"):
        period = values.get("sliding_window_pattern", 2)
        kinds = tuple(SLIDING if (i + 1) % period else FULL for i in range(count))
    else:
        kinds = ()
    return (kinds, window) if SLIDING in kinds else ((), None)


def _ropes(raw: Mapping[str, Any], options: _Options, family: str) -> tuple[RopeConfig, RopeConfig | None]:
    """Return the rotary positions of full layers, and of sliding layers if they differ."""
    given = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    positions, theta = options["max_position_embeddings"], raw.get("rope_theta")
    if family != "gemma3_text":
        return _rope(given, theta or 10_000.0, positions, options), None
    nested = {name: given.get(name) or {} for name in _KINDS}
    if not set(given) & set(_KINDS):
        nested["full_attention"] = given  # in transformers 4, `rope_scaling` applies to full layers only
    local = _rope(nested["sliding_attention"], options["rope_local_base_freq"], positions, options)
    full = _rope(nested["full_attention"], theta or 1_000_000.0, positions, options)
    return full, local


def _rope(given: Mapping[str, Any], theta: float, positions: int, options: _Options) -> RopeConfig:
    kind = given.get("rope_type", given.get("type", "default"))
    read = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
    if kind != "default":
        read |= {"factor"}
    if kind == "llama3":
        read |= {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}
    if kind == "yarn":
        read |= {"beta_fast", "beta_slow", "attention_factor", "truncate", "original_max_position_embeddings"}
    if kind not in ROPES or given.get("partial_rotary_factor", 1.0) != 1.0 or set(given) - read:
        options.refuse("rope_parameters", dict(given), f"only the kinds {', '.join(ROPES)} on whole heads")
        return RopeConfig()
    plain = {"factor", "low_freq_factor", "high_freq_factor"} & read
    values: dict[str, Any] = {key: given[key] for key in plain if key in given}
    yarn = ("beta_fast", "beta_slow", "attention_factor", "truncate")
    values |= {key: given[key] for key in yarn if given.get(key) is not None}
    if kind in ("llama3", "yarn"):
        values["original_positions"] = given.get("original_max_position_embeddings", positions)
    try:
        return RopeConfig(float(given.get("rope_theta") or theta), kind, **values)
    except (ConfigError, TypeError, ValueError) as error:
        options.refuse("rope_parameters", dict(given), str(error))
        return RopeConfig()


def write_decoder_config(config: DecoderConfig, family: str) -> dict[str, Any]:
    """Return the configuration as the config.json of a family, in the form of transformers 5.

    Raises:
      ConfigError: the family is unknown, or cannot express the configuration. The message names the options.
    """
    if family not in ARCHITECTURES:
        raise ConfigError(f"{family!r} is not a known family of decoders. Choose one of {', '.join(ARCHITECTURES)}.")
    names = {value: key for key, value in reversed(_KINDS.items())}
    activations = {value: key for key, value in reversed(_ACTIVATIONS.items())}
    rope: dict[str, Any] = _write_rope(config.rope)
    if family == "gemma3_text":
        rope = {"full_attention": rope, "sliding_attention": _write_rope(config.local_rope or RopeConfig())}
    everything: dict[str, Any] = {
        "vocab_size": config.vocab_size, "hidden_size": config.dim, "intermediate_size": config.hidden_dim,
        "num_hidden_layers": config.num_layers, "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads, "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions, "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tied, "hidden_act": activations[config.activation],
        "hidden_activation": activations[config.activation], "use_sliding_window": config.window is not None,
        "sliding_window": config.window, "max_window_layers": config.num_layers,
        "layer_types": [names[kind] for kind in config.kinds], "attention_bias": config.out_bias,
        "mlp_bias": config.mlp_bias, "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.logit_softcap,
        "query_pre_attn_scalar": round((config.attention_scale or config.head_dim**-0.5) ** -2),
    }  # fmt: skip
    raw = {key: value for key, value in everything.items() if key in _DEFAULTS[family]}
    raw |= {"architectures": [ARCHITECTURES[family]], "model_type": family, "rope_parameters": rope}
    back = read_decoder_config(raw, family)
    differ = [f.name for f in dataclasses.fields(config) if getattr(back, f.name) != getattr(config, f.name)]
    if differ:
        told = ", ".join(f"'{name}' = {getattr(config, name)!r}" for name in differ)
        raise ConfigError(f"the family {family!r} cannot express {told}. Choose another family.")
    return raw


def _write_rope(rope: RopeConfig) -> dict[str, Any]:
    raw: dict[str, Any] = {"rope_type": rope.kind, "rope_theta": rope.theta}
    if rope.kind != "default":
        raw["factor"] = rope.factor
    if rope.kind in ("llama3", "yarn"):
        raw["original_max_position_embeddings"] = rope.original_positions
    if rope.kind == "llama3":
        raw |= {"low_freq_factor": rope.low_freq_factor, "high_freq_factor": rope.high_freq_factor}
    if rope.kind == "yarn":
        raw |= {"beta_fast": rope.beta_fast, "beta_slow": rope.beta_slow, "truncate": rope.truncate}
        raw |= {"attention_factor": rope.attention_factor} if rope.attention_factor is not None else {}
    return raw


def weight_map(config: DecoderConfig) -> WeightMap:
    """Return the weight map of a decoder's files."""
    layer = "layers_{i}"
    norms = {"pre_attention_norm": "input_layernorm", "pre_feedforward_norm": "post_attention_layernorm"}
    if config.post_norms:
        norms = {
            "pre_attention_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
            "pre_feedforward_norm": "pre_feedforward_layernorm", "post_feedforward_norm": "post_feedforward_layernorm",
        }  # fmt: skip
    rules = [
        Rule("embed_tokens/weight", "model.embed_tokens.weight"),
        Rule("norm/alpha", "model.norm.weight"),
        Rule("lm_head/weight", "lm_head.weight"),
    ]
    rules += [Rule(f"{layer}/{ours}/alpha", f"model.layers.{{i}}.{theirs}.weight") for ours, theirs in norms.items()]
    rules += [Rule(f"{layer}/self_attn/{x}_norm/alpha", f"model.layers.{{i}}.self_attn.{x}_norm.weight") for x in "qk"]
    for part in ("self_attn", "mlp"):
        for last in ("weight", "bias"):
            rules.append(Rule(f"{layer}/{part}/{{name}}/{last}", f"model.layers.{{i}}.{part}.{{name}}.{last}"))
    return WeightMap(tuple(rules))
