"""`jomni info` and `jomni convert`: describe a model, and write it in another layout."""

from __future__ import annotations

import math
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jomni.cli.arguments import DTYPES, LAYOUTS, MODEL, Parser, add_dtype, add_force
from jomni.cli.console import say
from jomni.cli.files import check_folder
from jomni.cli.model import device, local_path, open_model, split_revision

if TYPE_CHECKING:
    from jomni.checkpoints.checkpoint import CheckpointSource
    from jomni.tensors.source import TensorSource

_WIDTHS = {"float32": 4, "bfloat16": 2, "int8": 1}  # bytes of a number


def info_arguments(parser: Parser) -> None:
    """Declare the arguments of `jomni info`."""
    parser.description = """\
Lists what a model consists of: family, parameters by part, codec, delays, context, and the bytes that its weights
take in float32, bfloat16 and int8. Reads only the configuration and the headers of the weight files."""
    parser.epilog = """\
Example:
  jomni info kyutai/moshiko-pytorch-bf16"""
    parser.add_argument("model", metavar="M", nargs="?", default="nano", help=f"{MODEL} (default: nano)")


def info(options: Namespace) -> None:
    """Run `jomni info`."""
    with device("cpu"):
        for line in describe(open_model(options.model)):
            say(line)


def describe(opened: CheckpointSource) -> list[str]:
    """Return lines that describe the components of a model."""
    from jomni.checkpoints.registry import COMPONENTS, is_float32_only, model_kind
    from jomni.printing import human_bytes

    lines = [f"{opened.source}: {model_kind(opened.model_type)}"]
    counts: dict[str, int] = {}
    for name, config in opened.configs.items():
        component = COMPONENTS[name]
        held = _sizes(component.abstract_params(config))
        counts |= {f"{name}/{path}": size for path, size in held.items()}
        lines.append(f"{component.title}: {sum(held.values()):,} parameters{_stored(opened.sources.get(name))}")
        lines += _groups(held, component.groups) + component.describe(config, opened)
    for name in opened.configs:
        missing = {k: title for k, title in COMPONENTS[name].companions.items() if k not in opened.configs}
        lines += [f"{title}: none beside it" for title in missing.values()]
    if opened.family == "mini_omni" and "tokenizer.json" not in opened.files:
        lines.append("text tokenizer: none beside it")
    fixed = sum(size for path, size in counts.items() if is_float32_only(path))
    rest = sum(counts.values()) - fixed
    needs = ", ".join(f"{name} {human_bytes(4 * fixed + width * rest)}" for name, width in _WIDTHS.items())
    if not rest:
        lines.append(f"weights take: {human_bytes(4 * fixed)} (always float32)")
    else:
        lines.append(f"weights take: {needs}" + (" (codec and conditioners always float32)" if fixed else ""))
    return lines


def convert_arguments(parser: Parser) -> None:
    """Declare the arguments of `jomni convert`."""
    parser.description = "Writes a model in another layout, or in another number format."
    parser.epilog = """\
Layouts: kyutai (config.json and safetensors, as Kyutai publishes), snac (SNAC's config.json and names, in safetensors),
openai (a Whisper's encoder under OpenAI's names), litgpt (Mini-Omni's names, in safetensors), hf (Hugging Face
transformers), orbax (jomni's own). Where a layout cannot express the model, nothing is written and
the message gives the reason.

Example:
  jomni convert kyutai/moshiko-pytorch-bf16 moshiko-orbax --to orbax \\
      --dtype bfloat16"""
    parser.add_argument("source", metavar="SRC", help=MODEL)
    parser.add_argument("target", metavar="DST", type=Path, help="folder for the converted model")
    parser.add_argument(
        "--to", metavar="LAYOUT", choices=LAYOUTS,
        help=f"one of {', '.join(LAYOUTS)} (default: that of the model's authors)",
    )  # fmt: skip
    add_dtype(parser, "number format of the language model or encoder", default="as it is")
    parser.add_argument("--codec-dtype", metavar="T", choices=DTYPES,
                        help="number format of the codec in the file; it always computes in float32 "
                        "(default: as it is)")  # fmt: skip
    add_force(parser, "replace DST if it holds a model already")


def convert(options: Namespace) -> None:
    """Run `jomni convert`."""
    check_folder(options.target, force=options.force, source=local_path(options.source))
    open_model(options.source)
    import jomni

    source, revision = split_revision(options.source)
    with device("cpu"):
        checkpoint = jomni.load(source, revision=revision)
        layout = options.to or checkpoint.layouts[0]
        jomni.save(
            checkpoint, options.target, layout=layout, dtype=options.dtype, overwrite=options.force,
            codec_dtype=options.codec_dtype,
        )  # fmt: skip
    dtype = f", {options.dtype}" if options.dtype else ""
    codec = f", the codec {options.codec_dtype}" if options.codec_dtype else ""
    count = f"{checkpoint.num_parameters():,} parameters"
    say(f"{options.target}: {count} of {options.source}, as {layout}{dtype}{codec}")


def _sizes(tree: Mapping[str, Any]) -> dict[str, int]:
    from jomni.tensors.weight_map import flatten

    return {path: math.prod(leaf.shape) for path, leaf in flatten(tree).items()}


def _groups(sizes: Mapping[str, int], groups: Mapping[str, tuple[str, ...]]) -> list[str]:
    counts = dict.fromkeys(groups, 0)
    for path, size in sizes.items():
        counts[next(name for name, starts in groups.items() if path.startswith(starts))] += size
    return [f"  {name}: {count:,}" for name, count in counts.items() if count]


def _stored(source: TensorSource | None) -> str:
    """Return the dtype that most numbers of a weight file have."""
    if source is None:
        return ""
    counts: Counter[str] = Counter()
    for spec in source.specs.values():
        counts[spec.dtype.name] += math.prod(spec.shape)
    return f", stored as {counts.most_common(1)[0][0]}" if counts else ""
