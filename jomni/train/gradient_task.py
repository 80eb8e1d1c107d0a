"""A task that is one loss and one optimiser: its state, its update, and where its weights come from.

What differs between such tasks is left to them: the parameters, which of them are frozen, and the loss of a part of a
batch. All parts are divided by the whole batch's counts, so that microbatches change nothing.
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
    """How such a task goes about it."""

    batch: int = 8  # examples a step
    microbatches: int = mutable_on_resume(1)  # parts of a batch, computed one after another to save memory
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the computation; what trains is kept in float32
    remat: bool = mutable_on_resume(False)  # compute the layers again in the backward pass, to save memory
    ema: float = 0.0  # decay of a running average of the weights, which is what is exported; 0: none

    def __post_init__(self) -> None:
        if self.batch < 1 or self.microbatches < 1 or self.batch % self.microbatches:
            raise ConfigError(f"a batch of {self.batch} does not divide into {self.microbatches} microbatches")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"'ema' is 0 or more, and below 1, got {self.ema}")


@partial(jax.tree_util.register_dataclass, data_fields=["step", "params", "frozen", "optimizer", "ema"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class GradientState:
    """State of the training."""

    step: Array  # updates done
    params: Any  # what trains, float32
    frozen: Any  # what does not, in the dtype of the computation; None: all trains
    optimizer: Any  # moments
    ema: Any  # running average of params, or None


class GradientTask(Task):
    """Derive from it, and give `init_params`, `loss`, `dataset`, `export` and `units_per_step`."""

    unit = "steps"

    def __init__(self, config: GradientConfig, steps: int) -> None:
        self.options = config
        self._optimizer = make_optimizer(config.optimizer, steps)
        self._schedule = make_schedule(config.optimizer, steps)

    def init_params(self, key: PRNGKeyArray) -> Tree:
        """Return the parameters of a model from nothing."""
        raise NotImplementedError

    def frozen(self, params: Tree) -> Collection[str]:
        """Paths of those that stay as they are."""
        return ()

    def start(self, key: PRNGKeyArray) -> Tree | None:
        """Parameters to begin from in place of fresh ones, all of them or some; None: there are none. `key`: of what is
        drawn beside them, the one that `init_params` had."""
        return None

    def rows(self, batch: Batch, key: PRNGKeyArray | None) -> Any:
        """What `counts` and `loss` take, a tree of arrays that lead with B: of a whole batch, where rows draw together.

        Args:
          batch: from the dataset.
          key: of what is drawn; None: nothing is, as for measuring.
        """
        return batch

    def counts(self, rows: Any) -> Any:
        """Return what the loss is divided by, of a whole batch's rows."""
        raise NotImplementedError

    def loss(self, params: Tree, rows: Any, counts: Any, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
        """The share of these rows in the batch's loss and metrics, among them "loss"; `key` is for what is drawn."""
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
        return state if found is None else self.begun(state, found)

    def begun(self, state: GradientState, found: Tree) -> GradientState:
        """Return the state with these parameters, all of them or some, each as the one that it replaces."""
        leaves = dict(flatten(join(state.params, state.frozen)))
        for path, value in flatten(found):
            old = leaves[path]
            assert value.shape == old.shape, f"{path}: {value.shape} for {old.shape}"
            leaves[path] = jax.device_put(jnp.asarray(value, old.dtype), old.sharding)
        return self.with_parameters(state, leaves)

    def with_parameters(self, state: GradientState, leaves: Mapping[str, Array]) -> GradientState:
        """Return the state with other parameters, all of them by path; what trains and what does not stays the same."""
        moving = {path for path, _ in flatten(state.params)}
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
        """Return all parameters as they are exported."""
        return join(state.ema if self.options.ema else state.params, state.frozen)
