"""The module of SNAC: audio to tokens of several rates and back, whole or in blocks (arXiv:2410.14411; snac/snac.py).

The codes of a recording are a tuple, coarse to fine; codebook k has `config.tokens_per_frame[k]` tokens per frame, such
as 1, 2 and 4. SNAC is not causal: the audio of a frame depends on frames that follow it. So a stream is late by
`config.look_ahead` samples: a step returns as many samples as its frames have, but those of `look_ahead` samples ago,
and `decode_flush` returns the rest. Joined, they equal the whole decode; nothing is computed twice or cross-faded.
Encoding is late by `config.encode_delay` frames in the same way.

The decoder adds noise. The original draws it at each call. Here it is an argument: drawn from a key, it depends on
(key, stage, position) alone, so that it is the same for any division into blocks.

Axes: B batch, T samples, N frames, F frames of one block, K codebooks, C channels of the latent.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jomni.errors import AudioError
from jomni.models.checks import check_batch, check_pcm
from jomni.models.snac.config import SnacConfig
from jomni.models.snac.layers import SnacDecoder, SnacEncoder, SnacQuantizer
from jomni.nn.lookahead import Block, Past
from jomni.nn.streaming import broadcast_rows, keep_paused
from jomni.printing import short_repr

Params = Any
Codes = tuple[Int[Array, "B N"], ...]
"""Tokens int32, one array for each codebook: [B, N * tokens_per_frame[k]]."""
Noise = Any
"""None (no noise), PRNG keys [B], or values for each stage of the decoder: a sequence of [B, steps of that stage]."""


class StreamState(NamedTuple):
    """Streaming state of the encoder or the decoder."""

    offset: Int[Array, "B"]  # frames since the last reset; at 0 `layers` counts as zeros
    layers: Past

    def __repr__(self) -> str:
        return short_repr(self)

    def past(self) -> Past:
        """Return the layers' state, zero for rows before their first frame."""
        fresh = self.offset == 0
        return jax.tree.map(lambda x: jnp.where(broadcast_rows(fresh, x), 0, x), self.layers)

    def after(self, frames: int, layers: Past, active: Bool[Array, "B"] | None, ended: bool) -> StreamState:
        """Return the state after `frames` more frames; `ended` resets the offset."""
        offset = jnp.zeros_like(self.offset) if ended else self.offset + frames
        return keep_paused(active, StreamState(offset, layers), self)


