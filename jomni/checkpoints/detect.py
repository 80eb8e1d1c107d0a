"""Recognises a checkpoint: reads its configuration and opens its weight files, without reading any tensor.

Kyutai's layout is followed as `CheckpointInfo.from_hf_repo` of moshi/models/loaders.py reads it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jomni.checkpoints import orbax
from jomni.checkpoints.hf import TEXT_FILES, is_hf_config, open_decoder, open_folder
from jomni.checkpoints.hub import Files, HubRepository, Within, open_files, resolve, resolve_weights
from jomni.checkpoints.registry import PARTS
from jomni.errors import ConfigError, WeightsError
from jomni.models.decoder.config import DecoderConfig
from jomni.models.decoder.weights import ARCHITECTURES
from jomni.models.mimi.config import MIMI, MimiConfig
from jomni.models.mini_omni import weights as mini_omni
from jomni.models.mini_omni.config import NO_EFFECT, MiniOmniConfig
from jomni.models.moshi.config import MOSHI_7B, MoshiConfig
from jomni.models.snac.config import SnacConfig, is_snac_config
from jomni.models.whisper.config import WhisperConfig
from jomni.models.whisper.weights import layout_of
from jomni.tensors.source import TensorSource, open_source, read_json
from jomni.tensors.unpickle import TorchSource

CONFIG_NAME = "config.json"
ORBAX_NAME = "jomni.json"  # marks the project's own form
ORBAX_PATTERNS = [ORBAX_NAME, "params/*", *TEXT_FILES]
MOSHI_NAME = "model.safetensors"
MIMI_NAME = "tokenizer-e351c8d8-checkpoint125.safetensors"
MIMI_CONFIG_NAME = "mimi_config.json"
TOKENIZER_NAME = "tokenizer_spm_32k_3.model"
_FILE_NAMES = ("moshi_name", "mimi_name", "mimi_config_name", "tokenizer_name", "lora_name")
SETTINGS = ("tts_config", "stt_config", "model_id")
"""Top-level keys of a Kyutai config.json that are carried along for the programs that read them."""
SNAC_NAMES = ("model.safetensors", "pytorch_model.bin")
"""Weight files of a SNAC: as it is exported, and as it is published."""


@dataclasses.dataclass(frozen=True)
class Opened:
    """A checkpoint whose configuration is known and whose weight files are open."""

    source: str
    family: str  # as `Checkpoint.family`
    mimi: MimiConfig | None = None
    lm: MoshiConfig | None = None
    snac: SnacConfig | None = None
    whisper: WhisperConfig | None = None
    decoder: DecoderConfig | None = None
    omni: MiniOmniConfig | None = None
    sources: dict[str, TensorSource] = dataclasses.field(default_factory=dict)
    """Part -> its weights, under its authors' names (Whisper's: OpenAI's or Hugging Face's, with its decoder)."""
    lora_source: TensorSource | None = None  # low-rank adapters, and tensors that replace the model's
    tokenizer: bytes | None = None
    generation: dict[str, Any] = dataclasses.field(default_factory=dict)
    model_type: str = "moshi"
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    stored: dict[str, str] = dataclasses.field(default_factory=dict)  # as `Checkpoint.stored`
    orbax: Path | None = None  # the folder, where it is the project's own form: then no source is open
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)  # as `Checkpoint.files`


def open_checkpoint(
    source: str | os.PathLike[str],
    *,
    revision: str | None = None,
    lora: str | os.PathLike[str] | None = None,
    parts: Collection[str] = tuple(PARTS),
) -> Opened:
    """Opens a folder, a file or a hub repository.

    Args:
      source: see `jomni.load`.
      revision: of a hub repository.
      lora: a LoRA file to use instead of the one that the configuration names.
      parts: without "lm", the language model's configuration is read, but a file of its own is not opened, nor fetched
        from the hub.

    Raises:
      WeightsError: it is not there, or is no checkpoint that is known.
      ConfigError: an option in its configuration is unknown or not supported.
    """
    files, filename = open_files(source, revision)
    where = os.fspath(source)
    adapters = None if lora is None else os.fspath(lora)
    if filename in (None, CONFIG_NAME, ORBAX_NAME, mini_omni.CONFIG_NAME, *mini_omni.WEIGHT_NAMES):
        return _open_folder(files, where, adapters, parts=parts)
    path = resolve_weights(files, filename)  # type: ignore[arg-type]
    if path is None:
        raise files.lacks(str(filename))
    weights = open_source(path)
    kind = _kind(weights)
    if kind == "mimi":
        _no_lora(adapters, where)
        return _mimi_alone(where, _neighbouring_mimi(files, path), weights)
    if kind == "lm":
        return _open_folder(files, where, adapters, weights, parts)
    if layout_of(weights) == "openai":
        _no_lora(adapters, where)
        return _open_whisper(files, where, weights)
    if kind == "snac":
        _no_lora(adapters, where)
        config = files.find(CONFIG_NAME)
        if config is None:
            raise files.lacks(CONFIG_NAME)
        return _open_snac(read_json(config), config, where, weights)
    if any(".lora_A." in name for name in weights.specs):
        raise WeightsError(f"{where}: is a LoRA file. Name the model that it is for, and give this file as `lora`.")
    config = files.find(CONFIG_NAME)
    if config is not None and is_hf_config(read_json(config)):
        return _open_folder(files, where, adapters)
    raise WeightsError(
        f"{where}: holds neither a Mimi codec nor a Moshi language model in Kyutai's names, nor a SNAC codec, nor a "
        "Whisper in OpenAI's names, and no config.json of transformers lies beside it. Name the file, or the folder, "
        "of such a model."
    )


def _open_folder(
    files: Files,
    where: str,
    lora: str | None = None,
    lm_source: TensorSource | None = None,
    parts: Collection[str] = tuple(PARTS),
) -> Opened:
    path = files.find(CONFIG_NAME)
    if path is None:
        marker = files.find(ORBAX_NAME)
        if marker is not None:
            _no_lora(lora, where)
            return Opened(where, orbax=_fetch_orbax(files, marker), **orbax.read_settings(marker.parent))
        if (options := files.find(mini_omni.CONFIG_NAME)) is not None:
            _no_lora(lora, where)
            return _open_omni(files, options, where, parts)
        return _open_legacy(files, where, lora, lm_source, parts)
    raw = read_json(path)
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}: is not a JSON object of options. Fetch it anew.")
    if is_hf_config(raw):
        _no_lora(lora, where)
        if raw.get("model_type") in ARCHITECTURES:
            return _open_decoder(files, raw, path, where)
        return _open_hf(files, path, where)
    if "n_audio_ctx" in raw:
        _no_lora(lora, where)
        return _open_whisper(files, where, open_source(_needed(files, MOSHI_NAME)))
    if is_snac_config(raw):
        _no_lora(lora, where)
        found = next((p for name in SNAC_NAMES if (p := resolve_weights(files, name))), None)
        if found is None:
            raise files.lacks(SNAC_NAMES[-1])
        return _open_snac(raw, path, where, open_source(found))
    if "seanet" in raw:
        _no_lora(lora, where)
        config = MimiConfig.from_kyutai(raw, str(path))
        return _mimi_alone(where, config, _open_mimi_weights(files))
    return _open_kyutai(files, path, dict(raw), where, lora, lm_source, parts)


def _fetch_orbax(files: Files, marker: Path) -> Path:
    """The folder of the project's own form; from the hub, all its files are fetched."""
    if isinstance(files, HubRepository):
        files.fetch(ORBAX_PATTERNS)
    return marker.parent


