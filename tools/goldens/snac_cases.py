"""Tiny SNACs in the original's own config format that between them use every option, and what they are given."""

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
    # snac_24khz in small: its rates, strides and options.
    "speech": {
        "sampling_rate": 24_000, "encoder_dim": 4, "encoder_rates": [2, 4, 8, 8], "decoder_dim": 64,
        "decoder_rates": [8, 8, 4, 2], "attn_window_size": None, "codebook_size": 128, "codebook_dim": 8,
        "vq_strides": [4, 2, 1], "noise": True, "depthwise": True,
    },
    # snac_32khz and snac_44khz in small: an odd rate, attention, a coarser codebook.
    "music": {
        "sampling_rate": 32_000, "encoder_dim": 8, "encoder_rates": [2, 3, 4], "decoder_dim": 64,
        "decoder_rates": [4, 3, 2], "attn_window_size": 16, "codebook_size": 96, "codebook_dim": 8,
        "vq_strides": [8, 4, 2, 1], "noise": True, "depthwise": True,
    },
    # Full convolutions, no noise, attention of two heads in windows that are no multiple of the coarsest stride.
    "plain": {
        "sampling_rate": 16_000, "encoder_dim": 16, "encoder_rates": [3, 2, 5], "latent_dim": 128, "decoder_dim": 128,
        "decoder_rates": [5, 2, 3], "attn_window_size": 6, "codebook_size": 64, "codebook_dim": 4,
        "vq_strides": [4, 2, 2, 1], "noise": False, "depthwise": False,
    },
}  # fmt: skip
SEEDS = {"speech": 0, "music": 1, "plain": 2}  # of the recordings in tests/parity/data/snac
SLOTS = 2
SECONDS = 1.0
TIE = 1e-5  # distance between the similarities of two entries below which rounding may choose either
EVERY = 13  # samples between those that are stored


def audio(case: str, seed: int) -> np.ndarray:
    """Test audio for two slots, float32 [B, 1, S], no whole number of frames."""
    rate = SNAC[case]["sampling_rate"]
    return draw.audio(seed, SLOTS, 1, int(SECONDS * rate) + 1, rate)


def noises(case: str, seed: int, steps: int) -> list[np.ndarray]:
    """Noise of each stage of the decoder for `steps` latent steps, float32 [B, T]."""
    out = []
    for i, rate in enumerate(SNAC[case]["decoder_rates"] if SNAC[case]["noise"] else ()):
        steps *= rate
        out.append(draw.stream(seed, f"noise{i}").standard_normal((SLOTS, steps)).astype(np.float32))
    return out


def weights(manifest: Mapping[str, Iterable[int]], seed: int) -> dict[str, np.ndarray]:
    """Draw every tensor of a SNAC by its published name, float32."""
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
    """Size of a normed kernel: signals keep about their own, and the audio stays within the tanh."""
    if ".linear." in name or re.search(r"block\.3\.parametrizations", name):  # noise, and residual branches
        return 0.4
    return 0.15 if shape[0] == 1 else 1.0


def write(folder: Path, config: Mapping[str, Any], manifest: Mapping[str, Iterable[int]], seed: int) -> None:
    """Write config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights(manifest, seed), folder / "model.safetensors")