class Snac(nn.Module):
    """The codec as a Flax module; `SnacCodec` wraps it for inference. Initialise it with `jax.jit(snac.init)`."""

    config: SnacConfig

    def setup(self) -> None:
        self.encoder = SnacEncoder(self.config)
        self.quantizer = SnacQuantizer(self.config)
        self.decoder = SnacDecoder(self.config)

    def __call__(self, pcm: Float[Array, "B 1 T"]) -> Float[Array, "B 1 T"]:
        """Encode and decode without noise. T must be a multiple of frame_size * frame_multiple."""
        return self.decode(self.encode(pcm)[0])[0]

    def encode(
        self,
        pcm: Float[Array, "B 1 T"],
        state: StreamState | None = None,
        active: Bool[Array, "B"] | None = None,
        ended: bool = False,
    ) -> tuple[Codes, StreamState | None]:
        """Encode a whole waveform (state None) or the next block of a stream.

        T must be a multiple of frame_size * frame_multiple; `ended`: this block lies beyond the end of the
        stream. Steps take samples that are not finite as zeros.
        """
        x = pcm.swapaxes(1, 2)
        if state is None:
            return self.quantizer.encode(self.encoder(Block(x))[0].steps), None
        c = self.config
        start = state.offset * c.frame_size
        block = Block(jnp.where(jnp.isfinite(x), x, 0), start, end=start if ended else None)
        block, past = self.encoder(block.inside(), state.past())
        assert block.delay == c.encode_delay * c.vq_strides[0]
        return self.quantizer.encode(block.steps), state.after(x.shape[1] // c.frame_size, past, active, ended)

    def decode(
        self,
        codes: Codes,
        noise: Noise = None,
        state: StreamState | None = None,
        active: Bool[Array, "B"] | None = None,
    ) -> tuple[Float[Array, "B 1 T"], StreamState | None]:
        """Decode whole codes (state None) or the next block of a stream."""
        return self.decode_latent(self.quantizer.decode(codes), noise, state, active)

    def decode_latent(
        self,
        latent: Float[Array, "B N C"],
        noise: Noise = None,
        state: StreamState | None = None,
        active: Bool[Array, "B"] | None = None,
        ended: bool = False,
    ) -> tuple[Float[Array, "B 1 T"], StreamState | None]:
        """Return the waveform of a latent. `ended` and samples that are not finite are treated as in `encode`."""
        noise_of = _NoiseOf(noise)
        if state is None:
            return self.decoder(Block(latent), noise_of)[0].steps.swapaxes(1, 2), None
        stride = self.config.vq_strides[0]
        start = state.offset * stride
        block = Block(jnp.where(jnp.isfinite(latent), latent, 0), start, end=start if ended else None)
        block, past = self.decoder(block.inside(), noise_of, state.past())
        assert block.delay == self.config.look_ahead
        return block.steps.swapaxes(1, 2), state.after(latent.shape[1] // stride, past, active, ended)

    def init_encode_state(self, batch: int, dtype: Any = jnp.float32) -> StreamState:
        """Return the state before the first frame."""
        c = self.config
        pcm = jnp.zeros((batch, c.frame_size * c.frame_multiple, 1), dtype)
        return _initial_state(SnacEncoder(c, parent=None), pcm)

    def init_decode_state(self, batch: int, dtype: Any = jnp.float32) -> StreamState:
        """Return the state before the first frame."""
        c = self.config
        latent = jnp.zeros((batch, c.vq_strides[0] * c.frame_multiple, c.latent_width), dtype)
        return _initial_state(SnacDecoder(c, parent=None), latent, lambda stage, block: None)


def _initial_state(module: nn.Module, x: Array, *arguments: Any) -> StreamState:
    """Return zeros in the form of the layers' state after a first block x."""

    def first(key: Array) -> Past:
        block = Block(x, jnp.zeros(len(x), jnp.int32))
        return module.init_with_output(key, block, *arguments)[0][1]

    shapes = jax.eval_shape(first, jax.random.key(0))
    layers = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return StreamState(jnp.zeros(len(x), jnp.int32), layers)


def noise_at(keys: Array, stage: int, positions: Int[Array, "B T"]) -> Float[Array, "B T"]:
    """Return the normal noise of a decoder stage at the given positions, from PRNG keys [B]."""

    def one(key: Array, position: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, position))

    staged = jax.vmap(jax.random.fold_in, (0, None))(keys, stage)
    return jax.vmap(jax.vmap(one, (None, 0)))(staged, positions)


def encode(snac: Snac, params: Params, pcm: Float[Array, "B 1 T"] | Float[Array, "B T"]) -> Codes:
    """Encode whole waveforms. Compiles once per number of frames.

    Args:
      snac: the codec.
      params: its parameters.
      pcm: samples at `config.sampling_rate`, in [-1, 1]; padded with zeros to a multiple of
        frame_size * frame_multiple, as in the original. [B, T] is taken as one channel.

    Returns:
      Codes of N frames, N the least multiple of `frame_multiple` that holds T samples.

    Raises:
      AudioError: the shape does not fit, or there are no samples.
    """
    if pcm.ndim == 2:
        pcm = pcm[:, None]
    check_pcm(pcm, 1)
    missing = -pcm.shape[-1] % (snac.config.frame_size * snac.config.frame_multiple)
    return _encode(snac, params, jnp.pad(jnp.asarray(pcm), ((0, 0), (0, 0), (0, missing))))


def decode(
    snac: Snac, params: Params, codes: Sequence[Int[Array, "B N"]], noise: Noise = None
) -> Float[Array, "B 1 T"]:
    """Decode whole codes to N * frame_size samples.

    Args:
      snac: the codec.
      params: its parameters.
      codes: one array for each codebook, of N frames, N a multiple of `frame_multiple`.
      noise: PRNG keys [B] for the noise that the model was trained with, None for none, or the values themselves.

    Raises:
      AudioError: the shapes do not fit, or a code is out of range.
    """
    check_codes(snac.config, codes)
    return _decode(snac, params, tuple(jnp.asarray(c) for c in codes), noise)


def check_codes(config: SnacConfig, codes: Sequence[Int[Array, "B N"] | Int[np.ndarray, "B N"]]) -> None:
    """Raise `AudioError` unless the codec can decode the codes. Values are checked of numpy arrays only."""
    if not isinstance(codes, tuple | list):
        raise AudioError(
            f"codes must be {config.num_codebooks} arrays, one for each codebook, because SNAC's have different rates, "
            f"got one of shape {list(np.shape(codes))}"
        )
    shapes, tokens = [tuple(c.shape) for c in codes], config.tokens_per_frame
    frames = shapes[0][-1] if shapes and shapes[0] else 0
    if not frames or shapes != [(shapes[0][0], frames * n) for n in tokens]:
        raise AudioError(
            f"codes must be {len(tokens)} arrays [B, N * tokens] with {list(tokens)} tokens a frame, got "
            f"{[list(s) for s in shapes]}"
        )
    if frames % config.frame_multiple:
        raise AudioError(
            f"this codec attends within windows of {config.attn_window_size} latent steps, so it decodes a multiple of "
            f"{config.frame_multiple} frames, got {frames}: give whole windows, as `encode` does"
        )
    for k, c in enumerate(codes):
        if not jnp.issubdtype(c.dtype, jnp.integer):
            raise AudioError(f"codes must be integers, got {c.dtype} in codebook {k}")
        if not isinstance(c, np.ndarray):  # reading a device array would wait for it; a tracer has no values
            continue
        low, high = int(c.min()), int(c.max())
        if low < 0 or high >= config.codebook_size:
            raise AudioError(
                f"codes must lie in 0 ... {config.codebook_size - 1}, found {low} ... {high} in codebook {k}: were "
                "they made by this codec?"
            )


@functools.partial(jax.jit, static_argnums=0)
def _encode(snac: Snac, params: Params, pcm: Array) -> Codes:
    return snac.apply({"params": params}, pcm, method=Snac.encode)[0]  # type: ignore[return-value]


@functools.partial(jax.jit, static_argnums=0)
def _decode(snac: Snac, params: Params, codes: Codes, noise: Noise) -> Array:
    return snac.apply({"params": params}, codes, noise, method=Snac.decode)[0]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def encode_step(
    snac: Snac,
    params: Params,
    state: StreamState,
    pcm: Float[Array, "B 1 T"],
    active: Bool[Array, "B"] | None = None,
) -> tuple[StreamState, Codes]:
    """Encode the next F = T / frame_size frames of B streams, F a multiple of `frame_multiple`. The state is donated.

    Returns:
      The new state, and the codes of F frames: those of `config.encode_delay` frames ago. The first `encode_delay`
      frames of a stream have no meaning.
    """
    check_pcm(pcm, 1, snac.config.frame_size * snac.config.frame_multiple)
    check_batch("pcm", pcm.shape[0], state.offset.shape[0])
    codes, new = snac.apply({"params": params}, pcm, state, active, method=Snac.encode)
    return new, codes  # type: ignore[return-value]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def encode_flush(
    snac: Snac, params: Params, state: StreamState, active: Bool[Array, "B"] | None = None
) -> tuple[StreamState, Codes]:
    """End streams: return the codes of their last `config.encode_delay` frames. The state is donated; rows restart."""
    c = snac.config
    silence = jnp.zeros((len(state.offset), 1, c.whole_frames(c.encode_delay) * c.frame_size))
    codes, new = snac.apply({"params": params}, silence, state, active, True, method=Snac.encode)
    last = (x[:, : c.encode_delay * n] for x, n in zip(codes, c.tokens_per_frame, strict=True))
    return new, tuple(last)  # type: ignore[return-value]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def decode_step(
    snac: Snac,
    params: Params,
    state: StreamState,
    codes: Codes,
    active: Bool[Array, "B"] | None = None,
    noise: Noise = None,
) -> tuple[StreamState, Float[Array, "B 1 T"]]:
    """Decode the next F frames of B streams, F a multiple of `frame_multiple`. The state is donated.

    Args:
      snac: the codec.
      params: its parameters.
      state: from `Snac.init_decode_state` or the step before.
      codes: one array for each codebook: [B, F * tokens_per_frame[k]].
      active: rows that run; the state of the others does not change, and their output has no meaning.
      noise: PRNG keys [B] or None; the same at every step of a stream.

    Returns:
      The new state, and T = F * frame_size samples: those of `config.look_ahead` samples ago, zeros before a stream's
      first sample. A stream may be 2^31 samples long.
    """
    check_codes(snac.config, codes)
    check_batch("codes", codes[0].shape[0], state.offset.shape[0])
    pcm, new = snac.apply({"params": params}, codes, noise, state, active, method=Snac.decode)
    return new, pcm  # type: ignore[return-value]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def decode_flush(
    snac: Snac, params: Params, state: StreamState, active: Bool[Array, "B"] | None = None, noise: Noise = None
) -> tuple[StreamState, Float[Array, "B 1 T"]]:
    """End streams: return their last T = `config.look_ahead` samples. The state is donated; its rows restart.

    Arguments are those of `decode_step`.
    """
    c = snac.config
    frames = c.whole_frames(-(-c.look_ahead // c.frame_size))
    nothing = jnp.zeros((len(state.offset), frames * c.vq_strides[0], c.latent_width))
    pcm, new = snac.apply({"params": params}, nothing, noise, state, active, True, method=Snac.decode_latent)
    return new, pcm[..., : c.look_ahead]  # type: ignore[return-value]


class _NoiseOf:
    """Function that returns the noise of a decoder stage at the steps of a block. Its repr is short, for `tabulate`."""

    def __init__(self, noise: Noise) -> None:
        self._noise = noise

    def __repr__(self) -> str:
        return "noise" if self._noise is not None else "no noise"

    def __call__(self, stage: int, block: Block) -> Float[Array, "B T"] | None:
        if self._noise is None:
            return None
        if isinstance(self._noise, jax.Array):
            return noise_at(self._noise, stage, block.positions).astype(block.steps.dtype)
        return jnp.asarray(self._noise[stage], block.steps.dtype)