def _open_kyutai(
    files: Files,
    path: Path,
    raw: dict[str, Any],
    where: str,
    lora: str | None,
    lm_source: TensorSource | None,
    parts: Collection[str],
) -> Opened:
    names = {key: raw.pop(key, None) for key in _FILE_NAMES}
    wrong = [key for key, name in names.items() if name is not None and not isinstance(name, str)]
    if wrong:
        raise ConfigError(f"{path}: {wrong} must be file names. Correct them.")
    model_type = str(raw.pop("model_type", "moshi"))
    generation = dict(raw.pop("lm_gen_config", None) or {})
    settings = {key: raw.pop(key) for key in SETTINGS if key in raw}
    lm = dataclasses.replace(MoshiConfig.from_kyutai(raw, str(path)), text_eos_reads_as_padding=model_type == "hibiki")
    if lm_source is None and "lm" in parts:
        lm_source = open_source(_needed(files, names["moshi_name"] or MOSHI_NAME))
    mimi_path = _optional(files, names["mimi_name"], MIMI_NAME)
    mimi = MIMI
    if mimi_path and names["mimi_config_name"]:
        config_path = _optional(files, names["mimi_config_name"], "")
        mimi = MimiConfig.from_kyutai(read_json(config_path), str(config_path))  # type: ignore[arg-type]
    lora_name = lora or (names["lora_name"] if lm.lora_rank else None)
    lora_path = None
    if lora is not None:
        lora_path = _lora_file(lora)
        if not lm.lora_rank:
            lm = _with_lora(lm, lora_path, str(path))
    elif lora_name and "lm" in parts:
        lora_path = _needed(files, lora_name)
    tokenizer = _optional(files, names["tokenizer_name"], TOKENIZER_NAME)
    return Opened(
        where, "moshi", mimi if mimi_path else None, lm, sources=_sources(lm=lm_source, mimi=mimi_path),
        lora_source=open_source(lora_path) if lora_path else None,
        tokenizer=tokenizer.read_bytes() if tokenizer else None, generation=generation, model_type=model_type,
        settings=settings,
    )  # fmt: skip


