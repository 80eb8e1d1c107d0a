"""Where checkpoints are found, how they are placed, and how they are written: folders, hub, LoRA, dtypes, sharding."""

import dataclasses
import functools
import json
import os
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jomni
from jomni.checkpoints.detect import detect
from jomni.checkpoints.hub import BUNDLED, HubRepository, open_files
from jomni.errors import ConfigError, OutputError, WeightsError
from jomni.models.mimi.config import MIMI
from jomni.models.moshi import MOSHI_7B
from jomni.tensors.weight_map import flatten
from tests.checkpoint_files import (
    LAYOUTS,
    MIMI_NAME,
    assert_same,
    read_all,
    tensors,
    write_lm,
    write_mimi,
    write_shards,
)  # fmt: skip
from tests.paths import PARITY_DATA

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


# Recognition


def test_a_full_kyutai_folder_brings_everything(tmp_path):
    write_mimi(tmp_path)
    (tmp_path / "spm.model").write_bytes(b"tokens")
    settings = {"tts_config": {"multistream": True}, "model_id": {"sig": "x", "epoch": 3}}
    write_lm(tmp_path, mimi_config_name="mimi_config.json", tokenizer_name="spm.model", model_type="tts",
             lm_gen_config={"temp": 0.6}, **settings)  # fmt: skip
    checkpoint = jomni.load(tmp_path)
    assert (checkpoint.family, checkpoint.model_type, checkpoint.tokenizer) == ("moshi", "tts", b"tokens")
    assert checkpoint.generation == {"temp": 0.6}
    assert checkpoint.settings == settings
    assert checkpoint.codec_codebooks == 1  # two agent codebooks, halved between two speakers
    assert checkpoint.num_parameters() == sum(
        value.size for case in ("plain", "mimi_small") for value in tensors(case).values()
    )
    assert checkpoint.num_parameters("lm/text_emb") == 21 * 16
    with pytest.raises(WeightsError, match=f"^{tmp_path}: .*sentencepiece"):
        checkpoint.text_tokenizer()
    for layout in ("kyutai", "orbax"):
        jomni.save(checkpoint, tmp_path / layout, layout)
        again = jomni.load(tmp_path / layout)
        for field in ("family", "model_type", "tokenizer", "generation", "settings", "configs", "stored"):
            assert getattr(again, field) == getattr(checkpoint, field), field


def test_hibiki_reads_end_of_text_as_padding_and_keeps_its_file(tmp_path):
    held = write_lm(tmp_path / "in", model_type="hibiki")
    checkpoint = jomni.load(tmp_path / "in")
    assert checkpoint.configs["lm"].text_eos_reads_as_padding
    jomni.save(checkpoint, tmp_path / "out")
    assert_same(read_all(tmp_path / "out"), held)
    assert jomni.load(tmp_path / "out").configs["lm"] == checkpoint.configs["lm"]


def test_a_legacy_folder_without_config_is_moshi_7b(tmp_path):
    save_file({"text_emb.weight": np.zeros((3, 2), np.float32)}, tmp_path / "model.safetensors")
    write_mimi(tmp_path, config="unused.json")
    (tmp_path / "tokenizer_spm_32k_3.model").write_bytes(b"tokens")
    opened = detect(tmp_path)
    assert (opened.configs["lm"], opened.configs["mimi"], opened.tokenizer) == (MOSHI_7B, MIMI, b"tokens")
    with pytest.raises(WeightsError, match=r"354 .*'depformer\.layers\.0\.gating\.0\.linear_in\.weight'"):
        jomni.load(tmp_path)


@pytest.mark.parametrize("name, config", [
    (MIMI_NAME, "mimi_config.json"), ("codec.safetensors", "codec.json"), ("a.safetensors", "config.json"),
])  # fmt: skip
def test_a_bare_codec_takes_the_configuration_beside_it(tmp_path, name, config):
    write_mimi(tmp_path, name=name, config=config)
    checkpoint = jomni.load(tmp_path / name)
    assert checkpoint.family == checkpoint.model_type == "mimi" and "lm" not in checkpoint.configs
    assert checkpoint.configs["mimi"].to_kyutai()["quantizer"]["n_q"] == checkpoint.codec_codebooks == 3


