"""Low-rank adapters (arXiv:2106.09685): the parameters that train, fused weights, and adapter files."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jomni.checkpoints.checkpoint import Checkpoint
from jomni.checkpoints.export import ParameterSource
from jomni.checkpoints.kyutai import LORA_NAME
from jomni.checkpoints.save import checkpoint_folder
from jomni.errors import ConfigError
from jomni.models.moshi import weights as moshi_weights
from jomni.tensors.weight_map import flatten, unflatten
from jomni.tensors.write import write_safetensors
from jomni.train.freeze import Tree

_ADAPTER = re.compile(r"(^|/)lora_[AB]$")
_EMBEDDING = re.compile(r"^(depformer_)?(text_)?emb(_\d+)?/")


@dataclasses.dataclass(frozen=True)
class LoRAConfig:
    """Options of adapters beside every linear layer. The other parameters are frozen."""

    rank: int = 128  # inner width of each adapter
    scaling: float = 2.0  # factor on the adapters' output
    embeddings: bool = False  # train the embedding tables too

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.scaling > 0:
            raise ConfigError(
                f"LoRA needs a rank of at least 1 and a positive scaling, got {self.rank}, {self.scaling}"
            )

    def trains(self, path: str) -> bool:
        """Return whether the parameter of Moshi at this path trains."""
        return bool(_ADAPTER.search(path)) or (self.embeddings and bool(_EMBEDDING.search(path)))


def fuse(params: Mapping[str, Any], scaling: float) -> Tree:
    """Return parameters with the adapters fused: W + scaling * B A, computed in float32, in the dtype of W."""
    leaves = flatten(params)
    fused = {}
    for path, leaf in leaves.items():
        if _ADAPTER.search(path):
            continue
        stem = path.removesuffix("weight")
        down, up = leaves.get(stem + "lora_A"), leaves.get(stem + "lora_B")
        if path.endswith("weight") and down is not None and up is not None:
            added = scaling * (up.astype(jnp.float32) @ down.astype(jnp.float32))
            leaf = (leaf.astype(jnp.float32) + added).astype(leaf.dtype)
        fused[path] = leaf
    return unflatten(fused)


def save_adapters(checkpoint: Checkpoint, folder: Path, lora: LoRAConfig) -> None:
    """Write the trained parameters as a LoRA file with its config.json, in moshi-finetune's format.

    `jomni.load(lora=)` reads the file.

    Args:
      checkpoint: a language model with adapters.
      folder: folder for lora.safetensors and config.json. An earlier export in it is replaced.
      lora: options of the adapters.
    """
    assert "lm" in checkpoint.configs
    source = ParameterSource(checkpoint, "lm")
    tensors = moshi_weights.weight_map(checkpoint.configs["lm"]).expect(checkpoint.params["lm"])
    specs = {t.name: source.specs[t.name] for t in tensors if lora.trains(t.leaves[0].path)}
    with checkpoint_folder(folder, overwrite=True) as made:
        write_safetensors(made / LORA_NAME, specs, source.read, {"format": "pt"})
        raw = checkpoint.configs["lm"].to_kyutai() | {"lora_name": LORA_NAME, "model_type": checkpoint.model_type}
        (made / "config.json").write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
