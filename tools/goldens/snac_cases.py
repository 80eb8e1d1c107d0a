"""Tiny SNACs in the original's config format that together use all options, and their inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tools.goldens import draw

SNAC: dict[str, dict[str, Any]] = {
    # A small snac_24khz: its rates, strides and options.
    "speech": {
        "sampling_rate": 24_000, "encoder_dim": 4, "encoder_rates": [2, 4, 8, 8], "decoder_dim": 64,
        "decoder_rates": [8, 8, 4, 2], "attn_window_size": None, "codebook_size": 128, "codebook_dim": 8,
        "vq_strides": [4, 2, 1], "noise": True, "depthwise": True,
    },
    # A small snac_32khz and snac_44khz: an odd rate, attention, a coarser codebook.
    "music": {
        "sampling_rate": 32_000, "encoder_dim": 8, "encoder_rates": [2, 3, 4], "decoder_dim": 64,
        "decoder_rates": [4, 3, 2], "attn_window_size": 16, "codebook_size": 96, "codebook_dim": 8,
        "vq_strides": [8, 4, 2, 1], "noise": True, "depthwise": True,
    },
    # Full convolutions, no noise, two heads of attention, windows that are not a multiple of the coarsest stride.
    "plain": {
        "sampling_rate": 16_000, "encoder_dim": 16, "encoder_rates": [3, 2, 5], "latent_dim": 128, "decoder_dim": 128,
        "decoder_rates": [5, 2, 3], "attn_window_size": 6, "codebook_size": 64, "codebook_dim": 4,
        "vq_strides": [4, 2, 2, 1], "noise": False, "depthwise": False,
    },
}  # fmt: skip
SEEDS = {"speech": 0, "music": 1, "plain": 2}  # of the recordings in tests/parity/data/snac
SLOTS = 2
SECONDS = 1.0
TIE = 1e-5  # distance of two entries' similarities below which rounding may decide
EVERY = 13  # distance of stored samples


def audio(case: str, seed: int) -> np.ndarray:
    """Return test audio for two slots, float32 [B, 1, S], with an incomplete last frame."""
    rate = SNAC[case]["sampling_rate"]
    return draw.audio(seed, SLOTS, 1, int(SECONDS * rate) + 1, rate)


def noises(case: str, seed: int, steps: int) -> list[np.ndarray]:
    """Return the noise of each decoder stage for `steps` latent steps, float32 [B, T]."""
    out = []
    for i, rate in enumerate(SNAC[case]["decoder_rates"] if SNAC[case]["noise"] else ()):
        steps *= rate
        out.append(draw.stream(seed, f"noise{i}").standard_normal((SLOTS, steps)).astype(np.float32))
    return out


def weights(manifest: Mapping[str, Iterable[int]], seed: int) -> dict[str, np.ndarray]:
    """Return random values of all tensors of a SNAC by published name, float32."""
    held = {}
    for name, shape in manifest.items():
        shape = tuple(shape)
        normal = draw.stream(seed, name).standard_normal(shape)
        if name.endswith("inv_freq"):
            value = 1.1 / 10_000 ** (np.arange(shape[0]) / shape[0])  # not quite the original's: the file's counts
        elif name.endswith(".alpha"):
            value = np.exp(0.3 * normal)
        elif name.endswith("original0"):
            value = _gain(name, shape) * np.exp(0.2 * normal)
        elif name.endswith("norm.weight"):
            value = 1 + 0.3 * normal
        elif name.endswith(("to_qkv.weight", "to_out.weight")):
            value = normal * 1.5 / np.sqrt(shape[1])
        elif name.endswith(".bias"):
            value = 0.03 * normal
        else:  # directions, codebooks
            value = normal
        held[name] = np.asarray(value, np.float32)
    return held


def _gain(name: str, shape: tuple[int, ...]) -> float:
    """Return the norm of a weight-normed kernel: it keeps the size of signals, and audio in the range of tanh."""
    if ".linear." in name or re.search(r"block\.3\.parametrizations", name):  # noise, and residual branches
        return 0.4
    return 0.15 if shape[0] == 1 else 1.0


def write(folder: Path, config: Mapping[str, Any], manifest: Mapping[str, Iterable[int]], seed: int) -> None:
    """Write config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights(manifest, seed), folder / "model.safetensors")
