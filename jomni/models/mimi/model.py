"""Mimi: 24 kHz speech to 12.5 frames of codes a second and back, whole or frame by frame (arXiv:2410.00037, 3.3).

Axes: B batch, C audio channels, T samples, N code frames, F frames of one block, K codebooks, D latent dimension.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jomni.errors import AudioError
from jomni.models.checks import check_batch, check_pcm
from jomni.models.mimi.config import MimiConfig
from jomni.models.mimi.quantizer import SplitQuantizer
from jomni.models.mimi.seanet import SeanetDecoder, SeanetEncoder
from jomni.nn.conv import CausalConv, CausalConvTranspose
from jomni.nn.layers import Linear
from jomni.nn.streaming import State
from jomni.nn.transformer import Transformer, TransformerConfig, TransformerState
from jomni.printing import short_repr

Params = Any


class EncodeState(NamedTuple):
    """Streaming state of the encoder."""

    encoder: State
    transformer: TransformerState
    downsample: Any  # ConvState; empty where nothing is resampled

    def __repr__(self) -> str:
        return short_repr(self)


class DecodeState(NamedTuple):
    """Streaming state of the decoder."""

    upsample: Any  # ConvState; empty where nothing is resampled
    transformer: TransformerState
    decoder: State

    def __repr__(self) -> str:
        return short_repr(self)


class ProjectedTransformer(nn.Module):
    """A transformer between two projections where its width differs from the latent's."""

    config: TransformerConfig
    dimension: int

    def setup(self) -> None:
        self.transformer = Transformer(self.config)
        if self.config.dim != self.dimension:
            self.input_proj = Linear(self.config.dim)
            self.output_projs = [Linear(self.dimension)]

    def __call__(
        self, x: Float[Array, "B T D"], state: TransformerState | None = None, active: Bool[Array, "B"] | None = None
    ) -> tuple[Float[Array, "B T D"], TransformerState | None]:
        if self.config.dim == self.dimension:
            return self.transformer(x, state, active)
        y, state = self.transformer(self.input_proj(x), state, active)
        return self.output_projs[0](y), state

    def init_state(self, batch: int, dtype: Any, block: int, ring: str) -> TransformerState:
        return self.transformer.init_state(batch, dtype, block, ring)


