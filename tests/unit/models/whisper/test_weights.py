"""Whisper's files: what is read exports byte for byte, and what is damaged, unsafe or unknown is refused."""

import json
import shutil
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jomni
from jomni.errors import ConfigError, WeightsError
from jomni.tensors.unpickle import TorchSource
from tests.checkpoint_files import assert_same, attack, read_all, torch_pickle, write_shards, write_torch
from tests.paths import PARITY_DATA

DATA = PARITY_DATA / "whisper"  # written by the originals
PT = DATA / "openai.pt"


@pytest.fixture
def hf(tmp_path):
    """A Hugging Face folder of one's own."""
    return Path(shutil.copytree(DATA / "hf", tmp_path / "hf"))


def encoder(tensors, prefix="encoder."):
    return {name: value for name, value in tensors.items() if name.startswith(prefix)}


def from_pt():
    source = TorchSource(PT)
    return {name: np.array(source.read(name)) for name in source.specs}, source.dims


def refusal(source, error=WeightsError):
    with pytest.raises(error) as caught:
        jomni.load(source)
    return str(caught.value)


def save_pt(path, tensors, dims):
    """A file of torch.save without torch: {"dims": dims, "model_state_dict": tensors}."""
    body, _ = torch_pickle(tensors, ("model_state_dict",))
    assert body.endswith(b"us.")

    def text(value):
        return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()

    numbers = b"".join(text(k) + b"J" + int(v).to_bytes(4, "little") for k, v in dims.items())
    return write_torch(path, tensors, pickled=body[:-1] + text("dims") + b"}(" + numbers + b"us.")


def test_a_checkpoint_of_openai_exports_byte_for_byte(tmp_path):
    held, dims = from_pt()
    checkpoint = jomni.load(PT)
    assert (checkpoint.family, checkpoint.model_type, checkpoint.configs["whisper"].to_openai()) == (
        "whisper",
        "whisper",
        dims,
    )
    assert {leaf.dtype.name for leaf in leaves(checkpoint)} == {"float32"}  # half precision in the file
    jomni.save(checkpoint, tmp_path / "out")
    assert_same(read_all(tmp_path / "out"), encoder(held))
    again = jomni.load(tmp_path / "out")
    assert again.configs["whisper"] == checkpoint.configs["whisper"]
    assert all((a == b).all() for a, b in zip(leaves(again), leaves(checkpoint), strict=True))
    assert jomni.load(tmp_path / "out" / "model.safetensors").configs["whisper"] == checkpoint.configs["whisper"]


def test_a_folder_of_transformers_exports_byte_for_byte(tmp_path):
    checkpoint = jomni.load(DATA / "hf")
    jomni.save(checkpoint, tmp_path / "out", "hf")
    assert_same(read_all(tmp_path / "out"), encoder(load_file(DATA / "hf" / "model.safetensors"), "model.encoder."))
    assert jomni.load(tmp_path / "out").configs["whisper"] == checkpoint.configs["whisper"]
    assert jomni.load(DATA / "hf" / "model.safetensors").configs["whisper"] == checkpoint.configs["whisper"]


@pytest.mark.parametrize("way", [("hf", "openai"), ("orbax", "openai"), ("hf", "orbax", "hf", "openai")])
def test_an_encoder_is_the_same_after_any_way_through_the_layouts(tmp_path, way):
    place = PT
    for i, layout in enumerate(way):
        jomni.save(jomni.load(place), tmp_path / str(i), layout)
        place = tmp_path / str(i)
    assert_same(read_all(place), encoder(from_pt()[0]))


def leaves(checkpoint):
    import jax

    return jax.tree.leaves(checkpoint.params)


def test_a_dtype_that_is_asked_for_is_held_and_saved(tmp_path):
    checkpoint = jomni.load(PT, dtype="bfloat16")
    assert {leaf.dtype.name for leaf in leaves(checkpoint)} == {"bfloat16"}
    jomni.save(checkpoint, tmp_path / "held")
    jomni.save(jomni.load(PT), tmp_path / "asked", dtype="bfloat16")
    held = {name: value.astype(ml_dtypes.bfloat16) for name, value in encoder(from_pt()[0]).items()}
    assert_same(read_all(tmp_path / "held"), held)
    assert_same(read_all(tmp_path / "asked"), held)


def test_shards_and_pickled_weights_of_transformers_are_read(hf, tmp_path):
    wanted = leaves(jomni.load(hf))
    held = load_file(hf / "model.safetensors")
    (hf / "model.safetensors").unlink()
    write_torch(hf / "pytorch_model.bin", held)
    pickled = leaves(jomni.load(hf))
    (hf / "pytorch_model.bin").unlink()
    write_shards(hf, held)
    for found in (pickled, leaves(jomni.load(hf))):
        assert all((a == b).all() for a, b in zip(found, wanted, strict=True))


