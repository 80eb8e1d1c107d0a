"""Mini-Omni's files: names both ways, byte for byte, its neighbours; names of full size; what does not fit is said."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

import jomni
from jomni.errors import ConfigError, JomniError, WeightsError
from jomni.models.mini_omni import MiniOmniConfig
from jomni.models.mini_omni import weights as mini_omni_weights
from jomni.models.mini_omni.config import MINI_OMNI
from jomni.tensors.weight_map import flatten
from tests import decoder_cases, mini_omni_case
from tests.checkpoint_files import assert_same, read_all, write_torch
from tests.paths import GOLDENS
from tools.goldens import omni_cases

pytestmark = pytest.mark.compiled_quickly

LAYOUTS = json.loads((GOLDENS / "omni_layouts.json").read_text())


def same(a, b):
    """Both checkpoints hold the same parameters."""
    leaves = flatten(b.params)
    for path, value in flatten(a.params).items():
        np.testing.assert_array_equal(value, leaves.pop(path), err_msg=path)
    assert not leaves


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with everything that a published one has, and SNAC's beside it."""
    folder = tmp_path_factory.mktemp("omni") / "mini-omni"
    mini_omni_case.write(folder, neighbours=True)
    return folder


@pytest.fixture
def folder(tmp_path, published):
    """The same to be spoiled, without its neighbours."""
    target = tmp_path / "in"
    shutil.copytree(published, target, ignore=shutil.ignore_patterns("small.pt", "snac_24khz"))
    return target


@pytest.mark.parametrize("case", LAYOUTS)
def test_names_and_shapes_of_full_size_are_those_of_the_original(case):
    config = MiniOmniConfig.from_published(LAYOUTS[case]["config"])
    found = {
        t.name: list(t.shape)
        for t in mini_omni_weights.weight_map(config).expect(mini_omni_weights.abstract_params(config))
    }
    assert found | {"lm_head.weight": found["transformer.wte.weight"]} == LAYOUTS[case]["tensors"]


def test_the_preset_is_the_published_model():
    published = LAYOUTS["mini-omni"]["config"]
    assert MiniOmniConfig.from_published(published) == MINI_OMNI
    assert MiniOmniConfig.from_published(MINI_OMNI.to_published()) == MINI_OMNI


@pytest.mark.parametrize("case", omni_cases.CASES)
def test_a_published_folder_exports_byte_for_byte(tmp_path, case):
    held = mini_omni_case.write(tmp_path / "in", case)
    checkpoint = jomni.load(tmp_path / "in")
    assert (checkpoint.family, checkpoint.model_type, checkpoint.layouts[0]) == ("mini_omni", "mini-omni", "litgpt")
    assert checkpoint.params.keys() == {"omni"} and checkpoint.files == decoder_cases.files()
    jomni.save(checkpoint, tmp_path / "out")
    assert_same(read_all(tmp_path / "out"), held)
    written = yaml.safe_load((tmp_path / "out" / "model_config.yaml").read_text())
    given = mini_omni_case.fields(case)
    assert {key: written[key] for key in given if key in written} == {k: v for k, v in given.items() if k in written}
    assert written["hf_config"] == given["hf_config"]
    again = jomni.load(tmp_path / "out" / "lit_model.safetensors")
    assert (again.configs["omni"], again.files) == (checkpoint.configs["omni"], checkpoint.files)
    same(again, checkpoint)


def test_queries_keys_and_values_are_read_whatever_rows_are_read_at_a_time(folder, monkeypatch):
    whole = jomni.load(folder)
    monkeypatch.setattr("jomni.tensors.stream.CHUNK_BYTES", 100)
    same(jomni.load(folder), whole)
    fused = mini_omni_case.tensors()["transformer.h.1.attn.attn.weight"]  # two groups of q q k v, 4 rows each
    attention = whole.params["omni"]["backbone"]["layers_1"]["self_attn"]
    np.testing.assert_array_equal(attention["q_proj"]["weight"], np.concatenate([fused[:8], fused[16:24]]))
    np.testing.assert_array_equal(attention["k_proj"]["weight"], np.concatenate([fused[8:12], fused[24:28]]))
    np.testing.assert_array_equal(attention["v_proj"]["weight"], np.concatenate([fused[12:16], fused[28:]]))


def test_the_whisper_and_the_snac_beside_it_are_taken_and_exported(tmp_path, published):
    checkpoint = jomni.load(published)
    assert checkpoint.params.keys() == {"omni", "whisper", "snac"}
    same(
        dataclasses.replace(checkpoint, params=checkpoint.params | {"omni": {}}),
        dataclasses.replace(
            checkpoint,
            params={"omni": {}}
            | jomni.load(published / "small.pt").params
            | jomni.load(published / "snac_24khz").params,
        ),
    )
    for layout in ("litgpt", "orbax"):
        jomni.save(checkpoint, tmp_path / layout, layout)
        back = jomni.load(tmp_path / layout)
        same(back, checkpoint)
        for name in ("configs", "files", "settings", "family", "model_type"):
            assert getattr(back, name) == getattr(checkpoint, name), name
    jomni.save(checkpoint, tmp_path / "litgpt", overwrite=True)
    (tmp_path / "litgpt" / "snac" / "thesis.txt").write_text("precious")
    with pytest.raises(JomniError, match="snac"):
        jomni.save(checkpoint, tmp_path / "litgpt", overwrite=True)


