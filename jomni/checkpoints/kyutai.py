"""Kyutai's published layout: a Moshi with its Mimi and tokenizer, or a Mimi alone.

Source: `CheckpointInfo.from_hf_repo` of moshi/models/loaders.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jomni.checkpoints.checkpoint import Checkpoint, CheckpointSource
from jomni.checkpoints.export import ParameterSource, write_json, write_tensors
from jomni.checkpoints.hub import open_files, resolve_weights
from jomni.checkpoints.place import CONFIG_NAME, WEIGHTS_NAME, Place
from jomni.errors import ConfigError, WeightsError
from jomni.models.mimi.config import MIMI, MimiConfig
from jomni.models.moshi.config import MOSHI_7B, MoshiConfig
from jomni.tensors.files import open_source
from jomni.tensors.source import TensorSource, read_json

MIMI_NAME = "tokenizer-e351c8d8-checkpoint125.safetensors"
MIMI_CONFIG_NAME = "mimi_config.json"
TOKENIZER_NAME = "tokenizer_spm_32k_3.model"
LORA_NAME = "lora.safetensors"
_FILE_NAMES = ("moshi_name", "mimi_name", "mimi_config_name", "tokenizer_name", "lora_name")
_SETTINGS = ("tts_config", "stt_config", "model_id")
"""Top-level keys of a config.json that are kept for programs that read them."""


def is_mimi(source: TensorSource) -> bool:
    """Return whether a weight file holds a Mimi under Kyutai's names."""
    return any(name.startswith("quantizer.rvq_first.") for name in source.specs)


def is_moshi(source: TensorSource) -> bool:
    """Return whether a weight file holds a Moshi under Kyutai's names."""
    return "text_emb.weight" in source.specs


def open_config(place: Place, raw: dict[str, Any], path: Path) -> CheckpointSource:
    """Open the model of a Kyutai config.json: a Mimi ("seanet"), or a Moshi with the files that it names."""
    if "seanet" in raw:
        place.refuse_lora()
        return _mimi(place, MimiConfig.from_kyutai(raw, str(path)), _open_mimi_weights(place))
    names = {key: raw.pop(key, None) for key in _FILE_NAMES}
    wrong = [key for key, name in names.items() if name is not None and not isinstance(name, str)]
    if wrong:
        raise ConfigError(f"{path}: {wrong} must be file names. Correct them.")
    model_type = str(raw.pop("model_type", "moshi"))
    generation = dict(raw.pop("lm_gen_config", None) or {})
    settings = {key: raw.pop(key) for key in _SETTINGS if key in raw}
    lm = dataclasses.replace(MoshiConfig.from_kyutai(raw, str(path)), text_eos_reads_as_padding=model_type == "hibiki")
    weights = place.weights
    if weights is None and place.wants("lm"):
        weights = open_source(place.needed(names["moshi_name"] or WEIGHTS_NAME))
    mimi_path = place.optional(names["mimi_name"], MIMI_NAME)
    mimi = MIMI
    if mimi_path and names["mimi_config_name"]:
        config_path = place.optional(names["mimi_config_name"], "")
        mimi = MimiConfig.from_kyutai(read_json(config_path), str(config_path))  # type: ignore[arg-type]
    lora_path = None
    if place.lora is not None:
        lora_path = _lora_file(place.lora)
        if not lm.lora_rank:
            lm = _with_lora(lm, lora_path, str(path))
    elif lm.lora_rank and names["lora_name"] and place.wants("lm"):
        lora_path = place.needed(names["lora_name"])
    tokenizer = place.optional(names["tokenizer_name"], TOKENIZER_NAME)
    return _moshi(place, lm, weights, mimi, mimi_path, lora_path, tokenizer, generation, model_type, settings)


def open_without_config(place: Place) -> CheckpointSource | None:
    """Open a place without config.json: Moshi 7B under the default names, or a Mimi alone. None if neither exists."""
    weights = place.weights
    if weights is None and (place.wants("lm") or place.files.find(MIMI_NAME) is None):
        path = resolve_weights(place.files, WEIGHTS_NAME)
        weights = open_source(path) if path else None
    if weights is None or is_mimi(weights):
        place.refuse_lora()
        mimi_path = resolve_weights(place.files, MIMI_NAME) if weights is None else Path(weights.name)
        return None if mimi_path is None else open_mimi(place, open_source(mimi_path), mimi_path)
    lora_path = _lora_file(place.lora) if place.lora else None
    lm = _with_lora(MOSHI_7B, lora_path, place.where) if lora_path else MOSHI_7B
    mimi_path, tokenizer = resolve_weights(place.files, MIMI_NAME), place.files.find(TOKENIZER_NAME)
    return _moshi(place, lm, weights, MIMI, mimi_path, lora_path, tokenizer)


