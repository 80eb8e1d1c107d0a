"""Tensor names and layouts of SNAC's published files: those of `state_dict()` of the original (snac 1.2.1)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jomni.models.snac.config import SnacConfig
from jomni.models.snac.model import Snac
from jomni.tensors.component import abstract_init
from jomni.tensors.weight_map import CONV, CONV_TRANSPOSED, IDENTITY, Rule, Transform, WeightMap

_CHANNELS = Transform(units=(0, 2))  # [1, C, 1] in the file, [C] as parameter


def abstract_params(config: SnacConfig) -> dict[str, Any]:
    """Return the shapes of a SNAC's parameters, as a nested dict of `jax.ShapeDtypeStruct`."""
    pcm = jax.ShapeDtypeStruct((1, 1, config.frame_size * config.frame_multiple), jnp.float32)
    return abstract_init(Snac(config), pcm)


def weight_map() -> WeightMap:
    """Return the weight map of a SNAC file. Tensors of all options have distinct names."""
    stage = "decoder/model_{i}", "decoder.model.{i}"
    rules = [rule.under(*stage) for rule in _conv("block_1", "block.1", CONV_TRANSPOSED)]
    rules += [rule.under(*stage) for rule in _conv("block_{j}/linear", "block.{j}.linear")]
    for side, layers in (("encoder", "block"), ("decoder", "model")):
        path, name = f"{side}/{layers}_{{i}}", f"{side}.{layers}.{{i}}"
        parts = [
            *_layer(),
            *_attention(),
            *(rule.under("block_{j}", "block.{j}") for rule in _layer()),
            *(rule.under("block_{j}/block_{k}", "block.{j}.block.{k}") for rule in _layer()),
        ]
        rules += [rule.under(path, name) for rule in parts]
    books = [*_conv("in_proj", "in_proj"), *_conv("out_proj", "out_proj"), Rule("codebook", "codebook.weight")]
    rules += [rule.under("quantizer/quantizers_{i}", "quantizer.quantizers.{i}") for rule in books]
    return WeightMap(tuple(rules), renames=_RENAMES)


def _layer() -> list[Rule]:
    """Return the rules of a convolution or a Snake activation."""
    return [
        Rule("direction", "parametrizations.weight.original1", CONV),
        Rule("magnitude", "parametrizations.weight.original0", CONV),
        Rule("bias", "bias"),
        Rule("alpha", "alpha", _CHANNELS),
    ]


def _conv(path: str, name: str, transform: Transform = CONV) -> list[Rule]:
    return [
        Rule(f"{path}/{ours}", f"{name}.{theirs}", kind)
        for ours, theirs, kind in (
            ("direction", "parametrizations.weight.original1", transform),
            ("magnitude", "parametrizations.weight.original0", transform),
            ("bias", "bias", IDENTITY),
        )
    ]


def _attention() -> list[Rule]:
    leaves = ("norm/weight", "norm/bias", "to_qkv/weight", "to_out/weight", "rel_pos/inv_freq")
    return [Rule(leaf, leaf.replace("/", ".")) for leaf in leaves]


# Names of weight norm in older versions of torch.
_RENAMES = (
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
)
