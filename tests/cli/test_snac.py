"""`jomni info`, `encode`, `decode` and `convert` with SNAC."""

import json

import numpy as np
import pytest
import soundfile

import jomni
from jomni import audio
from jomni.cli import codes as codes_command
from jomni.tensors.source import SafetensorsSource
from tests.cli.conftest import speech
from tests.parity.test_snac_golden import DATA, MANIFESTS
from tools.goldens import snac_cases

pytestmark = pytest.mark.compiled_quickly


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder for each of the original's recordings in tests/parity/data/snac."""
    top = tmp_path_factory.mktemp("snac")
    for case, seed in snac_cases.SEEDS.items():
        snac_cases.write(top / case, snac_cases.SNAC[case], MANIFESTS[case], seed)
    return top


@pytest.fixture
def model(models):
    return models / "music"


def test_codes_and_audio_are_those_of_the_original_in_whatever_blocks(run, tmp_path, models, monkeypatch):
    monkeypatch.setattr(codes_command, "SECONDS", 0.4)  # two steps and a shorter one
    case = "plain"  # it has no noise
    rate, golden = snac_cases.SNAC[case]["sampling_rate"], np.load(DATA / f"{case}.npz")
    pcm = snac_cases.audio(case, snac_cases.SEEDS[case])[0, 0]
    wav, npz, back = tmp_path / "x.wav", tmp_path / "x.npz", tmp_path / "back.wav"
    soundfile.write(wav, pcm, rate, subtype="FLOAT")
    code, out, err = run("encode", wav, npz, "--model", models / case)
    assert code == 0, err
    held = np.load(npz)
    assert "4 codebooks at 133.3, 266.7, 266.7, 533.3 Hz, 135 frames" in out and "real-time factor" in out
    assert (held["sample_rate"], held["num_samples"], round(float(held["frame_rate"]), 1)) == (rate, len(pcm), 133.3)
    for k in range(4):
        assert held[f"codes_{k}"].dtype == np.int32
        assert not golden[f"ties_{k}"].any()
        np.testing.assert_array_equal(held[f"codes_{k}"], golden[f"codes_{k}"][0])

    code, _, err = run("decode", npz, back, "--model", models / case)
    assert code == 0, err
    got = audio.read(back, rate)
    assert len(got) == len(pcm)
    every = got[:: snac_cases.EVERY]
    np.testing.assert_allclose(every, golden["pcm"][0, 0, : len(every)], atol=2e-4)


@pytest.mark.slow
def test_noise_is_the_same_at_every_call(run, tmp_path, models):
    config = jomni.SnacConfig.from_published(snac_cases.SNAC["speech"])
    np.savez(tmp_path / "x.npz", **{f"codes_{k}": np.arange(2 * n) for k, n in enumerate(config.tokens_per_frame)})
    for name in ("a.wav", "b.wav"):
        assert run("decode", tmp_path / "x.npz", tmp_path / name, "--model", models / "speech")[0] == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert soundfile.info(tmp_path / "a.wav").frames == 2 * config.frame_size


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

    refused(levels, "tuple", "one", by=tiny_mimi_file)
    refused({"codes": np.zeros((3, 4), np.int32)}, "4 arrays", "[1, 3, 4]")
    refused({k: v for k, v in levels.items() if k != "codes_1"}, "without gaps")
    refused(levels | {"codes_0": np.zeros(frames + 1, np.int32)}, str(frames + 1))
    refused(levels | {"codes_0": np.zeros((1, frames), np.int32)}, "codes_0", f"[1, {frames}]")
    refused(levels | {"codes_1": levels["codes_1"] + config.codebook_size}, "codebook 1")
    refused(levels | {"frame_rate": 12.5}, "frame_rate")
    refused(levels | {"num_samples": 10 * frames * config.frame_size}, "num_samples")
    audio.write(tmp_path / "x.flac", speech(0.1, 24000), 24000)
    refuses("encode", tmp_path / "x.flac", tmp_path / "y.npz", "--model", model, "--codebooks", 2, says=["--codebooks"])


def test_a_conversion_takes_the_layout_of_the_family(run, refuses, tmp_path, model):
    code, out, err = run("convert", model, tmp_path / "same")
    assert code == 0 and "as snac" in out, err
    assert (tmp_path / "same" / "model.safetensors").read_bytes() != b""
    refuses("convert", model, tmp_path / "other", "--to", "hf", says=["'hf'", "snac, orbax"])


@pytest.mark.slow
def test_eval_codec_measures_it(run, refuses, tmp_path, models):
    soundfile.write(tmp_path / "x.wav", speech(1.0, 8000), 8000)
    given = "eval", "codec", models / "plain", tmp_path / "x.wav", "--out", tmp_path / "report"
    refuses(*given, "--codebooks", 2, says=["--codebooks 2", "4"])
    code, printed, err = run(*given, "--processes", 1)
    assert code == 0, err
    held = json.loads((tmp_path / "report/report.json").read_text())
    entries = held["codebooks"][0]["entries"]
    assert [score["codebooks"] for score in held["scores"]] == [4] and len(held["codebooks"]) == 4
    assert held["scores"][0]["bitrate"] == pytest.approx(400 / 3 * (1 + 2 + 2 + 4) * np.log2(entries), rel=1e-3)
    assert (tmp_path / "report/examples/00-4.wav").is_file() and "kbit/s" in printed
