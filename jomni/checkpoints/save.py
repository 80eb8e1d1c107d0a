"""`save`: writes a checkpoint in its authors' layout, in Hugging Face's, or in the project's own."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jomni.checkpoints import hf, kyutai, litgpt, orbax, single
from jomni.checkpoints.checkpoint import Checkpoint
from jomni.checkpoints.export import check_parameters
from jomni.checkpoints.registry import COMPONENTS
from jomni.errors import ConfigError, OutputError
from jomni.folders import new_folder
from jomni.tensors.source import listing
from jomni.tensors.stream import parse_dtype
from jomni.tensors.weight_map import flatten, is_float, unflatten

_WRITERS: dict[str, Callable[[Checkpoint, Path, np.dtype | None], None]] = {
    "kyutai": kyutai.write,
    "litgpt": litgpt.write,
    "hf": hf.write,
    "orbax": orbax.write,
}  # each other layout is the published one of a component

# Files that a checkpoint folder may contain. Folders with other files are never replaced.
_REPLACEABLE = (
    "config.json", "jomni.json", "generation_config.json", "mimi_config.json", "preprocessor_config.json",
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "model_config.yaml",
)  # fmt: skip
_REPLACEABLE_SUFFIXES = (".safetensors", ".safetensors.index.json", ".model")


def save(
    checkpoint: Checkpoint,
    folder: str | os.PathLike[str],
    layout: str | None = None,
    dtype: Any = None,
    overwrite: bool = False,
    codec_dtype: Any = None,
) -> None:
    """Write a checkpoint to a new folder atomically.

    Args:
      checkpoint: a checkpoint as returned by `load`.
      folder: folder to create.
      layout: None: that of the model's authors. Otherwise one of
        "kyutai": read by moshi;
        "snac": the names and config.json of the package snac, in safetensors;
        "openai": a Whisper encoder under OpenAI's names in safetensors, with its dimensions in config.json;
        "litgpt": a Mini-Omni under its published names in lit_model.safetensors, with model_config.yaml, the
          tokenizer's files, and folders whisper and snac;
        "hf": read by transformers;
        "orbax": the project's own.
      dtype: floating-point dtype of the language model or the speech encoder in the file. None: as in memory; a speech
        encoder that was loaded without a dtype, and conditioners, keep the dtype of their original file.
      overwrite: replace an existing checkpoint. A folder with any other content is never replaced.
      codec_dtype: floating-point dtype of the codec in the file; in memory it is float32. None: that of its original
        file.

    Raises:
      ConfigError: the layout is unknown, or cannot express an option of the checkpoint.
      WeightsError: the parameters do not fit the checkpoint's configuration.
      OutputError: the folder exists or cannot be written.
    """
    target, codec_target = parse_dtype(dtype), parse_dtype(codec_dtype)
    layout = layout or checkpoint.layouts[0]
    known = [*_WRITERS, *(c.published.layout for c in COMPONENTS.values() if c.published)]
    if layout not in known:
        raise ConfigError(f"layout {layout!r} is unknown. Choose one of {', '.join(known)}.")
    if layout not in checkpoint.layouts:
        raise ConfigError(
            f"layout {layout!r} cannot express a model of the family {checkpoint.family!r}, only "
            f"{', '.join(checkpoint.layouts)}. Choose another."
        )
    check_parameters(checkpoint)
    if codec_target is not None:
        checkpoint = _round_codec(checkpoint, codec_target)
    with checkpoint_folder(folder, overwrite) as made:
        _WRITERS.get(layout, single.write)(checkpoint, made, target)


def _round_codec(checkpoint: Checkpoint, dtype: np.dtype) -> Checkpoint:
    """Return the checkpoint with its codecs rounded to `dtype`, and recorded as stored in it."""
    params, stored = dict(checkpoint.params), dict(checkpoint.stored)
    for part in [name for name in params if COMPONENTS[name].codec]:
        codec = {p: np.asarray(x) for p, x in flatten(params[part]).items()}
        rounded = {p: x.astype(dtype).astype(np.float32) if is_float(x.dtype) else x for p, x in codec.items()}
        params[part] = unflatten(rounded)
        stored = {path: name for path, name in stored.items() if not path.startswith(f"{part}/")}
        if dtype != np.float32:
            stored |= {f"{part}/{path}": dtype.name for path, x in codec.items() if is_float(x.dtype)}
    return dataclasses.replace(checkpoint, params=params, stored=stored)


@contextlib.contextmanager
def checkpoint_folder(folder: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yield a new folder to fill, like `jomni.folders.new_folder`. It may replace a checkpoint and nothing else.

    Raises:
      OutputError: `folder` exists and must not be replaced, has files that do not belong to a checkpoint, or cannot be
        written.
    """

    def check(target: Path, held: Sequence[str]) -> None:
        if not overwrite:
            raise OutputError(f"{target}: exists already. Choose another folder, or set overwrite.")
        foreign = [name for name in held if not _replaceable(target, name)]
        if foreign:
            raise OutputError(
                f"{target}: contains files that do not belong to a checkpoint and would be lost: {listing(foreign)}. "
                "Choose another folder, or move them away."
            )

    with new_folder(folder, check) as made:
        yield made


def _replaceable(folder: Path, name: str) -> bool:
    if name == "params":  # of the layout orbax
        return (folder / "jomni.json").is_file()
    if name in ("whisper", "snac"):  # of Mini-Omni
        held = folder / name
        return held.is_dir() and not held.is_symlink() and all(_replaceable(held, path.name) for path in held.iterdir())
    return name in _REPLACEABLE or name.endswith(_REPLACEABLE_SUFFIXES)
