"""Mimi as a component of checkpoints."""

from __future__ import annotations

from typing import Any

from jomni.models.mimi import weights
from jomni.models.mimi.codec import MimiCodec
from jomni.models.mimi.config import MimiConfig
from jomni.models.mimi.model import Mimi
from jomni.models.mimi.weights_hf import mimi_layout, read_mimi_config, write_mimi_config
from jomni.tensors.component import Component, HuggingFace, Loaded
from jomni.tensors.layout import MappedSource, check_tensors
from jomni.tensors.source import TensorSource

GROUPS = {
    "encoder": ("encoder", "downsample/"),
    "quantizer": ("quantizer/",),
    "decoder": ("decoder", "upsample/"),
}


def describe(config: MimiConfig, info: Any) -> list[str]:
    """Return the lines of `jomni info`."""
    steps, rate = config.transformer.context, config.frame_rate * config.resample_stride
    return [
        f"  {config.sample_rate} Hz, {config.frame_rate:g} frames a second, {config.frame_size} samples each",
        f"  {config.num_codebooks} codebooks of {config.quantizer.bins} entries, {info.codec_codebooks} in use",
        f"  context {'all frames' if steps is None else f'{steps} steps of its transformer ({steps / rate:g} s)'}",
    ]


def _from_hf(source: TensorSource, config: MimiConfig) -> TensorSource:
    layout = mimi_layout(config)
    check_tensors(source.specs, [layout], source.name)
    return MappedSource(source, layout, "kyutai")


def preprocessor(config: MimiConfig) -> dict[str, Any]:
    """Return the preprocessor_config.json that transformers expects."""
    return {
        "chunk_length_s": None, "feature_extractor_type": "EncodecFeatureExtractor", "feature_size": config.channels,
        "overlap": None, "padding_side": "right", "padding_value": 0.0, "return_attention_mask": True,
        "sampling_rate": config.sample_rate,
    }  # fmt: skip


def build(checkpoint: Loaded) -> tuple[MimiCodec, Any]:
    """Return the codec with the codebooks that its model uses, and its parameters."""
    codec = MimiCodec(Mimi(checkpoint.configs["mimi"], checkpoint.codec_codebooks))
    return codec, codec.prepare(checkpoint.params["mimi"])


COMPONENT = Component(
    name="mimi",
    title="codec Mimi",
    abstract_params=weights.abstract_params,
    weight_map=weights.weight_map,
    build=build,
    groups=GROUPS,
    describe=describe,
    kinds={"mimi": "Mimi, a codec"},
    from_json=MimiConfig.from_kyutai,
    to_json=MimiConfig.to_kyutai,
    huggingface=HuggingFace(
        architectures={"mimi": ("MimiModel",)},
        read=read_mimi_config,
        write=lambda config, model_type: write_mimi_config(config),
        to_own=_from_hf,
        to_hf=lambda source, config: MappedSource(source, mimi_layout(config), "hf"),
        preprocessor=preprocessor,
    ),
    described_by="the Mimi configuration it was read with",
    float32_only=("",),
    codec=lambda config: MimiCodec(Mimi(config, config.num_codebooks)),
)
