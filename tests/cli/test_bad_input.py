"""Bad input: one clear message, exit code 2, no output file."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import soundfile

from jomni import audio
from jomni.cli import codes as codes_command
from jomni.cli import main as main_module
from tests.cli.conftest import everything, speech


def audio_file(folder, name):
    """A bad recording of each kind, and what the message must say."""
    path = folder / "bad.wav"
    if name == "empty":
        path.touch()
        return path, ["empty"]
    if name == "no audio":
        path.write_text("This is a text." * 50)
        return path, ["audio file"]
    if name == "cut short":
        soundfile.write(path, speech(2, 24000), 24000)
        path.write_bytes(path.read_bytes()[:30_000])
        return path, []
    if name in ("NaN", "infinite"):
        x = speech(1, 24000)
        x[1200] = np.nan if name == "NaN" else -np.inf
        soundfile.write(path, x, 24000, subtype="FLOAT")
        return path, ["sample 1200", "0.050 s"]
    if name == "length zero":
        soundfile.write(path, np.zeros(0), 24000)
        return path, ["samples"]
    return path, []


@pytest.mark.parametrize("command", ["encode", "talk"])
@pytest.mark.parametrize("name", ["missing", "empty", "no audio", "cut short", "NaN", "infinite", "length zero"])
def test_bad_recordings_are_refused_before_the_model_is_looked_at(name, command, refuses, tmp_path):
    path, words = audio_file(tmp_path, name)
    outputs = [tmp_path / "x.npz"] if command == "encode" else ["--out", tmp_path / "out"]
    refuses(command, path, *outputs, "--model", tmp_path / "no-model", says=[path, *words])


def test_one_bad_recording_among_several_is_refused(refuses, recording, tmp_path, tiny_moshi_folder):
    bad, words = audio_file(tmp_path, "NaN")
    refuses("talk", recording, bad, "--out", tmp_path / "out", "--model", tiny_moshi_folder, says=[bad, *words])


def npz(folder, **arrays):
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


GOOD = np.ones((4, 5), np.int32)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"tokens": GOOD}, ["'codes'", "tokens"]),
        ({"codes": GOOD.astype(np.float32)}, ["float32"]),
        ({"codes": GOOD[None]}, ["[K, T]", "[1, 4, 5]"]),
        ({"codes": GOOD[:, :0]}, ["[4, 0]"]),
        ({"codes": np.array("text")}, ["<U4"]),
        ({"codes": -GOOD}, ["-1"]),
        ({"codes": GOOD * 32}, ["32", "0 ... 31"]),
        ({"codes": GOOD.astype(np.int64) << 40}, [str(1 << 40)]),
        ({"codes": np.ones((9, 5), np.int32)}, ["[1, 9, 5]", "1 to 8"]),
        ({"codes": GOOD, "frame_rate": 25.0}, ["frame_rate", "25 Hz", "12.5 Hz"]),
        ({"codes": GOOD, "sample_rate": 16000}, ["sample_rate", "16000 Hz"]),
        ({"codes": GOOD, "sample_rate": "fast"}, ["'sample_rate'"]),
        ({"codes": GOOD, "frame_rate": np.nan}, ["'frame_rate'"]),
        ({"codes": GOOD, "num_samples": 9601}, ["9601", "num_samples"]),
        ({"codes": GOOD, "num_samples": 7680}, ["7680", "num_samples"]),
        ({"codes": GOOD, "num_samples": 0}, ["'num_samples'"]),
        ({"codes": GOOD, "model": 5}, ["'model'"]),
    ],
)
def test_codes_that_the_codec_cannot_decode_are_refused(arrays, words, refuses, tmp_path, tiny_mimi_file):
    path = npz(tmp_path, **arrays)
    refuses("decode", path, tmp_path / "x.wav", "--model", tiny_mimi_file, says=[path, *words])


def test_codes_that_carry_python_objects_are_refused_and_run_nothing(refuses, tmp_path, tiny_mimi_file):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    evil = np.empty(1, object)
    evil[0] = Evil()
    path = npz(tmp_path, codes=evil)
    refuses("decode", path, tmp_path / "x.wav", "--model", tiny_mimi_file, says=[path, "Python objects"])
    path.write_bytes(pickle.dumps(Evil()))
    refuses("decode", path, tmp_path / "x.wav", "--model", tiny_mimi_file, says=[path, "npz"])


@pytest.mark.parametrize("name", ["missing", "folder", "empty", "text", "cut", "corrupt", "huge", "npy"])
def test_files_that_are_no_npz_are_refused(name, refuses, tmp_path, tiny_mimi_file):
    path = tmp_path / "x.npz"
    words = ["npz"]
    if name == "missing":
        words = []
    elif name == "folder":
        path.mkdir()
        words = []
    elif name == "empty":
        path.touch()
        words = ["empty"]
    elif name == "text":
        path.write_text("codes")
    elif name == "npy":
        with path.open("wb") as file:
            np.save(file, GOOD)
    elif name == "huge":  # a header that promises more than there is
        npz(tmp_path, codes=GOOD)
        with zipfile.ZipFile(path) as archive:
            content = archive.read("codes.npy").replace(b"(4, 5), }" + b" " * 12, b"(99999999999, 5), }" + b" " * 2)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("codes.npy", content)
    else:
        content = bytearray(npz(tmp_path, codes=np.arange(4000, dtype=np.int32).reshape(4, -1)).read_bytes())
        if name == "cut":
            del content[len(content) // 2 :]
        else:
            content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    refuses("decode", path, tmp_path / "x.wav", "--model", tiny_mimi_file, says=[path, *words])


@pytest.mark.parametrize("count", [9, 33])
def test_more_codebooks_than_the_model_has_are_refused(count, refuses, recording, tmp_path, tiny_mimi_file):
    refuses(
        "encode", recording, tmp_path / "x.npz", "--model", tiny_mimi_file, "--codebooks", count,
        says=[f"--codebooks {count}", tiny_mimi_file, "1 to 8"],
    )  # fmt: skip


@pytest.mark.parametrize("place", ["under a file", "in no folder", "a folder", "/proc", "a device"])
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_outputs_that_cannot_be_written_are_refused_before_the_model_is_looked_at(
    command, place, refuses, recording, tmp_path
):
    (tmp_path / "file").touch()
    (tmp_path / f"folder.{'npz' if command == 'encode' else 'wav'}").mkdir()
    end = "npz" if command == "encode" else "wav"
    path = {
        "under a file": tmp_path / "file" / f"x.{end}", "in no folder": tmp_path / "none" / f"x.{end}",
        "a folder": tmp_path / f"folder.{end}", "/proc": f"/proc/x.{end}", "a device": tmp_path / f"null.{end}",
    }[place]  # fmt: skip
    if place == "a device":
        path.symlink_to("/dev/null")
    source = recording if command == "encode" else npz(tmp_path, codes=GOOD)
    refuses(command, source, path, "--model", tmp_path / "no-model", "--force", says=[path])


@pytest.mark.parametrize("place", ["file", "file/out", "/proc/out"])
def test_a_folder_for_conversations_that_cannot_be_written_is_refused(
    place, refuses, recording, tmp_path, tiny_moshi_folder
):
    (tmp_path / "file").touch()
    out = place if place.startswith("/") else tmp_path / place
    refuses("talk", recording, "--out", out, "--model", tiny_moshi_folder, says=[out])


@pytest.mark.parametrize("name", ["x.wav", "x", "x.npy"])
def test_codes_are_only_written_as_npz(name, refuses, recording, tmp_path):
    refuses("encode", recording, tmp_path / name, "--model", "m", says=[tmp_path / name, ".npz"])


def test_audio_is_only_written_in_formats_that_are_known(refuses, tmp_path):
    refuses("decode", npz(tmp_path, codes=GOOD), tmp_path / "x.mp3", "--model", "m", says=["x.mp3", ".wav", ".flac"])


def test_an_input_is_never_overwritten_even_with_force(refuses, recording, tmp_path, tiny_moshi_folder):
    refuses("talk", recording, "--out", tmp_path, "--model", tiny_moshi_folder, "--force", says=[recording])


def test_models_that_do_not_exist_are_refused(refuses, recording, tmp_path):
    refuses("encode", recording, tmp_path / "x.npz", "--model", "no-such-model", says=["no-such-model"])
    refuses("info", tmp_path / "none", says=[tmp_path / "none"])
    refuses("info", tmp_path, says=[tmp_path])
    refuses("info", recording, says=[recording])
    refuses("convert", tmp_path / "none", tmp_path / "dst", says=[tmp_path / "none"])


def test_a_codec_alone_cannot_talk(refuses, recording, tmp_path, tiny_mimi_file):
    refuses("talk", recording, "--out", tmp_path / "o", "--model", tiny_mimi_file, says=[tiny_mimi_file, "codec"])


def test_a_model_without_its_codec_can_neither_encode_nor_talk(refuses, recording, tmp_path, tiny_moshi_folder):
    model = tmp_path / "model"
    shutil.copytree(tiny_moshi_folder, model)
    raw = json.loads((model / "config.json").read_text())
    (model / raw.pop("mimi_name")).unlink()
    raw.pop("mimi_config_name")
    (model / "config.json").write_text(json.dumps(raw))
    refuses("encode", recording, tmp_path / "x.npz", "--model", model, says=[model, "codec"])
    refuses("talk", recording, "--out", tmp_path / "o", "--model", model, says=[model, "codec"])


def test_a_config_with_an_unknown_option_is_refused(refuses, recording, tmp_path, tiny_moshi_folder):
    model = tmp_path / "model"
    shutil.copytree(tiny_moshi_folder, model)
    raw = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(raw | {"warp_drive": True}))
    for command in (["info", model], ["talk", recording, "--out", tmp_path / "o", "--model", model]):
        refuses(*command, says=[model / "config.json", "warp_drive"])


@pytest.mark.parametrize("damage", ["cut", "forged length", "no config"])
def test_broken_weight_files_are_refused(damage, refuses, recording, tmp_path, tiny_moshi_folder):
    model = tmp_path / "model"
    shutil.copytree(tiny_moshi_folder, model)
    path = model / "model.safetensors"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-100])
    elif damage == "forged length":
        path.write_bytes((1 << 60).to_bytes(8, "little") + content[8:])
    else:
        (model / "config.json").write_text("{")
    refuses("talk", recording, "--out", tmp_path / "o", "--model", model, says=[model])
    refuses("convert", model, tmp_path / "d", says=[model])


def test_a_device_that_is_not_there_is_refused(refuses, recording, tmp_path, tiny_mimi_file):
    for name in ("abacus", "cpu:77"):
        line = ["encode", recording, tmp_path / "x.npz", "--model", tiny_mimi_file, "--device", name]
        refuses(*line, says=["--device", name])


def test_audio_of_the_model_that_is_no_number_is_not_written(refuses, tmp_path, tiny_mimi_file, monkeypatch):
    monkeypatch.setattr(audio.AudioWriter, "write", lambda self, pcm: real(self, pcm * np.nan))
    path = npz(tmp_path, codes=GOOD)
    refuses("decode", path, tmp_path / "x.wav", "--model", tiny_mimi_file, says=[tmp_path / "x.wav", "NaN"])


real = audio.AudioWriter.write


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")])
def test_too_little_memory_is_said(error, refuses, tmp_path, tiny_mimi_file, monkeypatch):
    def fail(name):
        raise error

    monkeypatch.setattr(codes_command, "load_codec", fail)
    path = npz(tmp_path, codes=GOOD)
    refuses("decode", path, tmp_path / "x.wav", "--model", tiny_mimi_file, says=["memory"])


def test_an_unexpected_error_shows_its_traceback_and_leaves_no_partial_file(run, tmp_path, tiny_mimi_file, monkeypatch):
    monkeypatch.setattr(audio.AudioWriter, "write", lambda self, pcm: 1 // 0)
    path = npz(tmp_path, codes=GOOD)
    before = everything(tmp_path)
    with pytest.raises(ZeroDivisionError):
        run("decode", path, tmp_path / "x.wav", "--model", tiny_mimi_file)
    assert everything(tmp_path) == before


def test_control_c_exits_with_130_and_leaves_no_partial_file(run, recording, tmp_path, tiny_mimi_file, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(codes_command, "_encode", interrupt)
    before = everything(tmp_path)
    code, _, err = run("encode", recording, tmp_path / "x.npz", "--model", tiny_mimi_file)
    assert code == main_module.INTERRUPTED == 130 and "interrupted" in err and "Traceback" not in err
    assert everything(tmp_path) == before


@pytest.fixture
def interruptible():
    """SIGINT interrupts, here and in processes begun here, even where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("name", "stop"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", SystemExit)])
def test_a_signal_that_falls_into_a_finalizer_is_not_lost(name, stop, capsys):
    class Falls:
        def __del__(self):
            signal.raise_signal(getattr(signal, name))

    with pytest.raises(stop), main_module._terminable():
        Falls()
        time.sleep(10)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signals_to_the_process_leave_no_partial_file(name, code, tmp_path, tiny_mimi_file):
    path = tmp_path / "long.wav"
    audio.write(path, np.tile(speech(10, 24000), 360), 24000)
    before = everything(tmp_path)
    line = [sys.executable, "-m", "jomni", "encode", path, tmp_path / "x.npz", "--model", tiny_mimi_file]
    with subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob(".x.npz*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert list(tmp_path.glob(".x.npz*"))
        process.send_signal(getattr(signal, name))
        _, err = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in err
    assert everything(tmp_path) == before
