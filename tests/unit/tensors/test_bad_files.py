"""Damaged, unsafe and unfitting weight files: a message that says what, where and what to do; nothing is run."""

import json
import pickle
import re
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

import jomni
from jomni.errors import ConfigError, WeightsError
from jomni.tensors.files import open_source
from jomni.tensors.source import MemorySource
from tests.checkpoint_files import (
    LAYOUTS,
    MIMI_NAME,
    attack,
    tensors,
    torch_pickle,
    write_lm,
    write_mimi,
    write_shards,
    write_torch,
)  # fmt: skip


def refusal(source, error=WeightsError, **options):
    with pytest.raises(error) as caught:
        jomni.load(source, **options)
    message = str(caught.value)
    assert "Traceback" not in message and message.count(". ") + message.endswith((".", ")")) >= 1
    return message


@pytest.fixture
def codec(tmp_path):
    write_mimi(tmp_path)
    return tmp_path / MIMI_NAME


def test_a_missing_file_or_folder_is_named(tmp_path):
    for path in (str(tmp_path / "nothing.safetensors"), "./no/such/folder", str(tmp_path)):
        assert path in refusal(path)


def test_an_empty_file_is_refused(codec):
    codec.write_bytes(b"")
    assert refusal(codec).startswith(f"{codec}: ")


@pytest.mark.parametrize("kept", [5, 30, 2000, -1])
def test_a_truncated_file_is_refused(codec, kept):
    codec.write_bytes(codec.read_bytes()[:kept])
    assert refusal(codec).startswith(f"{codec}: ")


@pytest.mark.parametrize(("length", "told"), [(n, f"{n} bytes") for n in (2**63, 2**40, 10_000_000)] + [(12, "header")])
def test_a_forged_header_length_is_refused(codec, length, told):
    codec.write_bytes(length.to_bytes(8, "little") + codec.read_bytes()[8:])
    message = refusal(codec)
    assert message.startswith(f"{codec}: ") and told in message


def test_a_file_that_is_no_safetensors_is_refused(codec):
    codec.write_bytes(b"RIFF$\x00\x00\x00WAVEfmt " + bytes(500))
    assert refusal(codec).startswith(f"{codec}: ")
    other = codec.with_name("weights.npz")
    other.write_bytes(b"PK")
    assert refusal(other).startswith(f"{other}: ")


def test_missing_surplus_and_misshapen_tensors_come_in_one_message(tmp_path):
    held = write_lm(tmp_path)
    dropped = held.pop("text_emb.weight"), held.pop("emb.1.weight")
    held["out_norm.alpha"] = held["out_norm.alpha"].reshape(-1)
    held["text_linear.weight"] = np.zeros(held["text_linear.weight"].shape, np.int8)
    held["emb.9.weight"] = dropped[0]
    held["text_emb.weight"] = np.concatenate([dropped[0], dropped[0]])
    write_lm(tmp_path, names=held)
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path / 'model.safetensors'}: ")
    assert "'emb.1.weight' [13, 16]" in message
    assert "'emb.9.weight'" in message
    assert re.search(r"'out_norm\.alpha' \[16\] .{0,20}\[1, 1, 16\]", message)
    assert re.search(r"'text_emb\.weight' \[42, 16\] .{0,20}\[21, 16\]", message)
    assert "'text_linear.weight' int8" in message


def test_a_long_list_of_problems_is_counted_not_poured_out(codec):
    held = tensors("mimi_small")
    save_file({name: value for name, value in held.items() if name.startswith("quantizer.")}, codec)
    message = refusal(codec)
    assert 2 < message.count("'decoder.") < 20 and len(message) < 1500


def test_one_weight_set_missing_among_todays_names_is_named(tmp_path):
    held = tensors("schedule")
    stacked = held.pop("depformer.layers.0.self_attn.in_proj_weight")
    held["depformer.layers.0.self_attn.in_projs.0.weight"] = stacked[:24]
    held["depformer.layers.0.self_attn.in_projs.2.weight"] = stacked[48:]
    write_lm(tmp_path, "schedule", held)
    assert "'depformer.layers.0.self_attn.in_projs.1.weight' [24, 8]" in refusal(tmp_path)


