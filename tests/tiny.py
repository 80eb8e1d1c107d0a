"""Tiny models for tests: every feature of the full ones, at a size that compiles in seconds."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp

from jomni.models.mimi.config import MimiConfig
from jomni.models.moshi.config import MoshiConfig
from jomni.tensors.component import abstract_init
from tools import random_model

plainly = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
"""`jax.jit` for what is so small, or runs so seldom, that to optimise it takes longer."""

_MIMI = MimiConfig.tiny()
TINY_MIMI = dataclasses.replace(
    _MIMI,
    frame_rate=24_000 / 80,
    seanet=dataclasses.replace(_MIMI.seanet, n_filters=4, ratios=(4, 5, 2)),
    transformer=dataclasses.replace(_MIMI.transformer, num_layers=2, context=10),
)
"""A Mimi with frames of 80 samples."""

TINY_MOSHI = dataclasses.replace(MoshiConfig.tiny(), text_card=40, text_card_out=40, depformer_num_layers=2)


def random_params(module, *args, seed=0, method=None):
    """Random parameters of a module for the given inputs. Compiles nothing."""
    shapes = abstract_init(module, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in args), method=method)
    return jax.tree.map(jnp.asarray, random_model.random_params(shapes, seed))
