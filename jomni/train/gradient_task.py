"""Base of tasks with one loss and one optimiser: their state, their update, and where their weights come from.

Subclasses define the parameters, which of them are frozen, and the loss of a part of a batch. Each part is divided by
the counts of the whole batch, so the number of microbatches does not change the result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from jomni.errors import ConfigError
from jomni.tensors.weight_map import flatten, unflatten
from jomni.train.config import mutable_on_resume
from jomni.train.freeze import Tree, cast, join, split
from jomni.train.optimizer import (
    OptimizerConfig,
    accumulate,
    all_finite,
    ema_update,
    guard,
    make_optimizer,
    make_schedule,
)
from jomni.train.task import Batch, Metrics, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientConfig:
    """Options that all such tasks share."""

    batch: int = 8  # examples per step
    microbatches: int = mutable_on_resume(1)  # parts of a batch, computed one after another to save memory
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; trained parameters stay float32
    remat: bool = mutable_on_resume(False)  # recompute layers in the backward pass, to save memory
    ema: float = 0.0  # decay of a moving average of the weights, which is then exported; 0: no average

    def __post_init__(self) -> None:
        if self.batch < 1 or self.microbatches < 1 or self.batch % self.microbatches:
            raise ConfigError(f"a batch of {self.batch} cannot be divided into {self.microbatches} microbatches")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"'ema' must be at least 0 and below 1, got {self.ema}")


@partial(jax.tree_util.register_dataclass, data_fields=["step", "params", "frozen", "optimizer", "ema"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class GradientState:
    """Training state."""

    step: Array  # number of updates done
    params: Any  # trained parameters, float32
    frozen: Any  # frozen parameters, in the dtype of the computation; None: there are none
    optimizer: Any  # state of the optimiser
    ema: Any  # moving average of params, or None


class GradientTask(Task):
    """Task with one loss. Subclasses give `init_params`, `loss`, `dataset`, `export` and `units_per_step`."""

    unit = "steps"

    def __init__(self, config: GradientConfig, steps: int) -> None:
        self.options = config
        self._optimizer = make_optimizer(config.optimizer, steps)
        self._schedule = make_schedule(config.optimizer, steps)

    def init_params(self, key: PRNGKeyArray) -> Tree:
        """Return randomly initialised parameters."""
        raise NotImplementedError

    def frozen(self, params: Tree) -> Collection[str]:
        """Return the paths of the frozen parameters."""
        return ()

    def start(self, key: PRNGKeyArray) -> Tree | None:
        """Return parameters to start from, all or some of them. None: start from `init_params`.

        Args:
          key: the key that `init_params` had, for values that are drawn.
        """
        return None

    def rows(self, batch: Batch, key: PRNGKeyArray | None) -> Any:
        """Return the input of `counts` and `loss`, a tree of arrays that lead with B.

        It is called with a whole batch, so random draws here do not depend on the microbatches.

        Args:
          batch: a batch of the dataset.
          key: random key. None: draw nothing, as in `measure`.
        """
        return batch

    def counts(self, rows: Any) -> Any:
        """Return the denominators of the loss, for the rows of a whole batch."""
        raise NotImplementedError

    def loss(self, params: Tree, rows: Any, counts: Any, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
        """Return the contribution of these rows to the batch's loss and metrics. The metrics include "loss"."""
        raise NotImplementedError

    def init(self, key: PRNGKeyArray) -> GradientState:
        return self._state(self.init_params(key))

    def _state(self, tree: Tree) -> GradientState:
        stays = self.frozen(tree)
        params, frozen = split(tree, lambda path: path not in stays)
        return GradientState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen=None if frozen is None else cast(frozen, self.options.dtype),
            optimizer=self._optimizer.init(params),
            ema=jax.tree.map(jnp.copy, params) if self.options.ema else None,
        )

    def warm_start(self, state: GradientState, key: PRNGKeyArray) -> GradientState:
        found = self.start(key)
        return state if found is None else self.replace_params(state, found)

    def replace_params(self, state: GradientState, found: Tree) -> GradientState:
        """Return the state with all or some of its parameters replaced by `found`, cast and placed as the old ones."""
        leaves = flatten(join(state.params, state.frozen))
        for path, value in flatten(found).items():
            old = leaves[path]
            assert value.shape == old.shape, f"{path}: {value.shape} for {old.shape}"
            leaves[path] = jax.device_put(jnp.asarray(value, old.dtype), old.sharding)
        return self.with_parameters(state, leaves)

    def with_parameters(self, state: GradientState, leaves: Mapping[str, Array]) -> GradientState:
        """Return the state with new parameters, given by path. The split into trained and frozen ones is kept."""
        moving = set(flatten(state.params))
        params, frozen = split(unflatten(leaves), lambda path: path in moving)
        ema = jax.tree.map(jnp.copy, params) if self.options.ema else None
        return dataclasses.replace(state, params=params, frozen=frozen, ema=ema)

    def update(self, state: GradientState, batch: Batch, key: PRNGKeyArray) -> tuple[GradientState, Metrics]:
        c, whole = self.options, self.rows(batch, key)
        counts = self.counts(whole)

        def loss(params: Any, rows: Any, key: PRNGKeyArray) -> tuple[Array, Metrics]:
            return self.loss(cast(join(params, state.frozen), c.dtype), rows, counts, key)

        (_, metrics), gradients = accumulate(
            lambda rows, key: jax.value_and_grad(loss, has_aux=True)(state.params, rows, key),
            whole,
            key,
            c.microbatches,
        )
        norm = optax.tree.norm(gradients)
        updates, optimizer = self._optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = ema_update(state.ema, params, c.ema, state.step) if c.ema else None
        finite = all_finite(metrics["loss"], norm)
        moved = dataclasses.replace(state, step=state.step + 1, params=params, optimizer=optimizer, ema=ema)
        new = guard(finite, moved, state)
        lr = self._schedule(state.step)
        return new, metrics | {"grad_norm": norm, "lr": lr, "skipped": 1.0 - finite.astype(jnp.float32)}

    def measure(self, state: GradientState, batch: Batch) -> Metrics:
        weights, rows = cast(self.exported(state), self.options.dtype), self.rows(batch, None)
        return self.loss(weights, rows, self.counts(rows), jax.random.key(0))[1]

    def exported(self, state: GradientState) -> Tree:
        """Return all parameters that an export contains: the moving average if there is one."""
        return join(state.ema if self.options.ema else state.params, state.frozen)
