"""Weight map of Mimi in Kyutai's published files."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jomni.models.mimi.config import MimiConfig
from jomni.models.mimi.model import Mimi
from jomni.tensors.component import abstract_init
from jomni.tensors.kyutai import RENAMES, STACKS, conv, transformer
from jomni.tensors.weight_map import CONV, CONV_TRANSPOSED, IDENTITY, POINTWISE, Rule, WeightMap


def abstract_params(config: MimiConfig) -> dict[str, Any]:
    """Return the shapes of the codec's parameters, as a nested dict of `jax.ShapeDtypeStruct`."""
    mimi = Mimi(config, num_codebooks=config.num_codebooks)
    pcm = jax.ShapeDtypeStruct((1, config.channels, config.frame_size), jnp.float32)
    return abstract_init(mimi, pcm)


def weight_map(config: MimiConfig) -> WeightMap:
    """Return the weight map of a Mimi file."""
    # The decoder is a convolution, then for each stage an ELU, a transposed convolution and its residual blocks.
    upsampling = [2 + stage * (2 + config.seanet.n_residual_layers) for stage in range(len(config.seanet.ratios))]
    rules = [
        Rule(f"decoder/model_{i}/{ours}", f"decoder.model.{i}.convtr.convtr.{theirs}", transform)
        for i in upsampling
        for ours, theirs, transform in (("kernel", "weight", CONV_TRANSPOSED), ("bias", "bias", IDENTITY))
    ]
    for side in ("encoder", "decoder"):
        rules += [
            *conv(f"{side}/model_{{i}}", f"{side}.model.{{i}}.conv.conv"),
            *conv(f"{side}/model_{{i}}/block_{{j}}", f"{side}.model.{{i}}.block.{{j}}.conv.conv"),
            *conv(f"{side}/model_{{i}}/shortcut", f"{side}.model.{{i}}.shortcut.conv.conv"),
            Rule(f"{side}_transformer/input_proj/weight", f"{side}_transformer.input_proj.weight"),
            Rule(f"{side}_transformer/output_projs_{{i}}/weight", f"{side}_transformer.output_projs.{{i}}.weight"),
        ]
        rules += transformer(f"{side}_transformer/transformer", f"{side}_transformer.transformer")
    rules += [
        Rule("downsample/kernel", "downsample.conv.conv.conv.weight", CONV),
        Rule("upsample/kernel", "upsample.convtr.convtr.convtr.weight", CONV_TRANSPOSED),
    ]
    for part in ("rvq_first", "rvq_rest"):
        rules += [
            Rule(f"quantizer/{part}/{proj}/weight", f"quantizer.{part}.{proj}.weight", POINTWISE)
            for proj in ("input_proj", "output_proj")
        ]
        book = f"quantizer.{part}.vq.layers.{{k}}._codebook"
        rules += [
            Rule(f"quantizer/{part}/layers_{{k}}/initialized", f"{book}._initialized"),
            Rule(f"quantizer/{part}/layers_{{k}}/cluster_usage", f"{book}.cluster_usage"),
            Rule(f"quantizer/{part}/layers_{{k}}/embedding_sum", f"{book}.embedding_sum"),
        ]
    return WeightMap(tuple(rules), STACKS, RENAMES)
