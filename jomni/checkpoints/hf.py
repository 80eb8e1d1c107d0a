"""Hugging Face folders in the format of transformers: reading and writing.

A folder holds one network (`Component.huggingface`), or a Moshi with its codec in one file. The file's tensors are
shown under the names of the network's own weight map, and back. No values are computed, so an import is exported byte
for byte. Differences between the implementations are handled in the `weights_hf` modules of the models.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jomni.checkpoints.checkpoint import Checkpoint, CheckpointSource
from jomni.checkpoints.export import ParameterSource, write_json, write_text_files
from jomni.checkpoints.place import TORCH_NAME, WEIGHTS_NAME, Place
from jomni.checkpoints.registry import COMPONENTS
from jomni.checkpoints.tokenizers import read_tokenizer_json
from jomni.errors import ConfigError, WeightsError
from jomni.models.mimi.component import preprocessor
from jomni.models.mimi.weights_hf import mimi_layout, read_mimi_config, write_mimi_config
from jomni.models.moshi.weights_hf import moshi_layout, read_moshi_config, write_moshi_config
from jomni.tensors.component import Component
from jomni.tensors.files import open_source
from jomni.tensors.layout import MappedSource, check_tensors
from jomni.tensors.source import TensorSource, TensorSpec, read_json
from jomni.tensors.write import write_safetensors

SHARD_BYTES = 5_000_000_000  # largest weight file that is written; the default of transformers
_MOSHI = "MoshiForConditionalGeneration"
_AUDIO_PREFIX = "audio_encoder."  # prefix of the codec's tensors in a Moshi folder
_TOKENIZER = "tokenizer.model"
_SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
# Kyutai's sampling options with their defaults (moshi/models/lm.py::LMGen), and those without effect.
_SAMPLING = {"use_sampling": True, "temp": 0.8, "temp_text": 0.7, "top_k": 250, "top_k_text": 25}
_NO_EFFECT: dict[str, Any] = {"cfg_coef": 1.0, "check": False, "cfg_is_masked_until": None, "cfg_is_no_text": False}


def is_hf_config(raw: object) -> bool:
    """Return whether the content of a config.json is in transformers' format. Kyutai's has none of these keys."""
    return isinstance(raw, Mapping) and any(k in raw for k in ("architectures", "transformers_version", "hidden_size"))


def open_folder(place: Place, path: Path) -> CheckpointSource:
    """Open a folder written by `save_pretrained` of transformers 4 or 5, or by `write`.

    Args:
      place: the folder.
      path: its config.json.

    Raises:
      ConfigError: the architecture or an option is not supported. The message names every such option.
      WeightsError: a file is missing or damaged, or tensors are missing, unknown or misshapen.
    """
    raw = read_json(path)
    kind, architectures = raw.get("model_type"), raw.get("architectures") or []
    if kind == "moshi" and architectures in ([], [_MOSHI]):
        return _open_moshi(place, raw, path)
    component = next((c for c in COMPONENTS.values() if c.huggingface and kind in c.huggingface.architectures), None)
    known = component.huggingface.architectures[kind] if component and component.huggingface else ()
    if component is None or any(name not in known for name in architectures):
        supported = [_MOSHI, *(name for c in COMPONENTS.values() if c.huggingface for names in
                               c.huggingface.architectures.values() for name in names)]  # fmt: skip
        raise ConfigError(
            f"{path}: model_type {kind!r} with architectures {architectures} is not supported, "
            f"only {', '.join(supported)}. Save the whole model."
        )
    form, name = component.huggingface, component.name
    assert form is not None
    config = form.read(raw, str(path))
    source = form.to_own(_weights(place), config)
    generation = _text_generation(place, raw) if form.text else {}
    return CheckpointSource(
        name, {name: config}, source=place.where, sources={name: source}, model_type=str(kind), generation=generation,
        files=place.text_files() if form.text else {},
    )  # fmt: skip


def _open_moshi(place: Place, raw: Mapping[str, Any], path: Path) -> CheckpointSource:
    lm = read_moshi_config(raw, str(path))
    mimi = read_mimi_config(raw.get("audio_encoder_config") or {}, f"{path}, audio_encoder_config")
    if mimi.num_codebooks < lm.dep_q:
        raise ConfigError(
            f"{path}: 'num_codebooks' = {lm.dep_q}, but the codec has only {mimi.num_codebooks} codebooks"
        )
    base, layouts = _weights(place), {"lm": moshi_layout(lm), "mimi": mimi_layout(mimi, _AUDIO_PREFIX)}
    check_tensors(base.specs, layouts.values(), base.name)
    generation = place.files.find("generation_config.json")
    return CheckpointSource(
        "moshi", {"lm": lm, "mimi": mimi}, source=place.where,
        sources={name: MappedSource(base, layout, "kyutai") for name, layout in layouts.items()},
        generation=_read_generation(generation) if generation else {}, tokenizer=_read_tokenizer(place),
    )  # fmt: skip


def _weights(place: Place) -> TensorSource:
    path = place.first((WEIGHTS_NAME, TORCH_NAME))
    if path is None:
        raise WeightsError(f"{place.where}: holds neither {WEIGHTS_NAME} nor its index. Fetch the model's weights.")
    return open_source(path)


def _read_tokenizer(place: Place) -> bytes | None:
    """Return the content of the sentencepiece file, or of one made from transformers' conversion of it."""
    if (path := place.files.find(_TOKENIZER)) is not None:
        return path.read_bytes()
    converted = place.files.find("tokenizer.json")
    return read_tokenizer_json(converted) if converted else None


