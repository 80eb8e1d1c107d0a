"""Mini-Omni's published layout: a litgpt model, with Whisper and SNAC beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from jomni.checkpoints import single
from jomni.checkpoints.checkpoint import Checkpoint, CheckpointSource
from jomni.checkpoints.export import ParameterSource, write_tensors, write_text_files
from jomni.checkpoints.hub import Within
from jomni.checkpoints.place import CONFIG_NAME, Place
from jomni.errors import ConfigError
from jomni.models.mini_omni.config import NO_EFFECT, MiniOmniConfig
from jomni.models.mini_omni.weights import CONFIG_NAME as OPTIONS_NAME
from jomni.models.mini_omni.weights import (
    SNAC_FOLDERS,
    WEIGHT_NAMES,
    WHISPER_FOLDERS,
    WHISPER_NAME,
    check_neighbours,
    read_yaml,
    write_yaml,
)
from jomni.tensors.files import open_source

OpenFolder = Callable[[Place], CheckpointSource]


def open_omni(place: Place, options: Path, open_folder: OpenFolder) -> CheckpointSource:
    """Open a Mini-Omni, and the Whisper and the SNAC beside it.

    Args:
      place: place of the checkpoint.
      options: path of its model_config.yaml.
      open_folder: opens a folder of any layout.
    """
    place.refuse_lora()
    fields = read_yaml(options)
    config, sources = MiniOmniConfig.from_published(fields, str(options)), {}
    if place.wants("omni"):
        found = place.first(WEIGHT_NAMES)
        if found is None:
            raise place.files.lacks(WEIGHT_NAMES[-1])
        sources["omni"] = open_source(found)
    configs: dict[str, Any] = {"omni": config}
    for name, folders in (("whisper", WHISPER_FOLDERS), ("snac", SNAC_FOLDERS)):
        beside = _open_beside(place, name, folders, open_folder) if place.wants(name) else None
        if beside is not None:
            configs[name], sources[name] = beside.configs[name], beside.sources[name]
    check_neighbours(config, configs.get("whisper"), configs.get("snac"), place.where)
    return CheckpointSource(
        "mini_omni", configs, source=place.where, sources=sources, model_type="mini-omni",
        settings={key: fields[key] for key in NO_EFFECT if key in fields}, files=place.text_files(),
    )  # fmt: skip


def _open_beside(place: Place, name: str, folders: Collection[str], open_folder: OpenFolder) -> CheckpointSource | None:
    """Open a component in one of the subfolders of a place. A Whisper may also be a file with its published name."""
    if name == "whisper" and (path := place.files.find(WHISPER_NAME)) is not None:
        return single.open_by_weights(dataclasses.replace(place, where=str(path)), open_source(path))
    for folder in (Within(place.files, name) for name in folders):
        if (path := folder.find(CONFIG_NAME)) is not None:
            opened = open_folder(Place(folder, str(path.parent)))
            if name not in opened.configs:
                raise ConfigError(f"{path.parent}: holds a {opened.family} instead of a {name}. Move it away.")
            return opened
    return None


def write(checkpoint: Checkpoint, folder: Path, dtype: np.dtype | None) -> None:
    """Write a Mini-Omni to an empty folder under its published names, with its Whisper and SNAC in subfolders."""
    fields = checkpoint.configs["omni"].to_published({k: v for k, v in checkpoint.settings.items() if k in NO_EFFECT})
    write_yaml(folder / OPTIONS_NAME, fields)
    write_tensors(folder / WEIGHT_NAMES[0], ParameterSource(checkpoint, "omni", dtype))
    write_text_files(checkpoint, folder)
    for name, folders in (("whisper", WHISPER_FOLDERS), ("snac", SNAC_FOLDERS)):
        if name in checkpoint.configs:
            (folder / folders[0]).mkdir()
            single.write(checkpoint, folder / folders[0], dtype, name)
