"""Whisper's published files: OpenAI's checkpoints and Hugging Face's folders, in both directions.

Only the encoder is read. The decoder's tensors are checked by name and shape: a file must contain all of them or none,
and no others. Both layouts are weight maps of one parameter tree, so an encoder read from either layout is exported
to either, byte for byte.

To restore a whole model, replace the encoder's tensors in the original file by the exported ones:
`state["model_state_dict"].update(exported)` for OpenAI's names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jomni.errors import ConfigError
from jomni.models.whisper.config import WhisperConfig
from jomni.models.whisper.encoder import WhisperEncoder
from jomni.tensors.component import abstract_init
from jomni.tensors.config_reader import Section
from jomni.tensors.source import TensorSource
from jomni.tensors.weight_map import CONV, Place, Rule, WeightMap, bind, unflatten

LAYOUTS = ("openai", "hf")

# For each module: our path, the name in OpenAI's checkpoints, the name in Hugging Face's.
_ATTENTION = (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("out", "out_proj"))
_BLOCK = (
    *((f"attn/{a}", f"attn.{a}", f"self_attn.{b}") for a, b in _ATTENTION),
    *((f"cross_attn/{a}", f"cross_attn.{a}", f"encoder_attn.{b}") for a, b in _ATTENTION),
    ("attn_ln", "attn_ln", "self_attn_layer_norm"),
    ("cross_attn_ln", "cross_attn_ln", "encoder_attn_layer_norm"),
    ("mlp_0", "mlp.0", "fc1"),
    ("mlp_2", "mlp.2", "fc2"),
    ("mlp_ln", "mlp_ln", "final_layer_norm"),
)
_DECODER = "decoder/"  # prefix of the decoder's paths; the encoder's have none
_HEAD = "proj_out.weight"  # Hugging Face's name of the token embedding as output head


def abstract_params(config: WhisperConfig) -> dict[str, Any]:
    """Return the shapes of the speech encoder's parameters, as a nested dict of `jax.ShapeDtypeStruct`."""
    mel = jax.ShapeDtypeStruct((1, config.n_mels, 2), jnp.float32)
    return abstract_init(WhisperEncoder(config), mel)


def weight_map(layout: str) -> WeightMap:
    """Return the weight map of a whole Whisper file, in the layout "openai" or "hf"."""
    hf = layout == "hf"
    rules: list[Rule] = []
    for path, name in (("", "encoder"), (_DECODER, "decoder")):
        name = f"model.{name}" if hf else name
        for ours, openai, theirs in _BLOCK:
            module = f"{name}.layers.{{i}}.{theirs}" if hf else f"{name}.blocks.{{i}}.{openai}"
            rules += [Rule(f"{path}blocks_{{i}}/{ours}/{kind}", f"{module}.{kind}") for kind in ("weight", "bias")]
        positions = f"{name}.embed_positions.weight" if hf else f"{name}.positional_embedding"
        rules.append(Rule(f"{path}positional_embedding", positions))
        last = "layer_norm" if hf else "ln" if path else "ln_post"
        rules += [Rule(f"{path}ln_post/{kind}", f"{name}.{last}.{kind}") for kind in ("weight", "bias")]
        for conv in ("conv1", "conv2"):
            rules.append(Rule(f"{path}{conv}/kernel", f"{name}.{conv}.weight", CONV))
            rules.append(Rule(f"{path}{conv}/bias", f"{name}.{conv}.bias"))
        tokens = "embed_tokens" if hf else "token_embedding"
        rules.append(Rule(f"{path}token_embedding", f"{name}.{tokens}.weight"))
    rules.append(Rule(f"{_DECODER}head", _HEAD))
    # `WhisperModel` writes names without the prefix of `WhisperForConditionalGeneration`.
    return WeightMap(tuple(rules), renames=((r"^(encoder|decoder)\.", r"model.\1."),) if hf else ())


def abstract_decoder_params(config: WhisperConfig, head: bool = False) -> dict[str, Any]:
    """Return the shapes of the decoder's tensors, by paths of `weight_map`. `head`: include a separate output head."""
    D = config.n_text_state
    block: dict[str, tuple[int, ...]] = {}
    for attention in ("attn", "cross_attn"):
        for part, _ in _ATTENTION:
            block[f"{attention}/{part}/weight"] = (D, D)
            if part != "key":
                block[f"{attention}/{part}/bias"] = (D,)
    block |= {"mlp_0/weight": (4 * D, D), "mlp_0/bias": (4 * D,), "mlp_2/weight": (D, 4 * D), "mlp_2/bias": (D,)}
    block |= {f"{norm}/{kind}": (D,) for norm in ("attn_ln", "cross_attn_ln", "mlp_ln") for kind in ("weight", "bias")}
    shapes = {f"blocks_{i}/{path}": shape for i in range(config.n_text_layer) for path, shape in block.items()}
    shapes |= {"token_embedding": (config.n_vocab, D), "positional_embedding": (config.n_text_ctx, D)}
    shapes |= {"ln_post/weight": (D,), "ln_post/bias": (D,)}
    if head:
        shapes["head"] = (config.n_vocab, D)
    return unflatten({_DECODER + path: jax.ShapeDtypeStruct(shape, np.float32) for path, shape in shapes.items()})


