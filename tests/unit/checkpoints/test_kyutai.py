"""Names and shapes are the published ones, and what was imported exports byte for byte."""

import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import jomni
from jomni.models.mimi import weights as mimi_weights
from jomni.models.mimi.config import MIMI, MimiConfig
from jomni.models.moshi import MOSHI_7B, MoshiConfig
from jomni.models.moshi import weights as moshi_weights
from jomni.tensors.weight_map import flatten
from tests.checkpoint_files import (
    LAYOUTS,
    LMS,
    MIMI_NAME,
    MIMIS,
    assert_same,
    read_all,
    tensors,
    write_lm,
    write_mimi,
    write_shards,
    write_torch,
)  # fmt: skip


def expected_layout(case):
    raw = LAYOUTS[case]["config"]
    if case.startswith("mimi"):
        config = MimiConfig.from_kyutai(raw)
        return mimi_weights.weight_map(config).expect(mimi_weights.abstract_params(config))
    config = MoshiConfig.from_kyutai(raw)
    return moshi_weights.weight_map(config).expect(moshi_weights.abstract_params(config))


def test_presets_are_the_published_configurations():
    assert MimiConfig.from_kyutai(LAYOUTS["mimi"]["config"]) == MIMI
    assert MoshiConfig.from_kyutai(LAYOUTS["moshi_7b"]["config"]) == MOSHI_7B


@pytest.mark.parametrize("case", LAYOUTS)
def test_names_and_shapes_are_those_of_the_original(case):
    assert {t.name: list(t.shape) for t in expected_layout(case)} == LAYOUTS[case]["tensors"]


@pytest.mark.peers
def test_the_golden_layouts_are_what_the_original_gives_today():
    presets = pytest.importorskip("tools.goldens.presets")
    assert presets.layouts() == LAYOUTS


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("case", LMS)
def test_a_language_model_exports_byte_for_byte(tmp_path, case, dtype):
    held = write_lm(tmp_path / "in", case, dtype=dtype)
    checkpoint = jomni.load(tmp_path / "in")
    shutil.rmtree(tmp_path / "in")
    jomni.save(checkpoint, tmp_path / "out")
    assert_same(read_all(tmp_path / "out"), held)
    again = jomni.load(tmp_path / "out")
    assert again.configs["lm"] == checkpoint.configs["lm"]
    same = jax.tree.map(lambda a, b: (np.asarray(a) == np.asarray(b)).all(), again.params, checkpoint.params)
    assert jax.tree.all(same)


@pytest.mark.parametrize("case", MIMIS)
def test_a_codec_exports_byte_for_byte(tmp_path, case):
    held = write_mimi(tmp_path / "in", case)
    checkpoint = jomni.load(tmp_path / "in" / MIMI_NAME)
    shutil.rmtree(tmp_path / "in")
    jomni.save(checkpoint, tmp_path / "out")
    assert_same(read_all(tmp_path / "out"), held)
    assert jomni.load(tmp_path / "out").configs["mimi"] == checkpoint.configs["mimi"]


def test_a_half_precision_codec_is_float32_in_memory_and_half_in_its_export(tmp_path):
    write_mimi(tmp_path / "in")
    held = tensors("mimi_small")
    held = {name: tensor.astype(np.float16) for name, tensor in held.items()}
    save_file(held, tmp_path / "in" / MIMI_NAME)
    checkpoint = jomni.load(tmp_path / "in")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(checkpoint.params)} == {"float32"}
    for layout in ("kyutai", "orbax"):
        jomni.save(checkpoint, tmp_path / layout, layout)
    jomni.save(jomni.load(tmp_path / "orbax"), tmp_path / "back")
    assert_same(read_all(tmp_path / "kyutai"), held)
    assert_same(read_all(tmp_path / "back"), held)


def in_modules(held, case):
    """The tensors as today's `state_dict()` names them: attention projections apart, one for each weight set."""
    apart = {}
    for tensor in expected_layout(case):
        for place in tensor.places():
            value = held[tensor.name]
            apart[place.leaf.name] = value if place.rows is None else value[place.rows]
    return apart


@pytest.mark.parametrize("case", ["schedule", "schedule_of_one", "lora", "conditions"])
def test_the_names_of_todays_modules_are_accepted_and_the_published_ones_exported(tmp_path, case):
    held = tensors(case)
    apart = in_modules(held, case)
    assert any(".in_projs." in name for name in apart) and len(apart) >= len(held)
    write_lm(tmp_path / "in", case, {k: np.ascontiguousarray(v) for k, v in apart.items()})
    jomni.save(jomni.load(tmp_path / "in"), tmp_path / "out")
    assert_same(read_all(tmp_path / "out"), held)


