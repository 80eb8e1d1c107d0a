"""SNAC behind the interface of all codecs (`jomni.models.codec.Codec`).

Axes: B batch, T samples, N tokens of a codebook.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jomni.errors import AudioError
from jomni.models.snac import model
from jomni.models.snac.config import SnacConfig
from jomni.models.snac.model import Codes, Noise, Snac, StreamState
from jomni.nn.lookahead import fold_weight_norm

Params = Any


@dataclasses.dataclass(frozen=True)
class SnacCodec:
    """SNAC as functions of (params, ...). Codes are a tuple of int32 arrays, one for each codebook, coarse to fine.

    SNAC looks ahead, so a stream runs late by `encode_delay` frames and `decode_delay` samples; the flush functions
    return the remaining codes or samples.
    """

    module: Snac
    noise_seed: int | None = None
    """Seed of the decoder's noise for calls without noise, the same in each row. None: no noise."""

    def _noise(self, noise: Noise, batch: int) -> Noise:
        if noise is not None or self.noise_seed is None:
            return noise
        return jnp.broadcast_to(jax.random.split(jax.random.key(self.noise_seed), 1), batch)

    def __repr__(self) -> str:
        return f"SnacCodec({self.sample_rate} Hz, {self.frame_rate:.4g} frames/s, {self.num_codebooks} codebooks)"

    @property
    def config(self) -> SnacConfig:
        """Return the configuration."""
        return self.module.config

    @property
    def sample_rate(self) -> int:
        """Return the sample rate, Hz."""
        return self.config.sampling_rate

    @property
    def channels(self) -> int:
        """Return 1, the number of audio channels."""
        return 1

    @property
    def frame_rate(self) -> float:
        """Return the number of frames per second, which is the rate of the coarsest codebook."""
        return self.config.frame_rate

    @property
    def frame_size(self) -> int:
        """Return the number of samples in a frame."""
        return self.config.frame_size

    @property
    def frame_multiple(self) -> int:
        """Return the number of frames of which each block must be a multiple."""
        return self.config.frame_multiple

    @property
    def num_codebooks(self) -> int:
        """Return K, the number of codebooks."""
        return self.config.num_codebooks

    @property
    def min_codebooks(self) -> int:
        """Return the number of all codebooks: a finer codebook corrects the coarser ones."""
        return self.num_codebooks

    @property
    def codebook_rates(self) -> tuple[float, ...]:
        """Return the codes per second of each codebook, coarse to fine."""
        return tuple(self.frame_rate * tokens for tokens in self.config.tokens_per_frame)

    @property
    def codebook_size(self) -> int:
        """Return the number of entries of each codebook."""
        return self.config.codebook_size

    @property
    def encode_delay(self) -> int:
        """Return the number of frames by which the codes of a stream lag behind its samples."""
        return self.config.encode_delay

    @property
    def decode_delay(self) -> int:
        """Return the number of samples by which the audio of a stream lags behind its codes."""
        return self.config.look_ahead

    def with_codebooks(self, number: int) -> SnacCodec:
        """Return the codec itself; raises `AudioError` for any number but that of all codebooks."""
        if number != self.num_codebooks:
            raise AudioError(f"codebooks: {number}, but this SNAC always uses all of its {self.num_codebooks}.")
        return self

    def check_codes(self, codes: Codes) -> None:
        """Raise `AudioError` unless the codec can decode the codes. Values are checked of numpy arrays only."""
        model.check_codes(self.config, codes)

    def split_codebooks(self, codes: Codes) -> Codes:
        """Return the codes of each codebook: the codes themselves."""
        return codes

    def join_codebooks(self, codes: Sequence[Int[Array, "B N"]]) -> Codes:
        """Return codes from those of each codebook."""
        return tuple(codes)

    def prepare(self, params: Params) -> Params:
        """Fold the weight norms: the same codes with less work per step. Keep `params` itself for export."""
        return fold_weight_norm(params)

    def encode(self, params: Params, pcm: Float[Array, "B 1 T"] | Float[Array, "B T"]) -> Codes:
        """Encode whole recordings; see `jomni.encode`."""
        return model.encode(self.module, params, pcm)

    def decode(self, params: Params, codes: Sequence[Int[Array, "B N"]], noise: Noise = None) -> Float[Array, "B 1 T"]:
        """Decode whole codes. `noise`: PRNG keys [B] for the noise that the decoder was trained with; None: none."""
        return model.decode(self.module, params, codes, self._noise(noise, codes[0].shape[0]))

    def init_encode_state(self, batch: int, frames: int = 1) -> StreamState:
        """Return the state before the first sample. Steps may be of any length."""
        return self.module.init_encode_state(batch)

    def init_decode_state(self, batch: int, frames: int = 1) -> StreamState:
        """Return the state before the first frame. Steps may be of any length."""
        return self.module.init_decode_state(batch)

    def encode_step(
        self, params: Params, state: StreamState, pcm: Float[Array, "B 1 T"], active: Bool[Array, "B"] | None = None
    ) -> tuple[StreamState, Codes]:
        """Encode the next frames of B streams; the codes are those of `encode_delay` frames ago. Donates the state."""
        return model.encode_step(self.module, params, state, pcm, active)

    def decode_step(
        self, params: Params, state: StreamState, codes: Codes, active: Bool[Array, "B"] | None = None,
        noise: Noise = None,
    ) -> tuple[StreamState, Float[Array, "B 1 T"]]:  # fmt: skip
        """Decode the next frames of B streams; the samples are of `decode_delay` samples ago. Donates the state."""
        noise = self._noise(noise, codes[0].shape[0])
        return model.decode_step(self.module, params, state, codes, active, noise)

    def encode_flush(
        self, params: Params, state: StreamState, active: Bool[Array, "B"] | None = None
    ) -> tuple[StreamState, Codes]:
        """End streams: return the codes of their last `encode_delay` frames. Donates the state."""
        return model.encode_flush(self.module, params, state, active)

    def decode_flush(
        self, params: Params, state: StreamState, active: Bool[Array, "B"] | None = None, noise: Noise = None
    ) -> tuple[StreamState, Float[Array, "B 1 T"]]:
        """End streams: return their last `decode_delay` samples. Donates the state."""
        noise = self._noise(noise, state.offset.shape[0])
        return model.decode_flush(self.module, params, state, active, noise)
