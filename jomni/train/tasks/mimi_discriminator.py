"""Multi-scale STFT discriminators (EnCodec, arXiv:2210.13438, 3.4), which Mimi also trains with.

Axes: B example, C audio channels or features, T samples, W frames and F bins of a spectrogram.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jomni.train.tasks.audio_losses import stft


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """Options of the discriminators, one per window length."""

    sizes: tuple[int, ...] = (2048, 1024, 512, 256, 128)  # window lengths in samples; the hop is a quarter of each
    filters: int = 32  # channels of each layer
    kernel: tuple[int, int] = (3, 9)  # frames, bins
    dilations: tuple[int, ...] = (1, 2, 4)  # dilations of the strided layers, in frames


class StftDiscriminator(nn.Module):
    """Convolutions over a complex spectrogram, with weight normalisation."""

    size: int
    config: DiscriminatorConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B C T"]) -> tuple[Float[Array, "B W F 1"], list[Float[Array, "B W F C"]]]:
        """Return scores for each position of the spectrogram, and the features of each layer."""
        c = self.config
        spectra = [stft(x[:, i], self.size, self.size // 4) for i in range(x.shape[1])]
        y = jnp.stack([part for s in spectra for part in (s.real, s.imag)], -1)
        features = []
        layers = [(c.kernel, (1, 1), (1, 1))] + [(c.kernel, (1, 2), (d, 1)) for d in c.dilations]
        layers.append(((c.kernel[0], c.kernel[0]), (1, 1), (1, 1)))
        for kernel, strides, dilation in layers:
            conv = nn.Conv(c.filters, kernel, strides, kernel_dilation=dilation)
            y = jax.nn.leaky_relu(nn.WeightNorm(conv)(y), 0.2)
            features.append(y)
        return nn.WeightNorm(nn.Conv(1, (c.kernel[0], c.kernel[0])))(y), features


class MultiScaleDiscriminator(nn.Module):
    """The discriminators of all window lengths."""

    config: DiscriminatorConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B C T"]) -> tuple[list[Array], list[list[Array]]]:
        """Return the scores and the features of each discriminator."""
        outputs = [StftDiscriminator(size, self.config)(x) for size in self.config.sizes]
        return [scores for scores, _ in outputs], [features for _, features in outputs]
