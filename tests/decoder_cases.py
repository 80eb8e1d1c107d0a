"""Tiny text decoders with a tokenizer of bytes, for tests of text."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

import jomni
from jomni.models.decoder import DecoderConfig, RopeConfig
from jomni.models.decoder import weights as decoder_weights
from tools.goldens.chats import TEMPLATES

SPECIAL = ["<|im_start|>", "<|im_end|>"]
PLAIN = DecoderConfig.tiny()
SLIDING = dataclasses.replace(
    PLAIN, num_layers=3, layer_kinds=("sliding", "full", "sliding"), window=5, norm_offset=1.0, post_norms=True,
    qk_norm=True, qkv_bias=False, attention_scale=0.4, logit_softcap=6.0, attention_softcap=4.0, activation="gelu_tanh",
    embedding_scale=4.0, rope=RopeConfig(3000.0, "linear", 4.0), local_rope=RopeConfig(50.0),
)  # fmt: skip
"""Every option that Gemma has."""


def params(config: DecoderConfig, seed: int = 0) -> dict:
    """Random parameters; scales of norms near their neutral value."""
    leaves, form = jax.tree.flatten(decoder_weights.abstract_params(config))
    rng = np.random.default_rng(seed)

    def draw(leaf):
        x = rng.standard_normal(leaf.shape)
        x = 1 - config.norm_offset + 0.2 * x if leaf.ndim == 1 else 1.5 * x / np.sqrt(leaf.shape[-1])
        return jnp.asarray(x, jnp.float32)

    return jax.tree.unflatten(form, [draw(leaf) for leaf in leaves])


def tokenizer_json() -> bytes:
    """Byte b is a token, in the order of `alphabet`; then the special tokens."""
    vocabulary = {char: i for i, char in enumerate(sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer.to_str().encode()


def files() -> dict[str, bytes]:
    """Tokenizer, chat template and generation defaults of a folder."""
    config = {"eos_token": {"__type": "AddedToken", "content": SPECIAL[1], "special": True}, "bos_token": None}
    generation = {"do_sample": True, "temperature": 0.9, "top_k": 20, "top_p": 0.95, "eos_token_id": [257],
                  "repetition_penalty": 1.1}  # fmt: skip
    return {
        "tokenizer.json": tokenizer_json(), "tokenizer_config.json": json.dumps(config).encode(),
        "chat_template.jinja": TEMPLATES["chatml"].encode(), "generation_config.json": json.dumps(generation).encode(),
    }  # fmt: skip


def checkpoint(config: DecoderConfig = PLAIN, family: str = "qwen2", seed: int = 0) -> jomni.Checkpoint:
    """A decoder that chats, in bytes."""
    held = files()
    return jomni.Checkpoint(
        "decoder", {"decoder": config}, {"decoder": params(config, seed)}, model_type=family, files=held,
        generation=json.loads(held["generation_config.json"]), source="tiny decoder",
    )  # fmt: skip
