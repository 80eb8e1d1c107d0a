"""Hugging Face folders of transformers' Mimi, Moshi, Whisper and text decoders: reading and writing.

A folder of Mimi or Moshi is shown under Kyutai's published names and in its row order (`hf_layout`), so that one import
serves both layouts; writing takes the same tables the other way. The two sides hold the same values, tensor for tensor,
and nothing is computed: what was imported exports byte for byte. What the implementations do differently with them is
told in `hf_mimi` and `hf_moshi`. Whisper has tables of its own (`whisper`), text decoders keep Hugging Face's names
(`hf_decoder`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jomni.checkpoints.checkpoint import Checkpoint
from jomni.checkpoints.parameters import ParameterSource
from jomni.checkpoints.tokenizers import read_tokenizer_json
from jomni.errors import ConfigError, WeightsError
from jomni.models.decoder.config import DecoderConfig
from jomni.models.decoder.weights import ARCHITECTURES, read_decoder_config, write_decoder_config
from jomni.models.mimi.config import MimiConfig
from jomni.models.mimi.weights_hf import mimi_layout, read_mimi_config, write_mimi_config
from jomni.models.moshi.config import MoshiConfig
from jomni.models.moshi.weights_hf import moshi_layout, read_moshi_config, write_moshi_config
from jomni.models.whisper.config import WhisperConfig
from jomni.models.whisper.mel import HOP, N_FFT, SAMPLE_RATE
from jomni.models.whisper.weights import read_hf_config, whisper_table, write_hf_config
from jomni.tensors.layout import Layout, MappedSource, check_tensors
from jomni.tensors.source import TensorSource, TensorSpec, open_source, read_json, without_copy
from jomni.tensors.write import write_safetensors

AUDIO_PREFIX = "audio_encoder."  # of the codec's tensors in a Moshi folder
SHARD_BYTES = 5_000_000_000  # largest weight file that is written; transformers' own default
TEXT_FILES = (
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model",
)  # fmt: skip
"""Files beside a text decoder that are carried along as they are."""

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TOKENIZER = "tokenizer.model"
_SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
# Kyutai's sampling options with their defaults (moshi/models/lm.py::LMGen), and the others that change nothing.
_SAMPLING = {"use_sampling": True, "temp": 0.8, "temp_text": 0.7, "top_k": 250, "top_k_text": 25}
_NO_EFFECT: dict[str, Any] = {"cfg_coef": 1.0, "check": False, "cfg_is_masked_until": None, "cfg_is_no_text": False}


@dataclasses.dataclass(frozen=True)
class HfFolder:
    """A Hugging Face folder, opened: configurations read, tensors checked by name and shape, data not yet read."""

    mimi: MimiConfig | None
    lm: MoshiConfig | None
    sources: dict[str, TensorSource]
    """Part -> its weights: Mimi's and Moshi's under Kyutai's published names, Whisper's not yet checked."""
    generation: dict[str, Any]  # sampling defaults, as Kyutai's lm_gen_config
    tokenizer: bytes | None  # sentencepiece model of the text tokens
    model_type: str  # "moshi", "mimi" or "whisper"
    whisper: WhisperConfig | None = None


def is_hf_config(raw: object) -> bool:
    """Whether the content of a config.json is transformers' (Kyutai's has a `model_type` too, but none of these)."""
    return isinstance(raw, Mapping) and any(k in raw for k in ("architectures", "transformers_version", "hidden_size"))


def open_folder(folder: str | Path) -> HfFolder:
    """Opens a folder written by `save_pretrained` of transformers 4 or 5, or by `save_folder`.

    Raises:
      ConfigError: the architecture or an option is not supported; every such option is named.
      WeightsError: a file is missing or damaged, or tensors are missing, unknown or misshapen; every one is named.
    """
    folder = Path(folder)
    path = folder / "config.json"
    raw = read_json(path)
    if not is_hf_config(raw):
        raise ConfigError(f"{path}: is not a configuration of the transformers library. Name a folder of such a model.")
    kind, architectures = raw.get("model_type"), raw.get("architectures") or []
    if kind == "whisper":
        whisper = read_hf_config(raw, str(path))
        return HfFolder(None, None, {"whisper": _open_weights(folder)}, {}, None, "whisper", whisper)
    known = {"mimi": "MimiModel", "moshi": "MoshiForConditionalGeneration"}
    if kind not in known or (architectures and architectures != [known[kind]]):
        raise ConfigError(
            f"{path}: model_type {kind!r} with architectures {architectures} is not supported, "
            f"only {', '.join([*known.values(), *ARCHITECTURES.values()])} and Whisper's. Save the whole model."
        )
    base = _open_weights(folder)
    if kind == "mimi":
        mimi = read_mimi_config(raw, str(path))
        layout = mimi_layout(mimi)
        check_tensors(base.specs, [layout], base.name)
        return HfFolder(mimi, None, {"mimi": MappedSource(base, layout, "kyutai")}, {}, None, "mimi")
    lm = read_moshi_config(raw, str(path))
    mimi = read_mimi_config(raw.get("audio_encoder_config") or {}, f"{path}, audio_encoder_config")
    if mimi.num_codebooks < lm.dep_q:
        raise ConfigError(
            f"{path}: 'num_codebooks' = {lm.dep_q}, but the codec has only {mimi.num_codebooks} codebooks"
        )
    layouts = moshi_layout(lm), mimi_layout(mimi, AUDIO_PREFIX)
    check_tensors(base.specs, layouts, base.name)
    lm_source, mimi_source = (MappedSource(base, layout, "kyutai") for layout in layouts)
    return HfFolder(
        mimi, lm, {"mimi": mimi_source, "lm": lm_source},
        generation=_read_generation(folder / "generation_config.json"),
        tokenizer=_read_tokenizer(folder),
        model_type="moshi",
    )  # fmt: skip


class DecoderFolder(NamedTuple):
    """A text decoder's folder, opened."""

    config: DecoderConfig
    source: TensorSource
    generation: dict[str, Any]  # generation_config.json, over the special tokens that config.json names
    files: dict[str, bytes]  # `TEXT_FILES`, those that are there