class Mimi(nn.Module):
    """The codec as a Flax module; `MimiCodec` wraps it for inference. Initialise it with `jax.jit(mimi.init)`.

    Raises:
      AudioError: `num_codebooks` is more than the weights hold, or fewer than the semantic codebooks.
    """

    config: MimiConfig
    num_codebooks: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        held, semantic = self.config.quantizer.n_q, self.config.quantizer.n_q_semantic
        if not semantic <= self.num_codebooks <= held:
            raise AudioError(
                f"num_codebooks: {self.num_codebooks}, but this codec has {held} and always uses the "
                f"{semantic} semantic ones. Choose {semantic} to {held}."
            )

    def setup(self) -> None:
        c = self.config
        width, stride = c.seanet.dimension, c.resample_stride
        self.encoder = SeanetEncoder(c.seanet)
        self.encoder_transformer = ProjectedTransformer(c.transformer, width)
        self.quantizer = SplitQuantizer(c.quantizer, width)
        self.decoder_transformer = ProjectedTransformer(c.transformer, width)
        self.decoder = SeanetDecoder(c.seanet)
        if stride > 1:
            self.downsample = CausalConv(
                width, 2 * stride, stride, use_bias=False, pad_mode="replicate", channels=width
            )
            self.upsample = CausalConvTranspose(width, 2 * stride, stride, use_bias=False, depthwise=True)

    def __call__(self, pcm: Float[Array, "B C T"]) -> Float[Array, "B C T"]:
        """Encode and decode a whole number of frames. Uses every parameter."""
        return self.decode(self.encode(pcm)[0])[0]

    def encode(
        self, pcm: Float[Array, "B C T"], state: EncodeState | None = None, active: Bool[Array, "B"] | None = None
    ) -> tuple[Int[Array, "B K N"], EncodeState | None]:
        """Encode a whole waveform (state None) or its next block. T must be a multiple of the frame size."""
        latent, state = self.encode_latent(pcm, state, active)
        return self.quantizer.encode(latent, self.num_codebooks), state

    def encode_latent(
        self, pcm: Float[Array, "B C T"], state: EncodeState | None = None, active: Bool[Array, "B"] | None = None
    ) -> tuple[Float[Array, "B N D"], EncodeState | None]:
        """Return the latent before quantisation, at the frame rate. Steps take samples that are not finite as zeros."""
        encoder, transformer, downsample = state or (None, None, None)
        if state is not None:  # values that are not finite would stay in the state after a reset
            pcm = jnp.where(jnp.isfinite(pcm), pcm, 0)
        x, encoder = self.encoder(pcm.swapaxes(1, 2), encoder, active)
        x, transformer = self.encoder_transformer(x, transformer, active)
        if self.config.resample_stride > 1:
            x, downsample = self.downsample(x, downsample, active)
        return x, state and EncodeState(encoder, transformer, downsample)  # type: ignore[arg-type]

    def decode(
        self, codes: Int[Array, "B K N"], state: DecodeState | None = None, active: Bool[Array, "B"] | None = None
    ) -> tuple[Float[Array, "B C T"], DecodeState | None]:
        """Decode whole codes (state None) or their next block, of any number of codebooks up to the weights'."""
        return self.decode_latent(self.quantizer.decode(codes), state, active)

    def decode_latent(
        self, latent: Float[Array, "B N D"], state: DecodeState | None = None, active: Bool[Array, "B"] | None = None
    ) -> tuple[Float[Array, "B C T"], DecodeState | None]:
        """Return the waveform of a latent at the frame rate."""
        upsample, transformer, decoder = state or (None, None, None)
        x = latent
        if self.config.resample_stride > 1:
            x, upsample = self.upsample(x, upsample, active)
        x, transformer = self.decoder_transformer(x, transformer, active)
        x, decoder = self.decoder(x, decoder, active)
        return x.swapaxes(1, 2), state and DecodeState(upsample, transformer, decoder)  # type: ignore[arg-type]

    def init_encode_state(
        self, batch: int, frames: int = 1, ring: str = "exact", dtype: Any = jnp.float32
    ) -> EncodeState:
        """Return the state before the first frame.

        Args:
          batch: number of conversations, B.
          frames: largest number of frames that a step will be given.
          ring: see `Transformer.init_state`.
          dtype: of the buffers; that of the parameters.
        """
        return self.apply({}, batch, frames, ring, dtype, method=Mimi._encode_state)  # type: ignore[return-value]

    def init_decode_state(
        self, batch: int, frames: int = 1, ring: str = "exact", dtype: Any = jnp.float32
    ) -> DecodeState:
        """Return the state before the first frame. Arguments are those of `init_encode_state`."""
        return self.apply({}, batch, frames, ring, dtype, method=Mimi._decode_state)  # type: ignore[return-value]

    def _encode_state(self, batch: int, frames: int, ring: str, dtype: Any) -> EncodeState:
        stride = self.config.resample_stride
        return EncodeState(
            self.encoder.init_state(batch, dtype),
            self.encoder_transformer.init_state(batch, dtype, frames * stride, ring),
            self.downsample.init_state(batch, dtype) if stride > 1 else (),
        )

    def _decode_state(self, batch: int, frames: int, ring: str, dtype: Any) -> DecodeState:
        stride = self.config.resample_stride
        return DecodeState(
            self.upsample.init_state(batch, dtype) if stride > 1 else (),
            self.decoder_transformer.init_state(batch, dtype, frames * stride, ring),
            self.decoder.init_state(batch, dtype),
        )


