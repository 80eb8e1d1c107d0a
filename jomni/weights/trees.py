"""Shapes of the parameters that a configuration has, from the modules themselves and without computing any."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jomni.codec import Mimi
from jomni.codec.config import MimiConfig
from jomni.codec.snac import Snac
from jomni.codec.snac_config import SnacConfig
from jomni.models.decoder import Decoder, DecoderConfig
from jomni.models.mini_omni import MiniOmni, MiniOmniConfig
from jomni.models.moshi import MoshiLM
from jomni.models.moshi.config import MoshiConfig
from jomni.models.whisper import WhisperConfig, WhisperEncoder


def mimi_tree(config: MimiConfig) -> dict[str, Any]:
    """Shapes of the codec's parameters, as a nested dictionary of `jax.ShapeDtypeStruct`."""
    mimi = Mimi(config, num_codebooks=config.num_codebooks)
    pcm = jax.ShapeDtypeStruct((1, config.channels, config.frame_size), jnp.float32)
    return jax.eval_shape(mimi.init, jax.random.key(0), pcm)["params"]


def snac_tree(config: SnacConfig) -> dict[str, Any]:
    """Shapes of a SNAC's parameters, as a nested dictionary of `jax.ShapeDtypeStruct`."""
    pcm = jax.ShapeDtypeStruct((1, 1, config.frame_size * config.frame_multiple), jnp.float32)
    return jax.eval_shape(Snac(config).init, jax.random.key(0), pcm)["params"]


def lm_tree(config: MoshiConfig) -> dict[str, Any]:
    """Shapes of the language model's parameters, as a nested dictionary of `jax.ShapeDtypeStruct`."""
    codes = jax.ShapeDtypeStruct((1, config.n_q + 1, 2), jnp.int32)
    return jax.eval_shape(MoshiLM(config).init, jax.random.key(0), codes)["params"]


def whisper_tree(config: WhisperConfig) -> dict[str, Any]:
    """Shapes of the speech encoder's parameters, as a nested dictionary of `jax.ShapeDtypeStruct`."""
    mel = jax.ShapeDtypeStruct((1, config.n_mels, 2), jnp.float32)
    return jax.eval_shape(WhisperEncoder(config).init, jax.random.key(0), mel)["params"]


def decoder_tree(config: DecoderConfig) -> dict[str, Any]:
    """Shapes of a text decoder's parameters, as a nested dictionary of `jax.ShapeDtypeStruct`."""
    decoder = Decoder(config)
    tokens = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    return jax.eval_shape(lambda t: decoder.init(jax.random.key(0), t, method="whole"), tokens)["params"]


def omni_tree(config: MiniOmniConfig) -> dict[str, Any]:
    """Shapes of a Mini-Omni's parameters, as a nested dictionary of `jax.ShapeDtypeStruct`."""
    tokens = jax.ShapeDtypeStruct((1, config.vocabulary.streams + 1, 2), jnp.int32)
    return jax.eval_shape(MiniOmni(config).init, jax.random.key(0), tokens)["params"]