def read_text_files(folder: Path) -> dict[str, bytes]:
    """Those of `TEXT_FILES` that a folder holds, by name."""
    return {name: (folder / name).read_bytes() for name in TEXT_FILES if (folder / name).is_file()}


def open_decoder(folder: Path, raw: Mapping[str, Any]) -> DecoderFolder:
    """Opens a text decoder's folder, of which `raw` is the config.json.

    Raises:
      ConfigError: the class or an option is not supported; every such option is named.
      WeightsError: the weights are missing or damaged.
    """
    path, architectures = folder / "config.json", raw.get("architectures") or []
    wanted = ARCHITECTURES[raw["model_type"]]
    if architectures and architectures != [wanted]:
        raise ConfigError(f"{path}: the class {architectures} is not supported, only {wanted}. Save the whole model.")
    config = read_decoder_config(raw, str(path))
    source = _open_weights(folder)
    if config.tied:
        cure = "Set 'tie_word_embeddings' to false to use it, or remove it."
        source = without_copy(source, _HEAD, _EMBEDDING, cure)
    texts = read_text_files(folder)
    generation = {key: raw[key] for key in _SPECIAL_TOKENS if raw.get(key) is not None}
    if (folder / "generation_config.json").is_file():
        given = read_json(folder / "generation_config.json")
        if not isinstance(given, dict):
            raise WeightsError(f"{folder / 'generation_config.json'}: is not a JSON object. Fetch it anew.")
        generation |= given
    return DecoderFolder(config, source, generation, texts)


def _open_weights(folder: Path) -> TensorSource:
    for name in _WEIGHTS:
        if (folder / name).exists() or (folder / f"{name}.index.json").exists():
            return open_source(folder / name)
    raise WeightsError(f"{folder}: holds neither model.safetensors nor its index. Fetch the model's weights.")


def _read_tokenizer(folder: Path) -> bytes | None:
    """The sentencepiece file itself, or what transformers made of it."""
    if (folder / _TOKENIZER).is_file():
        return (folder / _TOKENIZER).read_bytes()
    converted = folder / "tokenizer.json"
    return read_tokenizer_json(converted) if converted.is_file() else None


def _read_generation(path: Path) -> dict[str, Any]:
    """Kyutai's sampling options from a generation_config.json, where there is one.

    Its top level is the text's sampling, `depth_decoder_config` the audio's. The published files call the text's
    temperature `temp`, which transformers itself does not read; it is read here as what was meant.
    """
    if not path.is_file():
        return {}
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
    elif False in sampled.values():  # one of the two is greedy: a temperature of 0
        generation |= {key: 0.0 for key, value in sampled.items() if value is False}
    return generation


