"""Kyutai's published names for the layers that Mimi and Moshi share.

By default a parameter's path is its published name, with list indices joined by an underscore. The rules below state
the exceptions and the layouts that differ (convolutions, [1, 1, D] scales). Source: state dicts of moshi 0.2.13, and
the load hooks with which it reads older files (modules/transformer.py, quantization/core_vq.py, modules/lora.py).
"""

from __future__ import annotations

from jomni.tensors.weight_map import CONV, VECTOR, Rule, Stack


def transformer(path: str, name: str) -> list[Rule]:
    """Return the rules of a streaming transformer's layers."""
    layer: list[Rule] = []
    for name_of_norm in ("norm1", "norm2", "norm_cross"):
        layer += norm(name_of_norm, name_of_norm)
    for scale in ("layer_scale_1", "layer_scale_2", "layer_scale_cross"):
        layer.append(Rule(f"{scale}/scale", f"{scale}.scale"))
    for attention in ("self_attn", "cross_attention"):
        for proj in ("in_proj", "out_proj"):
            layer += linear(f"{attention}/{proj}", f"{attention}.{proj}s.0")
            layer += linear(f"{attention}/{proj}s_{{s}}", f"{attention}.{proj}s.{{s}}")
    layer += linear("linear1", "linear1") + linear("linear2", "linear2")
    for part in ("linear_in", "linear_out"):
        layer += linear(f"gating/{part}", f"gating.{part}") + linear(f"gating_{{s}}/{part}", f"gating.{{s}}.{part}")
    return [rule.under(f"{path}/layers_{{i}}", f"{name}.layers.{{i}}") for rule in layer]


def linear(path: str, name: str | None = None) -> list[Rule]:
    """Return the rules of a linear layer and its optional adapters."""
    name = name or dotted(path)
    return [
        Rule(f"{path}/weight", f"{name}.weight"),
        Rule(f"{path}/lora_A", f"{name}.lora_A.weight"),
        Rule(f"{path}/lora_B", f"{name}.lora_B.weight"),
    ]


def norm(path: str, name: str) -> list[Rule]:
    """Return the rules of a norm: RMS norms have `alpha`, layer norms `weight` and `bias`."""
    return [
        Rule(f"{path}/alpha", f"{name}.alpha", VECTOR),
        Rule(f"{path}/weight", f"{name}.weight"),
        Rule(f"{path}/bias", f"{name}.bias"),
    ]


def conv(path: str, name: str) -> list[Rule]:
    """Return the rules of a convolution with bias."""
    return [Rule(f"{path}/kernel", f"{name}.weight", CONV), Rule(f"{path}/bias", f"{name}.bias")]


def dotted(path: str) -> str:
    """Return the published name of a path: `emb_{k}` becomes `emb.{k}`."""
    return path.replace("_{", ".{")


# Published files stack the attention projections of all weight sets of a schedule; current modules keep them apart.
STACKS = (
    Stack("in_projs.{i}.weight", "in_proj_weight"),
    Stack("in_projs.{i}.lora_A.weight", "in_proj.lora_A.weight"),
    Stack("in_projs.{i}.lora_B.weight", "in_proj.lora_B.weight"),
    Stack("out_projs.{i}.weight", "out_proj.weight"),
    Stack("out_projs.{i}.lora_A.weight", "out_proj.lora_A.weight"),
    Stack("out_projs.{i}.lora_B.weight", "out_proj.lora_B.weight"),
)

# Older names that the original's load hooks rename, and the frozen weight of a layer with adapters.
RENAMES = (
    (r"\._codebook\.inited$", "._codebook._initialized"),
    (r"\._codebook\.cluster_size$", "._codebook.cluster_usage"),
    (r"\._codebook\.(embed_avg|embed_sum)$", "._codebook.embedding_sum"),
    (r"\.frozen_W\.", "."),
    (r"\.in_proj\.weight$", ".in_proj_weight"),
)
