"""Configuration of the SNAC codec: frozen, validated, in the shape of the original's own config.json."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from jomni.errors import ConfigError

HEAD_WIDTH = 64  # of the windowed attention, fixed in the original
DILATIONS = (1, 3, 9)  # of the residual units of a stage, likewise
KERNEL = 7  # width of the convolutions of residual units and ends, likewise
_CONV = KERNEL // 2  # look-ahead of such a convolution, steps
_UNITS = _CONV * sum(DILATIONS)  # look-ahead of the residual units of a stage


@dataclasses.dataclass(frozen=True)
class SnacConfig:
    """The SNAC codec (snac/snac.py); defaults are the original's. `from_published` reads its config.json,
    `to_published` writes it.

    A frame is the span of one token of the coarsest codebook. It has `tokens_per_frame[k]` tokens of codebook k.
    """

    sampling_rate: int = 44_100  # Hz
    encoder_dim: int = 64  # channels after the first convolution; doubled at each stage
    encoder_rates: tuple[int, ...] = (3, 3, 7, 7)  # strides of the encoder's stages, samples first
    latent_dim: int | None = None  # channels of the latent; None: that of the encoder's output
    decoder_dim: int = 1536  # channels before the decoder's first stage; halved at each stage
    decoder_rates: tuple[int, ...] = (7, 7, 3, 3)  # strides of the decoder's stages, latent steps first
    attn_window_size: int | None = 32  # latent steps that attend to one another; None: no attention
    codebook_size: int = 4096  # entries per codebook
    codebook_dim: int = 8  # width of the codebook vectors
    vq_strides: tuple[int, ...] = (8, 4, 2, 1)  # latent steps per token, of each codebook
    noise: bool = True  # whether each stage of the decoder adds noise
    depthwise: bool = True  # whether the wide convolutions are depthwise

    def __post_init__(self) -> None:
        problems = [
            f"'{name}' = {list(value)} must be one or more whole numbers of {low} or more"
            for name, value, low in (
                ("encoder_rates", self.encoder_rates, 2),
                ("decoder_rates", self.decoder_rates, 2),
                ("vq_strides", self.vq_strides, 1),
            )
            if not value or not all(_whole(v, low) for v in value)
        ]
        for name in ("sampling_rate", "encoder_dim", "decoder_dim", "codebook_size", "codebook_dim"):
            if not _whole(getattr(self, name), 1):
                problems.append(f"'{name}' = {getattr(self, name)!r} must be a whole number of 1 or more")
        for name in ("latent_dim", "attn_window_size"):
            if getattr(self, name) is not None and not _whole(getattr(self, name), 1):
                problems.append(f"'{name}' = {getattr(self, name)!r} must be a whole number of 1 or more, or null")
        for name in ("noise", "depthwise"):
            if not isinstance(getattr(self, name), bool):
                problems.append(f"'{name}' = {getattr(self, name)!r} must be true or false")
        self._refuse(problems)
        if math.prod(self.decoder_rates) != self.hop_length:
            problems.append(
                f"'decoder_rates' {list(self.decoder_rates)} make {math.prod(self.decoder_rates)} samples of a latent "
                f"step, 'encoder_rates' {list(self.encoder_rates)} take {self.hop_length}"
            )
        if any(self.vq_strides[0] % stride for stride in self.vq_strides):
            problems.append(f"'vq_strides' = {list(self.vq_strides)} must all divide the first, the coarsest")
        if self.latent_dim not in (None, self.latent_width):
            problems.append(f"'latent_dim' = {self.latent_dim} must be the encoder's output width, {self.latent_width}")
        if self.decoder_dim % 2 ** len(self.decoder_rates):
            problems.append(f"'decoder_dim' = {self.decoder_dim} cannot be halved {len(self.decoder_rates)} times")
        for name, width in (("encoder_dim", self.latent_width), ("decoder_dim", self.decoder_dim)):
            if self.attn_window_size is not None and width % HEAD_WIDTH:
                problems.append(f"'{name}' gives attention {width} channels, no multiple of {HEAD_WIDTH}")
        self._refuse(problems)

    def _refuse(self, problems: list[str]) -> None:
        if problems:
            raise ConfigError(f"snac: {'; '.join(problems)}. Correct these options.")

    @property
    def hop_length(self) -> int:
        """Return the number of samples per latent step."""
        return math.prod(self.encoder_rates)

    @property
    def latent_width(self) -> int:
        """Return the number of channels of the latent."""
        return self.encoder_dim * 2 ** len(self.encoder_rates)

    @property
    def num_codebooks(self) -> int:
        """Return the number of codebooks."""
        return len(self.vq_strides)

    @property
    def tokens_per_frame(self) -> tuple[int, ...]:
        """Return the number of tokens of each codebook in a frame, such as (1, 2, 4)."""
        return tuple(self.vq_strides[0] // stride for stride in self.vq_strides)

    @property
    def frame_size(self) -> int:
        """Return the number of samples per frame."""
        return self.hop_length * self.vq_strides[0]

    @property
    def frame_rate(self) -> float:
        """Return the frame rate, Hz."""
        return self.sampling_rate / self.frame_size

    @property
    def frame_multiple(self) -> int:
        """Return the frames of which sequences and steps must be a multiple: 1, or whole attention windows."""
        return math.lcm(self.vq_strides[0], self.attn_window_size or 1) // self.vq_strides[0]

    @property
    def look_ahead(self) -> int:
        """Return the number of samples by which a streaming decode is late.

        It is the look-ahead of all layers, rounded up to whole attention windows.
        """
        late = self._whole_windows(_CONV)
        for rate in self.decoder_rates:
            late = late * rate + -(-rate // 2) + _UNITS
        return late + _CONV

    @property
    def encode_delay(self) -> int:
        """Return the number of frames by which a streaming encode is late, computed in the same way."""
        late = _CONV
        for rate in self.encoder_rates:
            late = -(-(late + _UNITS + rate // 2) // rate)
        return -(-(self._whole_windows(late) + _CONV) // self.vq_strides[0])

    def whole_frames(self, frames: int) -> int:
        """Round `frames` up to a number of frames that a step takes."""
        return -(-frames // self.frame_multiple) * self.frame_multiple

    def _whole_windows(self, late: int) -> int:
        return late if self.attn_window_size is None else late + -late % self.attn_window_size

    @classmethod
    def tiny(cls) -> SnacConfig:
        """Return a codec that compiles in seconds, with frames of 1 + 2 + 4 tokens. It fits `MiniOmniConfig.tiny`."""
        return cls(
            sampling_rate=16_000, encoder_dim=4, encoder_rates=(2, 2), decoder_dim=8, decoder_rates=(2, 2),
            attn_window_size=None, codebook_size=16, codebook_dim=4, vq_strides=(4, 2, 1),
        )  # fmt: skip

    @classmethod
    def from_published(cls, raw: Mapping[str, Any], where: str = "snac config") -> SnacConfig:
        """Build the configuration from the content of a config.json; raises `ConfigError` naming what is wrong."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(raw) - known):
            raise ConfigError(f"{where}: unknown options {unknown}. Remove or correct them.")
        lists = {k: tuple(v) for k, v in raw.items() if isinstance(v, list)}
        try:
            return cls(**(dict(raw) | lists))
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"{where}: {error}") from None

    def to_published(self) -> dict[str, Any]:
        """Return the content of the original's config.json."""
        raw = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in raw.items()}