def test_a_bare_codec_alone_has_the_published_configuration(tmp_path):
    write_mimi(tmp_path, name="codec.safetensors", config="elsewhere.json")
    assert detect(tmp_path / "codec.safetensors").configs["mimi"] == MIMI
    with pytest.raises(WeightsError, match=r"codec\.safetensors: .* 269 .*'decoder\.model\.11\.convtr.*bias' \[64\]"):
        jomni.load(tmp_path / "codec.safetensors")


def test_a_folder_of_a_codec_and_a_config_in_its_keys(tmp_path):
    write_mimi(tmp_path, name="model.safetensors", config="config.json")
    assert jomni.load(tmp_path).family == "mimi"


def test_a_language_models_file_is_read_with_its_folder(tmp_path):
    held = write_lm(tmp_path)
    os.rename(tmp_path / "model.safetensors", tmp_path / "step_100.safetensors")
    checkpoint = jomni.load(tmp_path / "step_100.safetensors")
    assert checkpoint.num_parameters("lm") == sum(value.size for value in held.values())


def test_names_in_the_config_may_point_elsewhere(tmp_path, hub):
    write_mimi(tmp_path / "codec")
    held = hub("kyutai/weights", {"sub/lm.safetensors": lambda path: save_file(tensors("plain"), path)})
    assert held
    write_lm(tmp_path / "lm", moshi_name="hf://kyutai/weights/sub/lm.safetensors",
             mimi_name=f"file://{tmp_path / 'codec' / MIMI_NAME}",
             mimi_config_name=f"file://{tmp_path / 'codec' / 'mimi_config.json'}")  # fmt: skip
    (tmp_path / "lm" / "model.safetensors").unlink()
    checkpoint = jomni.load(tmp_path / "lm")
    jomni.save(checkpoint, tmp_path / "out")
    assert_same(read_all(tmp_path / "out"), tensors("plain") | tensors("mimi_small"))


