"""Hugging Face folders through `load` and `save`: bytes, shards, sampling options, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jomni.checkpoints import hf
from jomni.checkpoints.checkpoint import Checkpoint
from jomni.checkpoints.detect import detect
from jomni.checkpoints.load import load
from jomni.checkpoints.save import save
from jomni.errors import ConfigError, WeightsError
from tests.paths import PARITY_DATA
from tests.unit.checkpoints.test_tokenizers import tokenizer_json

DATA = PARITY_DATA


def copy(name: str, folder: Path, **tensors_as) -> Path:
    """A copy of a committed folder; `dtype` brings its tensors to another type."""
    shutil.copytree(DATA / f"hf_{name}", folder)
    (folder / "expected.npz").unlink()
    if dtype := tensors_as.get("dtype"):
        tensors = load_file(folder / "model.safetensors")
        save_file({k: v.astype(dtype) for k, v in tensors.items()}, folder / "model.safetensors")
    return folder


def assert_same_tensors(found: Path, expected: dict[str, np.ndarray]) -> None:
    tensors: dict[str, np.ndarray] = {}
    for file in found.glob("*.safetensors"):
        tensors |= load_file(file)
    assert tensors.keys() == expected.keys()
    for name, value in expected.items():
        told = (tensors[name].dtype, tensors[name].shape, tensors[name].tobytes())
        assert told == (value.dtype, value.shape, value.tobytes()), name


@pytest.mark.parametrize("name", ["mimi", "moshi"])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["float32", "bfloat16"])
def test_import_delete_export_gives_every_byte_again(name, dtype, tmp_path):
    source = copy(name, tmp_path / "source", dtype=dtype)
    expected, config = load_file(source / "model.safetensors"), detect(source)
    checkpoint = load(source)
    assert checkpoint.family == name
    shutil.rmtree(source)
    save(checkpoint, tmp_path / "out", "hf")
    assert_same_tensors(tmp_path / "out", expected)
    again = detect(tmp_path / "out")
    assert (again.configs, again.model_type) == (config.configs, config.model_type)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == np.dtype(dtype).name
    rate = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())["sampling_rate"]
    assert rate == config.configs["mimi"].sample_rate


def test_the_way_through_kyutai_files_keeps_every_byte(tmp_path):
    source = copy("moshi", tmp_path / "source")
    save(load(source), tmp_path / "kyutai", "kyutai")
    shutil.rmtree(source)
    save(load(tmp_path / "kyutai"), tmp_path / "out", "hf")
    assert_same_tensors(tmp_path / "out", load_file(DATA / "hf_moshi" / "model.safetensors"))


def test_the_file_may_have_another_type_than_memory(tmp_path):
    save(load(DATA / "hf_moshi"), tmp_path / "out", "hf", dtype="bfloat16")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    for name, value in tensors.items():
        codec = name.startswith("audio_encoder.")
        assert value.dtype == (np.float32 if codec else ml_dtypes.bfloat16), name
    assert load(tmp_path / "out").params["lm"]["text_emb"]["weight"].dtype == ml_dtypes.bfloat16


def test_large_weights_are_written_in_shards_with_an_index(tmp_path):
    checkpoint = load(DATA / "hf_moshi")
    hf.write(checkpoint, tmp_path, shard_bytes=40_000)
    files = sorted(file.name for file in tmp_path.glob("*.safetensors"))
    assert len(files) > 3 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert all((tmp_path / file).stat().st_size < 40_000 + 20_000 for file in files)
    expected = load_file(DATA / "hf_moshi" / "model.safetensors")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in expected.values())
    assert set(index["weight_map"]) == set(expected)
    assert_same_tensors(tmp_path, expected)
    again = load(tmp_path)
    np.testing.assert_array_equal(again.params["lm"]["emb_0"]["weight"], checkpoint.params["lm"]["emb_0"]["weight"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"temp": 0.8, "temp_text": 0.7, "top_k": 250, "top_k_text": 25}),
        (
            {"temp": 0.5, "top_k": 10, "temp_text": 0.9, "top_k_text": 3, "cfg_coef": 1.0},
            {"temp": 0.5, "top_k": 10, "temp_text": 0.9, "top_k_text": 3},
        ),
        ({"use_sampling": False}, {"use_sampling": False}),
        ({"temp_text": 0.0}, {"temp": 0.8, "top_k": 250, "temp_text": 0.0}),
        ({"temp": 0.0, "temp_text": 0.0}, {"use_sampling": False}),
    ],
)
def test_sampling_options_are_carried(given, expected, tmp_path):
    save(dataclasses.replace(load(DATA / "hf_moshi"), generation=given, tokenizer=b"pieces"), tmp_path / "out", "hf")
    folder = detect(tmp_path / "out")
    assert folder.generation == expected
    assert folder.tokenizer == b"pieces"


def test_a_converted_tokenizer_is_read_and_kept_as_sentencepiece(tmp_path):
    folder = copy("moshi", tmp_path / "source")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
    checkpoint = load(folder)
    assert checkpoint.text_tokenizer().decode([260, 261, 264]) == "hello well"
    save(checkpoint, tmp_path / "out", "hf")
    assert load(tmp_path / "out").tokenizer == checkpoint.tokenizer


def test_the_published_spelling_of_the_text_temperature_is_read(tmp_path):
    folder = copy("moshi", tmp_path / "source")
    audio = {"do_sample": True, "temperature": 0.8, "top_k": 250, "min_length": 4, "max_length": 4}
    published = {"do_sample": True, "temp": 0.7, "top_k": 25, "depth_decoder_config": audio, "pad_token_id": 40}
    (folder / "generation_config.json").write_text(json.dumps(published))
    assert detect(folder).generation == {"temp": 0.8, "temp_text": 0.7, "top_k": 250, "top_k_text": 25}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"generation": {"cfg_coef": 3.0}}, "'lm_gen_config.cfg_coef' = 3.0"),
        ({"settings": {"stt_config": {"audio_delay_seconds": 0.5}}}, "'stt_config'"),
        ({"settings": {"tts_config": {"multistream": True}}}, "'tts_config'"),
        ({"model_type": "hibiki"}, "'model_type' = 'hibiki'"),
    ],
)
def test_checkpoints_that_cannot_be_expressed_are_refused_by_name(change, named, tmp_path):
    checkpoint = dataclasses.replace(load(DATA / "hf_moshi"), **change)
    with pytest.raises(ConfigError) as caught:
        save(checkpoint, tmp_path / "out", "hf")
    assert named in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_language_model_without_its_codec_is_refused(tmp_path):
    whole = load(DATA / "hf_moshi")
    checkpoint = Checkpoint("moshi", {"lm": whole.configs["lm"]}, {"lm": whole.params["lm"]})
    with pytest.raises(ConfigError, match=r"Moshi .*codec.*'kyutai'"):
        save(checkpoint, tmp_path / "out", "hf")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architectures": ["MoshiForCausalLM"]}, "MoshiForCausalLM"),
        ({"model_type": "encodec", "architectures": ["EncodecModel"]}, "'encodec'"),
        ({"num_codebooks": 6, "depth_decoder_config": {"sliding_window": 8}}, "the codec has only 5 codebooks"),
    ],
)
def test_other_models_are_refused_by_name(change, named, tmp_path):
    folder = copy("moshi", tmp_path / "source")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ConfigError) as caught:
        detect(folder)
    assert named in str(caught.value) and str(folder) in str(caught.value)


def test_a_kyutai_configuration_is_not_read_as_transformers(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"dim": 16, "model_type": "moshi"}))
    with pytest.raises(ConfigError, match="num_layers"):
        detect(tmp_path)


def test_missing_weights_and_tensors_are_told(tmp_path):
    folder = copy("mimi", tmp_path / "source")
    tensors = load_file(folder / "model.safetensors")
    tensors["extra.weight"] = tensors.pop("upsample.conv.weight")
    tensors["decoder.layers.0.conv.bias"] = np.zeros(3, np.float32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WeightsError) as caught:
        detect(folder)
    for told in ("'upsample.conv.weight' [16, 1, 4]", "'extra.weight'", "'decoder.layers.0.conv.bias'"):
        assert told in str(caught.value)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"source: .*model\.safetensors"):
        detect(folder)


@pytest.mark.peers
def test_pickled_weights_are_read_like_safetensors(tmp_path):
    import torch
    from safetensors.torch import load_file as load_torch

    folder = copy("mimi", tmp_path / "source")
    torch.save(load_torch(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    save(load(folder), tmp_path / "out", "hf")
    assert_same_tensors(tmp_path / "out", load_file(DATA / "hf_mimi" / "model.safetensors"))
