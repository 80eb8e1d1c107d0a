"""What training Mini-Omni leaves behind, and begins from: the whole model in one folder, by the paths of its
parameters."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jomni.errors import ConfigError
from jomni.models.decoder import DecoderConfig, RopeConfig
from jomni.models.mini_omni import MiniOmniConfig, Vocabulary
from jomni.models.whisper import WhisperConfig
from jomni.weights.hf import TEXT_FILES
from jomni.weights.source import TensorSpec, open_source
from jomni.weights.table import flatten, unflatten
from jomni.weights.write import checkpoint_folder, write_safetensors

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"


@dataclasses.dataclass(frozen=True)
class OmniModel:
    """A Mini-Omni with the speech encoder that it hears through."""

    config: MiniOmniConfig
    encoder: WhisperConfig
    files: dict[str, bytes]  # the backbone's tokenizer and generation files, by name


def write_omni(folder: Path, model: OmniModel, params: Mapping[str, Any]) -> None:
    """Writes the folder, replacing what an earlier export left there.

    Args:
      folder: to be made.
      model: the configurations.
      params: the `MiniOmni`'s parameters, and the encoder's under "whisper".
    """
    leaves = dict(flatten(params))
    specs = {path: TensorSpec(tuple(leaf.shape), np.dtype(leaf.dtype)) for path, leaf in leaves.items()}
    raw = {"mini_omni": dataclasses.asdict(model.config), "whisper": model.encoder.to_openai()}
    with checkpoint_folder(folder, overwrite=True) as made:
        write_safetensors(made / _WEIGHTS, specs, lambda path: np.asarray(leaves[path]), {"format": "np"})
        (made / _CONFIG).write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
        for name, content in model.files.items():
            (made / name).write_bytes(content)


def open_omni(folder: Path) -> OmniModel:
    """Reads all but the weights.

    Raises:
      ConfigError: the folder is no such folder.
    """
    try:
        raw = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        decoder = dict(raw["mini_omni"]["decoder"])
        ropes = {name: RopeConfig(**decoder[name]) for name in ("rope", "local_rope") if decoder[name] is not None}
        backbone = DecoderConfig(**decoder | ropes | {"layer_kinds": tuple(decoder["layer_kinds"])})
        own = {"decoder": backbone, "vocabulary": Vocabulary(**raw["mini_omni"]["vocabulary"])}
        config, encoder = MiniOmniConfig(**raw["mini_omni"] | own), WhisperConfig.from_openai(raw["whisper"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder}: is no export of Mini-Omni's training ({type(error).__name__}: {error}). Name the folder "
            "'export' of such a run."
        ) from None
    files = {name: (folder / name).read_bytes() for name in TEXT_FILES if (folder / name).is_file()}
    return OmniModel(config, encoder, files)


def read_omni(folder: Path) -> dict[str, Any]:
    """Reads the weights, as `write_omni` was given them.

    Raises:
      WeightsError: they are missing or damaged.
    """
    source = open_source(folder / _WEIGHTS)
    return unflatten({path: source.read(path) for path in source.specs})
