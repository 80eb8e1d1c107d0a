"""AdamW with a learning-rate schedule and clipping, gradient accumulation, and a moving average of the weights.

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

    lr: float = mutable_on_resume(3e-4)  # peak learning rate
    b1: float = 0.9  # decay of the first moment
    b2: float = 0.95  # decay of the second moment
    eps: float = 1e-8
    weight_decay: float = 0.1  # decoupled; vectors and scalars are never decayed
    decay_embeddings: bool = True  # whether embedding tables are decayed too
    clip: float = mutable_on_resume(1.0)  # largest global norm of the gradient; 0: no limit
    warmup: int = 0  # steps of linear rise from 0 to lr
    schedule: str = "cosine"  # after the warm-up: constant, cosine or linear
    final_lr: float = mutable_on_resume(0.0)  # final value of cosine and linear

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
    """Return the learning rate as a function of the number of updates done. The decay ends at `steps`."""
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
    # The first update has a nonzero rate: update s of the warm-up uses (s + 1) / warmup of the peak.
    rise = optax.linear_schedule(config.lr / config.warmup, config.lr, max(config.warmup - 1, 1))
    return optax.join_schedules([rise, after], [config.warmup])


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Return the optimiser.

    Args:
      config: its options.
      steps: length of the run, at which the schedule ends.
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
    """Return a tree of bools: whether weight decay applies to each parameter.

    It applies to parameters of two axes or more, to embedding tables only with `embeddings`, and never to the codec's
    codebooks, which are moving averages.
    """

    def decays(path: tuple[Any, ...], leaf: Array) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return leaf.ndim >= 2 and not _MOVING_AVERAGE.search(name) and (embeddings or not _EMBEDDING.search(name))

    return jax.tree_util.tree_map_with_path(decays, params)


def ema_update(average: Any, params: Any, decay: float, step: Array) -> Any:
    """Update a moving average of the parameters. It starts with a lower decay, to forget the initial values.

    Args:
      average, params: trees of the same structure.
      decay: largest decay, which is reached after about 10 / (1 - decay) steps.
      step: number of updates before this one.
    """
    keep = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: (a + (1 - keep) * (p.astype(a.dtype) - a)).astype(a.dtype), average, params)


def accumulate(
    function: Callable[[Any, Array], tuple[tuple[Float[Array, ""], Any], Any]],
    batch: Any,
    key: Array,
    microbatches: int,
) -> tuple[tuple[Float[Array, ""], Any], Any]:
    """Sum the result ((loss, auxiliary), gradients) of `function` over microbatches.

    The parts are added, not averaged. If each part is divided by the count of the whole batch, the result equals that
    of one large batch.

    Args:
      function: takes a microbatch and a key; returns the form of `jax.value_and_grad(..., has_aux=True)`.
      batch: tree of arrays that lead with B.
      key: folded with the index of each microbatch.
      microbatches: M. 1 calls the function once.
    """
    if microbatches == 1:
        return function(batch, jax.random.fold_in(key, 0))

    # A microbatch takes every M-th row, so each device contributes rows to all of them and no data moves.
    split = jax.tree.map(lambda x: x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1), batch)

    def add(total: Any, part: tuple[Any, Array]) -> tuple[Any, None]:
        micro, index = part
        return jax.tree.map(jnp.add, total, function(micro, jax.random.fold_in(key, index))), None

    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], split), key)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(add, zeros, (split, jnp.arange(microbatches)))[0]


def all_finite(*trees: Any) -> Bool[Array, ""]:
    """Return whether every floating-point value of the trees is finite."""
    leaves = [x for x in jax.tree.leaves(trees) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(x).all() for x in leaves]).all() if leaves else jnp.asarray(True)


def guard(finite: Bool[Array, ""], new: Any, old: Any) -> Any:
    """Return `new` if `finite`, else `old` with the step count and the schedule of `new`.

    Args:
      finite: whether the loss and the gradient of the step are finite.
      new, old: states, dataclasses with a field `step`.
    """

    def keep(n: Any, o: Any) -> Any:
        # Adam's step count stays with its moments; the step count of the schedule always advances.
        return n if _is_schedule(n) else jnp.where(finite, n, o)

    kept = jax.tree.map(keep, new, old, is_leaf=_is_schedule)
    return dataclasses.replace(kept, step=new.step)


def _is_schedule(x: Any) -> bool:
    return isinstance(x, optax.ScaleByScheduleState)
