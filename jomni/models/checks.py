"""Checks of shapes and dtypes that the models share. They read no values, so they work under all transformations."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jomni.errors import AudioError


def check_pcm(pcm: Any, channels: int, multiple: int | None = None) -> None:
    """Raise `AudioError` unless pcm is floating point [B, channels, T] with T > 0.

    Args:
      pcm: array or tracer.
      channels: audio channels of the codec.
      multiple: number of which T must be a multiple, because a step takes whole frames. None: any T.
    """
    shape = list(pcm.shape)
    if len(shape) != 3 or shape[1] != channels or shape[2] == 0:
        raise AudioError(
            f"pcm must have shape [B, {channels}, T] with T > 0, got {shape}: pass one row per waveform"
            + (", mixed to mono" if channels == 1 else "")
        )
    check_floating(pcm)
    if multiple is not None and shape[2] % multiple:
        raise AudioError(f"a step takes a multiple of {multiple} samples, got {shape[2]}. Give whole frames.")


def check_floating(pcm: Any) -> None:
    """Raise `AudioError` unless pcm is floating point."""
    if not jnp.issubdtype(pcm.dtype, jnp.floating):
        raise AudioError(
            f"pcm must be floating point in [-1, 1], got {pcm.dtype}. Divide integer samples by their full scale, such "
            "as 32768 for int16."
        )


def check_batch(name: str, batch: int, state: int) -> None:
    """Raise `AudioError` unless an array's batch size is that of the state."""
    if batch != state:
        raise AudioError(f"{name} has a batch of {batch}, the state has {state}. Make the state with batch={batch}.")
