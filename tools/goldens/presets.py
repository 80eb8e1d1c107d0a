"""Regenerate tests/goldens/layouts.json: names and shapes of Kyutai's published layout, by the original's code.

The golden holds configuration and {name: shape} of the original's state dict in the published form (attention
projections stacked), for the full-size presets and for small models that together use all options that change a name
or a shape. The models are built on torch's meta device, without allocation.

    pip install -e '.[peers]' && python tools/goldens/presets.py
"""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

os.environ.setdefault("NO_TORCH_COMPILE", "1")

import torch
from moshi.models import loaders

GOLDEN = Path(__file__).parents[2] / "tests" / "goldens" / "layouts.json"

TINY = {
    "dim": 16, "text_card": 20, "existing_text_padding_id": 3, "n_q": 4, "dep_q": 2, "card": 12, "num_heads": 2,
    "num_layers": 2, "hidden_scale": 4.125, "causal": True, "layer_scale": None, "context": 8, "max_period": 10000,
    "gating": "silu", "norm": "rms_norm_f32", "positional_embedding": "rope", "depformer_dim": 8,
    "depformer_dim_feedforward": 33, "depformer_num_heads": 2, "depformer_num_layers": 1, "depformer_layer_scale": None,
    "depformer_multi_linear": True, "depformer_context": 8, "depformer_max_period": 10000, "depformer_gating": "silu",
    "depformer_pos_emb": "none", "depformer_weights_per_step": True, "delays": [0, 0, 1, 0, 1],
}  # fmt: skip
SPEAKER = {"type": "tensor", "tensor": {"dim": 6}}
MOOD = {"type": "lut", "lut": {"n_bins": 4, "dim": 5, "tokenizer": "noop", "possible_values": ["calm", "glad"]}}
LM_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "schedule": {"dep_q": 4, "n_q": 8, "delays": [0] * 9, "depformer_weights_per_step_schedule": [0, 1, 1, 2]},
    "schedule_of_one": {"depformer_weights_per_step_schedule": [0, 0]},
    "schedule_widths": {
        "dep_q": 4, "delays": [0] * 5, "depformer_weights_per_step_schedule": [0, 1, 1, 1],
        "depformer_dim_feedforward": [33, 21],
    },
    "shared_depth": {"depformer_weights_per_step": False, "depformer_multi_linear": False},
    "low_rank": {"depformer_low_rank_embeddings": 4, "demux_second_text_stream": True},
    "norms": {"norm": "layer_norm", "norm_emb": True, "depformer_norm": "rms_norm_f32", "bias_proj": True,
              "layer_scale": 0.1},
    "kv_repeat": {"kv_repeat": 2, "depformer_kv_repeat": 1, "text_card_out": 25},
    "ungated": {"gating": "none", "depformer_gating": "none", "depformer_weights_per_step": False},
    "text_only": {"dep_q": 0, "n_q": 4, "extra_heads_num_heads": 2, "extra_heads_dim": 3},
    "text_only_one_input": {"dep_q": 0, "depformer_multi_linear": False},
    "conditions": {
        "conditioners": {"speaker": SPEAKER, "mood_1": MOOD},
        "fuser": {"cross_attention_pos_emb": False, "cross_attention_pos_emb_scale": 1.0, "sum": ["mood_1"],
                  "prepend": [], "cross": ["speaker"]},
        "cross_attention": True,
    },
    "lora": {"lora": True, "lora_rank": 3, "lora_scaling": 2.0, "depformer_low_rank_embeddings": 4,
             "conditioners": {"mood": MOOD}, "fuser": {"sum": ["mood"], "cross": [], "prepend": []}},
}  # fmt: skip
MIMI_CASES: dict[str, dict[str, dict[str, Any]]] = {
    "mimi_small": {
        "seanet": {"dimension": 16, "n_filters": 4, "ratios": [3, 2], "n_residual_layers": 2, "true_skip": False},
        "transformer": {"d_model": 8, "num_heads": 2, "num_layers": 1, "dim_feedforward": 12, "input_dimension": 16,
                        "output_dimensions": [16]},
        "quantizer": {"dimension": 6, "n_q": 3, "bins": 10, "input_dimension": 16, "output_dimension": 16},
        "top": {"frame_rate": 2000.0},
    },
    "mimi_gated": {
        "seanet": {"dimension": 16, "n_filters": 4, "ratios": [2, 2]},
        "transformer": {"d_model": 16, "num_heads": 2, "num_layers": 1, "dim_feedforward": 12, "gating": "silu",
                        "norm": "rms_norm_f32", "input_dimension": 16, "output_dimensions": [16], "layer_scale": None},
        "quantizer": {"dimension": 6, "n_q": 4, "n_q_semantic": 2, "bins": 10, "input_dimension": 16,
                      "output_dimension": 16},
        "top": {"frame_rate": 6000.0},
    },
}  # fmt: skip


def published(state: dict[str, Any]) -> dict[str, list[int]]:
    """Return published name -> shape; the per-step weights of attention are stacked on axis 0."""
    shapes: dict[str, list[int]] = {}
    for name, tensor in state.items():
        shape = list(tensor.shape)
        match = re.fullmatch(r"(.*\.(?:in|out)_proj)s\.\d+\.(weight|lora_[AB]\.weight|frozen_W\.weight)", name)
        if match:
            stem, kind = match[1], match[2].removeprefix("frozen_W.")
            name = f"{stem}_weight" if stem.endswith("in_proj") and kind == "weight" else f"{stem}.{kind}"
            if name in shapes:
                shape[0] += shapes[name][0]
        shapes[name.replace(".frozen_W.", ".")] = shape
    return shapes


def lm_config(case: str) -> dict[str, Any]:
    """Return the config.json of a small case."""
    return copy.deepcopy(TINY | LM_CASES[case])


def mimi_config(case: str) -> dict[str, Any]:
    """Return the Mimi configuration of a small case."""
    raw = copy.deepcopy(loaders._mimi_config)
    for section, values in MIMI_CASES[case].items():
        (raw if section == "top" else raw[section]).update(copy.deepcopy(values))
    return raw


def build_lm(raw: dict[str, Any], device: str = "meta") -> torch.nn.Module:
    """Return the original's language model of a config.json, with random weights."""
    return loaders.get_moshi_lm(None, copy.deepcopy(raw), device=device, dtype=torch.float32)


def build_mimi(raw: dict[str, Any], device: str = "meta") -> torch.nn.Module:
    """Return the original's codec of a configuration, with random weights."""
    with torch.device(device):
        return loaders.get_mimi(None, copy.deepcopy(raw), device=device, num_codebooks=raw["quantizer"]["n_q"])


def layouts() -> dict[str, dict[str, Any]]:
    """Return case -> {"config": published fields, "tensors": {name: shape}}."""
    lms = {"moshi_7b": loaders._lm_kwargs} | {case: lm_config(case) for case in LM_CASES}
    mimis = {"mimi": loaders._mimi_config} | {case: mimi_config(case) for case in MIMI_CASES}
    built = {name: (raw, build_lm(raw)) for name, raw in lms.items()}
    built |= {name: (raw, build_mimi(raw)) for name, raw in mimis.items()}
    return {name: {"config": raw, "tensors": published(model.state_dict())} for name, (raw, model) in built.items()}


def main() -> None:
    """Write the file with one line per tensor."""
    text = json.dumps(layouts(), indent=1)
    text = re.sub(r"\[\s+([\d,\s]+?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    GOLDEN.write_text(text + "\n", encoding="utf-8")
    print(f"{GOLDEN}: {len(text)} bytes")


if __name__ == "__main__":
    main()
