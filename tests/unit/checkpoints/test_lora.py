"""LoRA files: read beside their model, fused, written apart, and refused where they do not belong."""

import json
import os

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import jomni
from jomni.errors import WeightsError
from jomni.tensors.weight_map import flatten
from tests.checkpoint_files import (
    assert_same,
    read_all,
    tensors,
    write_lm,
)  # fmt: skip

pytestmark = pytest.mark.compiled_quickly


def split_lora(held):
    """(the model's tensors, the adapters)."""
    adapters = {name: value for name, value in held.items() if ".lora_" in name}
    return {name: value for name, value in held.items() if name not in adapters}, adapters


def write_lora(folder, **extra):
    """A model and its LoRA file apart; returns all tensors."""
    held = tensors("lora", np.float32)
    base, adapters = split_lora(held)
    write_lm(folder, "lora", base, lora_name="lora.safetensors", **extra)
    save_file(adapters, folder / "lora.safetensors")
    return held


def test_adapters_are_kept_apart_and_written_apart(tmp_path):
    held = write_lora(tmp_path / "in")
    checkpoint = jomni.load(tmp_path / "in")
    assert checkpoint.configs["lm"].lora_rank == 3
    jomni.save(checkpoint, tmp_path / "out")
    base, adapters = split_lora(held)
    assert_same(read_all(tmp_path / "out"), held)
    os.remove(tmp_path / "out" / "lora.safetensors")
    assert_same(read_all(tmp_path / "out"), base)
    assert adapters and json.loads((tmp_path / "out" / "config.json").read_text())["lora_name"] == "lora.safetensors"


def test_fused_adapters_are_added_in_float32(tmp_path):
    held = write_lora(tmp_path)
    fused = jomni.load(tmp_path, fuse_lora=True)
    assert fused.configs["lm"].lora_rank == 0
    paths = list(flatten(fused.params))
    assert paths and not any("lora" in path for path in paths)
    lm = fused.params["lm"]
    for name, found in (("text_linear", lm["text_linear"]), ("linears.1", lm["linears_1"])):
        wanted = held[f"{name}.weight"] + 2 * held[f"{name}.lora_B.weight"] @ held[f"{name}.lora_A.weight"]
        np.testing.assert_allclose(found["weight"], wanted, rtol=1e-5, atol=1e-5)
    stem = "depformer.layers.0.self_attn.out_proj"  # two weight sets, stacked
    a, b = held[f"{stem}.lora_A.weight"].reshape(2, 3, 8), held[f"{stem}.lora_B.weight"].reshape(2, 8, 3)
    wanted = held[f"{stem}.weight"].reshape(2, 8, 8) + 2 * b @ a
    for step in range(2):
        found = lm["depformer"]["layers_0"]["self_attn"][f"out_projs_{step}"]["weight"]
        np.testing.assert_allclose(found, wanted[step], rtol=1e-5, atol=1e-5)
    low = jomni.load(tmp_path, fuse_lora=True, dtype="bfloat16").params["lm"]["text_linear"]["weight"]
    np.testing.assert_array_equal(low, np.asarray(lm["text_linear"]["weight"]).astype(ml_dtypes.bfloat16))


def test_other_tensors_in_a_lora_file_replace_the_models(tmp_path):
    held = write_lora(tmp_path)
    _, adapters = split_lora(held)
    trained = {"emb.0.weight": held["emb.0.weight"] + 1}
    save_file(adapters | trained, tmp_path / "lora.safetensors")
    emb = jomni.load(tmp_path, fuse_lora=True).params["lm"]["emb_0"]["weight"]
    np.testing.assert_array_equal(emb, trained["emb.0.weight"])
    save_file(adapters | {"embb.0.weight": trained["emb.0.weight"]}, tmp_path / "lora.safetensors")
    with pytest.raises(WeightsError, match=r"lora.safetensors: .*'embb.0.weight'"):
        jomni.load(tmp_path)
    adapters.pop("text_linear.lora_B.weight")
    save_file(adapters, tmp_path / "lora.safetensors")
    with pytest.raises(WeightsError, match=r"lora.safetensors: .*'text_linear.lora_B.weight' \[20, 3\]"):
        jomni.load(tmp_path)


def test_a_lora_file_can_be_given(tmp_path):
    held = write_lora(tmp_path / "model")
    _, adapters = split_lora(held)
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    save_file({name: value + 1 for name, value in adapters.items()}, tuned / "lora.safetensors")
    found = jomni.load(tmp_path / "model", lora=tuned / "lora.safetensors").params["lm"]["text_linear"]["lora_A"]
    np.testing.assert_array_equal(found, adapters["text_linear.lora_A.weight"] + 1)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"lora": False}))
    assert jomni.load(tmp_path / "model").configs["lm"].lora_rank == 0
    with pytest.raises(WeightsError, match=r"lora_rank.*lora_scaling"):
        jomni.load(tmp_path / "model", lora=tuned / "lora.safetensors")
    (tuned / "config.json").write_text(json.dumps({"lora": True, "lora_rank": 3, "lora_scaling": 0.5}))
    lm = jomni.load(tmp_path / "model", lora=tuned / "lora.safetensors").configs["lm"]
    assert (lm.lora_rank, lm.lora_scaling) == (3, 0.5)


def test_a_lora_file_alone_is_told_from_a_model(tmp_path):
    write_lora(tmp_path)
    with pytest.raises(WeightsError, match=r"lora\.safetensors: .*`lora`"):
        jomni.load(tmp_path / "lora.safetensors")


def test_lora_without_a_file_is_refused(tmp_path):
    base, _ = split_lora(tensors("lora"))
    write_lm(tmp_path, "lora", base)
    with pytest.raises(WeightsError, match="'lora_name'"):
        jomni.load(tmp_path)
