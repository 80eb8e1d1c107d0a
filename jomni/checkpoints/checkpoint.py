"""A checkpoint in memory: configurations and parameters of its components, and its tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from jomni.checkpoints.registry import COMPONENTS, is_float32_only, layouts_of
from jomni.errors import WeightsError
from jomni.tensors.source import TensorSource
from jomni.tensors.weight_map import flatten, is_float


@dataclasses.dataclass(frozen=True)
class CheckpointInfo:
    """All information of a checkpoint but its parameters.

    `configs` maps the names of components (`jomni.checkpoints.registry.COMPONENTS`) to their configurations: "lm" and
    "mimi" for a Moshi; "omni", "whisper" and "snac" for a Mini-Omni; one of "mimi", "snac", "whisper", "decoder" for a
    checkpoint of one component.
    """

    family: str
    """"moshi", "mini_omni", or the name of the only component."""
    configs: dict[str, Any]
    _: dataclasses.KW_ONLY
    tokenizer: bytes | None = None  # content of a sentencepiece model file
    generation: dict[str, Any] = dataclasses.field(default_factory=dict)  # default sampling ("lm_gen_config")
    model_type: str = ""  # intended use: "moshi", "hibiki", "stt", "tts", "qwen2", ...; by default the family
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Other published keys, kept for export: "stt_config", "tts_config", "model_id"; Mini-Omni's without effect."""
    source: str = ""  # path or hub id from which it was loaded
    stored: dict[str, str] = dataclasses.field(default_factory=dict)
    """Parameter path ("mimi/...", "lm/...") -> dtype in the file, for parameters that memory holds as float32."""
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    """Tokenizer and generation files of a text decoder or a Mini-Omni by name, such as "tokenizer.json"."""

    def __post_init__(self) -> None:
        if not self.model_type:
            object.__setattr__(self, "model_type", self.family)
        if unknown := sorted(set(self.configs) - set(COMPONENTS)):
            raise WeightsError(f"checkpoint {self.source!r}: unknown components {unknown}; known: {list(COMPONENTS)}")

    @property
    def layouts(self) -> tuple[str, ...]:
        """Return the names of the layouts that support it. The first is that of the model's authors."""
        return layouts_of(self.family)

    @property
    def codec_codebooks(self) -> int:
        """Return the number of Mimi codebooks that the model uses, and 8 for a codec alone.

        It is at least the number of semantic codebooks. Follows `loaders.py::CheckpointInfo.get_mimi`.
        """
        lm, mimi = self.configs.get("lm"), self.configs.get("mimi")
        least = mimi.quantizer.n_q_semantic if mimi else 0
        if lm is None:
            return max(least, min(8, mimi.num_codebooks)) if mimi else 0
        halves = 2 if (self.settings.get("tts_config") or {}).get("multistream") else 1
        return max(least, lm.codec_codebooks // halves)

    def __repr__(self) -> str:
        # Configurations, tokenizer and parameters would fill screens.
        parts = ", ".join(self._component(name) for name in self.configs)
        kind = f", {self.model_type}" if self.model_type != self.family else ""
        return f"{type(self).__name__}({self.family}{kind}, {{{parts}}}, source={self.source!r})"

    def _component(self, name: str) -> str:
        return name


@dataclasses.dataclass(frozen=True, repr=False)
class CheckpointSource(CheckpointInfo):
    """A checkpoint with its configurations read and its weight files open, before any tensor is read."""

    _: dataclasses.KW_ONLY
    sources: dict[str, TensorSource] = dataclasses.field(default_factory=dict)
    """Component -> its weights, under its authors' names."""
    lora_source: TensorSource | None = None  # low-rank adapters, and tensors that replace the model's
    orbax: Path | None = None  # the folder of a checkpoint in the project's own layout, which has no `sources`


@dataclasses.dataclass(frozen=True, repr=False)
class Checkpoint(CheckpointInfo):
    """A model as `jomni.load` returns it and `jomni.save` writes it.

    `params` maps each component to its parameters: a nested dictionary of arrays.
    """

    params: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in COMPONENTS:
            if (name in self.configs) != (name in self.params):
                raise WeightsError(f"checkpoint {self.source!r}: '{name}' needs its configuration and its parameters")

    def file_dtype(self, path: str, dtype: Any = None) -> np.dtype:
        """Return the dtype in which a file should hold the parameter at a path such as "mimi/..." or "lm/...".

        Codecs and conditioners keep the dtype of the file from which they were read. Other parameters get `dtype`, or
        by default their dtype in memory.
        """
        leaf: Any = self.params
        for part in path.split("/"):
            leaf = leaf[part]
        if dtype is None or is_float32_only(path) or not is_float(leaf.dtype):
            return np.dtype(self.stored.get(path, leaf.dtype))
        return np.dtype(dtype)

    def text_tokenizer(self) -> sentencepiece.SentencePieceProcessor | None:
        """Return the sentencepiece tokenizer, or None if the checkpoint has none.

        Raises:
          WeightsError: its content is not a sentencepiece model.
        """
        if self.tokenizer is None:
            return None
        try:
            return sentencepiece.SentencePieceProcessor(model_proto=self.tokenizer)
        except RuntimeError as error:
            raise WeightsError(
                f"{self.source}: its text tokenizer is not a sentencepiece model ({error}). Download it again."
            ) from None

    def num_parameters(self, part: str | None = None) -> int:
        """Return the number of values in all parameters, in one component ("lm"), or in a branch ("lm/depformer")."""
        tree: Any = self.params
        for key in (part or "").split("/") if part else ():
            tree = tree.get(key, {}) if isinstance(tree, Mapping) else {}
        return sum(int(np.prod(leaf.shape)) for leaf in flatten(tree).values())

    def _component(self, name: str) -> str:
        return f"{name}: {self.num_parameters(name):,} parameters"
