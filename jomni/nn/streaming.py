"""The streaming contract: state is an argument and a return value, and steps joined together equal the whole.

Every streaming module is called as

    y, state = module(x, state, active)

- `state` is a pytree of NamedTuples whose leaves lead with the batch axis B. With `None`, x is the whole sequence from
  its start, and `None` is returned.
- `active` is bool [B], or None for all rows. The state of an inactive row does not change; its output has no meaning.
- Leaves called `offset` count the steps a row has taken. They alone decide which part of the other leaves is valid, so
  a reset changes nothing else.

Axes: B batch.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

State = Any


def reset(state: State, mask: Bool[Array, "B"]) -> State:
    """Reset the rows of `mask`: zero their `offset` leaves, and leave every buffer unchanged."""

    def leaf(path: tuple[Any, ...], value: Array) -> Array:
        if getattr(path[-1], "name", None) != "offset":
            return value
        return jnp.where(broadcast_rows(mask, value), jnp.zeros_like(value), value)

    return jax.tree_util.tree_map_with_path(leaf, state)


def keep_paused(active: Bool[Array, "B"] | None, new: State, old: State) -> State:
    """Return `new` for active rows and `old` for paused ones. Use it for small buffers: it copies them."""
    if active is None:
        return new
    return jax.tree.map(lambda n, o: jnp.where(broadcast_rows(active, n), n, o), new, old)


def broadcast_rows(mask: Bool[Array, "B"], value: Array) -> Array:
    """Reshape a [B] mask so that it broadcasts against `value` [B, ...]."""
    return mask.reshape(mask.shape + (1,) * (value.ndim - 1))


def precision(dtype: Any) -> jax.lax.Precision:
    """Return HIGHEST for float32 operands (the default is TF32 on recent GPUs, bfloat16 on TPU), else DEFAULT."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else jax.lax.Precision.DEFAULT
