"""Token embedding with the original's special cases (moshi/models/lm_utils.py::ScaledEmbedding).

Axes: B batch, T time, V vocabulary, D width, R rank of a factorised table.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jomni.nn.layers import LayerNorm, Linear, LoRA

ZERO = -1
"""Token that is embedded as exactly zero, and left out of the loss."""

_init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=1, out_axis=0)


class TokenEmbedding(nn.Module):
    """Embedding table; `ZERO` maps to a zero vector, before any low-rank map.

    Parameters: `weight` [entries, features or low_rank], and as configured `norm`, `low_rank/weight`, `out1/weight`,
    `out2/weight`.
    """

    entries: int  # vocabulary and one initial token
    features: int
    norm: bool = False
    low_rank: int | None = None  # width of a factorised table
    demux: bool = False  # tokens are token1 + entries * (token2 + 1): two streams, each with its own projection
    lora: LoRA | None = None

    @nn.compact
    def __call__(self, tokens: Int[Array, "..."]) -> Float[Array, "... D"]:
        table = self.param("weight", _init, (self.entries, self.low_rank or self.features))
        zero = (tokens == ZERO)[..., None]
        index = jnp.maximum(tokens, 0)

        def look_up(index: Array) -> Array:
            return jnp.take(table, index, axis=0, mode="clip")

        if self.demux:
            first, second = index % self.entries, index // self.entries - 1
            left = Linear(self.features, lora=self.lora, name="out1")(look_up(first))
            right = Linear(self.features, lora=self.lora, name="out2")(look_up(jnp.maximum(second, 0)))
            both = left + jnp.where((second < 0)[..., None], 0, right)
            if self.low_rank is not None:  # held, published and not applied here by the original: compiled away
                Linear(self.features, lora=self.lora, name="low_rank")(look_up(first))
            return jnp.where(zero, 0, both)
        y = look_up(index)
        if self.norm:
            y = LayerNorm(name="norm")(y)
        y = jnp.where(zero, 0, y)
        if self.low_rank is not None:
            y = Linear(self.features, lora=self.lora, name="low_rank")(y)
        return y