def _text_generation(place: Place, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of generation_config.json, merged over the special tokens of config.json."""
    generation = {key: raw[key] for key in _SPECIAL_TOKENS if raw.get(key) is not None}
    if (path := place.files.find("generation_config.json")) is not None:
        given = read_json(path)
        if not isinstance(given, dict):
            raise WeightsError(f"{path}: is not a JSON object. Download it again.")
        generation |= given
    return generation


def _read_generation(path: Path) -> dict[str, Any]:
    """Return Kyutai's sampling options from the generation_config.json of a Moshi.

    The top level has the text's sampling, `depth_decoder_config` the audio's. The published files name the text's
    temperature `temp`, which transformers does not read. It is read here, because it is the intended value.
    """
    text = read_json(path)
    audio = text.get("depth_decoder_config") or {}
    found = {
        "temp_text": text.get("temperature", text.get("temp")), "top_k_text": text.get("top_k"),
        "temp": audio.get("temperature"), "top_k": audio.get("top_k"),
    }  # fmt: skip
    generation = {key: value for key, value in found.items() if value is not None}
    sampled = {"temp_text": text.get("do_sample"), "temp": audio.get("do_sample")}
    if set(sampled.values()) == {False}:
        generation["use_sampling"] = False
    elif False in sampled.values():  # one of the two is greedy, which is a temperature of 0
        generation |= {key: 0.0 for key, value in sampled.items() if value is False}
    return generation


def write(
    checkpoint: Checkpoint, folder: str | Path, dtype: np.dtype | None = None, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write a checkpoint to an empty folder in the format that `from_pretrained` of transformers reads.

    The text tokenizer of a Moshi is written as a sentencepiece file (tokenizer.model). `model_id`, the origin of the
    weights, is not written.

    Args:
      checkpoint: a Moshi with its codec, or one network that transformers supports.
      folder: an empty folder.
      dtype: see `jomni.save`.
      shard_bytes: largest size of a weight file; larger weights are split.

    Raises:
      ConfigError: Hugging Face's layout cannot express an option. The message names all such options.
    """
    folder = Path(folder)
    if checkpoint.family == "moshi":
        config, sources = _moshi_parts(checkpoint, folder, dtype)
        prepared: dict[str, Any] | None = preprocessor(checkpoint.configs["mimi"])
    else:
        component = COMPONENTS[checkpoint.family]
        config, sources = _single_parts(component, checkpoint, dtype)
        form = component.huggingface
        assert form is not None
        prepared = form.preprocessor(checkpoint.configs[component.name]) if form.preprocessor else None
        if form.text:
            config |= {key: checkpoint.generation[key] for key in _SPECIAL_TOKENS if key in checkpoint.generation}
            write_text_files(checkpoint, folder)
    write_json(folder / "config.json", config, sort_keys=True)
    if prepared is not None:
        write_json(folder / "preprocessor_config.json", prepared, sort_keys=True)
    _write_weights(folder, {name: source for source in sources for name in source.specs}, shard_bytes)


def _single_parts(
    component: Component, checkpoint: Checkpoint, dtype: np.dtype | None
) -> tuple[dict[str, Any], list[TensorSource]]:
    """Return the config.json and the tensors of a checkpoint of one network."""
    form, config = component.huggingface, checkpoint.configs[component.name]
    assert form is not None
    own = ParameterSource(checkpoint, component.name, dtype, form.names(config) if form.names else None)
    source = form.to_hf(own, config)
    dtypes = {spec.dtype.name for spec in own.specs.values()}
    return form.write(config, checkpoint.model_type) | {"dtype": min(dtypes)}, [source]


def _moshi_parts(
    checkpoint: Checkpoint, folder: Path, dtype: np.dtype | None
) -> tuple[dict[str, Any], list[TensorSource]]:
    """Return the config.json and the tensors of a Moshi; write the files beside them."""
    lm, mimi = checkpoint.configs.get("lm"), checkpoint.configs.get("mimi")
    if lm is None or mimi is None:
        raise ConfigError("Hugging Face's Moshi includes its codec, but this checkpoint has none. Save it as 'kyutai'.")
    generation = _write_generation(checkpoint)
    config = write_moshi_config(lm, write_mimi_config(mimi))
    layouts = {"lm": moshi_layout(lm), "mimi": mimi_layout(mimi, _AUDIO_PREFIX)}
    sources: list[TensorSource] = [
        MappedSource(ParameterSource(checkpoint, name, dtype), layout, "hf") for name, layout in layouts.items()
    ]
    write_json(folder / "generation_config.json", generation, sort_keys=True)
    if checkpoint.tokenizer is not None:
        (folder / _TOKENIZER).write_bytes(checkpoint.tokenizer)
    return config | {"dtype": next(iter(sources[0].specs.values())).dtype.name}, sources


def _write_weights(folder: Path, sources: Mapping[str, TensorSource], shard_bytes: int) -> None:
    """Write model.safetensors, or its shards and their index, tensor by tensor."""
    shards: list[dict[str, TensorSpec]] = [{}]
    total = held = 0
    for name in sorted(sources):
        spec = sources[name].specs[name]
        size = int(np.prod(spec.shape, dtype=np.int64)) * spec.dtype.itemsize
        if shards[-1] and held + size > shard_bytes:
            shards.append({})
            held = 0
        shards[-1][name] = spec
        held, total = held + size, total + size
    files = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    if len(shards) == 1:
        files = ["model.safetensors"]
    for file, specs in zip(files, shards, strict=True):
        write_safetensors(folder / file, specs, lambda name: sources[name].read(name), {"format": "pt"})
    if len(shards) > 1:
        weight_map = {name: file for file, specs in zip(files, shards, strict=True) for name in specs}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(folder / "model.safetensors.index.json", index, sort_keys=True)


def _write_generation(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the content of a generation_config.json with all of Kyutai's sampling options, including defaults.

    Raises:
      ConfigError: the file cannot express an option. The message names all such options.
    """
    lm, given = checkpoint.configs["lm"], checkpoint.generation
    problems = [
        f"'lm_gen_config.{key}' = {value!r}"
        for key, value in given.items()
        if key not in _SAMPLING and (key not in _NO_EFFECT or value != _NO_EFFECT[key])
    ]
    problems += [f"'{key}'" for key in ("tts_config", "stt_config") if checkpoint.settings.get(key)]
    if checkpoint.model_type != "moshi":
        problems.append(f"'model_type' = {checkpoint.model_type!r} (only 'moshi')")
    if problems:
        raise ConfigError(
            f"Hugging Face's Moshi cannot express {'; '.join(problems)}. Use the layout 'kyutai' or 'orbax'."
        )
    values = _SAMPLING | given

    def sampling(temperature: float, top_k: int) -> dict[str, Any]:
        if values["use_sampling"] and temperature > 0:
            return {"do_sample": True, "temperature": temperature, "top_k": top_k}
        return {"do_sample": False}

    length = lm.dep_q + 1  # the text token and one code of each codebook
    audio = sampling(values["temp"], values["top_k"]) | {"max_length": length, "min_length": length}
    return sampling(values["temp_text"], values["top_k_text"]) | {
        "bos_token_id": lm.text_card, "depth_decoder_config": audio, "pad_token_id": lm.text_card,
    }  # fmt: skip
