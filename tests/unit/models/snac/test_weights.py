"""SNAC's files: names both ways, byte for byte, older names, configuration; what does not fit is said."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import jomni
from jomni.models.snac import model as snac
from jomni.models.snac.config import SNAC_24KHZ, SNAC_44KHZ, SnacConfig, is_snac_config
from jomni.models.snac.model import Snac
from jomni.nn.lookahead import fold_weight_norm
from jomni.tensors.weight_map import flatten
from tests.checkpoint_files import assert_same, read_all, write_torch
from tests.parity.test_snac_golden import MANIFESTS
from tools.goldens import snac_cases


def written(folder, case="music", seed=0):
    """A folder in the published layout, as safetensors; returns its tensors."""
    snac_cases.write(folder, snac_cases.SNAC[case], MANIFESTS[case], seed)
    return snac_cases.weights(MANIFESTS[case], seed)


@pytest.mark.parametrize("case", snac_cases.SNAC)
def test_a_published_folder_exports_byte_for_byte(tmp_path, case):
    held = written(tmp_path / "in", case)
    (tmp_path / "in" / "model.safetensors").unlink()
    write_torch(tmp_path / "in" / "pytorch_model.bin", held)
    checkpoint = jomni.load(tmp_path / "in")
    assert (checkpoint.family, checkpoint.model_type) == ("snac", "snac")
    jomni.save(checkpoint, tmp_path / "out")
    assert_same(read_all(tmp_path / "out"), held)
    again = jomni.load(tmp_path / "out" / "model.safetensors")
    assert again.configs["snac"] == checkpoint.configs["snac"] == SnacConfig.from_published(snac_cases.SNAC[case])


def test_weight_norm_under_its_older_names_is_the_same(tmp_path):
    held = written(tmp_path)
    before = jomni.load(tmp_path)
    older = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in held.items()
    }
    assert older.keys() != held.keys()
    save_file(older, tmp_path / "model.safetensors")
    same = jax.tree.map(lambda a, b: bool((a == b).all()), jomni.load(tmp_path).params, before.params)
    assert jax.tree.all(same)


def test_the_projects_own_form_and_half_precision_exports_come_back(tmp_path):
    held = written(tmp_path / "in")
    checkpoint = jomni.load(tmp_path / "in")
    jomni.save(checkpoint, tmp_path / "orbax", layout="orbax")
    back = jomni.load(tmp_path / "orbax")
    assert (back.configs["snac"], back.family) == (checkpoint.configs["snac"], "snac")
    for (path, a), (_, b) in zip(flatten(back.params).items(), flatten(checkpoint.params).items(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=path)
    jomni.save(checkpoint, tmp_path / "half", codec_dtype="float16")
    assert_same(read_all(tmp_path / "half"), {name: x.astype(np.float16) for name, x in held.items()})


def test_folded_parameters_give_the_same_codes_and_hold_kernels(tmp_path):
    written(tmp_path)
    checkpoint = jomni.load(tmp_path)
    codec, params = Snac(checkpoint.configs["snac"]), checkpoint.params["snac"]
    folded = fold_weight_norm(params)
    names = {path.split("/")[-1] for path in flatten(folded)}
    assert "kernel" in names and not names & {"direction", "magnitude"}
    pcm = snac_cases.audio("music", 0)[:1, :, :2000]
    for a, b in zip(snac.encode(codec, params, pcm), snac.encode(codec, folded, pcm), strict=True):
        np.testing.assert_array_equal(a, b)


def test_layouts_that_do_not_hold_a_family_refuse_it(tmp_path, tiny_mimi):
    written(tmp_path / "in")
    checkpoint = jomni.load(tmp_path / "in")
    for other, layout in ((checkpoint, "kyutai"), (checkpoint, "hf"), (tiny_mimi, "snac")):
        with pytest.raises(jomni.JomniError, match=f"'{layout}' .*'{other.family}'"):
            jomni.save(other, tmp_path / "out", layout=layout)
    assert not (tmp_path / "out").exists()


def test_all_that_is_missing_or_surplus_is_named_in_one_message(tmp_path):
    held = written(tmp_path)
    held["extra.weight"] = held.pop("encoder.block.0.bias")
    held["decoder.model.0.bias"] = held["decoder.model.0.bias"][:3].copy()
    save_file(held, tmp_path / "model.safetensors")
    with pytest.raises(jomni.JomniError) as error:
        jomni.load(tmp_path)
    for word in ("'encoder.block.0.bias'", "'extra.weight'", "'decoder.model.0.bias' [3]"):
        assert word in str(error.value)


def test_a_file_without_its_configuration_or_a_folder_without_weights_is_refused(tmp_path):
    written(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").unlink()
    with pytest.raises(jomni.JomniError, match=r"config\.json"):
        jomni.load(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(jomni.JomniError, match=r"pytorch_model\.bin"):
        jomni.load(tmp_path)


@pytest.mark.parametrize("config", [SNAC_24KHZ, SNAC_44KHZ])
def test_a_configuration_goes_through_json_and_back(config):
    raw = json.loads(json.dumps(config.to_published()))
    assert is_snac_config(raw)
    assert SnacConfig.from_published(raw) == config


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"vq_strides": [4, 3, 1]}, "vq_strides"),
        ({"vq_strides": []}, "vq_strides"),
        ({"decoder_rates": [8, 8, 4]}, "decoder_rates"),
        ({"encoder_rates": [2, 4, 8, 1]}, "encoder_rates"),
        ({"latent_dim": 700}, "latent_dim"),
        ({"decoder_dim": 1000}, "decoder_dim"),
        ({"attn_window_size": 32, "encoder_dim": 6}, "encoder_dim"),
        ({"attn_window_size": 0}, "attn_window_size"),
        ({"codebook_size": "many"}, "codebook_size"),
        ({"noise": 1}, "noise"),
        ({"bitrate": 3}, "bitrate"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_by_name(options, word):
    with pytest.raises(jomni.JomniError, match=word):
        SnacConfig.from_published(SNAC_24KHZ.to_published() | options)


def test_codes_that_do_not_fit_are_refused():
    config = SnacConfig.from_published(snac_cases.SNAC["music"])  # two frames a window
    good = [np.zeros((1, 2 * n), np.int32) for n in config.tokens_per_frame]
    snac.check_codes(config, good)
    for bad, word in (
        (good[:-1], r"4 .*\[1, 2, 4, 8\]"),
        ([*good[:-1], good[-1][:, 1:]], r"4 .*\[1, 2, 4, 8\]"),
        ([x[:, : x.shape[1] // 2] for x in good], r" 16 .* 2 .* 1\b"),
        ([x.astype(np.float32) for x in good], "float32.*codebook 0"),
        ([*good[:-1], good[-1] + config.codebook_size], "codebook 3"),
        ([], r"4 .*\[1, 2, 4, 8\]"),
    ):
        with pytest.raises(jomni.JomniError, match=word):
            snac.check_codes(config, bad)
    with pytest.raises(jomni.JomniError, match=r"\[B, 1, T\].*\[1, 2, 100\]"):
        snac.encode(Snac(config), {}, np.zeros((1, 2, 100), np.float32))
