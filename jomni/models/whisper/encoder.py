"""Whisper's speech encoder (arXiv:2212.04356; openai-whisper, model.py::AudioEncoder).

Axes: B batch, M mel channels, N log-mel frames of 10 ms, T frames of 20 ms, C channels in, D model, H heads.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jomni.errors import AudioError
from jomni.models.whisper.config import WhisperConfig
from jomni.nn.attention import attend
from jomni.nn.layers import LayerNorm, Linear
from jomni.nn.streaming import precision

_init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=(0, 1), out_axis=2)
_LONG = 512
"""Frames from which on the scores of one head fill a CPU's cache."""


class WhisperEncoder(nn.Module):
    """Encoder of log-mel features to one vector per 20 ms, each with the whole window as context.

    Parameters are named as in OpenAI's checkpoints, list indices joined by underscores; convolutions keep their kernel
    as [W, C, D]. The positions are a parameter, because they are read from the file.
    """

    config: WhisperConfig

    @nn.compact
    def __call__(self, mel: Float[Array, "B M N"]) -> Float[Array, "B T D"]:
        """Encode N log-mel frames, at most `config.mel_frames`, to T = ceil(N / 2) vectors.

        The published models are trained on 30 s, N = 3000, padded with silence. Fewer frames are cheaper, and are
        encoded at the first T positions.

        Raises:
          AudioError: the features are of another shape, or too many.
        """
        c = self.config
        check_mel(c, mel)
        positions = self.param("positional_embedding", _sinusoids, (c.n_audio_ctx, c.n_audio_state))
        x = mel.astype(positions.dtype).swapaxes(1, 2)
        x = _gelu(Conv(c.n_audio_state, name="conv1")(x))
        x = _gelu(Conv(c.n_audio_state, stride=2, name="conv2")(x))
        x = x + positions[: x.shape[1]]
        for i in range(c.n_audio_layer):
            x = Block(c.n_audio_state, c.n_audio_head, name=f"blocks_{i}")(x)
        return LayerNorm(name="ln_post")(x)


class Block(nn.Module):
    """Pre-norm block: self-attention, then a feed-forward layer four times as wide."""

    dim: int
    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        x = x + Attention(self.dim, self.heads, name="attn")(LayerNorm(name="attn_ln")(x))
        y = _gelu(Linear(4 * self.dim, True, name="mlp_0")(LayerNorm(name="mlp_ln")(x)))
        return x + Linear(self.dim, True, name="mlp_2")(y)


class Attention(nn.Module):
    """Bidirectional self-attention. The key's projection has no bias."""

    dim: int
    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        def heads(y: Array) -> Array:
            return y.reshape(*x.shape[:2], self.heads, -1).swapaxes(1, 2)

        queries = heads(Linear(self.dim, True, name="query")(x))
        keys = heads(Linear(self.dim, name="key")(x))
        values = heads(Linear(self.dim, True, name="value")(x))
        y = _attend(queries, keys, values)
        return Linear(self.dim, True, name="out")(y.swapaxes(1, 2).reshape(x.shape))


class Conv(nn.Module):
    """Convolution over 3 frames, padded with zeros on both sides."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "B N C"]) -> Float[Array, "B T D"]:
        kernel = self.param("kernel", _init, (3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = lax.conv_general_dilated(
            x, kernel, (self.stride,), ((1, 1),), dimension_numbers=("NWC", "WIO", "NWC"), precision=precision(x.dtype)
        )
        return y + bias


def embed_audio(encoder: WhisperEncoder, params: Any, mel: Float[Array, "B M N"]) -> Float[Array, "B T D"]:
    """Return speech features of log-mel features. Compiles once per shape; see `WhisperEncoder`.

    Raises:
      AudioError: the features are of another shape, or too many.
    """
    check_mel(encoder.config, mel)
    return _embed(encoder, params, jnp.asarray(mel))


def check_mel(config: WhisperConfig, mel: Float[Array, "B M N"]) -> None:
    """Raise `AudioError` unless the features are [B, n_mels, N] with N from 1 to `config.mel_frames`."""
    if mel.ndim != 3 or 0 in mel.shape:
        raise AudioError(f"log-mel features must have shape [B, M, N], none of them 0, got {list(mel.shape)}.")
    if mel.shape[1] != config.n_mels:
        raise AudioError(
            f"log-mel features have {mel.shape[1]} channels, this encoder takes {config.n_mels}: "
            f"log_mel(pcm, n_mels={config.n_mels})."
        )
    if mel.shape[2] > config.mel_frames:
        raise AudioError(
            f"{mel.shape[2]} log-mel frames are more than the {config.mel_frames} that this encoder has positions for. "
            "Cut the audio into windows."
        )


@functools.partial(jax.jit, static_argnums=0)
def _embed(encoder: WhisperEncoder, params: Any, mel: Array) -> Array:
    return encoder.apply({"params": params}, mel)  # type: ignore[return-value]


def _attend(queries: Array, keys: Array, values: Array) -> Float[Array, "B H T K"]:
    """Attend among all frames. On a CPU one head at a time, as the scores of all heads (108 MB) exceed the caches."""

    def whole(queries: Array, keys: Array, values: Array) -> Array:
        return attend(queries, keys, values, None)

    def by_head(*heads: Array) -> Array:
        each = [x.reshape(-1, 1, 1, *x.shape[2:]) for x in heads]
        return lax.map(lambda head: whole(*head), each).reshape(queries.shape)

    if queries.shape[2] < _LONG:
        return whole(queries, keys, values)
    return lax.platform_dependent(queries, keys, values, cpu=by_head, default=whole)


def _gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)


def _sinusoids(key: Array, shape: tuple[int, int]) -> Float[Array, "T D"]:
    """Return sines, then cosines, of periods from 2 pi to 20,000 pi frames: the initial positions."""
    del key
    length, channels = shape
    steps = np.arange(channels // 2) / (channels // 2 - 1)
    phase = np.arange(length)[:, None] * 10_000.0**-steps
    return jnp.asarray(np.concatenate([np.sin(phase), np.cos(phase)], 1), jnp.float32)
