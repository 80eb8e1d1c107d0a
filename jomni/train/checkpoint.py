"""Checkpoints of a run: state and data iterator together, written in the background, whole or not at all.

Orbax writes into a temporary folder and renames it: a run killed at any moment leaves checkpoints that are complete,
and at most one temporary folder, which is swept away when the run is resumed.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from jomni.errors import ConfigError, OutputError, WeightsError
from jomni.folders import resumable
from jomni.train.freeze import fingerprint


class Checkpointer:
    """The checkpoints in one folder. Of a state's `frozen`, where it has that, they hold the fingerprint alone."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder.absolute()
        self._frozen: str | None = None  # fingerprint: taken once, for no step changes it
        with resumable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=True, create=True
            )
            self._manager = ocp.CheckpointManager(self.folder, options=options)

    @property
    def latest(self) -> int | None:
        """The step of the last complete checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, data: Any) -> None:
        """Begin to write; the caller may go on, and donate `state`, at once.

        Args:
          step: updates done.
          state: after them.
          data: the iterator's state (of JSON's types) after the batch of the last of them.
        """
        if step in self._manager.all_steps():
            return
        # A copy of its own: the next update is given the state's buffers while they are still being written.
        copy = jax.tree.map(jnp.copy, _moving(state))
        told = ocp.args.JsonSave({"data": data, "frozen": self._told(state)})
        with resumable(self.folder):
            self._check_space(step, copy)
            self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(copy), data=told))

    def restore(self, state: Any) -> tuple[Any, Any]:
        """Return the last checkpoint: its state, placed as the one given, and the data iterator's.

        Raises:
          WeightsError: it does not fit the state given.
          ConfigError: it is of other frozen weights.
        """
        step = self.latest
        want = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _moving(state))
        try:
            found = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(want), data=ocp.args.JsonRestore())
            )
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            raise WeightsError(
                f"{self.folder}/{step}: this checkpoint does not fit the configuration, or is damaged "
                f"({str(error).strip().splitlines()[0]}). Start a run of another name, or remove that folder."
            ) from error
        restored, told = found["state"], self._told(state)
        if found["data"].get("frozen", told) != told:  # those from before this was kept do not say
            raise ConfigError(
                f"{self.folder.parent}: the weights that stay as they are were others when this run began. Restore the "
                "ones that 'init_from', 'backbone' or 'encoder' names, or start a run under another --name."
            )
        if getattr(state, "frozen", None) is not None:
            restored = dataclasses.replace(restored, frozen=state.frozen)
        return restored, found["data"]["data"]

    def _told(self, state: Any) -> str:
        """Return the fingerprint of what stays as it is."""
        if self._frozen is None:
            stays = getattr(state, "frozen", None)
            self._frozen = "" if stays is None else fingerprint(stays)
        return self._frozen

    def wait(self) -> None:
        """Until what has been begun is on the disk."""
        with resumable(self.folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        with resumable(self.folder):
            self._manager.close()

    def _check_space(self, step: int, state: Any) -> None:
        need = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self.folder).free
        if free < 1.1 * need:
            raise OutputError(
                f"{self.folder}: no room for the checkpoint of step {step}, which needs {need / 2**20:.0f} MiB of the "
                f"{free / 2**20:.0f} MiB free. Free some space and run the same command again: it resumes."
            )


def _moving(state: Any) -> Any:
    """Return the state without what no step changes."""
    return dataclasses.replace(state, frozen=None) if getattr(state, "frozen", None) is not None else state
