"""The project's own layout: parameters in Orbax, and everything else in jomni.json and tokenizer files.

A folder contains `jomni.json`, `params/` (an Orbax PyTree of the nested parameter dictionary) and, depending on the
model, `tokenizer.model` or the files of the text tokenizer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jomni.checkpoints.checkpoint import Checkpoint, CheckpointSource
from jomni.checkpoints.export import write_json, write_text_files
from jomni.checkpoints.hub import HubRepository
from jomni.checkpoints.place import TEXT_FILES, Place
from jomni.checkpoints.registry import COMPONENTS, is_float32_only
from jomni.errors import WeightsError
from jomni.tensors.source import listing, read_json
from jomni.tensors.stream import Placement
from jomni.tensors.weight_map import flatten, is_float, misfit, unflatten

MARKER = "jomni.json"
_VERSION = 1
_PARAMS = "params"
_BATCH_BYTES = 64 << 20  # bytes of parameters requested from Orbax at once
_TOKENIZER = "tokenizer.model"


def write(checkpoint: Checkpoint, folder: Path, dtype: np.dtype | None) -> None:
    """Write a checkpoint to an empty folder. `dtype` is that of `jomni.save`."""
    leaves = {}
    for path, leaf in flatten(checkpoint.params).items():
        keep = dtype is None or is_float32_only(path) or not is_float(leaf.dtype)
        leaves[path] = leaf if keep else leaf.astype(dtype)
    with _checkpointer() as checkpointer:
        checkpointer.save((folder / _PARAMS).absolute(), args=ocp.args.PyTreeSave(unflatten(leaves)))
    if checkpoint.tokenizer is not None:
        (folder / _TOKENIZER).write_bytes(checkpoint.tokenizer)
    write_text_files(checkpoint, folder)
    lm = checkpoint.configs.get("lm")
    held = {name: component for name, component in COMPONENTS.items() if component.to_json}
    raw = {
        "jomni": _VERSION,
        "family": checkpoint.family,
        "model_type": checkpoint.model_type,
        **dict.fromkeys(held),
        **{name: held[name].to_json(config) for name, config in checkpoint.configs.items()},  # type: ignore[misc]
        "text_eos_reads_as_padding": bool(lm and lm.text_eos_reads_as_padding),
        "generation": checkpoint.generation,
        "settings": checkpoint.settings,
        "stored": checkpoint.stored,
        "files": sorted(checkpoint.files),
    }
    write_json(folder / MARKER, raw)


def open_folder(place: Place, marker: Path) -> CheckpointSource:
    """Read everything but the parameters. A hub repository is downloaded completely.

    Raises:
      WeightsError: the folder is damaged, or has another version.
    """
    if isinstance(place.files, HubRepository):
        place.files.fetch([MARKER, f"{_PARAMS}/*", *TEXT_FILES])
    folder, raw = marker.parent, read_json(marker)
    if not isinstance(raw, Mapping) or raw.get("jomni") != _VERSION:
        version = raw.get("jomni") if isinstance(raw, Mapping) else None
        raise WeightsError(
            f"{marker}: has version {version!r}; this program reads {_VERSION}. Update it, or save again."
        )
    tokenizer = folder / _TOKENIZER
    files = raw.get("files", [])
    if missing := [name for name in files if Path(name).name != name or not (folder / name).is_file()]:
        raise WeightsError(
            f"{marker}: names files that are not beside it: {listing(missing)}. Save the checkpoint again."
        )
    try:
        configs = {
            name: component.from_json(raw[name], f"{marker}, {name}")
            for name, component in COMPONENTS.items()
            if component.from_json and raw.get(name)
        }
        if "lm" in configs:
            reads = raw["text_eos_reads_as_padding"]
            configs["lm"] = dataclasses.replace(configs["lm"], text_eos_reads_as_padding=reads)
        return CheckpointSource(
            raw["family"], configs, source=place.where, orbax=folder,
            tokenizer=tokenizer.read_bytes() if tokenizer.is_file() and _TOKENIZER not in files else None,
            files={name: (folder / name).read_bytes() for name in files},
            **{key: raw[key] for key in ("generation", "model_type", "settings", "stored")},
        )  # fmt: skip
    except KeyError as error:
        raise WeightsError(f"{marker}: lacks {error}. Save the checkpoint again.") from None


def read_params(
    folder: Path, configs: Mapping[str, Any], dtype: np.dtype | None, placement: Placement
) -> dict[str, Any]:
    """Read the parameters of the components in `configs` in batches, because Orbax needs half as much memory again.

    Raises:
      WeightsError: they are damaged, or do not fit the configurations.
    """
    folder = (folder / _PARAMS).absolute()
    abstract = {name: COMPONENTS[name].abstract_params(config) for name, config in configs.items()}
    shapes = {path: tuple(leaf.shape) for path, leaf in flatten(abstract).items()}
    leaves: dict[str, Any] = {}
    try:
        with _checkpointer() as checkpointer:
            batch: dict[str, ocp.ArrayRestoreArgs] = {}
            held = flatten(checkpointer.metadata(folder).item_metadata.tree)
            held = {path: leaf for path, leaf in held.items() if path.split("/")[0] in abstract}
            _check(held, shapes, str(folder))
            for i, (path, leaf) in enumerate(held.items(), 1):
                keep = dtype is None or is_float32_only(path) or not is_float(leaf.dtype)
                batch[path] = ocp.ArrayRestoreArgs(
                    restore_type=jax.Array,
                    dtype=leaf.dtype if keep else dtype,
                    sharding=_sharding(placement(path, tuple(leaf.shape))),
                    global_shape=leaf.shape,
                )
                size = sum(math.prod(held[p].shape) * np.dtype(held[p].dtype).itemsize for p in batch)
                if size >= _BATCH_BYTES or i == len(held):
                    part = ocp.args.PyTreeRestore(
                        item=unflatten({p: jax.ShapeDtypeStruct(held[p].shape, held[p].dtype) for p in batch}),
                        restore_args=unflatten(batch),
                        partial_restore=True,
                    )
                    leaves |= flatten(jax.block_until_ready(checkpointer.restore(folder, args=part)))
                    batch = {}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise WeightsError(f"{folder}: cannot be read as an Orbax checkpoint ({lines[0]}). Save it again.") from error
    return unflatten(leaves)


def _check(held: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    other = [p for p in shapes if p in held and tuple(held[p].shape) != shapes[p]]
    problems = {
        "missing": [f"'{p}' {list(shapes[p])}" for p in shapes if p not in held],
        "surplus": [f"'{p}'" for p in held if p not in shapes],
        "of another shape": [f"'{p}' {list(held[p].shape)} (expected {list(shapes[p])})" for p in other],
    }
    if any(problems.values()):
        raise misfit(problems, where, f"{MARKER} beside it")


def _checkpointer() -> ocp.Checkpointer:
    # No compression: weights hardly compress, and decompression takes time and memory.
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_compression=False))


def _sharding(where: Any) -> jax.sharding.Sharding:
    if isinstance(where, jax.sharding.Sharding):
        return where
    device = where if where is not None else jax.config.values["jax_default_device"] or jax.local_devices()[0]
    return jax.sharding.SingleDeviceSharding(device)
