"""`save`: a checkpoint back to its authors' layout, to Hugging Face's, or to the project's own."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from jomni.checkpoints import hf, orbax
from jomni.checkpoints.checkpoint import Checkpoint
from jomni.checkpoints.detect import (
    CONFIG_NAME,
    MIMI_CONFIG_NAME,
    MIMI_NAME,
    MOSHI_NAME,
    SETTINGS,
    SNAC_NAMES,
    TOKENIZER_NAME,
)
from jomni.checkpoints.parameters import ParameterSource, check_parameters
from jomni.errors import ConfigError
from jomni.models.mimi.config import MIMI
from jomni.models.mini_omni import weights as mini_omni
from jomni.models.mini_omni.config import NO_EFFECT
from jomni.tensors.stream import parse_dtype
from jomni.tensors.weight_map import flatten, is_float, unflatten
from jomni.tensors.write import checkpoint_folder, write_safetensors

LORA_NAME = "lora.safetensors"
LAYOUTS = ("kyutai", "snac", "openai", "litgpt", "hf", "orbax")


def save(
    checkpoint: Checkpoint,
    folder: str | os.PathLike[str],
    layout: str | None = None,
    dtype: Any = None,
    overwrite: bool = False,
    codec_dtype: Any = None,
) -> None:
    """Writes a checkpoint to a new folder, whole or not at all.

    Args:
      checkpoint: as `load` returns it.
      folder: to be made.
      layout: "kyutai" (what moshi reads), "snac" (the names and config.json of the package snac, in safetensors),
        "openai" (a Whisper's encoder under OpenAI's names: safetensors, with its dimensions in config.json), "litgpt"
        (a Mini-Omni under its published names in lit_model.safetensors, with model_config.yaml, the tokenizer's files,
        and folders whisper and snac), "hf" (what transformers reads) or "orbax" (the project's own). None: that of the
        model's authors.
      dtype: floating-point dtype of the language model or the speech encoder in the file; None: as in memory. The
        conditioners, and an encoder that was loaded without a dtype, stay as the file had them that they came from.
      overwrite: replace a checkpoint that is there. A folder that holds anything else is never replaced.
      codec_dtype: the same of the codec, which is float32 again in memory; None: it stays as the conditioners do.

    Raises:
      ConfigError: the layout is unknown, or cannot express an option of the checkpoint.
      WeightsError: the parameters are not those of the checkpoint's configuration.
      OutputError: the folder exists, or cannot be written.
    """
    target, codec_target = parse_dtype(dtype), parse_dtype(codec_dtype)
    layout = layout or checkpoint.layouts[0]
    if layout not in LAYOUTS:
        raise ConfigError(f"layout {layout!r} is unknown. Choose one of {', '.join(LAYOUTS)}.")
    if layout not in checkpoint.layouts:
        raise ConfigError(
            f"layout {layout!r} cannot express a model of the family {checkpoint.family!r}, only "
            f"{', '.join(checkpoint.layouts)}. Choose another."
        )
    writers: dict[str, Callable[[Checkpoint, Path, np.dtype | None], None]] = {
        "kyutai": write_kyutai, "snac": write_snac, "openai": write_openai, "litgpt": write_litgpt,
        "hf": hf.save_folder, "orbax": orbax.write,
    }  # fmt: skip
    check_parameters(checkpoint)
    if codec_target is not None:
        checkpoint = _round_codec(checkpoint, codec_target)
    with checkpoint_folder(folder, overwrite) as made:
        writers[layout](checkpoint, made, target)


def write_kyutai(checkpoint: Checkpoint, folder: Path, dtype: np.dtype | None) -> None:
    """Fills an empty folder with what `CheckpointInfo.from_hf_repo` of moshi/models/loaders.py reads."""
    raw: dict[str, Any] = {}
    if checkpoint.lm is not None:
        lm = checkpoint.lm
        if lm.text_eos_reads_as_padding != (checkpoint.model_type == "hibiki"):
            raise ConfigError(
                f"Kyutai's layout cannot express 'text_eos_reads_as_padding' = {lm.text_eos_reads_as_padding} with the "
                f"model type {checkpoint.model_type!r}: there it belongs to 'hibiki' alone. Save as 'orbax'."
            )
        raw |= lm.to_kyutai() | {"moshi_name": MOSHI_NAME, "model_type": checkpoint.model_type}
        raw |= {key: checkpoint.settings[key] for key in SETTINGS if key in checkpoint.settings}
        if checkpoint.generation:
            raw["lm_gen_config"] = checkpoint.generation
        source = ParameterSource(checkpoint, "lm", dtype)
        adapters = {name for name in source.specs if name.endswith((".lora_A.weight", ".lora_B.weight"))}
        _write(folder / MOSHI_NAME, source, source.specs.keys() - adapters)
        if adapters:
            raw["lora_name"] = LORA_NAME
            _write(folder / LORA_NAME, source, adapters)
    if checkpoint.mimi is not None:
        raw["mimi_name"] = MIMI_NAME
        if checkpoint.mimi != MIMI:
            raw["mimi_config_name"] = MIMI_CONFIG_NAME
            _write_json(folder / MIMI_CONFIG_NAME, checkpoint.mimi.to_kyutai())
        source = ParameterSource(checkpoint, "mimi", dtype)
        _write(folder / MIMI_NAME, source, source.specs.keys())
    if checkpoint.tokenizer is not None:
        raw["tokenizer_name"] = TOKENIZER_NAME
        (folder / TOKENIZER_NAME).write_bytes(checkpoint.tokenizer)
    if checkpoint.lm is not None:  # a codec alone has no config.json there
        _write_json(folder / CONFIG_NAME, raw)


def write_openai(checkpoint: Checkpoint, folder: Path, dtype: np.dtype | None) -> None:
    """Fills an empty folder with a Whisper's encoder under OpenAI's names, and its dimensions."""
    assert checkpoint.whisper is not None
    source = ParameterSource(checkpoint, "whisper", dtype)
    _write(folder / MOSHI_NAME, source, source.specs.keys())
    _write_json(folder / CONFIG_NAME, checkpoint.whisper.to_openai())


def write_litgpt(checkpoint: Checkpoint, folder: Path, dtype: np.dtype | None) -> None:
    """Fills an empty folder with a Mini-Omni under its published names, and with its Whisper and SNAC beside it."""
    assert checkpoint.omni is not None
    fields = checkpoint.omni.to_published({k: v for k, v in checkpoint.settings.items() if k in NO_EFFECT})
    mini_omni.write_yaml(folder / mini_omni.CONFIG_NAME, fields)
    source = ParameterSource(checkpoint, "omni", dtype)
    _write(folder / mini_omni.WEIGHT_NAMES[0], source, source.specs.keys())
    for name, content in checkpoint.files.items():
        (folder / name).write_bytes(content)
    if checkpoint.whisper is not None:
        (folder / mini_omni.WHISPER_FOLDERS[0]).mkdir()
        write_openai(checkpoint, folder / mini_omni.WHISPER_FOLDERS[0], dtype)
    if checkpoint.snac is not None:
        (folder / mini_omni.SNAC_FOLDERS[0]).mkdir()
        write_snac(checkpoint, folder / mini_omni.SNAC_FOLDERS[0], dtype)


def write_snac(checkpoint: Checkpoint, folder: Path, dtype: np.dtype | None) -> None:
    """Fills an empty folder with SNAC's config.json, and its weights under their published names in safetensors."""
    assert checkpoint.snac is not None
    source = ParameterSource(checkpoint, "snac", dtype)
    _write(folder / SNAC_NAMES[0], source, source.specs.keys())
    _write_json(folder / CONFIG_NAME, checkpoint.snac.to_published())


def _round_codec(checkpoint: Checkpoint, dtype: np.dtype) -> Checkpoint:
    """The checkpoint with codecs that `dtype` can hold, noted as stored in it."""
    params, stored = dict(checkpoint.params), dict(checkpoint.stored)
    for part in {"mimi", "snac"} & params.keys():
        codec = {p: np.asarray(x) for p, x in flatten(params[part])}
        rounded = {p: x.astype(dtype).astype(np.float32) if is_float(x.dtype) else x for p, x in codec.items()}
        params[part] = unflatten(rounded)
        stored = {path: name for path, name in stored.items() if not path.startswith(f"{part}/")}
        if dtype != np.float32:
            stored |= {f"{part}/{path}": dtype.name for path, x in codec.items() if is_float(x.dtype)}
    return dataclasses.replace(checkpoint, params=params, stored=stored)


def _write(path: Path, source: ParameterSource, names: Collection[str]) -> None:
    # "format" is what other readers of safetensors look for before they take a file for torch's.
    write_safetensors(path, {name: source.specs[name] for name in names}, source.read, {"format": "pt"})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