def save_folder(
    checkpoint: Checkpoint, folder: str | Path, dtype: np.dtype | None = None, shard_bytes: int = SHARD_BYTES
) -> None:
    """Fills an empty folder with what `from_pretrained` of transformers reads.

    The text tokenizer is kept as the sentencepiece file that it is (tokenizer.model); `model_id`, which says where the
    weights come from, has no place there.

    Args:
      checkpoint: a codec, Moshi with its codec, a speech encoder, or a text decoder.
      folder: empty.
      dtype: see `jomni.save`.
      shard_bytes: weights are split into files of at most this size.

    Raises:
      ConfigError: Hugging Face's layout cannot express an option of the checkpoint; every such option is named.
    """
    folder = Path(folder)
    if checkpoint.whisper is not None:
        return _save_whisper(checkpoint, checkpoint.whisper, folder, dtype, shard_bytes)
    if checkpoint.decoder is not None:
        return _save_decoder(checkpoint, checkpoint.decoder, folder, dtype, shard_bytes)
    if checkpoint.mimi is None:
        raise ConfigError("Hugging Face's Moshi holds its codec, and this checkpoint brings none. Save it as 'kyutai'.")
    mimi = write_mimi_config(checkpoint.mimi)
    if checkpoint.lm is None:
        sources = [_source(checkpoint, "mimi", dtype, mimi_layout(checkpoint.mimi))]
        config = mimi
    else:
        generation = _write_generation(checkpoint)
        config = write_moshi_config(checkpoint.lm, mimi)
        sources = [
            _source(checkpoint, "lm", dtype, moshi_layout(checkpoint.lm)),
            _source(checkpoint, "mimi", dtype, mimi_layout(checkpoint.mimi, AUDIO_PREFIX)),
        ]
        _write_json(folder / "generation_config.json", generation)
        if checkpoint.tokenizer is not None:
            (folder / _TOKENIZER).write_bytes(checkpoint.tokenizer)
    config["dtype"] = next(iter(sources[0].specs.values())).dtype.name
    _write_json(folder / "config.json", config)
    _write_json(folder / "preprocessor_config.json", {
        "chunk_length_s": None, "feature_extractor_type": "EncodecFeatureExtractor",
        "feature_size": checkpoint.mimi.channels, "overlap": None, "padding_side": "right", "padding_value": 0.0,
        "return_attention_mask": True, "sampling_rate": checkpoint.mimi.sample_rate,
    })  # fmt: skip
    _write_weights(folder, {name: source for source in sources for name in source.specs}, shard_bytes)


def _save_whisper(
    checkpoint: Checkpoint, whisper: WhisperConfig, folder: Path, dtype: np.dtype | None, shard_bytes: int
) -> None:
    """The encoder alone, under the names that it has in `WhisperForConditionalGeneration`."""
    source = ParameterSource(checkpoint, "whisper", dtype, whisper_table("hf"))
    dtypes = {spec.dtype.name for spec in source.specs.values()}
    _write_json(folder / "config.json", write_hf_config(whisper) | {"dtype": min(dtypes)})
    _write_json(folder / "preprocessor_config.json", {
        "chunk_length": 30, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": whisper.n_mels,
        "hop_length": HOP, "n_fft": N_FFT, "padding_side": "right", "padding_value": 0.0,
        "return_attention_mask": False, "sampling_rate": SAMPLE_RATE,
    })  # fmt: skip
    _write_weights(folder, dict.fromkeys(source.specs, source), shard_bytes)


def _save_decoder(
    checkpoint: Checkpoint, decoder: DecoderConfig, folder: Path, dtype: np.dtype | None, shard_bytes: int
) -> None:
    """The decoder with the files of its tokenizer."""
    config = write_decoder_config(decoder, checkpoint.model_type)
    source = ParameterSource(checkpoint, "decoder", dtype)
    config["dtype"] = next(iter(source.specs.values())).dtype.name
    config |= {key: checkpoint.generation[key] for key in _SPECIAL_TOKENS if key in checkpoint.generation}
    _write_json(folder / "config.json", config)
    for name, content in checkpoint.files.items():
        (folder / name).write_bytes(content)
    _write_weights(folder, dict.fromkeys(source.specs, source), shard_bytes)


def _write_weights(folder: Path, sources: Mapping[str, TensorSource], shard_bytes: int) -> None:
    """Writes model.safetensors, or its shards and their index; tensor by tensor."""
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
        _write_json(folder / "model.safetensors.index.json", index)


def _write_generation(checkpoint: Checkpoint) -> dict[str, Any]:
    """A generation_config.json from Kyutai's sampling options, defaults written out.

    Raises:
      ConfigError: naming what it cannot express.
    """
    lm, given = checkpoint.lm, checkpoint.generation
    assert lm is not None
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


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _source(checkpoint: Checkpoint, part: str, dtype: np.dtype | None, layout: Layout) -> TensorSource:
    """One part's parameters under Hugging Face's names."""
    return MappedSource(ParameterSource(checkpoint, part, dtype), layout, "hf")
