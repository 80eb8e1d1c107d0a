"""A request to open a checkpoint: its files, and which parts of it are wanted."""

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
"""Files of a text decoder that are kept unchanged."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Files of a checkpoint, and the options for opening it."""

    files: Files
    where: str  # for messages
    lora: str | None = None  # a LoRA file that replaces the one in the configuration
    components: Collection[str] | None = None  # names of the components to open; None: all
    weights: TensorSource | None = None  # the weight file that was given, if any

    def wants(self, component: str) -> bool:
        """Return whether a component should be opened."""
        return self.components is None or component in self.components

    def needed(self, name: str) -> Path:
        """Return the path of a required weight file. Raise `WeightsError` if it is missing."""
        path = resolve_weights(self.files, name)
        if path is None:
            raise self.files.lacks(name)
        return path

    def optional(self, name: str | None, default: str) -> Path | None:
        """Return the path of a file, or None. Raise `WeightsError` if the configuration names it and it is missing."""
        path = resolve(self.files, name or default)
        if path is None and name is not None:
            raise self.files.lacks(name)
        return path

    def first(self, names: Collection[str]) -> Path | None:
        """Return the path of the first weight file that exists, or None."""
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
