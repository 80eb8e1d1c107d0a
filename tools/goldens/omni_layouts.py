"""Regenerate tests/goldens/omni_layouts.json with the original: python -m tools.goldens.omni_layouts CHECKOUT

CHECKOUT is a checkout of github.com/gpt-omni/mini-omni. Needs torch and pyyaml, but not lightning. The golden holds the
fields of model_config.yaml and {name: shape} of the original's state dict for Mini-Omni at full size, and for the other
adapter with a post-adapter. The models are built on torch's meta device, without allocation.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch

from tools.goldens.make_omni import _replace_lightning

GOLDEN = Path(__file__).parents[2] / "tests" / "goldens" / "omni_layouts.json"
MINI_OMNI: dict[str, Any] = {
    "name": "Qwen2-0.5B", "hf_config": {"name": "Qwen2-0.5B", "org": "Qwen"}, "block_size": 2048, "n_layer": 24,
    "n_head": 14, "n_embd": 896, "n_query_groups": 2, "vocab_size": 50254, "padding_multiple": 512,
    "padded_vocab_size": 181_120, "intermediate_size": 4864, "parallel_residual": False, "bias": False,
    "add_qkv_bias": True, "norm_class_name": "RMSNorm", "norm_eps": 1e-6, "mlp_class_name": "LLaMAMLP",
    "rotary_percentage": 1.0, "rope_base": 1_000_000, "tie_word_embeddings": True, "text_vocab_size": 152_000,
    "audio_vocab_size": 4160, "cat_audio_vocab_size": 29_120, "whisper_adapter_dim": 768, "asr_adapter": "llamamlp",
    "post_adapter": False, "post_adapter_layers": 6,
}  # fmt: skip
CASES = {"mini-omni": MINI_OMNI, "post-adapter": MINI_OMNI | {"post_adapter": True, "asr_adapter": "mlp"}}


def layouts() -> dict[str, dict[str, Any]]:
    """Return case -> {"config": fields, "tensors": {name: shape}}; the original must be importable."""
    _replace_lightning()
    from litgpt.config import Config
    from litgpt.model import GPT

    found = {}
    for case, fields in CASES.items():
        with torch.device("meta"):
            state = GPT(Config(**fields)).state_dict()
        found[case] = {"config": fields, "tensors": {name: list(tensor.shape) for name, tensor in state.items()}}
    return found


def main() -> None:
    """Write the file with one line per tensor."""
    parser = argparse.ArgumentParser(description="Write names and shapes of Mini-Omni's tensors.")
    parser.add_argument("checkout", type=Path, help="a checkout of the original's repository")
    sys.path.insert(0, str(parser.parse_args().checkout))
    text = json.dumps(layouts(), indent=1)
    text = re.sub(r"\[\s+([\d,\s]+?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)
    GOLDEN.write_text(text + "\n", encoding="utf-8")
    print(f"{GOLDEN}: {len(text)} bytes")


if __name__ == "__main__":
    main()
