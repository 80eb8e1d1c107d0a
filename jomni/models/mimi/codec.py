"""Mimi behind the interface of all codecs (`jomni.models.codec.Codec`).

Axes: B batch, C audio channels, T samples, K codebooks, N frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jomni.errors import AudioError
from jomni.models.mimi import model
from jomni.models.mimi.config import MimiConfig
from jomni.models.mimi.model import DecodeState, EncodeState, Mimi
from jomni.models.mimi.quantizer import fold_codebooks

Params = Any


@dataclasses.dataclass(frozen=True)
class MimiCodec:
    """Mimi as functions of (params, ...). Codes are int32 [B, K, N]. A stream has no delay."""

    module: Mimi

    def __repr__(self) -> str:
        return f"MimiCodec({self.sample_rate} Hz, {self.frame_rate:g} frames/s, {self.num_codebooks} codebooks)"

    @property
    def config(self) -> MimiConfig:
        """Return the configuration."""
        return self.module.config

    @property
    def sample_rate(self) -> int:
        """Return the sample rate, Hz."""
        return self.config.sample_rate

    @property
    def channels(self) -> int:
        """Return C, the number of audio channels."""
        return self.config.channels

    @property
    def frame_rate(self) -> float:
        """Return the number of code frames per second."""
        return self.config.frame_rate

    @property
    def frame_size(self) -> int:
        """Return the number of samples in a frame."""
        return self.config.frame_size

    @property
    def frame_multiple(self) -> int:
        """Return 1: a block may have any number of frames."""
        return 1

    @property
    def num_codebooks(self) -> int:
        """Return K, the number of codebooks in use."""
        return self.module.num_codebooks

    @property
    def min_codebooks(self) -> int:
        """Return the number of semantic codebooks."""
        return self.config.quantizer.n_q_semantic

    @property
    def codebook_rates(self) -> tuple[float, ...]:
        """Return the frame rate for each codebook of the configuration."""
        return (self.frame_rate,) * self.config.num_codebooks

    @property
    def codebook_size(self) -> int:
        """Return the number of entries of each codebook."""
        return self.config.quantizer.bins

    @property
    def encode_delay(self) -> int:
        """Return 0 frames: Mimi encodes without delay."""
        return 0

    @property
    def decode_delay(self) -> int:
        """Return 0 samples: Mimi decodes without delay."""
        return 0

    def with_codebooks(self, number: int) -> MimiCodec:
        """Return the codec with another number of codebooks in use; raises `AudioError` where it cannot have it."""
        if not self.min_codebooks <= number <= self.config.num_codebooks:
            raise AudioError(
                f"codebooks: {number}, but this Mimi has {self.config.num_codebooks} and always uses the "
                f"{self.min_codebooks} semantic ones. Choose {self.min_codebooks} to {self.config.num_codebooks}."
            )
        return MimiCodec(self.module.clone(num_codebooks=number))

    def check_codes(self, codes: Int[Array, "B K N"]) -> None:
        """Raise `AudioError` unless the codec can decode the codes. Values are checked of numpy arrays only."""
        model.check_codes(self.config, codes)

    def split_codebooks(self, codes: Int[Array, "B K N"]) -> tuple[Int[Array, "B N"], ...]:
        """Return the codes of each codebook."""
        return tuple(codes[:, k] for k in range(codes.shape[1]))

    def join_codebooks(self, codes: Sequence[Int[Array, "B N"]]) -> Int[Array, "B K N"]:
        """Return codes from those of each codebook."""
        return jnp.stack(codes, 1)

    def prepare(self, params: Params) -> Params:
        """Fold the codebooks: the same codes with less work a step. Keep `params` itself for export."""
        return fold_codebooks(params)

    def encode(self, params: Params, pcm: Float[Array, "B C T"] | Float[Array, "B T"]) -> Int[Array, "B K N"]:
        """Encode whole recordings; see `jomni.encode`."""
        return model.encode(self.module, params, pcm)

    def decode(self, params: Params, codes: Int[Array, "B K N"]) -> Float[Array, "B C T"]:
        """Decode whole code sequences; see `jomni.decode`."""
        return model.decode(self.module, params, codes)

    def init_encode_state(self, batch: int, frames: int = 1, ring: str = "exact") -> EncodeState:
        """Return the state before the first sample.

        Args:
          batch: B.
          frames: largest number of frames that a step will get.
          ring: see `Transformer.init_state`.
        """
        return self.module.init_encode_state(batch, frames, ring)

    def init_decode_state(self, batch: int, frames: int = 1, ring: str = "exact") -> DecodeState:
        """Return the state before the first frame; arguments as for `init_encode_state`."""
        return self.module.init_decode_state(batch, frames, ring)

    def encode_step(
        self, params: Params, state: EncodeState, pcm: Float[Array, "B C T"], active: Bool[Array, "B"] | None = None
    ) -> tuple[EncodeState, Int[Array, "B K N"]]:
        """Encode the next frames of B streams. The state is donated."""
        return model.encode_step(self.module, params, state, pcm, active)

    def decode_step(
        self, params: Params, state: DecodeState, codes: Int[Array, "B K N"], active: Bool[Array, "B"] | None = None
    ) -> tuple[DecodeState, Float[Array, "B C T"]]:
        """Decode the next frames of B streams. The state is donated."""
        return model.decode_step(self.module, params, state, codes, active)

    def encode_flush(
        self, params: Params, state: EncodeState, active: Bool[Array, "B"] | None = None
    ) -> tuple[EncodeState, Int[Array, "B K N"]]:
        """Return no codes: a stream has no delay."""
        batch = state.transformer.offset.shape[0]
        return state, jnp.zeros((batch, self.num_codebooks, 0), jnp.int32)

    def decode_flush(
        self, params: Params, state: DecodeState, active: Bool[Array, "B"] | None = None
    ) -> tuple[DecodeState, Float[Array, "B C T"]]:
        """Return no samples: a stream has no delay."""
        batch = state.transformer.offset.shape[0]
        return state, jnp.zeros((batch, self.config.channels, 0), jnp.float32)