def test_a_part_alone_is_loaded_without_opening_the_others(published, monkeypatch):
    codec = jomni.load(published, components=("mimi", "snac"))
    assert (codec.family, list(codec.params), codec.configs.get("omni")) == ("snac", ["snac"], None)
    ears = jomni.load(published, components=("whisper",))
    assert (ears.family, list(ears.params)) == ("whisper", ["whisper"])


def test_a_backbone_that_litgpt_cannot_express_is_kept_in_the_projects_own_form(tmp_path, folder):
    checkpoint = jomni.load(folder)
    decoder = dataclasses.replace(checkpoint.configs["omni"].decoder, logit_softcap=30.0)
    other = dataclasses.replace(
        checkpoint,
        configs=checkpoint.configs | {"omni": dataclasses.replace(checkpoint.configs["omni"], decoder=decoder)},
    )
    with pytest.raises(ConfigError, match=r"'logit_softcap' = 30\.0"):
        jomni.save(other, tmp_path / "out")
    jomni.save(other, tmp_path / "own", "orbax")
    assert jomni.load(tmp_path / "own").configs["omni"] == other.configs["omni"]


def test_bfloat16_is_rounded_once(tmp_path, folder):
    jomni.save(jomni.load(folder), tmp_path / "out", dtype="bfloat16")
    half = jomni.load(folder, dtype="bfloat16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(half.params)} == {"bfloat16"}
    same(jomni.load(tmp_path / "out"), half)


def test_a_tied_head_that_is_another_is_refused(folder):
    held = mini_omni_case.tensors()
    write_torch(folder / "lit_model.pth", held | {"lm_head.weight": held["transformer.wte.weight"] + 1})
    with pytest.raises(WeightsError, match=r"'lm_head\.weight' .*'transformer\.wte\.weight'"):
        jomni.load(folder)


def test_all_that_is_missing_surplus_or_misshapen_is_named_in_one_message(folder):
    held = mini_omni_case.tensors()
    held["extra.weight"] = held.pop("transformer.h.0.attn.attn.bias")
    held["transformer.h.1.attn.attn.weight"] = held["transformer.h.1.attn.attn.weight"][:-4].copy()
    (folder / "lit_model.pth").unlink()
    save_file(held, folder / "lit_model.safetensors")
    with pytest.raises(WeightsError) as error:
        jomni.load(folder)
    for word in ("lit_model.safetensors", "'transformer.h.0.attn.attn.bias' [32]", "'extra.weight'",
                 "'transformer.h.1.attn.attn.weight' [28, 16]", "[32, 16]"):  # fmt: skip
        assert word in str(error.value), word


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ({"n_layers": 3}, "'n_layers'"),
        ({"n_layer": "two"}, "'n_layer' is 'two'"),
        ({"n_layer": None}, "'n_layer'"),
        ({"n_head": 0}, "'num_heads'"),
        ({"n_expert": 4}, "'n_expert' is 4"),
        ({"asr_adapter": "conv"}, "'conv'"),
        ({"cat_audio_vocab_size": 8}, "'cat_audio_vocab_size' is 8"),
        ({"norm_eps": "small"}, "'norm_eps' is 'small'"),
        ({"rope_base": None}, "'rope_base' is None"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_with_its_file(folder, spoil, says):
    (folder / "model_config.yaml").write_text(yaml.safe_dump(mini_omni_case.fields() | spoil))
    with pytest.raises(ConfigError) as error:
        jomni.load(folder)
    assert says in str(error.value) and str(folder / "model_config.yaml") in str(error.value)


@pytest.mark.parametrize("content", ["", "a: [1\n", "- 1\n", "!!python/object/apply:os.system [true]\n"])
def test_a_damaged_configuration_is_refused(folder, content):
    (folder / "model_config.yaml").write_text(content)
    with pytest.raises(JomniError, match=r"model_config\.yaml"):
        jomni.load(folder)


def test_files_that_are_missing_are_named(folder):
    (folder / "lit_model.pth").rename(folder / "away")
    with pytest.raises(WeightsError, match=r"lit_model\.pth: "):
        jomni.load(folder)
    (folder / "away").rename(folder / "lit_model.pth")
    (folder / "model_config.yaml").unlink()
    for source in (folder, folder / "lit_model.pth"):
        with pytest.raises(WeightsError, match=r"model_config\.yaml: "):
            jomni.load(source)


def test_neighbours_that_do_not_fit_are_refused(folder, published):
    shutil.copytree(published / "snac_24khz", folder / "snac")
    shutil.copy(published / "small.pt", folder)
    (folder / "model_config.yaml").write_text(
        yaml.safe_dump(
            mini_omni_case.fields()
            | {
                "whisper_adapter_dim": 8,
                "text_vocab_size": mini_omni_case.TEXT - 7 * 8,
                "audio_vocab_size": mini_omni_case.AUDIO + 8,
                "cat_audio_vocab_size": 7 * (mini_omni_case.AUDIO + 8),
            }
        )
    )
    with pytest.raises(ConfigError, match=r" 12.*'whisper_adapter_dim' .*8.* 7 .* 128 .* 7 .* 136"):
        jomni.load(folder)
    shutil.rmtree(folder / "snac")
    (folder / "small.pt").unlink()
    shutil.copytree(published / "snac_24khz", folder / "whisper")
    with pytest.raises(ConfigError, match=r"/whisper: .*snac"):
        jomni.load(folder)
