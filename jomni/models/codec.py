"""The common interface of codecs. Mimi and SNAC can be exchanged for each other.

    codes = codec.encode(params, pcm)                          a whole recording
    state, codes = codec.encode_step(params, state, pcm)       the next block of a stream
    state, codes = codec.encode_flush(params, state)           the remaining codes at the end of a stream

`decode`, `decode_step` and `decode_flush` correspond. Codes are a pytree of int32 arrays with the batch axis first:
Mimi's are one array [B, K, N], SNAC's a tuple of arrays [B, N * tokens_per_frame[k]], one for each codebook.

Axes: B batch, C audio channels, T samples, N code frames, K codebooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int

from jomni.models.mimi.codec import MimiCodec
from jomni.models.mimi.model import Mimi
from jomni.models.snac.codec import SnacCodec
from jomni.models.snac.model import Snac

Params = Any
Codes = Any
State = Any


@runtime_checkable
class Codec(Protocol):
    """Interface of a codec. `MimiCodec` and `SnacCodec` are hashable, so they can be static arguments of `jax.jit`."""

    @property
    def sample_rate(self) -> int:
        """Return the sample rate, Hz."""
        ...

    @property
    def channels(self) -> int:
        """Return C, the number of audio channels."""
        ...

    @property
    def frame_rate(self) -> float:
        """Return the number of code frames per second."""
        ...

    @property
    def frame_size(self) -> int:
        """Return the number of samples in a frame."""
        ...

    @property
    def frame_multiple(self) -> int:
        """Return the number of frames of which each block must be a multiple."""
        ...

    @property
    def num_codebooks(self) -> int:
        """Return the number of codebooks that `encode` uses."""
        ...

    @property
    def min_codebooks(self) -> int:
        """Return the smallest number of codebooks that `decode` accepts."""
        ...

    @property
    def codebook_rates(self) -> tuple[float, ...]:
        """Return the codes per second of each codebook of the configuration, coarse to fine."""
        ...

    @property
    def codebook_size(self) -> int:
        """Return the number of entries of each codebook."""
        ...

    @property
    def encode_delay(self) -> int:
        """Return the number of frames by which the codes of a stream lag behind its samples."""
        ...

    @property
    def decode_delay(self) -> int:
        """Return the number of samples by which the audio of a stream lags behind its codes."""
        ...

    def with_codebooks(self, number: int) -> Codec:
        """Return the codec with another number of codebooks in use. Raise `AudioError` if that is out of range."""
        ...

    def check_codes(self, codes: Codes) -> None:
        """Check codes for `decode`. Raise `AudioError` if they do not fit. Values are checked in numpy arrays only."""
        ...

    def split_codebooks(self, codes: Codes) -> tuple[Int[Array, "B N"], ...]:
        """Return the codes of each codebook, coarse to fine."""
        ...

    def join_codebooks(self, codes: Sequence[Int[Array, "B N"]]) -> Codes:
        """Return codes made from those of each codebook."""
        ...

    def prepare(self, params: Params) -> Params:
        """Return parameters that give the same codes with less work per step. Keep `params` itself for export."""
        ...

    def encode(self, params: Params, pcm: Float[Array, "B C T"] | Float[Array, "B T"]) -> Codes:
        """Return the codes of whole recordings, samples in [-1, 1]. A partial last frame is padded with zeros."""
        ...

    def decode(self, params: Params, codes: Codes) -> Float[Array, "B C T"]:
        """Return the audio of whole code sequences."""
        ...

    def init_encode_state(self, batch: int, frames: int = 1) -> State:
        """Return the initial state of encoding. `frames` is the largest block of a step."""
        ...

    def init_decode_state(self, batch: int, frames: int = 1) -> State:
        """Return the initial state of decoding. `frames` is the largest block of a step."""
        ...

    def encode_step(
        self, params: Params, state: State, pcm: Float[Array, "B C T"], active: Bool[Array, "B"] | None = None
    ) -> tuple[State, Codes]:
        """Encode the next block. The state is donated. Rows that are not active keep their state."""
        ...

    def decode_step(
        self, params: Params, state: State, codes: Codes, active: Bool[Array, "B"] | None = None
    ) -> tuple[State, Float[Array, "B C T"]]:
        """Decode the next block. The state is donated. Rows that are not active keep their state."""
        ...

    def encode_flush(self, params: Params, state: State, active: Bool[Array, "B"] | None = None) -> tuple[State, Codes]:
        """End streams: return the codes of their last `encode_delay` frames."""
        ...

    def decode_flush(
        self, params: Params, state: State, active: Bool[Array, "B"] | None = None
    ) -> tuple[State, Float[Array, "B C T"]]:
        """End streams: return their last `decode_delay` samples."""
        ...


def as_codec(codec: Codec | Mimi | Snac) -> Codec:
    """Return the codec of a Flax module; a codec is returned unchanged."""
    if isinstance(codec, Mimi):
        return MimiCodec(codec)
    if isinstance(codec, Snac):
        return SnacCodec(codec)
    return codec


def encode(codec: Codec | Mimi | Snac, params: Params, pcm: Float[Array, "B C T"] | Float[Array, "B T"]) -> Codes:
    """Encode whole recordings. Compiles once per length; for long audio use `encode_step`.

    Args:
      codec: the codec, or its Flax module.
      params: its parameters.
      pcm: float samples at the codec's sample rate, in [-1, 1]. [B, T] is taken as one channel.

    Returns:
      Codes, int32: see `jomni.models.codec`.

    Raises:
      AudioError: the shape does not fit, or there are no samples.
    """
    return as_codec(codec).encode(params, pcm)


def decode(codec: Codec | Mimi | Snac, params: Params, codes: Codes | Sequence[Any]) -> Float[Array, "B C T"]:
    """Decode whole code sequences to N * frame_size samples.

    Raises:
      AudioError: the shape does not fit, there are more codebooks than the codec has, or a code of a numpy array is out
        of range. Codes on a device are not read for that: it would make the device wait.
    """
    return as_codec(codec).decode(params, codes)


def encode_step(
    codec: Codec | Mimi | Snac, params: Params, state: State, pcm: Float[Array, "B C T"],
    active: Bool[Array, "B"] | None = None,
) -> tuple[State, Codes]:  # fmt: skip
    """Encode the next block of B streams; see `Codec.encode_step`."""
    return as_codec(codec).encode_step(params, state, pcm, active)


def decode_step(
    codec: Codec | Mimi | Snac, params: Params, state: State, codes: Codes, active: Bool[Array, "B"] | None = None
) -> tuple[State, Float[Array, "B C T"]]:
    """Decode the next block of B streams; see `Codec.decode_step`."""
    return as_codec(codec).decode_step(params, state, codes, active)