def is_snac_config(raw: object) -> bool:
    """Return whether the content of a config.json is SNAC's."""
    return isinstance(raw, Mapping) and "vq_strides" in raw and "decoder_rates" in raw


def _whole(value: object, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


SNAC_24KHZ = SnacConfig(
    sampling_rate=24_000, encoder_dim=48, encoder_rates=(2, 4, 8, 8), decoder_dim=1024, decoder_rates=(8, 8, 4, 2),
    attn_window_size=None, vq_strides=(4, 2, 1),
)  # fmt: skip
"""snac_24khz, for speech: frames of 2048 samples (11.7 Hz) of 1 + 2 + 4 tokens, no attention; 19.8 M parameters."""

SNAC_32KHZ = SnacConfig(sampling_rate=32_000, encoder_rates=(2, 3, 8, 8), decoder_rates=(8, 8, 3, 2))
"""snac_32khz, for music and sounds: frames of 3072 samples (10.4 Hz) of 1 + 2 + 4 + 8 tokens; 54.5 M parameters."""

SNAC_44KHZ = SnacConfig(sampling_rate=44_100, encoder_rates=(2, 3, 8, 8), decoder_rates=(8, 8, 3, 2))
"""snac_44khz, the same at 44.1 kHz (14.4 Hz)."""
