"""Sampling of one token per row with settings per row, as in moshi/utils/sampling.py.

Axes: B batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt32


class Sampler(Protocol):
    """Function that draws one token per row; `sample` is one. It is traced into the step, so it uses JAX's operations.

    The arguments are those of `sample`. Settings that it does not use may have any meaning to it.
    """

    def __call__(
        self,
        logits: Float[Array, "B V"],
        temperature: Float[Array, "B"],
        top_k: Int[Array, "B"],
        keys: Array,
        top_p: Float[Array, "B"] | None = None,
        /,
    ) -> Int[Array, "B"]: ...


def sample(
    logits: Float[Array, "B V"],
    temperature: Float[Array, "B"],
    top_k: Int[Array, "B"],
    keys: Array,
    top_p: Float[Array, "B"] | None = None,
) -> Int[Array, "B"]:
    """Return one sampled token per row.

    The candidates are the `top_k` most probable tokens of softmax(logits / temperature). The candidate with the largest
    p / e is returned, where e is drawn from Exp(1); its distribution is proportional to p.

    Args:
      logits: any float dtype; computed in float32.
      temperature: 0: the most probable token.
      top_k: number of candidates; 0 or less: all. Tokens as probable as the last candidate are candidates too.
      keys: one PRNG key per row, so that a row's token does not depend on other rows.
      top_p: keep the smallest set of most probable candidates whose share of the candidates' probability is at least
        this, and candidates as probable as the last of them. None or 1: keep all.
    """
    logits = logits.astype(jnp.float32)
    vocabulary = logits.shape[-1]
    drawn = temperature > 0
    probabilities = jax.nn.softmax(logits / jnp.where(drawn, temperature, 1.0)[:, None], -1)
    k = jnp.where(top_k > 0, jnp.minimum(top_k, vocabulary), vocabulary)
    competing = probabilities >= kth_largest(probabilities, k)[:, None]
    if top_p is not None:
        rest = jnp.where(competing, probabilities, 0)
        competing &= probabilities >= mass_threshold(rest, top_p * rest.sum(-1))[:, None]
    noise = jax.vmap(lambda key: jax.random.exponential(key, (vocabulary,)))(keys)
    winner = jnp.argmax(jnp.where(competing, probabilities / noise, -1.0), -1)
    return jnp.where(drawn, winner, jnp.argmax(logits, -1)).astype(jnp.int32)


def kth_largest(values: Float[Array, "B V"], k: Int[Array, "B"]) -> Float[Array, "B"]:
    """Return the k-th largest of each row of non-negative float32 values, 1 <= k <= V.

    Non-negative floats have the same order as their bit patterns, so the result is found bit by bit in 31 passes.
    Unlike `lax.top_k`, this allows a different k for each row without recompiling.
    """
    bits = lax.bitcast_convert_type(values, jnp.int32)
    return _largest_threshold(k.shape[0], lambda candidate: (bits >= candidate[:, None]).sum(-1) >= k)


def mass_threshold(values: Float[Array, "B V"], mass: Float[Array, "B"]) -> Float[Array, "B"]:
    """Return each row's largest threshold such that the values from it on sum to at least `mass` and are not all zero.

    It is found bit by bit, as in `kth_largest`.
    """
    bits = lax.bitcast_convert_type(values, jnp.int32)

    def reaches(candidate: Array) -> Array:
        held = jnp.where(bits >= candidate[:, None], values, 0).sum(-1)
        return (held >= mass) & (held > 0)

    return _largest_threshold(mass.shape[0], reaches)


def _largest_threshold(rows: int, holds: Callable[[Array], Array]) -> Float[Array, "B"]:
    """Return the largest non-negative float32 of each row for whose bit pattern `holds` is true."""

    def set_bit(i: Array, found: Array) -> Array:
        candidate = found | (1 << (30 - i))
        return jnp.where(holds(candidate), candidate, found)

    return lax.bitcast_convert_type(lax.fori_loop(0, 31, set_bit, jnp.zeros((rows,), jnp.int32)), jnp.float32)


def row_keys(seed: UInt32[Array, "B"], offset: Int[Array, "B"], stream: int) -> Array:
    """Return one PRNG key per row, a function of the row's seed, its step and the stream."""

    def one(seed: Array, offset: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), offset), stream)

    return jax.vmap(one)(seed, offset)


def batch_seeds(seed: int | Sequence[int], batch: int) -> UInt32[Array, "B"]:
    """Return one seed per row: seed + row for a single seed, else the given seeds."""
    seeds = np.asarray(seed).astype(np.uint32)
    if seeds.ndim == 0:
        seeds = (seeds + np.arange(batch)).astype(np.uint32)
    if seeds.shape != (batch,):
        raise ValueError(f"seed must be one number or {batch}, one per row, got {seeds.shape}")
    return jnp.asarray(seeds)
