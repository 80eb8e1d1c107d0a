"""`jomni encode` and `jomni decode`."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import jomni
from jomni import audio
from jomni.models.mimi import model as mimi_model
from jomni.tensors.source import SafetensorsSource
from tests.cli.conftest import speech

pytestmark = pytest.mark.compiled_quickly

FRAME = 1920


@pytest.mark.parametrize("seconds", [0.01, 2.3, 4.0, 7.1])
def test_codes_equal_the_offline_codes_of_the_whole_recording(seconds, run, tmp_path, tiny_moshi, tiny_moshi_folder):
    wav, npz = tmp_path / "x.wav", tmp_path / "x.npz"
    audio.write(wav, speech(seconds, 24000), 24000)
    code, out, _ = run("encode", wav, npz, "--model", tiny_moshi_folder)
    assert code == 0
    held = np.load(npz)
    pcm = audio.read(wav, 24000)
    whole = jomni.encode(jomni.Mimi(tiny_moshi.configs["mimi"], 4), tiny_moshi.params["mimi"], pcm[None])
    assert held["codes"].dtype == np.int32 and held["codes"].shape == (4, -(-len(pcm) // FRAME))
    np.testing.assert_array_equal(held["codes"], whole[0])
    assert len(np.unique(held["codes"])) > 3 or seconds < 1
    assert (held["frame_rate"], held["sample_rate"], held["num_samples"]) == (12.5, 24000, len(pcm))
    assert str(held["model"]) == str(tiny_moshi_folder)
    assert f"4 codebooks at 12.5 Hz, {held['codes'].shape[1]} frames" in out and "real-time factor" in out


@pytest.mark.parametrize("count", [1, 8])
def test_audio_equals_the_offline_decode_and_ends_with_the_recording(count, run, tmp_path, tiny_mimi, tiny_mimi_file):
    wav, npz, back = tmp_path / "x.wav", tmp_path / "x.npz", tmp_path / "back.wav"
    audio.write(wav, speech(2.3, 24000), 24000)
    assert run("encode", wav, npz, "--model", tiny_mimi_file, "--codebooks", count)[0] == 0
    code, out, _ = run("decode", npz, back, "--model", tiny_mimi_file)
    assert code == 0
    codes = np.load(npz)["codes"]
    assert codes.shape[0] == count
    whole = jomni.decode(jomni.Mimi(tiny_mimi.configs["mimi"], count), tiny_mimi.params["mimi"], codes[None])[0, 0]
    got = audio.read(back, 24000)
    samples = round(2.3 * 24000)
    assert len(got) == samples
    np.testing.assert_allclose(got, np.clip(whole[:samples], -1, 1), atol=1e-4)
    clipped = int((np.abs(whole[:samples]) > 1).sum())
    assert ("beyond full scale" in out) == (clipped > 0)


def test_any_rate_and_channel_count_is_taken_and_the_output_says_so(run, tmp_path, tiny_mimi_file):
    path = tmp_path / "x.flac"
    soundfile.write(path, np.stack([speech(1, 44100), speech(1, 44100, 1)], 1), 44100)
    code, out, _ = run("encode", path, tmp_path / "x.npz", "--model", tiny_mimi_file)
    assert code == 0
    assert f"{path}: 1.00 s, 2 channels mixed down to one, resampled from 44100 to 24000 Hz" in out


def test_a_step_compiles_once_and_memory_does_not_grow_with_length(run, tmp_path, tiny_mimi_file, monkeypatch):
    blocks = []
    step = mimi_model.encode_step
    monkeypatch.setattr(mimi_model, "encode_step", lambda *a: blocks.append(a[3].shape) or step(*a))
    audio.write(tmp_path / "x.wav", speech(9, 24000), 24000)
    assert run("encode", tmp_path / "x.wav", tmp_path / "x.npz", "--model", tiny_mimi_file)[0] == 0
    assert set(blocks) == {(1, 1, 25 * FRAME)} and len(blocks) == 1 + 5


def test_the_language_model_is_not_read_for_its_codec(run, recording, tmp_path, tiny_moshi_folder, monkeypatch):
    read, files = SafetensorsSource.read, set()
    monkeypatch.setattr(SafetensorsSource, "read", lambda s, *a, **k: files.add(s.path.name) or read(s, *a, **k))
    assert run("encode", recording, tmp_path / "x.npz", "--model", tiny_moshi_folder)[0] == 0
    assert len(files) == 1 and "model.safetensors" not in files


def test_codes_of_other_programs_without_lengths_and_rates_are_decoded_whole(run, tmp_path, tiny_mimi_file):
    np.savez(tmp_path / "x.npz", codes=np.ones((2, 7), np.int64))
    assert run("decode", tmp_path / "x.npz", tmp_path / "x.wav", "--model", tiny_mimi_file)[0] == 0
    assert soundfile.info(tmp_path / "x.wav").frames == 7 * FRAME


def test_decoding_with_another_model_than_made_the_codes_is_said(run, tmp_path, tiny_mimi_file):
    np.savez(tmp_path / "x.npz", codes=np.ones((2, 7), np.int32), model="another")
    out = run("decode", tmp_path / "x.npz", tmp_path / "x.flac", "--model", tiny_mimi_file)[1]
    assert f"made with another, decoding with {tiny_mimi_file}" in out


def test_outputs_are_overwritten_only_with_force(run, refuses, recording, tmp_path, tiny_mimi_file):
    npz = tmp_path / "x.npz"
    npz.write_text("precious")
    refuses("encode", recording, npz, "--model", tiny_mimi_file, says=[npz, "--force"])
    assert run("encode", recording, npz, "--model", tiny_mimi_file, "--force")[0] == 0
    assert np.load(npz)["codes"].shape == (8, 29)


def test_output_files_have_the_permissions_of_any_new_file(run, recording, tmp_path, tiny_mimi_file):
    run("encode", recording, tmp_path / "x.npz", "--model", tiny_mimi_file)
    (tmp_path / "plain").touch()
    assert (tmp_path / "x.npz").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_module_runs_as_a_program_and_keeps_the_terminal_clean(recording, tmp_path, tiny_mimi_file):
    line = [sys.executable, "-m", "jomni", "encode", recording, tmp_path / "x.npz", "--model", tiny_mimi_file]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


def test_the_work_is_done_though_nobody_reads_the_output(recording, tmp_path, tiny_mimi_file):
    line = [sys.executable, "-m", "jomni", "encode", recording, tmp_path / "x.npz", "--model", tiny_mimi_file]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait(timeout=300) == 0
    assert np.load(tmp_path / "x.npz")["codes"].shape == (8, 29)


def test_the_language_model_is_not_needed_for_its_codec(run, recording, tiny_moshi_folder, tmp_path):
    folder = shutil.copytree(tiny_moshi_folder, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    code, _, err = run("encode", recording, tmp_path / "codes.npz", "--model", folder)
    assert code == 0, err
    code, _, err = run("decode", tmp_path / "codes.npz", tmp_path / "back.wav", "--model", folder)
    assert code == 0, err
    code, _, err = run("talk", recording, "--model", folder, "--out", tmp_path / "talk")
    assert code == 2 and "model.safetensors" in err