def layout_of(source: TensorSource) -> str | None:
    """Return the layout of a file with a Whisper encoder, "openai" or "hf", or None if it has no encoder."""
    if "encoder.positional_embedding" in source.specs:
        return "openai"
    names = ("model.encoder.embed_positions.weight", "encoder.embed_positions.weight")
    return "hf" if any(name in source.specs for name in names) else None


def bind_encoder(config: WhisperConfig, source: TensorSource) -> dict[str, Place]:
    """Return the place of each encoder parameter in a file of either layout.

    Raises:
      WeightsError: tensors of the encoder, or of an existing decoder, are missing, misshapen or unknown. The message
        names all of them.
    """
    names = weight_map(layout_of(source) or "openai")
    tensors = names.expect(abstract_params(config))
    decoder = names.expect(abstract_decoder_params(config, head=_HEAD in source.specs))
    if {tensor.name for tensor in decoder} & {names.rename(name) for name in source.specs}:
        tensors += decoder
    places = bind(names, tensors, source.specs, source.name, "the dimensions in the same file or folder")
    return {path: place for path, place in places.items() if not path.startswith(_DECODER)}


# Options of transformers/models/whisper/configuration_whisper.py that are read, with their defaults.
_DEFAULTS: dict[str, Any] = {
    "num_mel_bins": 80, "max_source_positions": 1500, "d_model": 384, "encoder_attention_heads": 6,
    "encoder_layers": 4, "vocab_size": 51865, "max_target_positions": 448, "decoder_attention_heads": 6,
    "decoder_layers": 4, "encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536,
}  # fmt: skip
_ONLY: dict[str, tuple[Any, ...]] = {"activation_function": ("gelu",), "scale_embedding": (False,)}
# Options of training and of text decoding, and options that repeat others.
_HARMLESS = (
    "activation_dropout", "apply_spec_augment", "classifier_proj_size", "decoder_layerdrop", "dropout",
    "encoder_layerdrop", "forced_decoder_ids", "init_std", "mask_feature_length", "mask_feature_min_masks",
    "mask_feature_prob", "mask_time_length", "mask_time_min_masks", "mask_time_prob", "median_filter_width",
    "num_hidden_layers", "use_weighted_layer_sum",
)  # fmt: skip
ARCHITECTURES = ("WhisperForConditionalGeneration", "WhisperModel")
HF_ARCHITECTURE = ARCHITECTURES[0]


def read_hf_config(raw: Mapping[str, Any], where: str) -> WhisperConfig:
    """Return Whisper's dimensions of Hugging Face's `WhisperConfig` dictionary.

    Raises:
      ConfigError: the architecture is another, or options are unknown or not supported. The message names all of them.
    """
    architectures = raw.get("architectures") or []
    if any(name not in ARCHITECTURES for name in architectures):
        raise ConfigError(
            f"{where}: architectures {architectures} are not supported, only {' and '.join(ARCHITECTURES)}. "
            "Save the whole model."
        )
    options = Section(raw, _DEFAULTS, _ONLY, harmless=_HARMLESS)
    width = options["d_model"]
    for side in ("encoder", "decoder"):
        if isinstance(width, int):
            options.require(f"{side}_ffn_dim", 4 * width)
    options.finish(where)
    try:
        return WhisperConfig(
            n_mels=options["num_mel_bins"], n_audio_ctx=options["max_source_positions"], n_audio_state=width,
            n_audio_head=options["encoder_attention_heads"], n_audio_layer=options["encoder_layers"],
            n_vocab=options["vocab_size"], n_text_ctx=options["max_target_positions"], n_text_state=width,
            n_text_head=options["decoder_attention_heads"], n_text_layer=options["decoder_layers"],
        )  # fmt: skip
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def write_hf_config(config: WhisperConfig) -> dict[str, Any]:
    """Return Hugging Face's `WhisperConfig` dictionary of the dimensions."""
    width = config.n_audio_state
    return {
        "activation_function": "gelu", "architectures": [HF_ARCHITECTURE], "d_model": width,
        "decoder_attention_heads": config.n_text_head, "decoder_ffn_dim": 4 * width,
        "decoder_layers": config.n_text_layer, "encoder_attention_heads": config.n_audio_head,
        "encoder_ffn_dim": 4 * width, "encoder_layers": config.n_audio_layer,
        "max_source_positions": config.n_audio_ctx, "max_target_positions": config.n_text_ctx,
        "model_type": "whisper", "num_mel_bins": config.n_mels, "pad_token_id": None, "scale_embedding": False,
        "vocab_size": config.n_vocab,
    }  # fmt: skip
