"""Reconstruction losses of the codec, in float32 on waveforms.

Axes: B example, C audio channels, T samples, F frequency bins, M mel bands, W frames of a spectrogram.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jomni.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class SpectralConfig:
    """Multi-resolution spectral distance (EnCodec, arXiv:2210.13438, 3.4): L1 on amplitudes and on their logarithms."""

    sizes: tuple[int, ...] = (2048, 1024, 512, 256, 128)  # window lengths, samples; hop is a quarter of each
    mels: int | None = 64  # mel bands (fewer for short windows: a quarter of the size at most); None: plain STFT
    log_weight: float = 1.0  # weight of the distance of logarithms beside that of amplitudes
    floor: float = 1e-5  # amplitudes below it count as silence in logarithms (white noise of deviation s has about s)

    def __post_init__(self) -> None:
        if not self.sizes or any(size < 4 or size % 4 for size in self.sizes):
            raise ConfigError(
                f"'sizes' are window lengths in samples, at least one, each a positive multiple of 4, for windows "
                f"begin every quarter of their length; got {self.sizes}"
            )
        if not self.floor > 0:
            raise ConfigError(f"'floor' is the least amplitude whose logarithm is taken, more than 0, got {self.floor}")


def stft(x: Float[Array, "B T"], size: int, hop: int) -> Array:
    """Complex spectrogram [B, W, F] with a periodic Hann window, normalised by the window's energy; centred frames."""
    pad = size // 2
    x = jnp.pad(x, ((0, 0), (pad, pad)), mode="reflect" if x.shape[1] > pad else "constant")
    window = jnp.asarray(np.hanning(size + 1)[:-1], x.dtype)
    frames = _frames(x, size, hop) * (window / math.sqrt(float(np.square(np.hanning(size + 1)[:-1]).sum())))
    return jnp.fft.rfft(frames)


def _frames(x: Float[Array, "B T"], size: int, hop: int) -> Float[Array, "B W S"]:
    """Overlapping windows, by slices of whole hops: a gather's gradient would be a slow scatter."""
    parts, count = size // hop, (x.shape[1] - size) // hop + 1
    hops = x[:, : (count + parts - 1) * hop].reshape(x.shape[0], -1, hop)
    return jnp.concatenate([hops[:, p : p + count] for p in range(parts)], -1)


@functools.lru_cache
def mel_filters(sample_rate: int, size: int, mels: int) -> np.ndarray:
    """Triangular filters [F, M], each of unit sum, from 0 Hz to half the sample rate on the HTK mel scale."""
    frequencies = np.linspace(0, sample_rate / 2, size // 2 + 1)
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)
    rise = (frequencies[:, None] - edges[None, :-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[None, 2:] - frequencies[:, None]) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(rise, fall))
    return (filters / np.maximum(filters.sum(0), 1e-8)).astype(np.float32)


