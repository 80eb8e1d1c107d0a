"""Tiny models for tests: every feature of the full ones, at a size that compiles in seconds."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jomni.codec import MIMI
from jomni.models.moshi import MOSHI_7B

TINY_MIMI = dataclasses.replace(
    MIMI,
    sample_rate=24_000,
    frame_rate=24_000 / 80,
    seanet=dataclasses.replace(MIMI.seanet, n_filters=4, dimension=16, ratios=(4, 5, 2)),
    transformer=dataclasses.replace(
        MIMI.transformer, dim=16, num_heads=2, num_layers=2, dim_feedforward=32, context=10
    ),
    quantizer=dataclasses.replace(MIMI.quantizer, dimension=8, n_q=8, bins=32),
)
"""A Mimi with frames of 80 samples."""

TINY_MOSHI = dataclasses.replace(
    MOSHI_7B, dim=32, num_heads=2, num_layers=2, card=32, text_card=40, text_card_out=40, context=20, n_q=8, dep_q=4,
    delays=(0, 0, 1, 1, 1, 0, 1, 1, 1), depformer_dim=16, depformer_dim_feedforward=48, depformer_num_heads=2,
    depformer_num_layers=2,
)  # fmt: skip


def random_params(module, *args, seed=0, method=None):
    """Random parameters of a module for the given inputs; no scale is one, no bias zero. Compiles nothing."""
    shapes = jax.eval_shape(partial(module.init, method=method), jax.random.key(0), *args)["params"]
    rng = np.random.default_rng(seed)

    def leaf(path, shape):
        name, values = path[-1].key, rng.standard_normal(shape.shape).astype(np.float32)
        if name in ("weight", "kernel", "lora_A", "lora_B") and len(shape.shape) > 1:
            fan_in = np.prod(shape.shape[:-1]) if name == "kernel" else shape.shape[-1]
            return jnp.asarray(values * fan_in**-0.5)
        if name in ("weight", "alpha", "cluster_usage", "scale"):
            return jnp.asarray(1 + 0.3 * np.tanh(values))
        return jnp.asarray(values * (1.0 if name == "embedding_sum" else 0.3))

    return jax.tree_util.tree_map_with_path(leaf, shapes)
