"""`jomni info`, `encode`, `decode` and `convert` with SNAC."""

import json

import jax
import numpy as np
import pytest

import jomni
from jomni import audio
from jomni.codec import Snac, snac
from jomni.weights.source import SafetensorsSource
from tests.cli.conftest import speech
from tests.parity.test_snac_golden import MANIFESTS
from tools.goldens import snac_cases


@pytest.fixture(scope="module", params=["speech", "music"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("snac") / request.param
    snac_cases.write(folder, snac_cases.SNAC[request.param], MANIFESTS[request.param], 0)
    return folder


def test_codes_and_audio_are_those_of_the_whole_recording(run, tmp_path, model):
    checkpoint = jomni.load(model)
    config, codec, params = checkpoint.snac, Snac(checkpoint.snac), checkpoint.params["snac"]
    rate = config.sampling_rate
    wav, npz, back = tmp_path / "x.wav", tmp_path / "x.npz", tmp_path / "back.wav"
    audio.write(wav, speech(2.6, rate), rate)
    code, out, err = run("encode", wav, npz, "--model", model)
    assert code == 0, err
    pcm, held = audio.read(wav, rate), np.load(npz)
    whole = snac.encode(codec, params, pcm[None])
    assert f"{config.num_codebooks} codebooks at" in out and "real-time factor" in out
    for k, tokens in enumerate(whole):
        assert held[f"codes_{k}"].dtype == np.int32
        np.testing.assert_array_equal(held[f"codes_{k}"], tokens[0])
    assert len(np.unique(held["codes_0"])) > 3
    assert (held["sample_rate"], held["num_samples"], held["frame_rate"]) == (rate, len(pcm), config.frame_rate)

    code, out, err = run("decode", npz, back, "--model", model)
    assert code == 0, err
    voice = snac.decode(codec, params, whole, jax.random.split(jax.random.key(0), 1))[0, 0, : len(pcm)]
    np.testing.assert_allclose(audio.read(back, rate), np.clip(voice, -1, 1), atol=1e-4)


def test_info_says_the_rates_and_the_look_ahead_and_reads_no_weights(run, model, monkeypatch):
    monkeypatch.setattr(SafetensorsSource, "read", None)
    code, out, _ = run("info", model)
    config = jomni.SnacConfig.from_published(json.loads((model / "config.json").read_text()))
    assert code == 0 and "SNAC" in out and "none beside it" not in out
    assert f"{config.look_ahead} samples late" in out
    assert f"{config.num_codebooks} codebooks of {config.codebook_size} entries" in out
    assert f"codec SNAC: {sum(int(np.prod(s)) for s in MANIFESTS[model.name].values()):,} parameters" in out


def test_codes_and_models_that_do_not_belong_together_are_refused(refuses, tmp_path, model, tiny_mimi_file):
    config = jomni.SnacConfig.from_published(json.loads((model / "config.json").read_text()))
    frames = config.frame_multiple
    levels = {f"codes_{k}": np.zeros(frames * n, np.int32) for k, n in enumerate(config.tokens_per_frame)}
    npz, out = tmp_path / "x.npz", tmp_path / "x.wav"

    def refused(held, *says, by=model):
        np.savez(npz, **held)
        refuses("decode", npz, out, "--model", by, says=says)

    refused(levels, "rates", "one", by=tiny_mimi_file)
    refused({"codes": np.zeros((3, 4), np.int32)}, "one rate", "codes_0")
    refused({k: v for k, v in levels.items() if k != "codes_1"}, "without gaps")
    refused(levels | {"codes_0": np.zeros(frames + 1, np.int32)}, "tokens a frame")
    refused(levels | {"codes_0": np.zeros((1, frames), np.int32)}, "codes_0", "shape")
    refused(levels | {"codes_1": levels["codes_1"] + config.codebook_size}, "codebook 1")
    refused(levels | {"frame_rate": 12.5}, "frame_rate")
    refused(levels | {"num_samples": 10 * frames * config.frame_size}, "num_samples")
    audio.write(tmp_path / "x.flac", speech(0.1, 24000), 24000)
    refuses("encode", tmp_path / "x.flac", tmp_path / "y.npz", "--model", model, "--codebooks", 2, says=["--codebooks"])


def test_a_conversion_takes_the_layout_of_the_family(run, refuses, tmp_path, model):
    code, out, err = run("convert", model, tmp_path / "same")
    assert code == 0 and "as snac" in out, err
    assert (tmp_path / "same" / "model.safetensors").read_bytes() != b""
    refuses("convert", model, tmp_path / "other", "--to", "hf", says=["'snac'", "'orbax'"])