def _amplitudes(x: Float[Array, "B T"], size: int, config: SpectralConfig, sample_rate: int) -> Float[Array, "B W M"]:
    spectrum = stft(x, size, size // 4)
    # The small constant keeps the gradient of the square root finite in silence.
    amplitude = jnp.sqrt(jnp.square(spectrum.real) + jnp.square(spectrum.imag) + 1e-10)
    if config.mels is None:
        return amplitude
    return amplitude @ mel_filters(sample_rate, size, min(config.mels, size // 4))


def spectral_distance(
    x: Float[Array, "B C T"], target: Float[Array, "B C T"], config: SpectralConfig, sample_rate: int
) -> Float[Array, ""]:
    """Mean over window lengths of L1(amplitude) + log_weight * L1(log amplitude).

    Args:
      x, target: waveforms; gradients are meant for x.
      config: window lengths and bands.
      sample_rate: Hz.
    """
    x, target = (y.reshape(-1, y.shape[-1]) for y in (x, target))
    total = jnp.zeros(())
    for size in config.sizes:
        a, b = (_amplitudes(y, size, config, sample_rate) for y in (x, target))
        log = jnp.abs(jnp.log(jnp.maximum(a, config.floor)) - jnp.log(jnp.maximum(b, config.floor))).mean()
        total += jnp.abs(a - b).mean() + config.log_weight * log
    return total / len(config.sizes)


def distillation_loss(
    prediction: Float[Array, "B N F"], teacher: Float[Array, "B N F"], kind: str, groups: int = 1
) -> Float[Array, ""]:
    """Distance to a teacher's frame-level features; frames whose teacher is not finite are left out.

    Args:
      prediction: from the semantic codebook.
      teacher: features, or for "cross_entropy" `groups` distributions side by side in F.
      kind: "cosine" (1 - cosine similarity, as for WavLM in the paper), "l1", or "cross_entropy".
      groups: distributions per frame.
    """
    known = jnp.isfinite(teacher).all(-1)
    teacher = jnp.where(known[..., None], teacher, 0)
    if kind == "cosine":
        product = jnp.sum(prediction * teacher, -1)
        norms = jnp.linalg.norm(prediction + 1e-6, axis=-1) * jnp.linalg.norm(teacher + 1e-6, axis=-1)
        each = 1 - product / jnp.maximum(norms, 1e-6)
    elif kind == "l1":
        each = jnp.abs(prediction - teacher).mean(-1)
    elif kind == "cross_entropy":
        shape = (*prediction.shape[:-1], groups, -1)
        each = -(teacher.reshape(shape) * jax.nn.log_softmax(prediction.reshape(shape))).sum(-1).mean(-1)
    else:
        raise ValueError(f"distillation by {kind!r} is not known: choose 'cosine', 'l1' or 'cross_entropy'")
    return jnp.sum(each * known) / jnp.maximum(known.sum(), 1)


def balance(
    audio: Float[Array, "B C T"],
    losses: Mapping[str, Callable[[Array], Array]],
    weights: Mapping[str, float],
    norms: Mapping[str, Array],
    decay: float = 0.999,
) -> tuple[dict[str, Array], Array, dict[str, Array]]:
    """EnCodec's loss balancer: each loss gets a fixed share of the gradient that reaches the decoder's output.

    The gradient of loss i with respect to `audio` is scaled by weight_i / sum(weights) over the running mean of its
    norm, so that a weight says how much a loss matters and not how large its values are (arXiv:2210.13438, 3.4).

    Args:
      audio: what the decoder put out.
      losses: functions of the audio.
      weights: share of each.
      norms: running mean of each gradient's norm; zero before the first step.
      decay: of the running means.

    Returns:
      The value of each loss, the gradient for `audio`, and the new running means.
    """
    total = sum(weights[name] for name in losses)
    values, means, gradient = {}, {}, jnp.zeros_like(audio)
    for name, loss in losses.items():
        values[name], g = jax.value_and_grad(loss)(audio)
        norm = jnp.sqrt(jnp.square(g).sum((1, 2))).mean()
        means[name] = jnp.where(norms[name] == 0, norm, decay * norms[name] + (1 - decay) * norm)
        gradient += weights[name] / total / jnp.maximum(means[name], 1e-12) * g
    return values, gradient, means


def hinge_discriminator(real: list[Any], fake: list[Any]) -> Float[Array, ""]:
    """Mean over discriminators of relu(1 - D(real)) + relu(1 + D(fake))."""
    each = [jax.nn.relu(1 - r).mean() + jax.nn.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]
    return sum(each, start=jnp.zeros(())) / len(each)


def hinge_generator(fake: list[Any]) -> Float[Array, ""]:
    """Mean over discriminators of -D(fake)."""
    return sum([-f.mean() for f in fake], start=jnp.zeros(())) / len(fake)


def feature_matching(real: list[list[Any]], fake: list[list[Any]]) -> Float[Array, ""]:
    """Mean L1 distance of the discriminators' features, relative to the size of the real ones."""
    each = [
        jnp.abs(jax.lax.stop_gradient(r) - f).mean() / jnp.maximum(jax.lax.stop_gradient(jnp.abs(r).mean()), 1e-6)
        for a, b in zip(real, fake, strict=True)
        for r, f in zip(a, b, strict=True)
    ]
    return sum(each, start=jnp.zeros(())) / len(each)
