"""Layers without state: the one linear layer, the norms, and the position encodings.

Axes: B batch, T time, N heads, H head width, H2 = H / 2 pairs of channels, D width; I input width, O output width
(`features`), r rank of an adapter.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int

from jomni.nn.streaming import precision

_init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=1, out_axis=0)


def contract_last(x: Float[Array, "... I"], weight: Float[Array, "O I"]) -> Float[Array, "... O"]:
    """Return x @ weight.T without a transpose. x is cast to the weight's dtype."""
    x = x.astype(weight.dtype)
    return lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())), precision=precision(x.dtype))


@dataclasses.dataclass(frozen=True)
class LoRA:
    """Low-rank adapters beside linear layers (arXiv:2106.09685, moshi/modules/lora.py)."""

    rank: int
    scaling: float


class Linear(nn.Module):
    """y = x W^T (+ b) (+ lora.scaling * x A^T B^T).

    Parameters: `weight` [features, I] (the published layout: no copy on import), `bias` [features], and with
    an adapter of rank r `lora_A` [r, I] and `lora_B` [features, r].
    """

    features: int
    use_bias: bool = False
    lora: LoRA | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... O"]:
        weight = self.param("weight", _init, (self.features, x.shape[-1]))
        y = contract_last(x, weight)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,))
        if self.lora is not None:
            down = self.param("lora_A", _init, (self.lora.rank, x.shape[-1]))
            up = self.param("lora_B", nn.initializers.zeros, (self.features, self.lora.rank))
            y = y + self.lora.scaling * contract_last(contract_last(x, down), up)
        return y


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
    offset: float = 0.0  # 1 if the parameter stores scale - 1 (Gemma)

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


def rotary_angles(
    positions: Int[Array, "*B T"], head_dim: int, max_period: float
) -> tuple[Float[Array, "*B T H2"], Float[Array, "*B T H2"]]:
    """Return cosines and sines of the rotation of each pair of channels (H2 = head_dim / 2), float32."""
    exponents = np.arange(head_dim // 2, dtype=np.float32)
    frequencies = np.exp(exponents * np.float32(-np.log(max_period) * 2 / head_dim))
    angles = positions.astype(jnp.float32)[..., None] * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(
    x: Float[Array, "B N T H"],
    angles: tuple[Float[Array, "B T H2"], Float[Array, "B T H2"]],
    interleaved: bool = True,
) -> Float[Array, "B N T H"]:
    """Rotate pairs of channels by their angles (arXiv:2104.09864). Pairs are (0,1), (2,3), ... where `interleaved`,
    else (0, H/2), (1, H/2 + 1), ..."""
    cos, sin = (a[:, None] for a in angles)
    y = x.astype(jnp.float32)
    if interleaved:
        pairs = y.reshape(*y.shape[:-1], -1, 2)
        real, imaginary = pairs[..., 0], pairs[..., 1]
    else:
        real, imaginary = jnp.split(y, 2, axis=-1)
    rotated = real * cos - imaginary * sin, real * sin + imaginary * cos
    joined = jnp.stack(rotated, -1).reshape(y.shape) if interleaved else jnp.concatenate(rotated, -1)
    return joined.astype(x.dtype)


def sinusoidal(positions: Int[Array, "*B T"], dim: int, max_period: float) -> Float[Array, "*B T D"]:
    """Return cosines, then sines (moshi/modules/transformer.py::create_sin_embedding), float32."""
    half = dim // 2
    exponents = np.arange(half, dtype=np.float32) / np.float32(half - 1)
    phase = positions.astype(jnp.float32)[..., None] / (np.float32(max_period) ** exponents)
    return jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], -1)