def _open_legacy(
    files: Files, where: str, lora: str | None, lm_source: TensorSource | None, parts: Collection[str]
) -> Opened:
    """A place without config.json: Moshi 7B under the default names, or a codec alone."""
    if lm_source is None and ("lm" in parts or files.find(MIMI_NAME) is None):
        path = resolve_weights(files, MOSHI_NAME)
        lm_source = open_source(path) if path else None
    if lm_source is None or _kind(lm_source) == "mimi":
        _no_lora(lora, where)
        mimi_path = resolve_weights(files, MIMI_NAME) if lm_source is None else Path(lm_source.name)
        if mimi_path is None:
            if any(files.find(name) for name in mini_omni.WEIGHT_NAMES):
                raise files.lacks(mini_omni.CONFIG_NAME)
            raise WeightsError(
                f"{where}: no checkpoint is recognised there: it has none of {CONFIG_NAME}, {ORBAX_NAME}, "
                f"{mini_omni.CONFIG_NAME}, {MOSHI_NAME} and {MIMI_NAME}. "
                "Name a checkpoint's folder, a weight file, or a hub id owner/name."
            )
        return _mimi_alone(where, _neighbouring_mimi(files, mimi_path), open_source(mimi_path))
    mimi_path = resolve_weights(files, MIMI_NAME)
    tokenizer = files.find(TOKENIZER_NAME)
    lora_path = _lora_file(lora) if lora else None
    return Opened(
        where, "moshi", MIMI if mimi_path else None,
        _with_lora(MOSHI_7B, lora_path, where) if lora_path else MOSHI_7B,
        sources=_sources(lm=lm_source, mimi=mimi_path), lora_source=open_source(lora_path) if lora_path else None,
        tokenizer=tokenizer.read_bytes() if tokenizer else None,
    )  # fmt: skip


def _mimi_alone(where: str, config: MimiConfig, weights: TensorSource) -> Opened:
    return Opened(where, "mimi", config, sources={"mimi": weights}, model_type="mimi")


def _sources(lm: TensorSource | None, mimi: Path | None) -> dict[str, TensorSource]:
    return ({"lm": lm} if lm else {}) | ({"mimi": open_source(mimi)} if mimi else {})


def _open_hf(files: Files, config: Path, where: str) -> Opened:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if resolve_weights(files, name):
            break
    for name in ("generation_config.json", "tokenizer.model", "tokenizer.json"):
        files.find(name)  # fetches it where it exists
    found = open_folder(config.parent)
    return Opened(
        where, found.model_type, found.mimi, found.lm, whisper=found.whisper, sources=found.sources,
        tokenizer=found.tokenizer, generation=found.generation, model_type=found.model_type,
    )  # fmt: skip


def _open_whisper(files: Files, where: str, weights: TensorSource) -> Opened:
    """A file under OpenAI's names: its dimensions are in it, or in the config.json beside it."""
    dims, told = (weights.dims, f"{weights.name}, dims") if isinstance(weights, TorchSource) else (None, "")
    if dims is None and (path := files.find(CONFIG_NAME)) is not None:
        dims, told = read_json(path), str(path)
    if dims is None:
        names = ", ".join(field.name for field in dataclasses.fields(WhisperConfig))
        raise WeightsError(
            f"{where}: is a Whisper, but neither it ('dims') nor a config.json beside it says how large. Put a "
            f"config.json beside it with its dimensions: {names}."
        )
    config = WhisperConfig.from_openai(dims, told)
    return Opened(where, "whisper", model_type="whisper", whisper=config, sources={"whisper": weights})


def _open_decoder(files: Files, raw: Mapping[str, Any], config: Path, where: str) -> Opened:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if resolve_weights(files, name):
            break
    for name in TEXT_FILES:
        files.find(name)  # fetches it where it exists
    found = open_decoder(config.parent, raw)
    return Opened(
        where, "decoder", model_type=raw["model_type"], generation=found.generation, decoder=found.config,
        sources={"decoder": found.source}, files=found.files,
    )  # fmt: skip


