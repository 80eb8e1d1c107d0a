"""Tiny text decoders of transformers with random weights by name: their folders and outputs.

Needs the `peers` extra, except for `CASES`, `weights` and `write_folder`, with which tests rebuild a folder from a
golden. The cases cover all options that change numbers; sliding windows are shorter than the prompts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tools.goldens import draw

_SMALL: dict[str, Any] = dict(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, pad_token_id=None, bos_token_id=None, eos_token_id=None,
)  # fmt: skip
_LLAMA3 = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
           "high_freq_factor": 4.0, "original_max_position_embeddings": 64}  # fmt: skip
_YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 128}
_TWO_ROPES = {
    "full_attention": {"rope_type": "linear", "rope_theta": 50_000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
}
CASES: dict[str, dict[str, Any]] = {
    "qwen2": _SMALL | dict(
        model_type="qwen2", tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    ),
    "qwen2_sliding": _SMALL | dict(
        model_type="qwen2", use_sliding_window=True, sliding_window=12, max_window_layers=1, rope_parameters=_YARN,
    ),
    "qwen3": _SMALL | dict(model_type="qwen3", head_dim=12, attention_bias=True, tie_word_embeddings=True),
    "llama3": _SMALL | dict(model_type="llama", num_key_value_heads=1, rope_parameters=_LLAMA3, rms_norm_eps=1e-5),
    "smollm2": _SMALL | dict(
        model_type="llama", tie_word_embeddings=True, attention_bias=True, mlp_bias=True, num_key_value_heads=4,
        rope_parameters={"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0},
    ),
    "gemma2": _SMALL | dict(
        model_type="gemma2", head_dim=16, query_pre_attn_scalar=24, sliding_window=10, attn_logit_softcapping=5.0,
        final_logit_softcapping=4.0,
    ),
    "gemma3": _SMALL | dict(
        model_type="gemma3_text", num_hidden_layers=4, head_dim=16, query_pre_attn_scalar=20, sliding_window=9,
        layer_types=["sliding_attention", "full_attention"] * 2, rope_parameters=_TWO_ROPES,
        final_logit_softcapping=None,
    ),
}  # fmt: skip
"""Case -> configuration; `model_type` is the family."""

PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen2-0.5B": dict(
        model_type="qwen2", attention_dropout=0.0, bos_token_id=151643, eos_token_id=151643, hidden_act="silu",
        hidden_size=896, initializer_range=0.02, intermediate_size=4864, max_position_embeddings=131_072,
        max_window_layers=24, num_attention_heads=14, num_hidden_layers=24, num_key_value_heads=2, rms_norm_eps=1e-6,
        rope_theta=1_000_000.0, sliding_window=131_072, tie_word_embeddings=True, use_cache=True,
        use_sliding_window=False, vocab_size=151_936,
    ),
    "SmolLM2-135M": dict(
        model_type="llama", attention_bias=False, attention_dropout=0.0, bos_token_id=0, eos_token_id=0,
        hidden_act="silu", hidden_size=576, initializer_range=0.041666666666666664, intermediate_size=1536,
        max_position_embeddings=8192, mlp_bias=False, num_attention_heads=9, num_hidden_layers=30,
        num_key_value_heads=3, pretraining_tp=1, rms_norm_eps=1e-5, rope_scaling=None, rope_theta=100_000,
        tie_word_embeddings=True, use_cache=True, vocab_size=49_152,
    ),
}  # fmt: skip
"""Published model -> the fields of its config.json."""

PROMPT, ANSWER = 40, 200  # tokens
EVERY = 5  # distance of positions whose logits are kept


def weights(case: str, manifest: Mapping[str, Iterable[int]], seed: int) -> dict[str, np.ndarray]:
    """Return random values of all tensors (name -> shape), for which logits and attention vary strongly."""
    drawn = {}
    for name, value in draw.weights(manifest, seed).items():
        if name.endswith("norm.weight") and CASES[case]["model_type"].startswith("gemma"):
            # Gemma stores scales minus 1. Strong updates keep a model with a tied head from repeating the last token.
            strong = 4 if re.search(r"post_\w+_layernorm", name) else 1
            value = strong * value - np.float32(1)
        if name.endswith(("q_proj.weight", "k_proj.weight", "lm_head.weight", "embed_tokens.weight")):
            value = value * np.float32(1.5)
        drawn[name] = value
    return drawn


def write_folder(folder: Path, case: str, golden: Mapping[str, Any]) -> Path:
    """Write config.json and model.safetensors of a golden; return `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(golden["config"]))
    save_file(weights(case, golden["tensors"], golden["seed"]), folder / "model.safetensors")
    return folder


def make_model(case: str, seed: int) -> Any:
    """Return the model of a case in float32, with its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**CASES[case])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    drawn = weights(case, tensors(model), seed)
    missing, surplus = model.load_state_dict({k: torch.from_numpy(v) for k, v in drawn.items()}, strict=False)
    assert not surplus and set(missing) <= {"lm_head.weight"}, (missing, surplus)
    model.tie_weights()
    return model


def tensors(model: Any) -> dict[str, list[int]]:
    """Return the names and shapes that `save_pretrained` writes, which exclude a tied head."""
    tied = model.config.tie_word_embeddings
    return {k: list(v.shape) for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}


def run(model: Any, seed: int) -> dict[str, np.ndarray]:
    """Return a model's outputs for random prompts.

    `tokens` [2, PROMPT], their `logits` [2, PROMPT, V], the greedy `answer` [2, ANSWER], and `margin`, the smallest
    distance of the two largest logits during the answer.
    """
    import torch

    tokens = torch.from_numpy(draw.tokens(seed, "prompt", (2, PROMPT), model.config.vocab_size)).long()
    with torch.no_grad():
        logits = model(input_ids=tokens).logits
        out = model.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=ANSWER, do_sample=False, output_logits=True,
            return_dict_in_generate=True, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
    top = torch.stack(out.logits).topk(2, -1).values
    return {
        "tokens": tokens.numpy().astype(np.int32),
        "logits": logits.numpy(),
        "answer": out.sequences[:, PROMPT:].numpy().astype(np.int32),
        "margin": (top[..., 0] - top[..., 1]).min().numpy(),
    }
