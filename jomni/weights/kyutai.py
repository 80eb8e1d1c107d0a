"""Names and layout of Kyutai's published files, for Mimi and for the Moshi language model.

A parameter's path is the published name with list indices joined by an underscore; the tables below spell out where
it is not, and where the layout differs (convolutions, 1x1 projections, [1, 1, D] scales). Follows moshi 0.2.13's state
dicts and the load hooks by which it reads older files (modules/transformer.py, quantization/core_vq.py,
modules/lora.py).
"""

from __future__ import annotations

from jomni.codec.config import MimiConfig
from jomni.models.moshi.config import MoshiConfig
from jomni.weights.table import CONV, CONV_TRANSPOSED, IDENTITY, POINTWISE, VECTOR, Rule, Stack, Table


def is_float32_only(path: str) -> bool:
    """Whether a parameter, "mimi/...", "snac/..." or "lm/...", stays float32 whatever the model's dtype."""
    return path.startswith(("mimi/", "snac/", "lm/condition_provider/"))


def mimi_table(config: MimiConfig) -> Table:
    """The weight map of a Mimi file."""
    # The decoder is a convolution, then for each stage an ELU, a transposed convolution and its residual blocks.
    upsampling = [2 + stage * (2 + config.seanet.n_residual_layers) for stage in range(len(config.seanet.ratios))]
    rules = [
        Rule(f"decoder/model_{i}/{ours}", f"decoder.model.{i}.convtr.convtr.{theirs}", transform)
        for i in upsampling
        for ours, theirs, transform in (("kernel", "weight", CONV_TRANSPOSED), ("bias", "bias", IDENTITY))
    ]
    for side in ("encoder", "decoder"):
        rules += [
            *_conv(f"{side}/model_{{i}}", f"{side}.model.{{i}}.conv.conv"),
            *_conv(f"{side}/model_{{i}}/block_{{j}}", f"{side}.model.{{i}}.block.{{j}}.conv.conv"),
            *_conv(f"{side}/model_{{i}}/shortcut", f"{side}.model.{{i}}.shortcut.conv.conv"),
            Rule(f"{side}_transformer/input_proj/weight", f"{side}_transformer.input_proj.weight"),
            Rule(f"{side}_transformer/output_projs_{{i}}/weight", f"{side}_transformer.output_projs.{{i}}.weight"),
        ]
        rules += _transformer(f"{side}_transformer/transformer", f"{side}_transformer.transformer")
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
    return Table(tuple(rules), _STACKS, _RENAMES)


def lm_table(config: MoshiConfig) -> Table:
    """The weight map of a Moshi file, low-rank adapters (LoRA) included."""
    del config  # every option's tensors have names of their own
    rules = [Rule("text_linear/bias", "text_linear.bias"), Rule("linears_{k}/bias", "linears.{k}.bias")]
    rules += _linear("text_linear") + _linear("linears_{k}") + _linear("extra_heads_{k}") + _linear("depformer_in_{k}")
    for table in ("emb_{k}", "text_emb", "depformer_emb_{k}", "depformer_text_emb"):
        name = _dotted(table)
        rules += [Rule(f"{table}/weight", f"{name}.weight"), *_norm(f"{table}/norm", f"{name}.norm")]
        for part in ("low_rank", "out1", "out2"):
            rules += _linear(f"{table}/{part}", f"{name}.{part}")
    rules += _norm("out_norm", "out_norm") + _norm("depformer_norms_{k}", "depformer_norms.{k}")
    rules += _transformer("transformer", "transformer") + _transformer("depformer", "depformer")
    path, name = "condition_provider/{name}", "condition_provider.conditioners.{name}"
    rules += [
        Rule(f"{path}/embed/weight", f"{name}.embed.weight"),
        Rule(f"{path}/learnt_padding", f"{name}.learnt_padding", VECTOR),
        *_linear(f"{path}/output_proj", f"{name}.output_proj"),
    ]
    return Table(tuple(rules), _STACKS, _RENAMES)


def _transformer(path: str, name: str) -> list[Rule]:
    layer: list[Rule] = []
    for norm in ("norm1", "norm2", "norm_cross"):
        layer += _norm(norm, norm)
    for scale in ("layer_scale_1", "layer_scale_2", "layer_scale_cross"):
        layer.append(Rule(f"{scale}/scale", f"{scale}.scale"))
    for attention in ("self_attn", "cross_attention"):
        for proj in ("in_proj", "out_proj"):
            layer += _linear(f"{attention}/{proj}", f"{attention}.{proj}s.0")
            layer += _linear(f"{attention}/{proj}s_{{s}}", f"{attention}.{proj}s.{{s}}")
    layer += _linear("linear1", "linear1") + _linear("linear2", "linear2")
    for part in ("linear_in", "linear_out"):
        layer += _linear(f"gating/{part}", f"gating.{part}") + _linear(f"gating_{{s}}/{part}", f"gating.{{s}}.{part}")
    return [rule.under(f"{path}/layers_{{i}}", f"{name}.layers.{{i}}") for rule in layer]


def _linear(path: str, name: str | None = None) -> list[Rule]:
    """A linear layer, with the adapters that it may have."""
    name = name or _dotted(path)
    return [
        Rule(f"{path}/weight", f"{name}.weight"),
        Rule(f"{path}/lora_A", f"{name}.lora_A.weight"),
        Rule(f"{path}/lora_B", f"{name}.lora_B.weight"),
    ]


def _norm(path: str, name: str) -> list[Rule]:
    """Any of the norms: RMS norms have `alpha`, layer norms `weight` and `bias`."""
    return [
        Rule(f"{path}/alpha", f"{name}.alpha", VECTOR),
        Rule(f"{path}/weight", f"{name}.weight"),
        Rule(f"{path}/bias", f"{name}.bias"),
    ]


def _conv(path: str, name: str) -> list[Rule]:
    return [Rule(f"{path}/kernel", f"{name}.weight", CONV), Rule(f"{path}/bias", f"{name}.bias")]


def _dotted(path: str) -> str:
    """`emb_{k}` as it is published: `emb.{k}`."""
    return path.replace("_{", ".{")


# Attention projections are published as one tensor, the sets of a schedule stacked; today's modules hold them apart.
_STACKS = (
    Stack("in_projs.{i}.weight", "in_proj_weight"),
    Stack("in_projs.{i}.lora_A.weight", "in_proj.lora_A.weight"),
    Stack("in_projs.{i}.lora_B.weight", "in_proj.lora_B.weight"),
    Stack("out_projs.{i}.weight", "out_proj.weight"),
    Stack("out_projs.{i}.lora_A.weight", "out_proj.lora_A.weight"),
    Stack("out_projs.{i}.lora_B.weight", "out_proj.lora_B.weight"),
)

# What the original's load hooks rename, and the frozen weight of a layer with adapters.
_RENAMES = (
    (r"\._codebook\.inited$", "._codebook._initialized"),
    (r"\._codebook\.cluster_size$", "._codebook.cluster_usage"),
    (r"\._codebook\.(embed_avg|embed_sum)$", "._codebook.embedding_sum"),
    (r"\.frozen_W\.", "."),
    (r"\.in_proj\.weight$", ".in_proj_weight"),
)
