"""Optimisers from a configuration: Adam with decoupled weight decay, a schedule, clipping; accumulation and averaging.

A step whose loss or gradient is not finite changes only the step count and the schedule (`guard`).

Axes: M microbatches, B rows of a batch.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from jomni.errors import ConfigError
from jomni.train.config import mutable_on_resume

SCHEDULES = ("constant", "cosine", "linear")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (arXiv:1711.05101) with a warm-up and a schedule."""

    lr: float = mutable_on_resume(3e-4)  # learning rate at its peak
    b1: float = 0.9  # decay of the first moment
    b2: float = 0.95  # decay of the second moment
    eps: float = 1e-8
    weight_decay: float = 0.1  # decoupled; vectors and scalars are never decayed
    decay_embeddings: bool = True  # whether tables of embeddings are decayed too
    clip: float = mutable_on_resume(1.0)  # largest global norm of the gradient; 0: no limit
    warmup: int = 0  # steps of linear rise from 0 to lr
    schedule: str = "cosine"  # after the warm-up: constant, cosine or linear
    final_lr: float = mutable_on_resume(0.0)  # where cosine and linear end

    def __post_init__(self) -> None:
        for name in ("lr", "eps"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"optimizer option '{name}' must be positive, got {getattr(self, name)!r}")
        for name in ("weight_decay", "clip", "warmup", "final_lr"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"optimizer option '{name}' must not be negative, got {getattr(self, name)!r}")
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"optimizer option '{name}' must be from 0 to below 1, got {getattr(self, name)!r}")
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"optimizer option 'schedule' = {self.schedule!r} is not one of {', '.join(SCHEDULES)}")


def make_schedule(config: OptimizerConfig, steps: int) -> Callable[[Any], Array]:
    """Return the learning rate as a function of the number of updates done before. Its decay ends at `steps`."""
    rest = max(steps - config.warmup, 1)
    match config.schedule:
        case "constant":
            after = optax.constant_schedule(config.lr)
        case "cosine":
            after = optax.cosine_decay_schedule(config.lr, rest, alpha=config.final_lr / config.lr)
        case _:
            after = optax.linear_schedule(config.lr, config.final_lr, rest)
    if not config.warmup:
        return after
    # The first update already moves: step s of the warm-up has (s + 1) / warmup of the peak.
    rise = optax.linear_schedule(config.lr / config.warmup, config.lr, max(config.warmup - 1, 1))
    return optax.join_schedules([rise, after], [config.warmup])


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Return the optimiser.

    Args:
      config: its numbers.
      steps: length of the run, where the schedule ends.
    """
    mask = partial(decay_mask, embeddings=config.decay_embeddings)
    return optax.chain(
        optax.clip_by_global_norm(config.clip) if config.clip else optax.identity(),
        optax.scale_by_adam(config.b1, config.b2, config.eps),
        optax.add_decayed_weights(config.weight_decay, mask) if config.weight_decay else optax.identity(),
        optax.scale_by_learning_rate(make_schedule(config, steps)),
    )


_EMBEDDING = re.compile(r"(^|/)((text_)?(depformer_)?(text_)?emb(_\d+)?|embed_tokens)/weight(/text|/new)?$")
_MOVING_AVERAGE = re.compile(r"(^|/)embedding_sum$")


def decay_mask(params: Any, embeddings: bool = True) -> Any:
    """True for each parameter that weight decay is for: those of two axes or more, tables of embeddings where
    `embeddings`, the codec's codebooks never, which are moving averages."""

    def decays(path: tuple[Any, ...], leaf: Array) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return leaf.ndim >= 2 and not _MOVING_AVERAGE.search(name) and (embeddings or not _EMBEDDING.search(name))

    return jax.tree_util.tree_map_with_path(decays, params)


def ema_update(average: Any, params: Any, decay: float, step: Array) -> Any:
    """Move a running average of the parameters; early steps count more, so that it forgets where it began.

    Args:
      average, params: trees of one form.
      decay: what the average keeps each step, in the long run.
      step: updates done before this one.
    """
    keep = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: (a + (1 - keep) * (p.astype(a.dtype) - a)).astype(a.dtype), average, params)


def accumulate(
    function: Callable[[Any, Array], tuple[tuple[Float[Array, ""], Any], Any]],
    batch: Any,
    key: Array,
    microbatches: int,
) -> tuple[tuple[Float[Array, ""], Any], Any]:
    """Sums what `function` gives over microbatches: ((loss, auxiliary), gradients), as `jax.value_and_grad` has it.

    The parts are added, not averaged: let each be its share of the whole batch's loss (divided by the whole batch's
    count), and the result equals that of one large batch.

    Args:
      function: of a microbatch and a key.
      batch: tree of arrays that lead with B.
      key: folded with each microbatch's number.
      microbatches: M; 1 calls the function once.
    """
    if microbatches == 1:
        return function(batch, jax.random.fold_in(key, 0))

    # Every M-th row: so each device's share of the batch gives to every microbatch, and nothing moves between devices.
    split = jax.tree.map(lambda x: x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1), batch)

    def add(total: Any, part: tuple[Any, Array]) -> tuple[Any, None]:
        micro, index = part
        return jax.tree.map(jnp.add, total, function(micro, jax.random.fold_in(key, index))), None

    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], split), key)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(add, zeros, (split, jnp.arange(microbatches)))[0]


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