def test_weights_frozen_under_adapters_are_accepted(tmp_path):
    held = tensors("lora")
    adapted = {name.removesuffix("lora_A.weight") for name in in_modules(held, "lora") if "lora_A" in name}
    frozen = {}
    for name, value in in_modules(held, "lora").items():
        stem = name.removesuffix("weight")
        frozen[f"{stem}frozen_W.weight" if stem in adapted else name] = np.ascontiguousarray(value)
    write_lm(tmp_path / "in", "lora", frozen)
    jomni.save(jomni.load(tmp_path / "in"), tmp_path / "out")
    assert_same(read_all(tmp_path / "out"), held)


def test_the_older_codebook_names_are_accepted(tmp_path):
    held = write_mimi(tmp_path)
    old = {"_initialized": "inited", "cluster_usage": "cluster_size", "embedding_sum": "embed_avg"}
    renamed = {}
    for name, value in held.items():
        stem, _, last = name.rpartition(".")
        renamed[f"{stem}.{old[last]}" if "_codebook." in name else name] = value
    renamed["quantizer.rvq_first.vq.layers.0._codebook.embed_sum"] = renamed.pop(
        "quantizer.rvq_first.vq.layers.0._codebook.embed_avg"
    )
    save_file(renamed, tmp_path / MIMI_NAME)
    jomni.save(jomni.load(tmp_path), tmp_path / "out")
    assert_same(read_all(tmp_path / "out"), held)


@pytest.mark.parametrize("wrap", [(), ("model",), ("fsdp_best_state", "model")])
def test_a_pickled_torch_checkpoint_is_read_as_its_safetensors_twin(tmp_path, wrap):
    held = write_lm(tmp_path / "in", "schedule", moshi_name="model.pt")
    (tmp_path / "in" / "model.safetensors").unlink()
    write_torch(tmp_path / "in" / "model.pt", held, wrap)
    checkpoint = jomni.load(tmp_path / "in")
    shutil.rmtree(tmp_path / "in")
    jomni.save(checkpoint, tmp_path / "out")
    assert_same(read_all(tmp_path / "out"), held)


def test_sharded_files_are_read_as_one(tmp_path):
    held = write_lm(tmp_path, "plain")
    write_shards(tmp_path, held)
    (tmp_path / "model.safetensors").unlink()
    jomni.save(jomni.load(tmp_path), tmp_path / "out")
    assert_same(read_all(tmp_path / "out"), held)


def test_reading_in_small_pieces_changes_nothing(tmp_path, monkeypatch):
    write_lm(tmp_path, "lora", dtype=np.float32)
    whole = [jomni.load(tmp_path, fuse_lora=fuse).params for fuse in (False, True)]
    monkeypatch.setattr("jomni.tensors.stream.CHUNK_BYTES", 100)
    pieces = [jomni.load(tmp_path, fuse_lora=fuse).params for fuse in (False, True)]
    for one, other in zip(whole, pieces, strict=True):
        for (path, a), (_, b) in zip(flatten(one).items(), flatten(other).items(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6, err_msg=path)


@pytest.mark.peers
@pytest.mark.parametrize("case", ["plain", "schedule_widths", "conditions", "lora", "low_rank", "norms"])
def test_the_original_reads_what_was_exported(tmp_path, case, monkeypatch):
    torch = pytest.importorskip("torch")
    loaders = pytest.importorskip("moshi.models.loaders")
    write_lm(tmp_path / "in", case, dtype=np.float32, mimi_config_name="mimi_config.json", model_type="stt",
             lm_gen_config={"temp": 0.5}, stt_config={"audio_delay_seconds": 0.5})  # fmt: skip
    write_mimi(tmp_path / "in")
    jomni.save(jomni.load(tmp_path / "in"), tmp_path / "out")
    (tmp_path / "out" / "tokenizer_spm_32k_3.model").write_bytes(b"")
    monkeypatch.setattr(loaders, "hf_hub_download", lambda repo, name, revision=None: str(tmp_path / "out" / name))
    info = loaders.CheckpointInfo.from_hf_repo("kyutai/test")
    assert (info.model_type, info.lm_gen_config, info.stt_config) == (
        "stt", {"temp": 0.5}, {"audio_delay_seconds": 0.5},
    )  # fmt: skip
    held = {"lm": tensors(case, np.float32), "mimi": tensors("mimi_small")}
    mimi = loaders.get_mimi(info.mimi_weights, info.mimi_config, num_codebooks=3)
    models = {"lm": info.get_moshi(dtype=torch.float32), "mimi": mimi}
    for part, model in models.items():
        state = {name.replace(".frozen_W.", "."): value.numpy() for name, value in model.state_dict().items()}
        expected = in_modules(held["lm"], case) if part == "lm" else in_modules(held["mimi"], "mimi_small")
        assert_same(state, {name: np.ascontiguousarray(value) for name, value in expected.items()})
