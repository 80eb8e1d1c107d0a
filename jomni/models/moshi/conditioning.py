"""Conditions: texts or tensors that condition a whole conversation (moshi/conditioners).

Axes: B batch, S positions of a condition, D model width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from jomni.errors import ConfigError
from jomni.models.moshi.config import ConditionerConfig, FuserConfig
from jomni.nn.layers import Linear, LoRA, sinusoidal


def text_to_bin(config: ConditionerConfig, text: str | None) -> int:
    """Return the entry of the look-up table for a text; None: the padding entry.

    Raises:
      ConfigError: the text is not among the condition's possible values.
    """
    if text is None:
        return config.n_bins
    if config.possible_values is None:
        return int(hashlib.sha256(text.encode()).hexdigest(), 16) % config.n_bins
    if text not in config.possible_values:
        raise ConfigError(f"condition '{config.name}' has no value {text!r}; choose one of {config.possible_values}")
    return config.possible_values.index(text)


def prepare_conditions(
    conditioners: Sequence[ConditionerConfig],
    values: Mapping[str, Sequence[str | None] | Array | tuple[Array, Array]],
    batch: int,
) -> dict[str, tuple[Array, Array]]:
    """Convert conditions to arrays with masks: texts to table entries int32 [B, 1], tensors to float [B, S, dim].

    Args:
      conditioners: from the model's config.
      values: for each "lut" condition B texts (None: no condition); for each "tensor" condition an array [B, S, dim],
        or such an array and a bool mask [B, S] of its valid positions.
      batch: B.

    Raises:
      ConfigError: a condition is missing, unknown, or not of B rows.
    """
    known = [c.name for c in conditioners]
    if sorted(known) != sorted(values):
        raise ConfigError(f"this model takes the conditions {sorted(known)}, got {sorted(values)}")
    prepared = {}
    for config in conditioners:
        value = values[config.name]
        if config.type == "lut":
            texts: Sequence[str | None] = value  # type: ignore[assignment]
            if isinstance(texts, str) or len(texts) != batch:
                raise ConfigError(f"condition '{config.name}' needs a list of {batch} texts, one per slot")
            bins = np.asarray([[text_to_bin(config, text)] for text in texts], np.int32)
            prepared[config.name] = (jnp.asarray(bins), jnp.asarray([[text is not None] for text in texts]))
        else:
            tensor, mask = value if isinstance(value, tuple) else (value, None)
            tensor = jnp.asarray(tensor)
            if tensor.ndim != 3 or tensor.shape[0] != batch or tensor.shape[2] != config.dim or not tensor.shape[1]:
                raise ConfigError(
                    f"condition '{config.name}' needs shape [{batch}, S, {config.dim}] with S > 0, got {tensor.shape}"
                )
            prepared[config.name] = (tensor, jnp.ones(tensor.shape[:2], bool) if mask is None else jnp.asarray(mask))
    return prepared


class Conditioner(nn.Module):
    """One condition brought to the model's width. Parameters in float32: `embed/weight`, `output_proj/weight`,
    `learnt_padding` [D]."""

    config: ConditionerConfig
    dim: int
    lora: LoRA | None = None

    @nn.compact
    def __call__(self, value: Array, mask: Bool[Array, "B S"]) -> Float[Array, "B S D"]:
        c = self.config
        y = value
        if c.type == "lut":
            y = _Table(c.n_bins + 1, c.dim, name="embed")(value)
        if c.force_linear or c.dim != self.dim:
            y = Linear(self.dim, lora=self.lora, name="output_proj")(y)
        padding: Array | float = 0.0
        if c.learn_padding:
            padding = self.param("learnt_padding", nn.initializers.normal(0.2), (self.dim,))
        return jnp.where(mask[..., None], y, padding)


class _Table(nn.Module):
    entries: int
    dim: int

    @nn.compact
    def __call__(self, index: Array) -> Array:
        table = self.param("weight", nn.initializers.normal(1.0), (self.entries, self.dim))
        return jnp.take(table, index, axis=0)


class ConditionProvider(nn.Module):
    """All conditions of a model, named as in its config."""

    conditioners: tuple[ConditionerConfig, ...]
    dim: int
    lora: LoRA | None = None

    @nn.compact
    def __call__(self, prepared: Mapping[str, tuple[Array, Array]]) -> dict[str, Float[Array, "B S D"]]:
        return {c.name: Conditioner(c, self.dim, self.lora, name=c.name)(*prepared[c.name]) for c in self.conditioners}


def fuse(
    config: FuserConfig, conditions: Mapping[str, Float[Array, "B S D"]]
) -> tuple[Float[Array, "B 1 D"] | None, Float[Array, "B S D"] | None]:
    """Return the vector added to every step's input, and the sequence read through cross attention.

    Raises:
      ConfigError: a condition of more than one position is to be added.
    """
    for name in config.sum:
        if conditions[name].shape[1] != 1:
            raise ConfigError(f"condition '{name}' is added to every step and must have one position")
    added = [conditions[name] for name in config.sum]
    total = sum(added[1:], start=added[0]) if added else None
    cross = jnp.concatenate([conditions[name] for name in config.cross], 1) if config.cross else None
    if cross is not None and config.cross_attention_pos_emb:
        positions = sinusoidal(jnp.arange(cross.shape[1])[None], cross.shape[-1], 10_000.0)
        cross = cross + config.cross_attention_pos_emb_scale * positions.astype(cross.dtype)
    return total, cross