def test_an_output_head_beside_its_tied_embedding_is_known(hf):
    held = load_file(hf / "model.safetensors")
    held["proj_out.weight"] = held["model.decoder.embed_tokens.weight"].copy()
    save_file(held, hf / "model.safetensors")
    assert jomni.load(hf).family == "whisper"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decoder.ln.weight": None}, ["'decoder.ln.weight' [12]"]),
        ({"encoder.ln_post.bias": None}, ["'encoder.ln_post.bias' [12]"]),
        ({"encoder.blocks.0.attn.key.bias": (12,)}, ["'encoder.blocks.0.attn.key.bias'"]),
        ({"decoder.blocks.1.attn.key.weight": (12, 12)}, ["'decoder.blocks.1.attn.key.weight'"]),
        ({"optimizer.step": (1,)}, ["'optimizer.step'"]),
        ({"encoder.positional_embedding": (49, 12)}, ["'encoder.positional_embedding' [49, 12]", "[50, 12]"]),
        ({"decoder.token_embedding.weight": (21, 12)}, ["[21, 12]", "[20, 12]"]),
    ],
)
def test_nothing_missing_unknown_or_misshapen_passes(tmp_path, change, words):
    held, dims = from_pt()
    for name, shape in change.items():
        held.pop(name, None)
        if shape is not None:
            held[name] = np.zeros(shape, np.float32)
    held = {name: value.astype(np.float32) for name, value in held.items()}
    message = refusal(save_pt(tmp_path / "model.pt", held, dims))
    assert message.startswith(f"{tmp_path}/model.pt: ") and all(word in message for word in words)


def test_dimensions_are_asked_for_where_there_are_none(tmp_path):
    held = {name: value.astype(np.float32) for name, value in from_pt()[0].items()}
    write_torch(tmp_path / "model.pt", held, ("model_state_dict",))
    message = refusal(tmp_path / "model.pt")
    assert "config.json" in message and "n_audio_ctx" in message
    (tmp_path / "config.json").write_text(json.dumps(from_pt()[1]))
    assert jomni.load(tmp_path / "model.pt").configs["whisper"].n_audio_state == 12


def test_dimensions_of_another_model_are_refused(tmp_path):
    held, dims = from_pt()
    held = {name: value.astype(np.float32) for name, value in held.items()}
    path = save_pt(tmp_path / "model.pt", held, dims | {"n_audio_layer": 3})
    message = refusal(path)
    assert "15 " in message and "'encoder.blocks.2." in message and "'encoder.blocks.1." not in message
    assert "'n_audio_head' = 5" in refusal(save_pt(path, held, dims | {"n_audio_head": 5}), ConfigError)
    assert "'n_colours'" in refusal(save_pt(path, held, dims | {"n_colours": 5}), ConfigError)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", attack(marker))
    assert "'posix.system'" in refusal(tmp_path / "model.pt")
    assert not marker.exists()


@pytest.mark.parametrize("kept", [0, 10, 3000, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path, kept):
    (tmp_path / "model.pt").write_bytes(PT.read_bytes()[:kept])
    message = refusal(tmp_path / "model.pt")
    assert message.startswith(str(tmp_path / "model.pt")) and message.endswith(".")


def test_a_corrupted_pickle_is_refused(tmp_path):
    with zipfile.ZipFile(PT) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    name = next(name for name in records if name.endswith("data.pkl"))
    records[name] = records[name][: len(records[name]) // 2]
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for record, data in records.items():
            archive.writestr(record, data)
    assert refusal(tmp_path / "model.pt").startswith(f"{tmp_path}/model.pt: ")


@pytest.mark.parametrize("kept", [5, 300, 20_000, -1])
def test_a_truncated_folder_is_refused(hf, kept):
    path = hf / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    message = refusal(hf)
    assert message.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activation_function": "relu"}, "'activation_function' = 'relu'"),
        ({"scale_embedding": True}, "'scale_embedding' = True"),
        ({"encoder_ffn_dim": 40}, "'encoder_ffn_dim' = 40"),
        ({"ears": 2}, "'ears'"),
        ({"encoder_attention_heads": 5}, "'n_audio_head' = 5"),
        ({"d_model": "wide"}, "'wide'"),
        ({"architectures": ["WhisperForAudioClassification"]}, "WhisperForAudioClassification"),
    ],
)
def test_a_config_of_transformers_that_is_not_understood_is_refused(hf, change, words):
    raw = json.loads((hf / "config.json").read_text())
    (hf / "config.json").write_text(json.dumps(raw | change))
    message = refusal(hf, ConfigError)
    assert words in message and message.startswith(str(hf / "config.json"))


def test_layouts_that_cannot_hold_it_are_refused(tmp_path, tiny_mimi):
    with pytest.raises(ConfigError, match=r"'kyutai' .*'whisper'"):
        jomni.save(jomni.load(PT), tmp_path / "out", "kyutai")
    with pytest.raises(ConfigError, match=r"'openai' .*'mimi'"):
        jomni.save(tiny_mimi, tmp_path / "out", "openai")
    assert not (tmp_path / "out").exists()
