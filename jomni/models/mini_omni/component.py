"""Mini-Omni's language model as a component of checkpoints."""

from __future__ import annotations

from typing import Any

from jomni.models.decoder.component import describe as describe_decoder
from jomni.models.mini_omni import weights
from jomni.models.mini_omni.config import MiniOmniConfig
from jomni.models.mini_omni.system import OmniModel
from jomni.tensors.component import Component, Loaded

GROUPS = {
    "backbone": ("backbone/layers_",),
    "embeddings and heads": ("backbone/embed_tokens/", "backbone/norm/", "backbone/lm_head/"),
    "speech adapter": ("whisper_adapter/",),
    "post-adapter": ("post_adapter/",),
}


def describe(config: MiniOmniConfig, info: Any) -> list[str]:
    """Return the lines of `jomni info`."""
    v = config.vocabulary
    kind = "linear" if config.adapter == "mlp" else "gated"
    lines = [
        *describe_decoder(config.decoder, info),
        f"  streams: text of {v.padded_text_size} tokens, {v.streams} of audio with {v.padded_audio_size} each; "
        f"embeddings merged by their {config.merge}",
        f"  takes {config.feature_dim} speech features through a {kind} adapter",
    ]
    layers = config.post_adapter_layers
    return [*lines, f"  post-adapter of {layers} layers with an audio head of its own"] if layers else lines


def build(checkpoint: Loaded) -> tuple[OmniModel, Any]:
    """Return the whole Mini-Omni and its parameters."""
    model = OmniModel.from_checkpoint(checkpoint)
    return model, model.prepare(checkpoint.params)


COMPONENT = Component(
    name="omni",
    title="language model",
    abstract_params=weights.abstract_params,
    weight_map=weights.weight_map,
    build=build,
    groups=GROUPS,
    describe=describe,
    kinds={"mini-omni": "Mini-Omni, turn-based dialogue"},
    from_json=weights.read_json_config,
    to_json=weights.write_json_config,
    find=weights.bind_omni,
    companions={"snac": "codec SNAC", "whisper": "encoder Whisper"},
)
