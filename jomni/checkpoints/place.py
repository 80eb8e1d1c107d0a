"""What is asked of a layout: files at a place, and how they are to be opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from jomni.checkpoints.hub import Files, resolve, resolve_weights
from jomni.errors import WeightsError
from jomni.tensors.source import TensorSource

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
TORCH_NAME = "pytorch_model.bin"
TEXT_FILES = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model",
)  # fmt: skip
"""Files beside a text decoder that are carried along unchanged."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a checkpoint lies, and what of it is wanted."""

    files: Files
    where: str  # for messages
    lora: str | None = None  # a LoRA file that replaces the one of the configuration
    components: Collection[str] | None = None  # weight files of others are not opened; None: all are wanted
    weights: TensorSource | None = None  # the weight file that was named, where one was

    def wants(self, component: str) -> bool:
        """Return whether a component is to be opened."""
        return self.components is None or component in self.components

    def needed(self, name: str) -> Path:
        """Return the path of a weight file; raise `WeightsError` where it is missing."""
        path = resolve_weights(self.files, name)
        if path is None:
            raise self.files.lacks(name)
        return path

    def optional(self, name: str | None, default: str) -> Path | None:
        """Return the path of a file, which must exist only where the configuration names it."""
        path = resolve(self.files, name or default)
        if path is None and name is not None:
            raise self.files.lacks(name)
        return path

    def first(self, names: Collection[str]) -> Path | None:
        """Return the path of the first weight file that exists."""
        return next((path for name in names if (path := resolve_weights(self.files, name))), None)

    def text_files(self) -> dict[str, bytes]:
        """Return the content of those `TEXT_FILES` that exist, by name."""
        return {name: path.read_bytes() for name in TEXT_FILES if (path := self.files.find(name)) is not None}

    def refuse_lora(self) -> None:
        """Raise `WeightsError` if a LoRA file was given."""
        if self.lora is not None:
            raise WeightsError(
                f"{self.where}: a LoRA file ({self.lora}) fits only a language model of Kyutai's layout. Omit it."
            )
