"""Parameter surgery: from a text decoder to a Mini-Omni ("Any Model Can Talk"), and from it to the form for generation.

Axes: V rows of the decoder's vocabulary, R rows of the new one, D model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jomni.errors import ConfigError
from jomni.models.mini_omni.config import MiniOmniConfig
from jomni.models.mini_omni.model import MiniOmni
from jomni.models.mini_omni.weights import abstract_params


def add_speech_parts(
    params: dict[str, Any], config: MiniOmniConfig, key: Array,
    similar: Mapping[int, Sequence[int]] = MappingProxyType({}),
) -> dict[str, Any]:  # fmt: skip
    """Return parameters of a `MiniOmni` whose backbone is the text decoder.

    The first text_size rows of embedding and head are the decoder's. All others are drawn from a normal distribution
    with their mean and deviation, or are the mean of some of them (`similar`). If streams are merged by "sum", padding
    has zero embeddings, so that the backbone's function of text alone is unchanged. Adapter and post-adapter are
    initialised. New parameters have the dtype of the embedding.

    Args:
      params: of a `Decoder` whose configuration differs from config.decoder in vocab_size alone.
      config: of the new model.
      key: PRNG key.
      similar: special text tokens, each with tokens of the decoder of similar meaning; its rows are initialised to
        the mean of theirs.

    Raises:
      ConfigError: the parameters are not those of such a decoder.
    """
    adapter_key, *row_keys = jax.random.split(key, 3)
    model = MiniOmni(config)
    tokens = jnp.zeros((1, config.vocabulary.streams + 1, 1), jnp.int32)
    form: Any = abstract_params(config)
    backbone, rows = dict(params), ("embed_tokens",) if config.decoder.tied else ("embed_tokens", "lm_head")
    structure: Any = jax.tree.structure(params)
    if structure != jax.tree.structure(form["backbone"]):
        raise ConfigError("the text decoder's parameters do not have the form that the configuration describes")
    for name, row_key in zip(rows, row_keys, strict=False):
        weight = params[name]["weight"]
        if weight.shape[0] < config.vocabulary.text_size:
            raise ConfigError(
                f"'{name}' has {weight.shape[0]} rows, the vocabulary {config.vocabulary.text_size} of text"
            )
        weight = _extend(weight[: config.vocabulary.text_size], config.decoder.vocab_size, row_key)
        for token, like in similar.items():
            weight = weight.at[token].set(weight[jnp.asarray(like)].mean(0))
        if name == "embed_tokens" and config.merge == "sum":
            v = config.vocabulary
            padding = [v.pad_text, *(v.audio_row(stream) + v.pad_audio for stream in range(v.streams))]
            weight = weight.at[jnp.asarray(padding)].set(0)
        backbone[name] = {"weight": weight}
    for path, leaf in jax.tree_util.tree_leaves_with_path(form["backbone"]):
        found: Any = backbone
        for part in path:
            found = found[part.key]
        if found.shape != leaf.shape:
            name = "/".join(part.key for part in path)
            raise ConfigError(f"'{name}' of the text decoder has shape {found.shape}, the configuration {leaf.shape}")
    dtype = params["embed_tokens"]["weight"].dtype

    @jax.jit
    def fresh(key: Array) -> dict[str, Any]:  # jitted, so that the backbone's part is never computed
        drawn = model.init(key, tokens)["params"]
        return {
            name: jax.tree.map(lambda x: x.astype(dtype), part) for name, part in drawn.items() if name != "backbone"
        }

    return {"backbone": backbone, **fresh(adapter_key)}


def set_apart(params: dict[str, Any], config: MiniOmniConfig) -> dict[str, Any]:
    """Return parameters of `MiniOmni(config, apart=True)`: separate arrays for the rows of text and of audio.

    The model computes the same numbers. A generation step reads only some of the rows, and a slice of the whole array
    would be a copy. Unused rows are dropped. Keep `params` itself for export. Parameters that are separate already are
    returned unchanged.
    """
    if "audio_tokens" in params:
        return params
    v = config.vocabulary
    backbone, out = dict(params["backbone"]), dict(params)
    for name, audio in (("embed_tokens", "audio_tokens"), ("lm_head", "audio_head")):
        if name not in backbone:
            continue
        weight = backbone[name]["weight"]
        backbone[name] = {"weight": weight[: v.padded_text_size]}
        if name == "embed_tokens" or config.post_adapter is None:
            out[audio] = {"weight": weight[v.padded_text_size : v.size]}
    return out | {"backbone": backbone}


def _extend(weight: Float[Array, "V D"], rows: int, key: Array) -> Float[Array, "R D"]:
    known = weight.astype(jnp.float32)
    drawn = known.mean(0) + known.std(0) * jax.random.normal(key, (rows - len(known), known.shape[1]))
    return jnp.concatenate([weight, drawn.astype(weight.dtype)])
