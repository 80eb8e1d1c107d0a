"""The non-finite guard: a step whose loss or gradient is not finite changes nothing but the step count."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool


def all_finite(*trees: Any) -> Bool[Array, ""]:
    """Whether every floating-point number of the trees is finite. A global norm will do as well as the tree itself."""
    leaves = [x for x in jax.tree.leaves(trees) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(x).all() for x in leaves]).all() if leaves else jnp.asarray(True)


def guard(finite: Bool[Array, ""], new: Any, old: Any) -> Any:
    """`new` where `finite`, else `old` with the step counts of `new`: the schedule and the data move on.

    Args:
      finite: of the step's loss and gradient.
      new, old: states: dataclasses with a field `step`.
    """

    def keep(n: Any, o: Any) -> Any:
        # Adam's count stays with its moments; that of the learning rate's schedule is the run's.
        return n if _is_schedule(n) else jnp.where(finite, n, o)

    kept = jax.tree.map(keep, new, old, is_leaf=_is_schedule)
    return dataclasses.replace(kept, step=new.step)


def _is_schedule(x: Any) -> bool:
    return isinstance(x, optax.ScaleByScheduleState)
