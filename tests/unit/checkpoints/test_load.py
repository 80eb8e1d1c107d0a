"""Where checkpoints are found: folders, single files and the hub."""

import functools
import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

import jomni
from jomni.checkpoints.detect import detect
from jomni.checkpoints.hub import BUNDLED, HubRepository, open_files
from jomni.errors import WeightsError
from jomni.models.mimi.config import MIMI
from jomni.models.moshi import MOSHI_7B
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
