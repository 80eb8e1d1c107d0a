"""What the training loop asks of a model: a `Task`, and the form that its state has.

The loop knows nothing of speech. It makes the state, jits `update` with the state donated, feeds it batches, and keeps
checkpoints of state and data iterator together. All randomness of a step comes from the key that `update` is given,
which is a function of (seed, step) alone: so a resumed run goes on exactly as an unbroken one.
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
    """A pytree (a frozen dataclass registered with JAX) that holds everything a step changes."""

    @property
    def step(self) -> Array:
        """Update done, int32 scalar. `update` adds one, also where it skips the step for a non-finite gradient.

        A field `frozen`, where a state has one, holds what no step changes (the weights under LoRA): it is not written
        to checkpoints, but made again by `init` and `warm_start` when a run is resumed.
        """
        ...


class Task(Protocol):
    """A model in training. Derive from it: `warm_start` and `logical_axes` have bodies that fit most."""

    unit: str
    """What the rate counts, such as "frames"."""
    units_per_step: float
    """How many of them one step processes."""

    def init(self, key: PRNGKeyArray) -> Any:
        """The state before the first step, `step` = 0. Jitted by the loop, so that each device makes its own shard."""
        ...

    def warm_start(self, state: Any, key: PRNGKeyArray) -> Any:
        """Take leaves of the new state from a checkpoint, each placed as the one it replaces. Not jitted; called when
        a run begins, and when one whose state has a field `frozen` is resumed: with the key that `init` had."""
        return state

    def update(self, state: Any, batch: Batch, key: PRNGKeyArray) -> tuple[Any, Metrics]:
        """One step: the next state and scalar metrics. Pure; jitted by the loop, which donates `state`.

        Metrics are averaged over the steps between two log lines. Of special meaning: "loss" (shown in the progress
        line) and "skipped" (1 where the guard kept the old state: the loop stops after too many in a row).
        """
        ...

    def dataset(self, seed: int) -> Any:
        """Return an endless `grain.IterDataset` of batches: dictionaries of numpy arrays that lead with the batch axis.

        The same seed gives the same batches in the same order, and the iterator's state can be saved and set.
        """
        ...

    def valid_dataset(self) -> Any:
        """Batches that are not trained on, the same ones every time; None: there are none."""
        return None

    def measure(self, state: Any, batch: Batch) -> Metrics:
        """Scalar metrics of the weights as they would be exported. Pure; jitted by the loop."""
        raise NotImplementedError

    def logical_axes(self, state: Any) -> Axes:
        """For each leaf of the (abstract) state the names of its axes; see `jomni.sharding`."""
        return axes_by_path(state)

    def export(self, state: Any, folder: Path) -> None:
        """Write the weights in Kyutai's layout to `folder`, replacing what an earlier export left there."""
        ...


class TaskConfig(Protocol):
    """A frozen dataclass with all that defines a task."""

    def build(self, steps: int) -> Task:
        """Return the task of a run of `steps` steps (schedules depend on the length).

        Raises:
          ConfigError: options that contradict each other or the files they name.
        """
        ...


def parameter_count(tree: Any) -> int:
    """Numbers held by the leaves of a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
