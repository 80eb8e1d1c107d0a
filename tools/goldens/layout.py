"""Write folders in Kyutai's published layout with random weights by name (without torch)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from tools.goldens import draw

Manifest = Mapping[str, Iterable[int]]


def write_mimi(folder: Path, config: dict[str, Any], manifest: Manifest, seed: int) -> Path:
    """Write mimi.safetensors and mimi.json; return the weight file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mimi.json").write_text(json.dumps(config))
    save_file(draw.weights(manifest, seed), folder / "mimi.safetensors")
    return folder / "mimi.safetensors"


def write_lm(folder: Path, config: dict[str, Any], manifest: Manifest, seed: int, lora: Manifest | None = None) -> Path:
    """Write config.json, model.safetensors and, if `lora` is given, lora.safetensors; return `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {"moshi_name": "model.safetensors"}
    save_file(draw.weights(manifest, seed), folder / "model.safetensors")
    if lora:
        names["lora_name"] = "lora.safetensors"
        save_file(draw.weights(lora, seed), folder / "lora.safetensors")
    (folder / "config.json").write_text(json.dumps(config | names))
    return folder
