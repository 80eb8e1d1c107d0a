"""Whisper's dimensions, and those of every published model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jomni.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class WhisperConfig:
    """The dimensions that a checkpoint brings (openai-whisper, model.py::ModelDimensions). Names are the original's.

    Of the decoder, which is not built here, they say which tensors a checkpoint has besides the encoder's.
    """

    n_mels: int  # channels of the log-mel features: 80, from large-v3 on 128
    n_audio_ctx: int  # frames that the encoder can give, 20 ms each; 1500 for 30 s
    n_audio_state: int  # width of the encoder
    n_audio_head: int  # its attention heads
    n_audio_layer: int  # its blocks
    n_vocab: int  # text tokens; 51864 where English only
    n_text_ctx: int  # text tokens that the decoder can see
    n_text_state: int  # width of the decoder; that of the encoder, whose output it attends to
    n_text_head: int  # its attention heads
    n_text_layer: int  # its blocks

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"Whisper option '{name}' must be an integer of at least 1, got {value!r}")
        for side in ("audio", "text"):
            width, heads = getattr(self, f"n_{side}_state"), getattr(self, f"n_{side}_head")
            if width % heads:
                raise ConfigError(f"'n_{side}_state' = {width} is not a multiple of 'n_{side}_head' = {heads}")
        if self.n_audio_state % 2 or self.n_audio_state < 4:
            raise ConfigError(f"'n_audio_state' = {self.n_audio_state} must be even and at least 4, for the positions")
        if self.n_text_state != self.n_audio_state:
            raise ConfigError(
                f"'n_text_state' = {self.n_text_state} differs from 'n_audio_state' = {self.n_audio_state}; the "
                "decoder attends to the encoder's output as it is, so both have one width"
            )

    @classmethod
    def tiny(cls) -> WhisperConfig:
        """Return an encoder of 1 s of audio that compiles in seconds. OpenAI's "tiny" is `WHISPER["tiny"]`."""
        return cls(
            n_mels=80, n_audio_ctx=50, n_audio_state=16, n_audio_head=2, n_audio_layer=1, n_vocab=8, n_text_ctx=4,
            n_text_state=16, n_text_head=2, n_text_layer=1,
        )  # fmt: skip

    @property
    def mel_frames(self) -> int:
        """Return the number of log-mel frames of 10 ms that fill the encoder: 3000 for 30 s."""
        return 2 * self.n_audio_ctx

    @classmethod
    def from_openai(cls, raw: object, where: str = "dims") -> WhisperConfig:
        """Read the dictionary that OpenAI's checkpoints keep under "dims".

        Raises:
          ConfigError: naming what is missing, unknown or makes no sense.
        """
        fields = [f.name for f in dataclasses.fields(cls)]
        if not isinstance(raw, Mapping):
            raise ConfigError(f"{where}: Whisper's dimensions must be a dict, got {raw!r:.80}. Download it again.")
        problems = [f"'{name}' is missing" for name in fields if name not in raw]
        problems += [f"unknown option '{name}'" for name in raw if name not in fields]
        if problems:
            raise ConfigError(f"{where}: {'; '.join(problems)}. Correct these dimensions.")
        try:
            return cls(**raw)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    def to_openai(self) -> dict[str, Any]:
        """Return the dictionary that OpenAI's checkpoints keep under "dims"."""
        return dataclasses.asdict(self)


def _size(
    width: int, heads: int, layers: int, vocab: int = 51865, mels: int = 80, text_layers: int | None = None
) -> WhisperConfig:
    return WhisperConfig(
        n_mels=mels, n_audio_ctx=1500, n_audio_state=width, n_audio_head=heads, n_audio_layer=layers, n_vocab=vocab,
        n_text_ctx=448, n_text_state=width, n_text_head=heads, n_text_layer=text_layers or layers,
    )  # fmt: skip


_SIZES = {"tiny": (384, 6, 4), "base": (512, 8, 6), "small": (768, 12, 12), "medium": (1024, 16, 24)}

WHISPER: dict[str, WhisperConfig] = {
    **{name: _size(*size) for name, size in _SIZES.items()},
    **{f"{name}.en": _size(*size, vocab=51864) for name, size in _SIZES.items()},
    "large-v1": _size(1280, 20, 32),
    "large-v2": _size(1280, 20, 32),
    "large-v3": _size(1280, 20, 32, vocab=51866, mels=128),
    "large-v3-turbo": _size(1280, 20, 32, vocab=51866, mels=128, text_layers=4),
}
"""Every published model by the name that OpenAI gives it ("large" is large-v3, "turbo" large-v3-turbo)."""
WHISPER |= {"large": WHISPER["large-v3"], "turbo": WHISPER["large-v3-turbo"]}
