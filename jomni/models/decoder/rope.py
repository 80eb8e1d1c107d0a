"""Frequencies of rotary positions, stretched or not (transformers/modeling_rope_utils.py), float32.

Axes: P pairs of channels (half the head width), B batch, T time.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jomni.models.decoder.config import RopeConfig


def rope_angles(
    rope: RopeConfig, positions: Int[Array, "*B T"], head_dim: int
) -> tuple[Float[Array, "*B T P"], Float[Array, "*B T P"]]:
    """Return cosines and sines of each pair's rotation, times YaRN's factor on queries and keys."""
    angles = positions.astype(jnp.float32)[..., None] * frequencies(rope, head_dim)
    scale = np.float32(magnitude(rope))
    return jnp.cos(angles) * scale, jnp.sin(angles) * scale


def magnitude(rope: RopeConfig) -> float:
    """Return the factor on rotated queries and keys (arXiv:2309.00071, section 3.4)."""
    if rope.kind != "yarn":
        return 1.0
    return 0.1 * math.log(rope.factor) + 1.0 if rope.attention_factor is None else rope.attention_factor


def frequencies(rope: RopeConfig, head_dim: int) -> np.ndarray:
    """Return each pair's rotation per step in radians, float32 [P]."""
    plain = np.float32(1) / np.float32(rope.theta) ** (np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
    match rope.kind:
        case "linear":
            return plain / np.float32(rope.factor)
        case "llama3":
            turns = rope.original_positions * plain / np.float32(2 * np.pi)  # in the trained context
            kept = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
            return _mixed(plain, rope.factor, kept)
        case "yarn":
            low, high = _ramp(rope, head_dim)
            return _mixed(plain, rope.factor, 1 - (np.arange(head_dim // 2) - low) / (high - low))
    return plain


def _mixed(plain: np.ndarray, factor: float, kept: np.ndarray) -> np.ndarray:
    """Interpolate between fully stretched (kept <= 0) and unchanged frequencies (kept >= 1)."""
    kept = np.clip(kept, 0, 1).astype(np.float32)
    return plain / np.float32(factor) * (1 - kept) + plain * kept


def _ramp(rope: RopeConfig, head_dim: int) -> tuple[float, float]:
    """Return the pairs between which YaRN's ramp from unchanged to stretched lies."""

    def pair(turns: float) -> float:
        wave = rope.original_positions / (turns * 2 * math.pi)
        return head_dim * math.log(wave) / (2 * math.log(rope.theta))

    low, high = pair(rope.beta_fast), pair(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    return low, high + 0.001 if low == high else high