def open_mimi(place: Place, weights: TensorSource, path: Path) -> CheckpointSource:
    """Open a Mimi file with the configuration beside it, or else with the published one."""
    place.refuse_lora()
    for name in (MIMI_CONFIG_NAME, f"{path.name.split('.')[0]}.json", CONFIG_NAME):
        found = place.files.find(name)
        raw = read_json(found) if found else None
        if isinstance(raw, Mapping) and isinstance(raw.get("mimi_config_name"), str):
            found = place.optional(raw["mimi_config_name"], "")
            raw = read_json(found) if found else None
        if isinstance(raw, Mapping) and "seanet" in raw:
            return _mimi(place, MimiConfig.from_kyutai(raw, str(found)), weights)
    return _mimi(place, MIMI, weights)


def _mimi(place: Place, config: MimiConfig, weights: TensorSource) -> CheckpointSource:
    return CheckpointSource("mimi", {"mimi": config}, source=place.where, sources={"mimi": weights})


def _moshi(
    place: Place, lm: MoshiConfig, weights: TensorSource | None, mimi: MimiConfig, mimi_path: Path | None,
    lora_path: Path | None, tokenizer: Path | None, generation: dict[str, Any] | None = None, model_type: str = "moshi",
    settings: dict[str, Any] | None = None,
) -> CheckpointSource:  # fmt: skip
    configs, sources = {"lm": lm} | ({"mimi": mimi} if mimi_path else {}), {}
    if weights is not None:
        sources["lm"] = weights
    if mimi_path is not None:
        sources["mimi"] = open_source(mimi_path)
    return CheckpointSource(
        "moshi", configs, source=place.where, sources=sources,
        lora_source=open_source(lora_path) if lora_path else None,
        tokenizer=tokenizer.read_bytes() if tokenizer else None, generation=generation or {}, model_type=model_type,
        settings=settings or {},
    )  # fmt: skip


def _open_mimi_weights(place: Place) -> TensorSource:
    path = place.first((MIMI_NAME, WEIGHTS_NAME))
    if path is None:
        raise place.files.lacks(MIMI_NAME)
    return open_source(path)


def _lora_file(lora: str) -> Path:
    files, filename = open_files(lora)
    path = files.find(filename) if filename else None
    if path is None:
        raise WeightsError(f"{lora}: no such LoRA file. Give the path of a file, or hf://owner/name/file.")
    return path


def _with_lora(lm: MoshiConfig, lora: Path, where: str) -> MoshiConfig:
    """Return the model's configuration with the adapters of the config.json beside a LoRA file."""
    config = lora.parent / CONFIG_NAME
    raw = read_json(config) if config.is_file() else {}
    if not raw.get("lora"):
        raise WeightsError(
            f"{lora}: neither the config.json beside it nor {where} gives its rank and scaling. "
            'Put a config.json beside it with "lora": true, "lora_rank" and "lora_scaling".'
        )
    rank, scaling = int(raw.get("lora_rank", 128)), float(raw.get("lora_scaling", 2.0))
    return dataclasses.replace(lm, lora_rank=rank, lora_scaling=scaling)


def write(checkpoint: Checkpoint, folder: Path, dtype: np.dtype | None) -> None:
    """Write a checkpoint to an empty folder in the format that `CheckpointInfo.from_hf_repo` of moshi reads."""
    raw: dict[str, Any] = {}
    lm, mimi = checkpoint.configs.get("lm"), checkpoint.configs.get("mimi")
    if lm is not None:
        if lm.text_eos_reads_as_padding != (checkpoint.model_type == "hibiki"):
            raise ConfigError(
                f"Kyutai's layout cannot express 'text_eos_reads_as_padding' = {lm.text_eos_reads_as_padding} with the "
                f"model type {checkpoint.model_type!r}: only 'hibiki' has it there. Save as 'orbax'."
            )
        raw |= lm.to_kyutai() | {"moshi_name": WEIGHTS_NAME, "model_type": checkpoint.model_type}
        raw |= {key: checkpoint.settings[key] for key in _SETTINGS if key in checkpoint.settings}
        if checkpoint.generation:
            raw["lm_gen_config"] = checkpoint.generation
        source = ParameterSource(checkpoint, "lm", dtype)
        adapters = {name for name in source.specs if name.endswith((".lora_A.weight", ".lora_B.weight"))}
        write_tensors(folder / WEIGHTS_NAME, source, source.specs.keys() - adapters)
        if adapters:
            raw["lora_name"] = LORA_NAME
            write_tensors(folder / LORA_NAME, source, adapters)
    if mimi is not None:
        raw["mimi_name"] = MIMI_NAME
        if mimi != MIMI:
            raw["mimi_config_name"] = MIMI_CONFIG_NAME
            write_json(folder / MIMI_CONFIG_NAME, mimi.to_kyutai())
        write_tensors(folder / MIMI_NAME, ParameterSource(checkpoint, "mimi", dtype))
    if checkpoint.tokenizer is not None:
        raw["tokenizer_name"] = TOKENIZER_NAME
        (folder / TOKENIZER_NAME).write_bytes(checkpoint.tokenizer)
    if lm is not None:  # a codec alone has no config.json in this layout
        write_json(folder / CONFIG_NAME, raw)
