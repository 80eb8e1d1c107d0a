"""What a checkpoint is once it is read: configurations, parameters and the text tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import sentencepiece

from jomni.checkpoints.registry import PARTS, is_float32_only
from jomni.errors import WeightsError
from jomni.models.decoder.config import DecoderConfig
from jomni.models.mimi.config import MimiConfig
from jomni.models.mini_omni.config import MiniOmniConfig
from jomni.models.moshi.config import MoshiConfig
from jomni.models.snac.config import SnacConfig
from jomni.models.whisper.config import WhisperConfig
from jomni.tensors.weight_map import flatten, is_float

_LAYOUTS = {
    "moshi": ("kyutai", "hf", "orbax"), "mimi": ("kyutai", "hf", "orbax"), "snac": ("snac", "orbax"),
    "whisper": ("openai", "hf", "orbax"), "decoder": ("hf",), "mini_omni": ("litgpt", "orbax"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model as `jomni.load` returns it and `jomni.save` writes it."""

    family: str
    """"moshi" or "mini_omni" (as a rule with codec, and speech encoder), or one part alone: "mimi", "snac", "whisper",
    "decoder" (of text)."""
    mimi: MimiConfig | None  # None: the checkpoint brings no Mimi
    lm: MoshiConfig | None  # None: no Moshi
    params: dict[str, Any]  # {"mimi": tree, "lm": tree, "snac": tree, ...}, those that are present
    tokenizer: bytes | None = dataclasses.field(default=None, repr=False)  # sentencepiece model, as its file holds it
    generation: dict[str, Any] = dataclasses.field(default_factory=dict)  # the published "lm_gen_config"
    model_type: str = "moshi"  # intended use: "moshi", "hibiki", "stt", "tts", ..., or the family of a part alone
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Other published keys, kept for export: "stt_config", "tts_config", "model_id"; Mini-Omni's without effect."""
    source: str = ""  # where it was loaded from
    stored: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)
    """Parameter path ("mimi/...", "lm/...", "whisper/...") -> dtype that its file had, where memory holds it as
    float32."""
    snac: SnacConfig | None = None  # None: the checkpoint brings no SNAC
    whisper: WhisperConfig | None = None  # of the speech encoder, where there is one
    decoder: DecoderConfig | None = None  # of the text decoder, likewise
    omni: MiniOmniConfig | None = None  # of Mini-Omni's language model, likewise
    files: dict[str, bytes] = dataclasses.field(default_factory=dict, repr=False)
    """A text decoder's or a Mini-Omni's tokenizer and generation files as they are, by name: "tokenizer.json", ..."""

    def __post_init__(self) -> None:
        for part in PARTS:
            config = getattr(self, part)
            if (config is None) == (part in self.params):
                raise WeightsError(f"checkpoint {self.source!r}: '{part}' needs its configuration and its parameters")

    @property
    def layouts(self) -> tuple[str, ...]:
        """The layouts that can express it; the first is that of the model's authors."""
        return _LAYOUTS[self.family]

    @property
    def codec_codebooks(self) -> int:
        """Codebooks that the codec must give and take (`loaders.py::CheckpointInfo.get_mimi`); for a codec alone 8."""
        if self.lm is None:
            return min(8, self.mimi.num_codebooks) if self.mimi else 0
        halves = 2 if (self.settings.get("tts_config") or {}).get("multistream") else 1
        return self.lm.codec_codebooks // halves

    def file_dtype(self, path: str, dtype: Any = None) -> np.dtype:
        """The dtype in which a file should hold a parameter of path "mimi/...", "snac/...", "lm/...", "whisper/...".

        The codec and the conditioners are as their file had them; the rest is as in memory or `dtype`.
        """
        leaf: Any = self.params
        for part in path.split("/"):
            leaf = leaf[part]
        if dtype is None or is_float32_only(path) or not is_float(leaf.dtype):
            return np.dtype(self.stored.get(path, leaf.dtype))
        return np.dtype(dtype)

    def text_tokenizer(self) -> sentencepiece.SentencePieceProcessor | None:
        """The text tokenizer, or None where the checkpoint brings none.

        Raises:
          WeightsError: its file is not a sentencepiece model.
        """
        if self.tokenizer is None:
            return None
        try:
            return sentencepiece.SentencePieceProcessor(model_proto=self.tokenizer)
        except RuntimeError as error:
            raise WeightsError(
                f"{self.source}: its text tokenizer is not a sentencepiece model ({error}). Fetch it anew."
            ) from None

    def num_parameters(self, part: str | None = None) -> int:
        """Numbers held, in all or of one part ("mimi", "lm", ...), or of a branch such as "lm/depformer"."""
        tree: Any = self.params
        for key in (part or "").split("/") if part else ():
            tree = tree.get(key, {}) if isinstance(tree, Mapping) else {}
        return sum(int(np.prod(leaf.shape)) for _, leaf in flatten(tree))