def test_a_tensor_under_two_names_is_surplus(tmp_path):
    held = tensors("plain")
    held["transformer.layers.0.self_attn.in_projs.0.weight"] = held["transformer.layers.0.self_attn.in_proj_weight"]
    write_lm(tmp_path, names=held)
    assert "'transformer.layers.0.self_attn.in_projs.0.weight'" in refusal(tmp_path)


def test_int8_files_of_the_original_are_refused_with_the_cure(tmp_path):
    held = tensors("plain")
    held["text_linear.weight_scb"] = np.ones(20, np.float32)
    held["text_linear.weight"] = np.ones((20, 16), np.int8)
    write_lm(tmp_path, names=held)
    assert "bf16" in refusal(tmp_path)


def test_an_unknown_option_is_refused_by_name(tmp_path):
    write_lm(tmp_path, n_heads=3, quantize=True)
    message = refusal(tmp_path, ConfigError)
    assert "'n_heads'" in message and "'quantize'" in message and str(tmp_path / "config.json") in message


@pytest.mark.parametrize("text", ["{", "[]", '{"dim": }', "\xff"])
def test_a_config_that_is_no_json_object_is_refused(tmp_path, text):
    write_lm(tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises((WeightsError, ConfigError), match=r"config\.json"):
        jomni.load(tmp_path)


def test_a_file_that_the_config_names_must_be_there(tmp_path):
    write_lm(tmp_path, mimi_name="codec.safetensors")
    assert f"{tmp_path / 'codec.safetensors'}: " in refusal(tmp_path)
    write_lm(tmp_path, tokenizer_name="file:///no/such/tokenizer.model")
    assert "/no/such/tokenizer.model" in refusal(tmp_path)
    write_lm(tmp_path, moshi_name="other.safetensors")
    assert f"{tmp_path / 'other.safetensors'}: " in refusal(tmp_path)


def test_missing_shards_are_listed(tmp_path):
    held = write_lm(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    first, second = write_shards(tmp_path, held)
    (tmp_path / second).unlink()
    message = refusal(tmp_path)
    assert "model.safetensors.index.json" in message and second in message and first not in message


def test_an_index_that_disagrees_with_its_files_is_refused(tmp_path):
    held = write_lm(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    write_shards(tmp_path, held)
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    kept = dict(index["weight_map"])
    index["weight_map"].pop("emb.0.weight")
    path.write_text(json.dumps(index))
    assert "emb.0.weight" in refusal(tmp_path)
    path.write_text(json.dumps({"weight_map": kept | {"text_emb.weight": "../outside.safetensors"}}))
    assert "../outside.safetensors" in refusal(tmp_path)
    path.write_text(json.dumps({"weights": {}}))
    assert "weight_map" in refusal(tmp_path)


def write_pickle(folder, pickled):
    write_lm(folder, moshi_name="model.pt")
    (folder / "model.safetensors").unlink()
    return write_torch(folder / "model.pt", {}, pickled=pickled)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    body = attack(marker)
    pickle.loads(body)
    assert marker.exists(), "the attack must be able to work, or the test shows nothing"
    marker.unlink()
    path = write_pickle(tmp_path / "a", body)
    message = refusal(tmp_path / "a")
    assert "posix.system" in message and message.startswith(f"{path}: ")
    path.write_bytes(body)  # and the same without the archive
    assert refusal(tmp_path / "a").startswith(f"{path}: ")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["builtins eval", "builtins getattr", "os.path join", "torch.storage _load_from_bytes",
                                  "jomni.tensors.unpickle TorchSource", "functools partial"])  # fmt: skip
def test_every_name_but_the_few_of_a_state_dict_is_refused(tmp_path, name):
    module, function = name.split()
    write_pickle(tmp_path, b"\x80\x02c" + f"{module}\n{function}\n".encode() + b"(X\x03\x00\x00\x001+1tR.")
    assert f"'{module}.{function}'" in refusal(tmp_path)


def test_a_pickle_cannot_change_the_reader_itself(tmp_path):
    # BUILD with a slot state sets attributes on whatever lies on the stack.
    body = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N}X\x0c\x00\x00\x00__defaults__(K\x01tst\x62."
    write_pickle(tmp_path, body)
    refusal(tmp_path)
    from jomni.tensors import unpickle

    assert unpickle._rebuild_tensor.__defaults__ is None


@pytest.mark.parametrize("strides, offset", [((16, 1), 1), ((17, 1), 0), ((-16, 1), 0), ((16, 10_000), 0)])
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path, strides, offset):
    held = {"text_emb.weight": np.zeros((21, 16), np.float32)}
    body, _ = torch_pickle(held)
    shape = b"J" + (21).to_bytes(4, "little") + b"J" + (16).to_bytes(4, "little") + b"t("
    stride = b"".join(b"J" + int(s).to_bytes(4, "little", signed=True) for s in strides)
    start = body.index(shape) + len(shape)
    body = body[:start] + stride + body[start + len(stride) :]
    body = body.replace(b"K\x00(" + shape[:5], b"K" + bytes([offset]) + b"(" + shape[:5])
    path = tmp_path / "model.pt"
    write_torch(path, held, pickled=body)
    with pytest.raises(WeightsError, match=r"model\.pt: .*'text_emb\.weight'"):
        open_source(path)


def test_a_truncated_torch_file_is_refused(tmp_path):
    path = write_torch(tmp_path / "model.pt", tensors("plain"))
    whole = path.read_bytes()
    for kept in (1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(WeightsError, match=r"model\.pt"):
            open_source(path)


def test_a_torch_file_of_other_things_than_tensors_is_refused(tmp_path):
    path = write_torch(tmp_path / "model.pt", {}, pickled=pickle.dumps({"model": {"weight": 3}}, 2))
    with pytest.raises(WeightsError, match=r"model\.pt: .*: weight\b"):
        open_source(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", torch_pickle(tensors("plain"))[0])
    with pytest.raises(WeightsError, match=r"'archive/data\.pkl'"):
        open_source(path)


@pytest.mark.peers
def test_torchs_own_files_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(4, 6)
    module = torch.nn.Linear(3, 2, dtype=torch.bfloat16)
    state = {"view": base[1:, ::2], "turned": base.t(), "base": base, "one": torch.tensor(3), "none": torch.zeros(0, 3)}
    for number, content in enumerate([state, {"model": state, "step": 3, "dtype": torch.float32},
                                      {"fsdp_best_state": {"model": state}}]):  # fmt: skip
        torch.save(content, tmp_path / f"{number}.pth")
        source = open_source(tmp_path / f"{number}.pth")
        assert source.specs.keys() == state.keys()
        for name, value in state.items():
            np.testing.assert_array_equal(source.read(name), value.numpy())
        np.testing.assert_array_equal(source.read("turned", slice(2, 4)), base.t()[2:4])
    torch.save(module.state_dict(), tmp_path / "module.bin")
    weight = open_source(tmp_path / "module.bin").read("weight")
    np.testing.assert_array_equal(weight.astype(np.float32), module.weight.detach().float().numpy())
    torch.save(module, tmp_path / "whole.pt")
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.linear\.Linear"):
        open_source(tmp_path / "whole.pt")


def test_an_unsupported_dtype_is_refused(codec):
    for dtype in ("int8", "float64", "bf16", object):
        assert "bfloat16" in refusal(codec, dtype=dtype)


def test_a_source_in_memory_gives_rows():
    source = MemorySource({"a": np.arange(12).reshape(4, 3)})
    np.testing.assert_array_equal(source.read("a", slice(1, 3)), [[3, 4, 5], [6, 7, 8]])
    assert source.specs["a"].shape == (4, 3) and LAYOUTS
