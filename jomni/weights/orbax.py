"""The project's own form: parameters in Orbax, the rest in jomni.json, the tokenizer's file beside.

A folder of `jomni.json`, `params/` (an Orbax PyTree of the nested parameter dictionary) and, where there is one,
`tokenizer.model`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jomni.codec.config import MimiConfig
from jomni.errors import WeightsError
from jomni.models.moshi.config import MoshiConfig
from jomni.weights.checkpoint import Checkpoint
from jomni.weights.kyutai import is_float32_only
from jomni.weights.source import read_json
from jomni.weights.stream import Placement
from jomni.weights.table import flatten, is_float, unflatten

_VERSION = 1
_PARAMS = "params"
_TOKENIZER = "tokenizer.model"


def write(checkpoint: Checkpoint, folder: Path, dtype: np.dtype | None) -> None:
    """Fills an empty folder; `dtype` as for `jomni.save`."""
    leaves = {}
    for path, leaf in flatten(checkpoint.params):
        keep = dtype is None or is_float32_only(path) or not is_float(leaf.dtype)
        leaves[path] = leaf if keep else leaf.astype(dtype)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((folder / _PARAMS).absolute(), unflatten(leaves))
        checkpointer.wait_until_finished()
    if checkpoint.tokenizer is not None:
        (folder / _TOKENIZER).write_bytes(checkpoint.tokenizer)
    lm = checkpoint.lm
    raw = {
        "jomni": _VERSION,
        "family": checkpoint.family,
        "model_type": checkpoint.model_type,
        "mimi": checkpoint.mimi and checkpoint.mimi.to_kyutai(),
        "lm": lm and lm.to_kyutai(),
        "text_eos_reads_as_padding": bool(lm and lm.text_eos_reads_as_padding),
        "generation": checkpoint.generation,
        "settings": checkpoint.settings,
        "stored": checkpoint.stored,
    }
    (folder / "jomni.json").write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")


def restore(folder: Path, where: str, dtype: np.dtype | None, placement: Placement) -> Checkpoint:
    """Reads what `write` wrote.

    Raises:
      WeightsError: it is damaged, or of a later version.
    """
    path = folder / "jomni.json"
    raw = read_json(path)
    if not isinstance(raw, Mapping) or raw.get("jomni") != _VERSION:
        version = raw.get("jomni") if isinstance(raw, Mapping) else None
        raise WeightsError(f"{path}: has version {version!r}; this program reads {_VERSION}. Update it, or save anew.")
    try:
        mimi = raw["mimi"] and MimiConfig.from_kyutai(raw["mimi"], f"{path}, mimi")
        lm = raw["lm"] and dataclasses.replace(
            MoshiConfig.from_kyutai(raw["lm"], f"{path}, lm"),
            text_eos_reads_as_padding=raw["text_eos_reads_as_padding"],
        )
        tokenizer = folder / _TOKENIZER
        return Checkpoint(
            raw["family"], mimi, lm, _restore_params((folder / _PARAMS).absolute(), dtype, placement),
            tokenizer.read_bytes() if tokenizer.is_file() else None,
            raw["generation"], raw["model_type"], raw["settings"], where, raw["stored"],
        )  # fmt: skip
    except KeyError as error:
        raise WeightsError(f"{path}: lacks {error}. Save the checkpoint anew.") from None


def _restore_params(folder: Path, dtype: np.dtype | None, placement: Placement) -> dict[str, Any]:
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            held = checkpointer.metadata(folder).item_metadata.tree
            wanted = {}
            for path, leaf in flatten(held):
                keep = dtype is None or is_float32_only(path) or not is_float(leaf.dtype)
                where = placement(path, tuple(leaf.shape))
                wanted[path] = jax.ShapeDtypeStruct(
                    leaf.shape, leaf.dtype if keep else dtype, sharding=_sharding(where)
                )
            return checkpointer.restore(folder, unflatten(wanted))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsError(f"{folder}: cannot be read as an Orbax checkpoint ({lines[0]}). Save it anew.") from error


def _sharding(where: Any) -> jax.sharding.Sharding:
    if isinstance(where, jax.sharding.Sharding):
        return where
    device = where if where is not None else jax.config.values["jax_default_device"] or jax.local_devices()[0]
    return jax.sharding.SingleDeviceSharding(device)
