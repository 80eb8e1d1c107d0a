"""How checkpoints are placed and written: dtypes, sharding, existing folders, failures."""

import dataclasses
import json
import os

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

import jomni
from jomni.errors import ConfigError, OutputError, WeightsError
from jomni.tensors.weight_map import flatten
from tests.checkpoint_files import (
    MIMI_NAME,
    assert_same,
    tensors,
    write_lm,
    write_mimi,
)  # fmt: skip

pytestmark = pytest.mark.compiled_quickly


# Dtypes and placement


def as_numpy(checkpoint):
    return jax.tree.map(np.asarray, checkpoint.params)


def test_dtypes_are_cast_but_codec_and_conditioners_stay_float32(tmp_path):
    write_lm(tmp_path, "conditions", dtype=np.float32, mimi_config_name="mimi_config.json")
    write_mimi(tmp_path)
    checkpoint = jomni.load(tmp_path, dtype="bfloat16")
    for path, leaf in flatten(checkpoint.params).items():
        stays = path.startswith(("mimi/", "lm/condition_provider/"))
        assert leaf.dtype == ("float32" if stays else "bfloat16"), path
    wanted = tensors("conditions", np.float32)["text_emb.weight"].astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(checkpoint.params["lm"]["text_emb"]["weight"], wanted)
    for layout in ("kyutai", "orbax"):
        jomni.save(jomni.load(tmp_path), tmp_path / layout, layout, dtype="bfloat16")
        found = jomni.load(tmp_path / layout)
        assert_same(flatten(as_numpy(found)), flatten(as_numpy(checkpoint)))
        up = jomni.load(tmp_path / layout, dtype="float32")
        assert {leaf.dtype.name for leaf in jax.tree.leaves(up.params)} == {"float32"}


@pytest.mark.parametrize("layout", ["kyutai", "orbax"])
def test_a_codec_is_written_in_half_precision_where_that_is_asked_for(layout, tmp_path):
    write_mimi(tmp_path, "mimi_small")
    whole = jomni.load(tmp_path)
    jomni.save(whole, tmp_path / "half", layout, codec_dtype="bfloat16")
    half = jomni.load(tmp_path / "half")
    pairs = (flatten(as_numpy(checkpoint)).items() for checkpoint in (whole, half))
    for (path, wide), (_, narrow) in zip(*pairs, strict=True):
        rounded = wide.astype(ml_dtypes.bfloat16) if wide.dtype == np.float32 else wide
        np.testing.assert_array_equal(narrow, rounded.astype(wide.dtype), err_msg=path)
    jomni.save(half, tmp_path / "again")
    written = load_file(next((tmp_path / "again").glob("*.safetensors")))
    assert {x.dtype.name for x in written.values()} == {"bfloat16"}


def test_parameters_go_where_they_are_sent(tmp_path):
    write_lm(tmp_path)
    mesh = jax.make_mesh((1,), ("model",), devices=jax.devices()[:1])
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("model"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    seen = []

    def choose(path, shape):
        seen.append((path, shape))
        return rows if path == "lm/text_emb/weight" else whole

    params = jomni.load(tmp_path, sharding=choose).params
    assert params["lm"]["text_emb"]["weight"].sharding == rows
    assert params["lm"]["text_linear"]["weight"].sharding == whole
    assert ("lm/text_emb/weight", (21, 16)) in seen and len(seen) == len(jax.tree.leaves(params))
    tree = {"lm": {"text_emb": {"weight": rows}, "transformer": whole}}
    params = jomni.load(tmp_path, sharding=tree).params["lm"]
    assert params["text_emb"]["weight"].sharding == rows
    assert {leaf.sharding for leaf in jax.tree.leaves(params["transformer"])} == {whole}
    jomni.save(jomni.load(tmp_path), tmp_path / "orbax", "orbax")
    params = jomni.load(tmp_path / "orbax", sharding=tree).params["lm"]
    assert params["text_emb"]["weight"].sharding == rows


# Writing


def test_an_existing_output_is_not_replaced_unless_asked(tmp_path):
    write_mimi(tmp_path / "in")
    checkpoint = jomni.load(tmp_path / "in")
    jomni.save(checkpoint, tmp_path / "out")
    with pytest.raises(OutputError, match=rf"^{tmp_path}/out: "):
        jomni.save(checkpoint, tmp_path / "out")
    jomni.save(checkpoint, tmp_path / "out", "orbax", overwrite=True)
    assert sorted(os.listdir(tmp_path / "out")) == ["jomni.json", "params"]
    jomni.save(checkpoint, tmp_path / "out", overwrite=True)
    assert sorted(os.listdir(tmp_path / "out")) == ["mimi_config.json", MIMI_NAME]
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"thesis\.tex"):
        jomni.save(checkpoint, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "thesis.tex").exists()