def _open_omni(files: Files, options: Path, where: str, parts: Collection[str]) -> Opened:
    """A Mini-Omni as published, with the Whisper and the SNAC that lie beside it."""
    fields = mini_omni.read_yaml(options)
    config, sources = MiniOmniConfig.from_published(fields, str(options)), {}
    if "omni" in parts:
        found = next((path for name in mini_omni.WEIGHT_NAMES if (path := resolve_weights(files, name))), None)
        if found is None:
            raise files.lacks(mini_omni.WEIGHT_NAMES[-1])
        sources["omni"] = open_source(found)
    opened = Opened(
        where, "mini_omni", omni=config, sources=sources, model_type="mini-omni",
        settings={key: fields[key] for key in NO_EFFECT if key in fields},
        files={name: path.read_bytes() for name in TEXT_FILES if (path := files.find(name)) is not None},
    )  # fmt: skip
    for part, folders in (("whisper", mini_omni.WHISPER_FOLDERS), ("snac", mini_omni.SNAC_FOLDERS)):
        if part in parts and (beside := _open_beside(files, part, folders)) is not None:
            held = {part: getattr(beside, part)}
            opened = dataclasses.replace(opened, sources=opened.sources | beside.sources, **held)
    mini_omni.check_neighbours(config, opened.whisper, opened.snac, where)
    return opened


def _open_beside(files: Files, part: str, folders: Collection[str]) -> Opened | None:
    """A model in one of the folders of a place; a Whisper also in the file of its published name."""
    if part == "whisper" and (path := files.find(mini_omni.WHISPER_NAME)) is not None:
        return _open_whisper(files, str(path), open_source(path))
    for folder in (Within(files, name) for name in folders):
        if (path := folder.find(CONFIG_NAME)) is not None:
            opened = _open_folder(folder, str(path.parent))
            if getattr(opened, part) is None:
                raise ConfigError(f"{path.parent}: holds a {opened.family}, where a {part} belongs. Move it away.")
            return opened
    return None


def _open_snac(raw: Any, path: Path, where: str, weights: TensorSource) -> Opened:
    if not is_snac_config(raw):
        raise ConfigError(f"{path}: is no configuration of SNAC, whose weights {weights.name} holds. Fetch it anew.")
    config = SnacConfig.from_published(raw, str(path))
    return Opened(where, "snac", model_type="snac", snac=config, sources={"snac": weights})


def _open_mimi_weights(files: Files) -> TensorSource:
    for name in (MIMI_NAME, MOSHI_NAME):
        if path := resolve_weights(files, name):
            return open_source(path)
    raise files.lacks(MIMI_NAME)


def _neighbouring_mimi(files: Files, weights: Path) -> MimiConfig:
    """The configuration that lies beside a bare Mimi file, else the published one."""
    for name in (MIMI_CONFIG_NAME, f"{weights.name.split('.')[0]}.json", CONFIG_NAME):
        path = files.find(name)
        raw = read_json(path) if path else None
        if isinstance(raw, Mapping) and isinstance(raw.get("mimi_config_name"), str):
            path = _optional(files, raw["mimi_config_name"], "")
            raw = read_json(path) if path else None
        if isinstance(raw, Mapping) and "seanet" in raw:
            return MimiConfig.from_kyutai(raw, str(path))
    return MIMI


def _kind(source: TensorSource) -> str:
    """What the names in a file say that it is: "mimi", "lm", "snac" or ""."""
    if any(name.startswith("quantizer.rvq_first.") for name in source.specs):
        return "mimi"
    if "quantizer.quantizers.0.codebook.weight" in source.specs:
        return "snac"
    return "lm" if "text_emb.weight" in source.specs else ""


def _needed(files: Files, name: str) -> Path:
    path = resolve_weights(files, name)
    if path is None:
        raise files.lacks(name)
    return path


def _optional(files: Files, name: str | None, default: str) -> Path | None:
    """A file that must be there where the configuration names it, and may be where it does not."""
    path = resolve(files, name or default)
    if path is None and name is not None:
        raise files.lacks(name)
    return path


def _lora_file(lora: str) -> Path:
    files, filename = open_files(lora)
    path = files.find(filename) if filename else None
    if path is None:
        raise WeightsError(f"{lora}: no such LoRA file. Give the path of a file, or hf://owner/name/file.")
    return path


def _with_lora(lm: MoshiConfig, lora: Path, where: str) -> MoshiConfig:
    """The model's configuration with the adapters that the config.json beside a LoRA file describes."""
    config = lora.parent / CONFIG_NAME
    raw = read_json(config) if config.is_file() else {}
    if not raw.get("lora"):
        raise WeightsError(
            f"{lora}: neither the config.json beside it nor {where} says what rank and scaling it has. "
            'Put a config.json beside it with "lora": true, "lora_rank" and "lora_scaling".'
        )
    rank, scaling = int(raw.get("lora_rank", 128)), float(raw.get("lora_scaling", 2.0))
    return dataclasses.replace(lm, lora_rank=rank, lora_scaling=scaling)


def _no_lora(lora: str | None, where: str) -> None:
    if lora is not None:
        raise WeightsError(f"{where}: a LoRA file ({lora}) fits only a language model of Kyutai's layout. Omit it.")
