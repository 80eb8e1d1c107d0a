"""Delays between the streams: codes shifted in time for the model, logits shifted back for the loss.

Axes: B batch, K streams, T frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def delay_streams(codes: Int[Array, "B K T"], delays: Sequence[int], initial: Int[Array, "K"]) -> Int[Array, "B K T"]:
    """Shift stream k right by `delays[k]` frames; `initial[k]` fills the begin."""
    T = codes.shape[-1]
    filled = initial[:, None] * jnp.ones((T,), codes.dtype)

    def shift(k: int, delay: int) -> Array:
        before = jnp.broadcast_to(filled[k, : min(delay, T)], (codes.shape[0], min(delay, T)))
        return jnp.concatenate([before, codes[:, k, : max(T - delay, 0)]], -1)

    return jnp.stack([shift(k, delay) for k, delay in enumerate(delays)], 1)


def undelay_streams(
    values: Float[Array, "B K T V"], delays: Sequence[int], fill: float = jnp.nan
) -> tuple[Float[Array, "B K T V"], Bool[Array, "B K T"]]:
    """Shift stream k left by `delays[k]` frames; also return the mask of frames that are not `fill`."""
    B, K, T, V = values.shape
    lines = []
    for k, delay in enumerate(delays):
        missing = min(delay, T)
        lines.append(jnp.concatenate([values[:, k, missing:], jnp.full((B, missing, V), fill, values.dtype)], 1))
    frames = jnp.arange(T)
    mask = jnp.stack([frames < T - delay for delay in delays])
    return jnp.stack(lines, 1), jnp.broadcast_to(mask, (B, K, T))
