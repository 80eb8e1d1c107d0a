"""Interface between the training loop and a model: `Task`, its state and its configuration.

The loop is independent of the model. It makes the state, jits `update` with the state donated, feeds batches, and
saves state and data iterator together. The randomness of a step comes only from the key given to `update`, which is a
function of (seed, step). So a resumed run continues exactly like an uninterrupted one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import jax
from jaxtyping import Array, PRNGKeyArray

from jomni.sharding import Axes, axes_by_path

Batch = dict[str, Any]
Metrics = dict[str, Array]


class State(Protocol):
    """A pytree, a frozen dataclass registered with JAX, that holds everything a step changes."""

    @property
    def step(self) -> Array:
        """Return the number of updates done, an int32 scalar. Skipped updates count.

        A state may have a field `frozen` with parameters that no step changes, such as the base weights under LoRA.
        They are not written to checkpoints; `init` and `warm_start` make them again on resume.
        """
        ...


class Task(Protocol):
    """A model in training. Implementations derive from it and override what differs."""

    unit: str
    """Unit of the rate in the progress line, such as "frames"."""
    units_per_step: float
    """Number of units that a step processes."""

    def init(self, key: PRNGKeyArray) -> Any:
        """Return the initial state with `step` 0. The loop jits it, so that each device makes its own shard."""
        ...

    def warm_start(self, state: Any, key: PRNGKeyArray) -> Any:
        """Replace leaves of the new state by those of a checkpoint, with the same placement. Not jitted.

        Called with the key of `init` when a run starts, and on resume if the state has a field `frozen`.
        """
        return state

    def update(self, state: Any, batch: Batch, key: PRNGKeyArray) -> tuple[Any, Metrics]:
        """Return the next state and scalar metrics. Pure; the loop jits it and donates `state`.

        Metrics are averaged over the steps between two log lines. The progress line shows "loss". "skipped" is 1 if
        `guard` kept the old state; the loop fails after too many of these in a row.
        """
        ...

    def dataset(self, seed: int) -> Any:
        """Return an endless `grain.IterDataset` of batches: dicts of numpy arrays that lead with the batch axis.

        The same seed gives the same batches in the same order. The iterator's state can be saved and restored.
        """
        ...

    def valid_dataset(self) -> Any:
        """Return held-out batches, the same ones every time, or None if there are none."""
        return None

    def measure(self, state: Any, batch: Batch) -> Metrics:
        """Return scalar metrics of the weights that would be exported. Pure; the loop jits it."""
        raise NotImplementedError

    def logical_axes(self, state: Any) -> Axes:
        """Return the axis names of each leaf of the (abstract) state; see `jomni.sharding`."""
        return axes_by_path(state)

    def export(self, state: Any, folder: Path) -> None:
        """Write the weights to `folder`, and replace an earlier export in it."""
        ...


class TaskConfig(Protocol):
    """A frozen dataclass with all options of a task."""

    def build(self, steps: int) -> Task:
        """Return the task of a run of `steps` steps. Schedules depend on the length.

        Raises:
          ConfigError: options contradict each other or the files that they name.
        """
        ...


def parameter_count(tree: Any) -> int:
    """Return the total number of values in the leaves of a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
