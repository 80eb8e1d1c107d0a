"""Checkpoints of one network in its authors' layout: a weight file, with a config.json beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jomni.checkpoints.checkpoint import Checkpoint, CheckpointSource
from jomni.checkpoints.export import ParameterSource, write_json, write_tensors
from jomni.checkpoints.place import CONFIG_NAME, Place
from jomni.checkpoints.registry import COMPONENTS
from jomni.errors import ConfigError, WeightsError
from jomni.tensors.component import Component
from jomni.tensors.files import open_source
from jomni.tensors.source import TensorSource, read_json


def open_by_config(place: Place, raw: Mapping[str, Any], path: Path) -> CheckpointSource | None:
    """Open the network to which a config.json belongs. Return None if it belongs to no such network."""
    for component in COMPONENTS.values():
        if (published := component.published) is not None and published.owns_config(raw):
            place.refuse_lora()
            weights = place.first(published.weights)
            if weights is None:
                raise place.files.lacks(published.weights[-1])
            return _open(component, place.where, raw, str(path), open_source(weights))
    return None


def open_by_weights(place: Place, weights: TensorSource) -> CheckpointSource | None:
    """Open the network to which a weight file belongs. Return None if it belongs to no such network."""
    for component in COMPONENTS.values():
        published = component.published
        if published is None or not published.owns_weights(weights):
            continue
        place.refuse_lora()
        raw, where = published.embedded(weights), f"{weights.name}, dims"
        if raw is None:
            path = place.files.find(CONFIG_NAME)
            if path is None:
                raise WeightsError(
                    f"{place.where}: holds the component '{component.name}', but neither the file nor a {CONFIG_NAME} "
                    f"beside it has its configuration. Put a {CONFIG_NAME} there with {', '.join(published.keys)}."
                )
            raw, where = read_json(path), str(path)
            if not isinstance(raw, Mapping) or not published.owns_config(raw):
                raise ConfigError(
                    f"{path}: is not a configuration of the component '{component.name}', which {weights.name} holds. "
                    "Download it again."
                )
        return _open(component, place.where, raw, where, weights)
    return None


def _open(component: Component, where: str, raw: Any, said: str, weights: TensorSource) -> CheckpointSource:
    assert component.published is not None
    config, name = component.published.read(raw, said), component.name
    return CheckpointSource(name, {name: config}, source=where, sources={name: weights})


def write(checkpoint: Checkpoint, folder: Path, dtype: np.dtype | None, name: str | None = None) -> None:
    """Write a component (by default the only one) to an empty folder under its published names, in safetensors."""
    name = name or checkpoint.family
    published = COMPONENTS[name].published
    assert published is not None
    write_tensors(folder / published.weights[0], ParameterSource(checkpoint, name, dtype))
    write_json(folder / CONFIG_NAME, published.write(checkpoint.configs[name]))
