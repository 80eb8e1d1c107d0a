"""Position encodings: rotary (interleaved or split in halves) and sinusoidal, computed in float32.

Axes: B batch, N heads, T time, H head width, H2 = H / 2 pairs of channels, D width.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


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
