"""Weight map of Moshi's language model in Kyutai's published files."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jomni.models.moshi.config import MoshiConfig
from jomni.models.moshi.model import MoshiLM
from jomni.tensors.component import abstract_init
from jomni.tensors.kyutai import RENAMES, STACKS, dotted, linear, norm, transformer
from jomni.tensors.weight_map import VECTOR, Rule, WeightMap


def abstract_params(config: MoshiConfig) -> dict[str, Any]:
    """Return the shapes of the language model's parameters, as a nested dict of `jax.ShapeDtypeStruct`."""
    codes = jax.ShapeDtypeStruct((1, config.n_q + 1, 2), jnp.int32)
    return abstract_init(MoshiLM(config), codes)


def weight_map(config: MoshiConfig) -> WeightMap:
    """Return the weight map of a Moshi file, including low-rank adapters (LoRA)."""
    del config  # tensors of all options have distinct names
    rules = [Rule("text_linear/bias", "text_linear.bias"), Rule("linears_{k}/bias", "linears.{k}.bias")]
    rules += linear("text_linear") + linear("linears_{k}") + linear("extra_heads_{k}") + linear("depformer_in_{k}")
    for table in ("emb_{k}", "text_emb", "depformer_emb_{k}", "depformer_text_emb"):
        name = dotted(table)
        rules += [Rule(f"{table}/weight", f"{name}.weight"), *norm(f"{table}/norm", f"{name}.norm")]
        for part in ("low_rank", "out1", "out2"):
            rules += linear(f"{table}/{part}", f"{name}.{part}")
    rules += norm("out_norm", "out_norm") + norm("depformer_norms_{k}", "depformer_norms.{k}")
    rules += transformer("transformer", "transformer") + transformer("depformer", "depformer")
    path, name = "condition_provider/{name}", "condition_provider.conditioners.{name}"
    rules += [
        Rule(f"{path}/embed/weight", f"{name}.embed.weight"),
        Rule(f"{path}/learnt_padding", f"{name}.learnt_padding", VECTOR),
        *linear(f"{path}/output_proj", f"{name}.output_proj"),
    ]
    return WeightMap(tuple(rules), STACKS, RENAMES)
