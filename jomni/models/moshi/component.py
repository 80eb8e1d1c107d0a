"""Moshi's language model as a component of checkpoints."""

from __future__ import annotations

from typing import Any

from jomni.models.moshi import weights
from jomni.models.moshi.config import MoshiConfig
from jomni.models.moshi.duplex import Duplex
from jomni.models.moshi.generate import Generator, SamplingDefaults
from jomni.models.moshi.model import MoshiLM
from jomni.printing import human_bytes
from jomni.tensors.component import Component, Loaded

GROUPS = {
    "temporal transformer": ("transformer/",),
    "embeddings": ("emb_", "text_emb/"),
    "outputs": ("out_norm/", "text_linear/", "extra_heads_"),
    "depth transformer": ("depformer/",),
    "depth embeddings": ("depformer_emb_", "depformer_text_emb/", "depformer_in_"),
    "depth outputs": ("linears_", "depformer_norms_"),
    "conditioners": ("condition_provider/",),
}


def describe(config: MoshiConfig, info: Any) -> list[str]:
    """Return the lines of `jomni info`."""
    t, user, codec = config.temporal, config.delays[1 + config.dep_q :], info.configs.get("mimi")
    seconds = f" ({t.context / codec.frame_rate:g} s)" if t.context and codec else ""
    lines = [
        f"  temporal: {t.num_layers} layers, {t.dim} wide, {t.num_heads} heads, "
        f"context {'all frames' if t.context is None else f'{t.context} frames{seconds}'}"
    ]
    if config.dep_q:
        d = config.depth
        lines.append(f"  depth: {d.num_layers} layers, {d.dim} wide, {d.num_heads} heads, {config.dep_q} steps a frame")
    lines.append(
        f"  streams: text of {config.text_card} tokens, {config.dep_q} codebooks of the agent, "
        f"{config.user_q} of the user"
    )
    delays = [f"text {config.delays[0]}"]
    delays += [f"agent {_row(config.delays[1 : 1 + config.dep_q])}"] if config.dep_q else []
    delays += [f"user {_row(user)}"] if user else []
    lines.append(f"  delays, frames: {'; '.join(delays)}")
    if t.context is not None:
        cache = 2 * t.num_layers * t.context * t.dim // t.kv_repeat
        lines.append(f"  cache of a conversation: float32 {human_bytes(4 * cache)}, bfloat16 {human_bytes(2 * cache)}")
    if config.lora_rank:
        lines.append(f"  low-rank adapters (LoRA): rank {config.lora_rank}")
    if config.conditioners:
        lines.append(f"  conditions: {', '.join(c.name for c in config.conditioners)}")
    return lines


def _row(values: tuple[int, ...]) -> str:
    return " ".join(map(str, values))


def build(checkpoint: Loaded) -> tuple[Duplex | Generator, Any]:
    """Return the full-duplex model and its parameters; without a codec, the language model's step functions."""
    if "mimi" not in checkpoint.configs:
        params = checkpoint.params["lm"]
        defaults = SamplingDefaults.from_kyutai(checkpoint.generation)
        lm = MoshiLM(checkpoint.configs["lm"])
        return Generator(lm, str(params["text_emb"]["weight"].dtype), defaults=defaults), params
    model = Duplex.from_checkpoint(checkpoint)
    return model, model.prepare(checkpoint.params)


COMPONENT = Component(
    name="lm",
    title="language model",
    abstract_params=weights.abstract_params,
    weight_map=weights.weight_map,
    build=build,
    groups=GROUPS,
    describe=describe,
    kinds={
        "moshi": "Moshi, full-duplex dialogue", "hibiki": "Hibiki, simultaneous translation", "stt": "speech to text",
        "tts": "text to speech",
    },
    from_json=MoshiConfig.from_kyutai,
    to_json=MoshiConfig.to_kyutai,
    float32_only=("condition_provider/",),
    companions={"mimi": "codec"},
)  # fmt: skip
