"""Checkpoints of a run: state and data iterator together, written atomically in the background.

Orbax writes into a temporary folder and renames it. A run killed at any moment leaves only complete checkpoints and at
most one temporary folder, which is deleted when the run is resumed.
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
    """The checkpoints in a folder. They hold the state without its `frozen` parameters, and a fingerprint of those."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder.absolute()
        self._frozen: str | None = None  # fingerprint, computed once: no step changes the frozen parameters
        with resumable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=True, create=True
            )
            self._manager = ocp.CheckpointManager(self.folder, options=options)

    @property
    def latest(self) -> int | None:
        """Return the step of the last complete checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, data: Any) -> None:
        """Start to write a checkpoint in the background. The caller may donate `state` after the call.

        Args:
          step: number of updates done.
          state: state after them.
          data: state of the data iterator after the last of their batches, as JSON values.

        Raises:
          OutputError: the disk has not enough space.
        """
        if step in self._manager.all_steps():
            return
        # The next update may reuse the state's buffers while they are written, so the copy is written instead.
        copy = jax.tree.map(jnp.copy, _unfrozen(state))
        told = ocp.args.JsonSave({"data": data, "frozen": self._fingerprint(state)})
        with resumable(self.folder):
            self._check_space(step, copy)
            self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(copy), data=told))

    def restore(self, state: Any) -> tuple[Any, Any]:
        """Restore the last checkpoint: the state, placed like the given one, and the state of the data iterator.

        Raises:
          WeightsError: the checkpoint is damaged or does not fit the given state.
          ConfigError: it was written with other frozen parameters.
        """
        step = self.latest
        want = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _unfrozen(state))
        try:
            found = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(want), data=ocp.args.JsonRestore())
            )
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            raise WeightsError(
                f"{self.folder}/{step}: this checkpoint does not fit the configuration, or is damaged "
                f"({str(error).strip().splitlines()[0]}). Start a run with another --name, or remove that folder."
            ) from error
        restored, told = found["state"], self._fingerprint(state)
        if found["data"].get("frozen", told) != told:  # checkpoints of older versions have no fingerprint
            raise ConfigError(
                f"{self.folder.parent}: the frozen weights differ from those with which this run started. Restore the "
                "files that 'init_from', 'backbone' or 'encoder' names, or start a run with another --name."
            )
        if getattr(state, "frozen", None) is not None:
            restored = dataclasses.replace(restored, frozen=state.frozen)
        return restored, found["data"]["data"]

    def _fingerprint(self, state: Any) -> str:
        """Return the fingerprint of the frozen parameters."""
        if self._frozen is None:
            stays = getattr(state, "frozen", None)
            self._frozen = "" if stays is None else fingerprint(stays)
        return self._frozen

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is on the disk."""
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
                f"{self.folder}: no space for the checkpoint of step {step}: it needs {need / 2**20:.0f} MiB, and "
                f"{free / 2**20:.0f} MiB are free. Free some space and run the same command again: it resumes."
            )


def _unfrozen(state: Any) -> Any:
    """Return the state without its frozen parameters."""
    return dataclasses.replace(state, frozen=None) if getattr(state, "frozen", None) is not None else state