# Hub, offline: a cache as huggingface_hub lays it out


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Makes repositories in an empty hub cache: hub(id, {file: writer of a path}, revision)."""
    from huggingface_hub import constants

    cache = tmp_path / "hub-cache"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def make(repository, files, revision="main"):
        root = cache / f"models--{repository.replace('/', '--')}"
        commit = ("a" if revision == "main" else "b") * 40
        (root / "refs").mkdir(parents=True, exist_ok=True)
        (root / "refs" / revision).write_text(commit)
        folder = root / "snapshots" / commit
        for name, write in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write(folder / name)
        return folder

    return make


def repository_files(case="plain"):
    return {
        "config.json": lambda path: path.write_text(json.dumps(LAYOUTS[case]["config"])),
        "model.safetensors": lambda path: save_file(tensors(case), path),
    }


def test_a_hub_repository_is_read_from_the_cache_offline(hub):
    hub("kyutai/tiny", repository_files())
    checkpoint = jomni.load("kyutai/tiny")
    assert checkpoint.source == "kyutai/tiny" and "mimi" not in checkpoint.configs
    assert jomni.load("hf://kyutai/tiny/model.safetensors").configs["lm"] == checkpoint.configs["lm"]


def test_a_revision_is_honoured(hub):
    hub("kyutai/tiny", repository_files())
    hub("kyutai/tiny", repository_files("kv_repeat"), "v2")
    assert jomni.load("kyutai/tiny").configs["lm"].kv_repeat == 1
    assert jomni.load("kyutai/tiny", revision="v2").configs["lm"].kv_repeat == 2
    with pytest.raises(WeightsError, match=r"revision 'v3'.*HF_HUB_OFFLINE"):
        jomni.load("kyutai/tiny", revision="v3")


def test_a_sharded_hub_repository(hub):
    folder = hub("kyutai/tiny", repository_files())
    (folder / "model.safetensors").unlink()
    files = write_shards(folder, tensors("plain"))
    assert jomni.load("kyutai/tiny").configs["lm"] is not None
    (folder / files[1]).unlink()
    with pytest.raises(WeightsError, match=files[1]):
        jomni.load("kyutai/tiny")


def test_a_legacy_repository_is_recognised_offline(hub):
    hub("kyutai/old", {"model.safetensors": lambda path: save_file({"text_emb.weight": np.zeros((3, 2))}, path)})
    assert detect("kyutai/old").configs["lm"] == MOSHI_7B


def test_a_repository_of_transformers_is_recognised(hub, tmp_path):
    parity = PARITY_DATA / "hf_mimi"
    names = ("config.json", "model.safetensors")
    hub("kyutai/mimi", {name: functools.partial(shutil.copy, parity / name) for name in names})
    opened = [detect(source) for source in ("kyutai/mimi", parity, parity / "model.safetensors")]
    assert {o.family for o in opened} == {"mimi"} and len({o.configs["mimi"] for o in opened}) == 1


def test_the_projects_own_form_is_read_from_the_hub(hub, tmp_path):
    write_mimi(tmp_path / "in")
    jomni.save(jomni.load(tmp_path / "in"), tmp_path / "out", "orbax")
    shutil.copytree(tmp_path / "out", hub("me/mine", {}), dirs_exist_ok=True)
    assert detect("me/mine").configs["mimi"].num_codebooks == 3
    assert jomni.load("me/mine").num_parameters() == jomni.load(tmp_path / "in").num_parameters()


def test_a_repository_that_is_not_there_is_told_with_the_cure(hub, monkeypatch, tmp_path):
    with pytest.raises(WeightsError, match=r"'kyutai/absent'.*HF_HUB_OFFLINE"):
        jomni.load("kyutai/absent")
    folder = hub("kyutai/tiny", repository_files())
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"'model\.safetensors' .*HF_HUB_OFFLINE"):
        jomni.load("kyutai/tiny")
    write_lm(tmp_path / "local")
    with pytest.raises(WeightsError, match=r"local: .*'v2'"):
        jomni.load(tmp_path / "local", revision="v2")


def answer(error):
    def download(*_, **__):
        raise error

    return download


def hub_errors():
    from huggingface_hub import errors

    kinds = {
        "name.*hf auth login": errors.RepositoryNotFoundError, "revision": errors.RevisionNotFoundError,
        "terms.*hf auth login": errors.GatedRepoError, "'config.json'.*server on fire": errors.HfHubHTTPError,
        "'config.json'.*connection": errors.LocalEntryNotFoundError,
    }  # fmt: skip
    made = {}
    for told, kind in kinds.items():  # without their constructors, which want a response of the library's HTTP client
        made[told] = kind.__new__(kind)
        made[told].args = ("server on fire\nmore",)
    return made


@pytest.mark.parametrize("told", hub_errors())
def test_what_the_hub_answers_is_told_in_one_line(monkeypatch, told):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", answer(hub_errors()[told]))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(WeightsError, match=told) as caught:
        jomni.load("kyutai/tiny")
    assert "kyutai/tiny" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_the_hub_lacks_is_absent_and_only_needed_files_are_fetched(monkeypatch, tmp_path):
    from huggingface_hub import errors

    write_lm(tmp_path)
    asked = []

    def download(repository, filename, revision=None):
        asked.append(filename)
        if not (tmp_path / filename).is_file():
            raise errors.EntryNotFoundError("x")
        return str(tmp_path / filename)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    (tmp_path / "model.q8.safetensors").write_bytes(b"huge")
    jomni.load("kyutai/tiny")
    assert set(asked) == {"config.json", "model.safetensors", MIMI_NAME, "tokenizer_spm_32k_3.model"}


def test_sources_are_told_apart(tmp_path):
    assert isinstance(open_files("owner/name")[0], HubRepository)
    assert open_files("hf://owner/name/a/b.safetensors")[1] == "a/b.safetensors"
    for name in BUNDLED:
        assert open_files(name)[0].name.endswith(f"assets/{name}")
    with pytest.raises(WeightsError, match=r"^nano: .*'main'"):
        open_files("nano", revision="main")
    for wrong in ("owner/model.safetensors", "a/b/c", "", "hf://owner", "one"):
        with pytest.raises(WeightsError, match=f"^{wrong!r}: .*owner/name"):
            open_files(wrong)


# LoRA


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
