"""Layer norm and RMS norm, with the four numerical conventions of the original (`create_norm_fn`).

Axes: D width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


class LayerNorm(nn.Module):
    """Layer norm over the last axis. Parameters: `weight` [D], `bias` [D]. Statistics in float32."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        weight = self.param("weight", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.epsilon)
        return (y * weight.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis. Parameter: `alpha` [D]; the scale is `alpha` + `offset`."""

    epsilon: float = 1e-5
    in_float32: bool = True  # False: statistics in the input's dtype, as the original's "rms_norm"
    offset: float = 0.0  # 1 where the parameter is kept near zero (Gemma)

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        alpha = self.param("alpha", nn.initializers.constant(1 - self.offset), (x.shape[-1],))
        y = x.astype(jnp.float32) if self.in_float32 else x
        variance = jnp.square(y).mean(-1, keepdims=True) + self.epsilon
        scale = alpha.astype(y.dtype) + self.offset if self.offset else alpha.astype(y.dtype)
        return (y * (scale * jax.lax.rsqrt(variance))).astype(x.dtype)


def make_norm(kind: str, name: str | None = None) -> nn.Module:
    """Return the norm called `kind` in a config: one of `jomni.nn.config.NORMS`."""
    match kind:
        case "layer_norm":
            return LayerNorm(1e-5, name=name)
        case "layer_norm_f32":
            return LayerNorm(1e-8, name=name)
        case "rms_norm":
            return RMSNorm(1e-5, in_float32=False, name=name)
        case "rms_norm_f32":
            return RMSNorm(1e-8, name=name)
    raise ValueError(f"unknown norm {kind!r}")
