"""Whisper's encoder as a function of (params, waveform).

Axes: B batch, T samples, N frames of 20 ms, D width.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxtyping import Array, Float

from jomni.models.whisper.config import WhisperConfig
from jomni.models.whisper.encoder import WhisperEncoder, embed_audio
from jomni.models.whisper.mel import HOP, SAMPLE_RATE, log_mel

Params = Any


@dataclasses.dataclass(frozen=True)
class SpeechEncoder:
    """Whisper's log-mel features and encoder joined. Hashable; parameters are passed separately."""

    module: WhisperEncoder

    def __repr__(self) -> str:
        c = self.config
        return f"SpeechEncoder(Whisper {c.n_audio_layer} layers of {c.n_audio_state}, {self.sample_rate} Hz)"

    @property
    def config(self) -> WhisperConfig:
        """Return the configuration."""
        return self.module.config

    @property
    def sample_rate(self) -> int:
        """Return the sample rate, 16,000 Hz."""
        return SAMPLE_RATE

    @property
    def window(self) -> int:
        """Return the number of samples of the longest recording: 30 s for the published models."""
        return self.config.mel_frames * HOP

    def encode(self, params: Params, pcm: Float[Array, "B T"]) -> Float[Array, "B N D"]:
        """Return the features of recordings, completed with silence to `window` samples as Whisper was trained.

        Args:
          params: of the encoder.
          pcm: mono samples at 16 kHz in [-1, 1].

        Raises:
          AudioError: the shape does not fit, or a recording is longer than `window`.
        """
        return embed_audio(self.module, params, log_mel(pcm, self.config.n_mels, self.window))