def encode(mimi: Mimi, params: Params, pcm: Float[Array, "B C T"] | Float[Array, "B T"]) -> Int[Array, "B K N"]:
    """Encode whole waveforms. Compiles once per number of frames; for long audio use `encode_step`.

    Args:
      mimi: the codec.
      params: its parameters.
      pcm: samples at `config.sample_rate`, in [-1, 1]; a trailing partial frame is completed with zeros. [B, T] is
        taken as one channel.

    Returns:
      Codes, int32, N = ceil(T / frame_size).

    Raises:
      AudioError: the shape does not fit, or there are no samples.
    """
    if pcm.ndim == 2:
        pcm = pcm[:, None]
    check_pcm(pcm, mimi.config.channels)
    missing = -pcm.shape[-1] % mimi.config.frame_size
    return _encode(mimi, params, jnp.pad(jnp.asarray(pcm), ((0, 0), (0, 0), (0, missing))))


def decode(mimi: Mimi, params: Params, codes: Int[Array, "B K N"]) -> Float[Array, "B C T"]:
    """Decode whole code sequences to N * frame_size samples.

    Raises:
      AudioError: the shape does not fit, there are more codebooks than the codec has, or a code is out of range.
    """
    check_codes(mimi.config, codes)
    return _decode(mimi, params, jnp.asarray(codes))


def check_codes(config: MimiConfig, codes: Int[Array, "B K N"] | Int[np.ndarray, "B K N"]) -> None:
    """Raise `AudioError` unless the codec can decode the codes [B, K, N]. Values are checked of numpy arrays only."""
    q = config.quantizer
    if isinstance(codes, tuple):
        raise AudioError(f"codes must be one array, because Mimi has one rate, got a tuple of {len(codes)} arrays")
    if codes.ndim != 3 or not q.n_q_semantic <= codes.shape[1] <= q.n_q or codes.shape[2] == 0:
        raise AudioError(
            f"codes must have shape [B, K, N] with {q.n_q_semantic} to {q.n_q} codebooks and N > 0, "
            f"got {list(codes.shape)}"
        )
    if not jnp.issubdtype(codes.dtype, jnp.integer):
        raise AudioError(f"codes must be integers, got {codes.dtype}")
    if not isinstance(codes, np.ndarray):  # reading a device array would wait for it; a tracer has no values
        return
    low, high = int(codes.min()), int(codes.max())
    if low < 0 or high >= q.bins:
        raise AudioError(f"codes must lie in 0 ... {q.bins - 1}, found {low} ... {high}: were they made by this codec?")


@functools.partial(jax.jit, static_argnums=0)
def _encode(mimi: Mimi, params: Params, pcm: Array) -> Array:
    return mimi.apply({"params": params}, pcm, method=Mimi.encode)[0]


@functools.partial(jax.jit, static_argnums=0)
def _decode(mimi: Mimi, params: Params, codes: Array) -> Array:
    return mimi.apply({"params": params}, codes, method=Mimi.decode)[0]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def encode_step(
    mimi: Mimi,
    params: Params,
    state: EncodeState,
    pcm: Float[Array, "B C T"],
    active: Bool[Array, "B"] | None = None,
) -> tuple[EncodeState, Int[Array, "B K F"]]:
    """Encode the next F = T / frame_size frames of B streams. Samples that are not finite are taken as zeros.

    The state is donated.
    """
    check_pcm(pcm, mimi.config.channels, mimi.config.frame_size)
    check_batch("pcm", pcm.shape[0], state.transformer.offset.shape[0])
    codes, new = mimi.apply({"params": params}, pcm, state, active, method=Mimi.encode)
    return new, codes  # type: ignore[return-value]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def decode_step(
    mimi: Mimi,
    params: Params,
    state: DecodeState,
    codes: Int[Array, "B K F"],
    active: Bool[Array, "B"] | None = None,
) -> tuple[DecodeState, Float[Array, "B C T"]]:
    """Decode the next F frames of B streams to T = F * frame_size samples. The state is donated."""
    check_codes(mimi.config, codes)
    check_batch("codes", codes.shape[0], state.transformer.offset.shape[0])
    pcm, new = mimi.apply({"params": params}, codes, state, active, method=Mimi.decode)
    return new, pcm  # type: ignore[return-value]
