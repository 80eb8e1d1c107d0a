"""Random weights and inputs by name, without torch, so that goldens need not store them.

A tensor is a function of (seed, published name, shape), by numpy's frozen `RandomState`, so the tool that runs the
original and the test that runs jomni use the same values. The gains are chosen so that codes and greedy tokens vary,
attention is not uniform, and logits have a standard deviation above 1.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping

import numpy as np

Shape = tuple[int, ...]


def stream(seed: int, name: str) -> np.random.RandomState:
    """Return the random generator of a named tensor."""
    return np.random.RandomState(zlib.crc32(f"{seed}/{name}".encode()))


def weights(manifest: Mapping[str, Iterable[int]], seed: int) -> dict[str, np.ndarray]:
    """Return random values of all tensors of `manifest` (published name -> shape), float32."""
    return {name: draw(name, tuple(shape), seed) for name, shape in manifest.items()}


def draw(name: str, shape: Shape, seed: int) -> np.ndarray:
    """Return random values of a tensor by its published name."""
    random = stream(seed, name)
    normal = random.standard_normal(shape)
    if name.endswith("._initialized"):
        value = np.ones(shape)
    elif name.endswith(".cluster_usage"):
        value = _usage(random, shape)
    elif name.endswith(".embedding_sum"):
        value = _embedding_sum(name, normal, seed)
    elif name.endswith((".alpha", "norm1.weight", "norm2.weight", "norm_cross.weight", "norm.weight")) or (
        len(shape) == 1 and name.endswith(".weight")
    ):
        value = 1 + 0.3 * normal
    elif name.endswith(".scale"):
        value = 0.5 + 0.2 * normal
    elif name.endswith(".bias"):
        value = 0.1 * normal
    elif re.search(r"learnt_padding$|emb(\.\d+)?\.weight$|embed\.weight$", name):
        value = normal
    elif name.endswith(("convtr.weight", "convtr.convtr.convtr.weight")):
        value = normal * 1.3 / np.sqrt(2 * shape[0] if shape[1] > 1 else 2)  # two taps reach each sample
    elif name.endswith(("rvq_first.input_proj.weight", "rvq_rest.input_proj.weight")):
        value = normal * 0.5 / np.sqrt(shape[1])  # the latent gets the scale of the centroids
    elif len(shape) == 3:
        value = normal * 1.3 / np.sqrt(shape[1] * shape[2])
    elif name.startswith(("text_linear.", "linears.", "extra_heads.")) and "lora" not in name:
        value = normal * 2 / np.sqrt(shape[1])
    elif name.endswith("lora_B.weight"):
        value = normal * 0.3 / np.sqrt(shape[1])
    else:
        value = normal * 1.3 / np.sqrt(shape[1])
    return np.asarray(value, np.float32)


def _usage(random: np.random.RandomState, shape: Shape) -> np.ndarray:
    """Return cluster usages over five decades; a tenth is below the original's floor of 1e-5, half of these 0."""
    usage = np.exp(2 * random.standard_normal(shape))
    rare = random.uniform(size=shape)
    return np.where(rare < 0.05, 0.0, np.where(rare < 0.1, 1e-7, usage))


def _embedding_sum(name: str, normal: np.ndarray, seed: int) -> np.ndarray:
    """Return embedding sums whose centroids have the scale of their level's residual, so that all levels are used."""
    usage = draw(name.replace("embedding_sum", "cluster_usage"), normal.shape[:1], seed)
    level = int(name.split(".layers.")[1].split(".")[0])
    scale = 0.9 * 0.93**level
    return scale * normal * np.maximum(usage.astype(np.float64), 1e-5)[:, None]


def audio(seed: int, batch: int, channels: int, samples: int, sample_rate: int) -> np.ndarray:
    """Return chirps and noise with a varying envelope, float32 `[B, C, T]` in [-1, 1]; all frames differ."""
    random = stream(seed, "audio")
    time = np.arange(samples) / sample_rate
    out = np.zeros((batch, channels, samples))
    for row in out.reshape(-1, samples):
        for _ in range(4):
            base, depth, speed, phase = random.uniform((80, 50, 0.3, 0), (1200, 600, 3.0, 6.0))
            row += 0.2 * np.sin(2 * np.pi * base * time + depth / speed * np.sin(2 * np.pi * speed * time + phase))
        row += 0.1 * random.standard_normal(samples)
        row *= 0.55 + 0.45 * np.sin(2 * np.pi * random.uniform(0.2, 1.5) * time + random.uniform(0, 6))
    return np.clip(out, -1, 1).astype(np.float32)


def tokens(seed: int, name: str, shape: Shape, high: int) -> np.ndarray:
    """Return uniform random tokens in [0, high), int32."""
    return stream(seed, name).randint(0, high, shape).astype(np.int32)
