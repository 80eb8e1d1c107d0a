"""Run the original (package snac 1.2.1, PyTorch on CPU, float32) on tiny checkpoints in the published layout.

The original reads config.json and pytorch_model.bin. Its random noise is replaced by given values. B slots, S samples,
T latent steps, N tokens of a codebook.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from snac import SNAC
from snac.vq import VectorQuantize

from tools.goldens import snac_cases

Manifest = dict[str, list[int]]


def manifest(config: Mapping[str, Any]) -> Manifest:
    """Return the published names and shapes, without allocating tensors."""
    with torch.device("meta"):
        return {name: list(tensor.shape) for name, tensor in SNAC(**config).state_dict().items()}


def write(folder: Path, config: Mapping[str, Any], seed: int) -> None:
    """Write config.json, pytorch_model.bin and model.safetensors."""
    names = manifest(config)
    snac_cases.write(folder, config, names, seed)
    model = SNAC(**config)
    model.load_state_dict({name: torch.from_numpy(x) for name, x in snac_cases.weights(names, seed).items()})
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def load(folder: Path) -> SNAC:
    """Return the original with the weights of a folder.

    Its own loader reads pytorch_model.bin; exports, which have safetensors, are loaded here.
    """
    if (folder / "pytorch_model.bin").exists():
        return SNAC.from_pretrained(str(folder))
    model = SNAC.from_config(str(folder / "config.json"))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


@torch.no_grad()
def encode(model: SNAC, pcm: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Encode pcm [B, 1, S]: return the codes int32 [B, N] of each codebook, and the values of `_gaps`."""
    with _gaps() as gaps:
        codes = model.encode(torch.from_numpy(pcm))
    return [c.numpy().astype(np.int32) for c in codes], gaps


@torch.no_grad()
def decode(model: SNAC, codes: Sequence[np.ndarray], noise: Sequence[np.ndarray]) -> np.ndarray:
    """Decode codes [B, N] of each codebook with noise [B, T] of each stage: return pcm float32 [B, 1, S]."""
    with _given(noise):
        return model.decode([torch.from_numpy(c).long() for c in codes]).numpy()


@contextmanager
def _given(noise: Sequence[np.ndarray]) -> Iterator[None]:
    """Replace the random numbers of the noise blocks by the given ones, in order."""
    left, draw = list(noise), torch.randn
    torch.randn = lambda *shape, **options: torch.from_numpy(left.pop(0)[:, None])  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.randn = draw
    assert not left


@contextmanager
def _gaps() -> Iterator[list[np.ndarray]]:
    """Collect, for each codebook, the difference of the two largest similarities [B, N]."""
    found: list[np.ndarray] = []
    original = VectorQuantize.decode_latents

    def spy(self: VectorQuantize, latents: torch.Tensor) -> Any:
        unit = torch.nn.functional.normalize
        x, entries = unit(latents.transpose(1, 2), dim=-1).double(), unit(self.codebook.weight).double()
        best = (x @ entries.T).topk(2, dim=-1).values
        found.append((best[..., 0] - best[..., 1]).numpy())
        return original(self, latents)

    VectorQuantize.decode_latents = spy
    try:
        yield found
    finally:
        VectorQuantize.decode_latents = original
