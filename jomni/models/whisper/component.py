"""Whisper's encoder as a component of checkpoints."""

from __future__ import annotations

import dataclasses
from typing import Any

from jomni.models.whisper import weights
from jomni.models.whisper.config import WhisperConfig
from jomni.models.whisper.encoder import WhisperEncoder
from jomni.models.whisper.mel import HOP, N_FFT, SAMPLE_RATE
from jomni.models.whisper.speech_encoder import SpeechEncoder
from jomni.tensors.component import Component, HuggingFace, Loaded, Published
from jomni.tensors.source import TensorSource

GROUPS = {
    "convolutions": ("conv1/", "conv2/"),
    "positions": ("positional_embedding",),
    "blocks": ("blocks_", "ln_post/"),
}


def describe(config: WhisperConfig, info: Any) -> list[str]:
    """Return the lines of `jomni info`."""
    return [
        f"  {config.n_audio_layer} layers, {config.n_audio_state} wide, {config.n_audio_head} heads",
        f"  {config.n_mels} mel channels of 16 kHz audio in, {config.n_audio_ctx} frames of 20 ms out "
        f"({config.n_audio_ctx / 50:g} s)",
        "  the text decoder, where the file has one, is not loaded",
    ]


def embedded_dims(source: TensorSource) -> Any:
    """Return the dimensions that a checkpoint of OpenAI holds beside its tensors ("dims"), or None."""
    return getattr(source, "dims", None)


def preprocessor(config: WhisperConfig) -> dict[str, Any]:
    """Return the preprocessor_config.json that transformers expects."""
    return {
        "chunk_length": 30, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": config.n_mels,
        "hop_length": HOP, "n_fft": N_FFT, "padding_side": "right", "padding_value": 0.0,
        "return_attention_mask": False, "sampling_rate": SAMPLE_RATE,
    }  # fmt: skip


def build(checkpoint: Loaded) -> tuple[SpeechEncoder, Any]:
    """Return the encoder and its parameters."""
    return SpeechEncoder(WhisperEncoder(checkpoint.configs["whisper"])), checkpoint.params["whisper"]


COMPONENT = Component(
    name="whisper",
    title="encoder",
    abstract_params=weights.abstract_params,
    weight_map=lambda config: weights.weight_map("openai"),
    build=build,
    groups=GROUPS,
    describe=describe,
    kinds={"whisper": "Whisper, a speech encoder"},
    from_json=WhisperConfig.from_openai,
    to_json=WhisperConfig.to_openai,
    published=Published(
        layout="openai",
        weights=("model.safetensors",),
        owns_config=lambda raw: "n_audio_ctx" in raw,
        owns_weights=lambda source: weights.layout_of(source) == "openai",
        read=WhisperConfig.from_openai,
        write=WhisperConfig.to_openai,
        keys=tuple(field.name for field in dataclasses.fields(WhisperConfig)),
        embedded=embedded_dims,
    ),
    huggingface=HuggingFace(
        architectures={"whisper": weights.ARCHITECTURES},
        read=weights.read_hf_config,
        write=lambda config, model_type: weights.write_hf_config(config),
        names=lambda config: weights.weight_map("hf"),
        preprocessor=preprocessor,
    ),
    find=weights.bind_encoder,
    float32_default=True,
)