def test_a_failed_save_leaves_nothing_behind_and_the_old_one_in_place(tmp_path, monkeypatch):
    write_mimi(tmp_path / "in")
    checkpoint = jomni.load(tmp_path / "in")
    jomni.save(checkpoint, tmp_path / "out")
    before = {name: (tmp_path / "out" / name).read_bytes() for name in os.listdir(tmp_path / "out")}

    def full(*_):
        raise OSError(28, "No space left on device")

    rename = os.rename

    def refuse_new(source, target):
        if str(source).endswith("new"):
            raise OSError(5, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("jomni.checkpoints.save.os.rename", refuse_new)
        with pytest.raises(OutputError, match="Input/output error"):
            jomni.save(checkpoint, tmp_path / "out", overwrite=True)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in os.listdir(tmp_path / "out")} == before
    monkeypatch.setattr("jomni.checkpoints.export.ParameterSource.read", full)
    with pytest.raises(OutputError, match="No space left on device"):
        jomni.save(checkpoint, tmp_path / "out", overwrite=True)
    with pytest.raises(OutputError, match="No space left on device"):
        jomni.save(checkpoint, tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]
    assert {name: (tmp_path / "out" / name).read_bytes() for name in os.listdir(tmp_path / "out")} == before


def test_parameters_that_do_not_fit_their_configuration_are_not_written(tmp_path):
    write_mimi(tmp_path / "in")
    checkpoint = jomni.load(tmp_path / "in")
    params = jax.tree.map(lambda leaf: leaf, checkpoint.params)
    params["mimi"]["decoder"].pop("model_0")
    with pytest.raises(WeightsError, match=r"2 .*'decoder\.model\.0\.conv\.conv\.bias' \[16\]"):
        jomni.save(dataclasses.replace(checkpoint, params=params), tmp_path / "out", "orbax")
    folded = {"mimi": jomni.fold_codebooks(checkpoint.params["mimi"])}
    with pytest.raises(WeightsError, match="'quantizer/rvq_first/layers_0/centroids'"):
        jomni.save(dataclasses.replace(checkpoint, params=folded), tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["in"]


def test_outputs_that_cannot_be_are_refused(tmp_path):
    write_mimi(tmp_path)
    checkpoint = jomni.load(tmp_path)
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "below", "/proc/jomni"):
        with pytest.raises(OutputError, match=rf"{target}\b"):
            jomni.save(checkpoint, target)
    with pytest.raises(ConfigError, match=r"'onnx'.*kyutai"):
        jomni.save(checkpoint, tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


def test_a_damaged_orbax_folder_is_refused(tmp_path):
    write_mimi(tmp_path / "in")
    jomni.save(jomni.load(tmp_path / "in"), tmp_path / "out", "orbax")
    marker = tmp_path / "out" / "jomni.json"
    raw = json.loads(marker.read_text())
    marker.write_text(json.dumps(raw | {"jomni": 99}))
    with pytest.raises(WeightsError, match=r"jomni\.json: .*99"):
        jomni.load(tmp_path / "out")
    marker.write_text(json.dumps({key: value for key, value in raw.items() if key != "generation"}))
    with pytest.raises(WeightsError, match=r"jomni.json: .*'generation'"):
        jomni.load(tmp_path / "out")
    wider = json.loads(json.dumps(raw))
    wider["mimi"]["quantizer"] |= {"n_q": 4, "bins": 11}
    marker.write_text(json.dumps(wider))
    with pytest.raises(WeightsError, match=r"3 .*/layers_2/embedding_sum' \[11, 6\].*_usage' \[10\] .*\[11\]"):
        jomni.load(tmp_path / "out")
    marker.write_text(json.dumps(raw))
    for path in sorted((tmp_path / "out" / "params").rglob("*")):
        if path.is_file() and "_METADATA" in path.name:
            path.write_text("{")
    with pytest.raises(WeightsError, match=r"params: .*Orbax"):
        jomni.load(tmp_path / "out")


@pytest.mark.parametrize("layout", ["kyutai", "hf", "orbax"])
def test_one_part_can_be_loaded_alone(tiny_moshi, tmp_path, layout):
    jomni.save(tiny_moshi, tmp_path / "m", layout)
    codec = jomni.load(tmp_path / "m", components=("mimi",))
    assert "lm" not in codec.configs and list(codec.params) == ["mimi"]
    whole = jomni.load(tmp_path / "m")
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), codec.params["mimi"], whole.params["mimi"]))
    assert list(jomni.load(tmp_path / "m", components=("lm",)).params) == ["lm"]
