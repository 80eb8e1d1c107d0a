"""Detection of a checkpoint's layout: reads its configuration and opens its weight files, but reads no tensor."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from jomni.checkpoints import hf, kyutai, litgpt, orbax, single
from jomni.checkpoints.checkpoint import CheckpointSource
from jomni.checkpoints.hub import open_files, resolve_weights
from jomni.checkpoints.place import CONFIG_NAME, WEIGHTS_NAME, Place
from jomni.checkpoints.registry import COMPONENTS
from jomni.errors import ConfigError, WeightsError
from jomni.models.mini_omni import weights as mini_omni
from jomni.tensors.files import open_source
from jomni.tensors.source import read_json

_MARKERS = (CONFIG_NAME, orbax.MARKER, mini_omni.CONFIG_NAME, *mini_omni.WEIGHT_NAMES)
"""Files that stand for their whole folder."""


def detect(
    source: str | os.PathLike[str],
    *,
    revision: str | None = None,
    lora: str | os.PathLike[str] | None = None,
    components: Collection[str] | None = None,
) -> CheckpointSource:
    """Open a folder, a file or a hub repository.

    Args:
      source: see `jomni.load`.
      revision: revision of a hub repository.
      lora: a LoRA file that replaces the one in the configuration.
      components: names of the components to open. None: all. The configuration of a language model is always read, but
        its weight file is neither opened nor downloaded unless it is listed.

    Raises:
      WeightsError: the source does not exist, or is not a known checkpoint.
      ConfigError: an option of its configuration is unknown or not supported.
    """
    files, filename = open_files(source, revision)
    place = Place(files, os.fspath(source), None if lora is None else os.fspath(lora), components)
    if filename is None or filename in _MARKERS:
        return _folder(place)
    path = resolve_weights(files, filename)
    if path is None:
        raise files.lacks(filename)
    return _file(place, path)


def _file(place: Place, path: Path) -> CheckpointSource:
    weights = open_source(path)
    if kyutai.is_mimi(weights):
        return kyutai.open_mimi(place, weights, path)
    if kyutai.is_moshi(weights):
        return _folder(Place(place.files, place.where, place.lora, place.components, weights))
    if (found := single.open_by_weights(place, weights)) is not None:
        return found
    if any(".lora_A." in name for name in weights.specs):
        raise WeightsError(
            f"{place.where}: is a LoRA file. Name the model that it is for, and give this file as `lora`."
        )
    config = place.files.find(CONFIG_NAME)
    if config is not None and hf.is_hf_config(read_json(config)):
        return _folder(place)
    raise WeightsError(
        f"{place.where}: its tensor names match no known model ({', '.join(COMPONENTS)}), and there is no "
        "config.json of transformers beside it. Name the file or the folder of a supported model."
    )


def _folder(place: Place) -> CheckpointSource:
    path = place.files.find(CONFIG_NAME)
    if path is None:
        return _without_config(place)
    raw = read_json(path)
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}: is not a JSON object of options. Download it again.")
    if hf.is_hf_config(raw):
        place.refuse_lora()
        return hf.open_folder(place, path)
    if (found := single.open_by_config(place, raw, path)) is not None:
        return found
    return kyutai.open_config(place, dict(raw), path)


def _without_config(place: Place) -> CheckpointSource:
    if (marker := place.files.find(orbax.MARKER)) is not None:
        place.refuse_lora()
        return orbax.open_folder(place, marker)
    if (options := place.files.find(mini_omni.CONFIG_NAME)) is not None:
        return litgpt.open_omni(place, options, _folder)
    if (found := kyutai.open_without_config(place)) is not None:
        return found
    if any(place.files.find(name) for name in mini_omni.WEIGHT_NAMES):
        raise place.files.lacks(mini_omni.CONFIG_NAME)
    raise WeightsError(
        f"{place.where}: contains no known checkpoint: it has none of {CONFIG_NAME}, {orbax.MARKER}, "
        f"{mini_omni.CONFIG_NAME}, {WEIGHTS_NAME} and {kyutai.MIMI_NAME}. "
        "Name a checkpoint's folder, a weight file, or a hub id owner/name."
    )
