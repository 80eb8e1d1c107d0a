"""SNAC as a component of checkpoints."""

from __future__ import annotations

import dataclasses
from typing import Any

from jomni.models.snac import weights
from jomni.models.snac.codec import SnacCodec
from jomni.models.snac.config import SnacConfig, is_snac_config
from jomni.models.snac.model import Snac
from jomni.tensors.component import Component, Loaded, Published

GROUPS = {"encoder": ("encoder",), "quantizer": ("quantizer/",), "decoder": ("decoder",)}


def describe(config: SnacConfig, info: Any) -> list[str]:
    """Return the lines of `jomni info`."""
    rates = ", ".join(f"{config.frame_rate * n:.4g}" for n in config.tokens_per_frame)
    window, late = config.attn_window_size, config.look_ahead
    return [
        f"  {config.sampling_rate} Hz, {config.frame_rate:.4g} frames a second, {config.frame_size} samples each",
        f"  {config.num_codebooks} codebooks of {config.codebook_size} entries, at {rates} Hz",
        f"  attention {'none' if window is None else f'in windows of {window / config.vq_strides[0]:g} frames'}",
        f"  decodes a stream {late} samples late ({1000 * late / config.sampling_rate:.0f} ms), "
        f"in steps of {config.frame_multiple} frame{'s' if config.frame_multiple > 1 else ''} or a multiple",
    ]


def build(checkpoint: Loaded) -> tuple[SnacCodec, Any]:
    """Return the codec and its parameters."""
    codec = SnacCodec(Snac(checkpoint.configs["snac"]))
    return codec, codec.prepare(checkpoint.params["snac"])


COMPONENT = Component(
    name="snac",
    title="codec SNAC",
    abstract_params=weights.abstract_params,
    weight_map=lambda config: weights.weight_map(),
    build=build,
    groups=GROUPS,
    describe=describe,
    kinds={"snac": "SNAC, a codec of several rates"},
    from_json=SnacConfig.from_published,
    to_json=SnacConfig.to_published,
    published=Published(
        layout="snac",
        weights=("model.safetensors", "pytorch_model.bin"),
        owns_config=is_snac_config,
        owns_weights=lambda source: "quantizer.quantizers.0.codebook.weight" in source.specs,
        read=SnacConfig.from_published,
        write=SnacConfig.to_published,
        keys=tuple(field.name for field in dataclasses.fields(SnacConfig)),
    ),
    float32_only=("",),
    codec=lambda config: SnacCodec(Snac(config), noise_seed=0),
)
