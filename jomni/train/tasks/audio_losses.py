"""Reconstruction and adversarial losses of codecs, in float32 on waveforms.

Axes: B example, C audio channels, T samples, F frequency bins, M mel bands, W frames, S samples of a window.
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
    """Multi-resolution spectral distance (EnCodec, arXiv:2210.13438, 3.4): L1 of amplitudes and of log amplitudes."""

    sizes: tuple[int, ...] = (2048, 1024, 512, 256, 128)  # window lengths in samples; the hop is a quarter of each
    mels: int | None = 64  # mel bands, at most a quarter of the window length; None: plain STFT
    log_weight: float = 1.0  # weight of the log amplitudes' distance; the amplitudes' distance has 1
    floor: float = 1e-5  # lower bound of amplitudes in logarithms (white noise of deviation s has about s)

    def __post_init__(self) -> None:
        if not self.sizes or any(size < 4 or size % 4 for size in self.sizes):
            raise ConfigError(
                f"'sizes' must be at least one window length in samples, each a positive multiple of 4, because the "
                f"hop is a quarter of it; got {self.sizes}"
            )
        if not self.floor > 0:
            raise ConfigError(f"'floor', a lower bound of amplitudes, must be above 0, got {self.floor}")


def stft(x: Float[Array, "B T"], size: int, hop: int) -> Array:
    """Return the complex spectrogram [B, W, F] of centred frames, with a periodic Hann window of unit energy."""
    pad = size // 2
    x = jnp.pad(x, ((0, 0), (pad, pad)), mode="reflect" if x.shape[1] > pad else "constant")
    window = jnp.asarray(np.hanning(size + 1)[:-1], x.dtype)
    frames = _frames(x, size, hop) * (window / math.sqrt(float(np.square(np.hanning(size + 1)[:-1]).sum())))
    return jnp.fft.rfft(frames)


def _frames(x: Float[Array, "B T"], size: int, hop: int) -> Float[Array, "B W S"]:
    """Return overlapping windows, made from slices of whole hops: the gradient of a gather would be a slow scatter."""
    parts, count = size // hop, (x.shape[1] - size) // hop + 1
    hops = x[:, : (count + parts - 1) * hop].reshape(x.shape[0], -1, hop)
    return jnp.concatenate([hops[:, p : p + count] for p in range(parts)], -1)


@functools.lru_cache
def mel_filters(sample_rate: int, size: int, mels: int) -> np.ndarray:
    """Return triangular filters [F, M] with unit sum, from 0 Hz to half the sample rate on the HTK mel scale."""
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
    """Return the mean over window lengths of L1(amplitude) + log_weight * L1(log amplitude).

    Args:
      x: waveform to train.
      target: reference waveform.
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
    """Return the mean distance to a teacher's frame-level features. Frames with a non-finite teacher are left out.

    Args:
      prediction: from the semantic codebook; logits for "cross_entropy".
      teacher: features; for "cross_entropy", `groups` concatenated distributions.
      kind: "cosine" (1 - cosine similarity, as for WavLM in Mimi's paper), "l1" or "cross_entropy".
      groups: number of distributions in F.

    Raises:
      ValueError: `kind` is unknown.
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
    """Return the losses and the gradient of the audio, in which each loss has a fixed share (EnCodec's balancer).

    The gradient of loss i with respect to `audio` is scaled by weight_i / sum(weights) over the running mean of its
    norm. So a weight sets the influence of a loss, whatever the scale of its values (arXiv:2210.13438, 3.4).

    Args:
      audio: output of the decoder.
      losses: functions of the audio.
      weights: weight of each loss.
      norms: running mean of the norm of each gradient; zero before the first step.
      decay: decay of the running means.

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
    """Return the mean over discriminators of relu(1 - D(real)) + relu(1 + D(fake))."""
    each = [jax.nn.relu(1 - r).mean() + jax.nn.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]
    return sum(each, start=jnp.zeros(())) / len(each)


def hinge_generator(fake: list[Any]) -> Float[Array, ""]:
    """Return the mean over discriminators of -D(fake)."""
    return sum([-f.mean() for f in fake], start=jnp.zeros(())) / len(fake)


def feature_matching(real: list[list[Any]], fake: list[list[Any]]) -> Float[Array, ""]:
    """Return the mean L1 distance of the discriminators' features, relative to the mean magnitude of the real ones."""
    each = [
        jnp.abs(jax.lax.stop_gradient(r) - f).mean() / jnp.maximum(jax.lax.stop_gradient(jnp.abs(r).mean()), 1e-6)
        for a, b in zip(real, fake, strict=True)
        for r, f in zip(a, b, strict=True)
    ]
    return sum(each, start=jnp.zeros(())) / len(each)
