"""Text decoders (Qwen, Llama, Gemma, SmolLM) as components of checkpoints."""

from __future__ import annotations

from typing import Any

from jomni.models.decoder import weights
from jomni.models.decoder.chat import CONTEXT
from jomni.models.decoder.config import SLIDING, DecoderConfig
from jomni.models.decoder.generate import TextGenerator
from jomni.models.decoder.model import Decoder
from jomni.printing import human_bytes
from jomni.tensors.component import Component, HuggingFace, Loaded
from jomni.tensors.source import TensorSource, without_copy

GROUPS = {
    "layers": ("layers_",),
    "embedding": ("embed_tokens/",),
    "output": ("norm/", "lm_head/"),
}
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def describe(config: DecoderConfig, info: Any) -> list[str]:
    """Return the lines of `jomni info`."""
    sliding = config.kinds.count(SLIDING)
    windows = f", {sliding} of them see the last {config.window}" if sliding else ""
    step = 2 * config.num_kv_heads * config.head_dim * config.num_layers
    return [
        f"  {config.num_layers} layers{windows}, {config.dim} wide, {config.num_heads} heads of {config.head_dim} on "
        f"{config.num_kv_heads} key/value heads",
        f"  {config.vocab_size} tokens, head {'tied to the embedding' if config.tied else 'of its own'}",
        f"  context {config.max_positions} tokens, rotary positions of kind {config.rope.kind!r}",
        f"  cache of 1000 tokens: float32 {human_bytes(4000 * step)}, bfloat16 {human_bytes(2000 * step)}",
    ]


def _without_tied_head(source: TensorSource, config: DecoderConfig) -> TensorSource:
    if not config.tied:
        return source
    return without_copy(source, _HEAD, _EMBEDDING, "Set 'tie_word_embeddings' to false to use it, or remove it.")


def build(checkpoint: Loaded) -> tuple[TextGenerator, Any]:
    """Return the decoder's step functions and its parameters."""
    config, params = checkpoint.configs["decoder"], checkpoint.params["decoder"]
    context = min(CONTEXT, config.max_positions)
    return TextGenerator(Decoder(config), context, dtype=str(params["norm"]["alpha"].dtype)), params


COMPONENT = Component(
    name="decoder",
    title="text decoder",
    abstract_params=weights.abstract_params,
    weight_map=weights.weight_map,
    build=build,
    groups=GROUPS,
    describe=describe,
    kinds={
        "qwen2": "Qwen 2, a text decoder", "qwen3": "Qwen 3, a text decoder", "llama": "Llama, a text decoder",
        "gemma2": "Gemma 2, a text decoder", "gemma3_text": "Gemma 3, a text decoder",
    },
    huggingface=HuggingFace(
        architectures={kind: (name,) for kind, name in weights.ARCHITECTURES.items()},
        read=weights.read_decoder_config,
        write=weights.write_decoder_config,
        to_own=_without_tied_head,
        text=True,
    ),
)  # fmt: skip
