"""Measures of codecs on signals with known results, and the evaluation of a small codec."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

import jomni
from jomni.errors import AudioError
from jomni.eval.codec import scorecard as codec
from jomni.eval.codec.coders import Coder, bitrate
from jomni.eval.codec.quality import compare, mel_distance, si_snr
from jomni.eval.intervals import NO_DATA, Estimate
from jomni.eval.report import milliseconds, plain, points, report_folder, table
from jomni.extras import missing
from jomni.models.snac.model import Snac
from tests.tiny import random_params
from tests.unit.eval.test_recogniser import TEXTS, spoken
from tests.unit.train.tasks.test_snac import TINY


def test_si_snr_of_known_mixtures():
    rng = np.random.default_rng(0)
    wave = rng.standard_normal(16_000)
    other = rng.standard_normal(16_000)
    other -= other @ wave / (wave @ wave) * wave  # orthogonal
    other *= np.linalg.norm(wave) / np.linalg.norm(other)
    assert si_snr(wave, wave + 0.1 * other) == pytest.approx(20, abs=0.01)
    assert si_snr(wave, 3 * wave + 0.3 * other + 5) == pytest.approx(20, abs=0.01)  # neither scale nor offset counts
    assert si_snr(wave, wave) > 60 and math.isnan(si_snr(wave, 0 * wave)) and math.isnan(si_snr(0 * wave, wave))


def test_mel_distance_of_a_level():
    wave = spoken()[0] + 1e-2 * np.random.default_rng(0).standard_normal(len(spoken()[0])).astype(np.float32)
    assert mel_distance(wave, wave, 16_000) == 0
    assert mel_distance(wave, 2 * wave, 16_000) == pytest.approx(math.log(2), rel=1e-3)
    assert mel_distance(wave[:100], wave[:100], 16_000) == 0  # shorter than a window


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_measures_fall_with_noise(rate):
    import soxr

    wave = soxr.resample(spoken()[0], 16_000, rate).astype(np.float32)
    noise = np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    same, little, much = (compare(wave, wave + level * noise, rate) for level in (0, 0.01, 0.2))
    assert same.stoi == pytest.approx(1, abs=1e-3) and same.stoi > little.stoi > much.stoi
    assert same.si_snr > little.si_snr > much.si_snr and same.mel < little.mel < much.mel
    if missing("pesq"):
        assert math.isnan(same.pesq)
    else:
        assert same.pesq > 4.6 > little.pesq > much.pesq > 1


def test_undefined_measures_are_nan():
    short = compare(np.ones(200, np.float32), np.ones(200, np.float32), 16_000)
    assert math.isnan(short.pesq) and math.isnan(short.stoi)
    silent = compare(np.zeros(16_000, np.float32), np.zeros(16_000, np.float32), 16_000)
    assert math.isnan(silent.pesq) and math.isnan(silent.si_snr)


def test_codebook_use_and_bitrate(tiny_mimi):
    even, odd = codec.usage([(np.arange(4), np.array([5, 5]))] * 2, 8)
    assert (even.used, even.entries, even.perplexity) == (4, 8, pytest.approx(4))
    assert (odd.used, odd.perplexity) == (1, pytest.approx(1))
    assert bitrate(jomni.MimiCodec(jomni.Mimi(tiny_mimi.configs["mimi"])), 8) == pytest.approx(12.5 * 8 * 5)
    assert bitrate(jomni.MimiCodec(jomni.Mimi(jomni.MIMI)), 8) == pytest.approx(1100)


def test_batched_coding_of_mimi_equals_whole_coding(tiny_mimi):
    config, params = tiny_mimi.configs["mimi"], tiny_mimi.params["mimi"]
    rng = np.random.default_rng(0)
    lengths = [60_000, 1920, 5000]
    recordings = [
        codec.Recording(f"r{n}", (0.1 * rng.standard_normal(length)).astype(np.float32), None)
        for n, length in enumerate(lengths)
    ]
    card = codec.evaluate(Coder(jomni.MimiCodec(jomni.Mimi(config)), params), recordings, [4, 2], batch=2, processes=1)
    assert [score.codebooks for score in card.scores] == [2, 4] and card.original.count == 0
    codes = jomni.encode(jomni.Mimi(config, 4), params, recordings[2].wave[None, None])
    whole = np.asarray(jomni.decode(jomni.Mimi(config, 2), params, codes[:, :2]))[0, 0, :5000]
    found = card.decoded[2][2]
    assert found.shape == whole.shape and np.abs(found - whole).max() < 1e-4 * np.abs(whole).max()
    assert [len(voice) for voice in card.decoded[4]] == lengths
    assert card.seconds == pytest.approx(sum(lengths) / 24_000) and len(card.books) == 4
    assert card.files[1]["name"] == "r1" and set(card.files[1]["2"]) == {"pesq", "stoi", "si_snr", "mel"}


@pytest.mark.slow
def test_batched_coding_of_snac_equals_whole_coding():
    params = random_params(Snac(TINY), jnp.zeros((1, 1, 96)))
    rng, lengths = np.random.default_rng(0), [320, 33, 95, 96]
    recordings = [codec.Recording(f"r{n}", rng.normal(0, 0.3, length).astype(np.float32), None)
                  for n, length in enumerate(lengths)]  # fmt: skip
    coder = Coder(jomni.SnacCodec(Snac(TINY), noise_seed=0), params)
    codes = coder.encode([r.wave for r in recordings], 3, 3)
    card = codec.evaluate(coder, recordings, [3], batch=3, processes=1)
    for n, recording in enumerate(recordings):
        whole = jomni.models.snac.model.encode(Snac(TINY), params, recording.wave[None])
        for found, expected in zip(codes[n], whole, strict=True):
            np.testing.assert_array_equal(found, expected[0])
        wave = jomni.models.snac.model.decode(Snac(TINY), params, whole, jax.random.split(jax.random.key(0), 1))[0, 0]
        np.testing.assert_allclose(card.decoded[3][n], wave[: lengths[n]], atol=1e-5)
    assert len(card.books) == 3 and bitrate(coder.codec, 3) == pytest.approx(50 * 7 * 4)
    assert card.scores[0].bitrate == bitrate(coder.codec, 3)


def test_word_errors_are_measured_before_and_after_coding(tiny_mimi):
    import soxr

    waves = [soxr.resample(wave, 16_000, 24_000).astype(np.float32) for wave in spoken()]
    recordings = [codec.Recording(t, wave, t) for t, wave in zip(TEXTS, waves, strict=True)]
    recordings.append(codec.Recording("no text", waves[0], None))
    card = codec.evaluate(
        Coder(jomni.MimiCodec(jomni.Mimi(tiny_mimi.configs["mimi"])), tiny_mimi.params["mimi"]),
        recordings,
        [4],
        batch=2,
        processes=1,
    )
    assert card.original.value == 0 and card.original.count == 2
    assert card.scores[0].word_errors.value > 0.5 and card.scores[0].above == card.scores[0].word_errors


def test_recordings_of_files_folders_and_manifests(tmp_path):
    for name in ("a.wav", "sub/b.flac", "listed/c.wav", "listed/d.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, np.zeros(1600), 16_000)
    (tmp_path / "a.json").write_text(json.dumps({"text": "one two"}))
    assert [p.name for p in codec.find_recordings([tmp_path / "sub", tmp_path / "a.wav"])] == ["b.flac", "a.wav"]
    (tmp_path / "listed/MANIFEST.jsonl").write_text('{"path": "d.wav"}\n')
    assert codec.find_recordings([tmp_path / "listed"]) == [tmp_path / "listed/d.wav"]
    recording = codec.read_recording(tmp_path / "a.wav", 24_000)
    assert (recording.text, len(recording.wave)) == ("one two", 2400)
    assert codec.read_recording(tmp_path / "sub/b.flac", 16_000).text is None
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(AudioError, match=r"a\.json: "):
        codec.read_recording(tmp_path / "a.wav", 16_000)
    (tmp_path / "listed/MANIFEST.jsonl").write_text('{"file": "d.wav"}\n')
    with pytest.raises(AudioError, match=r"MANIFEST\.jsonl: "):
        codec.find_recordings([tmp_path / "listed"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match=r"empty: .*WAV.*FLAC"):
        codec.find_recordings([tmp_path / "empty"])


def test_differences_and_times_are_shown_in_their_unit():
    assert points(Estimate(-0.05, -0.1, 0.0, 9)) == "-5.0 points [-10.0, +0.0]"
    assert milliseconds(Estimate(0.48, 0.0321, 0.5, 9)) == "480 ms [32.1, 500]"
    assert points(NO_DATA) == milliseconds(NO_DATA) == "-"


def test_reports_have_no_nan_and_tables_are_escaped():
    assert plain({"a": Estimate(math.nan, math.inf, 1.0, 2), "b": [math.nan]}) == {
        "a": {"value": None, "low": None, "high": 1.0, "count": 2}, "b": [None],
    }  # fmt: skip
    assert table(["a", "b"], [["x|y", "1\n2"]]).splitlines()[2] == "| x\\|y | 1 2 |"


def test_a_report_appears_whole_or_not_at_all(tmp_path):
    out = tmp_path / "deep/report"
    with pytest.raises(RuntimeError), report_folder(out, force=False) as part:
        (part / "report.json").write_text("{}")
        raise RuntimeError
    assert not out.exists() and not list((tmp_path / "deep").iterdir())
    with report_folder(out, force=False) as part:
        (part / "report.json").write_text("{}")
    assert [p.name for p in out.iterdir()] == ["report.json"]
    with pytest.raises(RuntimeError), report_folder(out, force=True) as part:
        raise RuntimeError
    assert (out / "report.json").read_text() == "{}"  # the one before stays
    with report_folder(out, force=True) as part:
        (part / "report.json").write_text("[]")
    assert (out / "report.json").read_text() == "[]" and len(list((tmp_path / "deep").iterdir())) == 1
