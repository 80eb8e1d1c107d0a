"""`jomni info` and `jomni convert`."""

import numpy as np
import pytest

import jomni
from jomni.checkpoints.registry import COMPONENTS
from jomni.cli.files import unique_names
from jomni.printing import human_bytes as size
from jomni.tensors.source import SafetensorsSource
from jomni.tensors.weight_map import flatten
from tests import mini_omni_case
from tests.paths import PARITY_DATA

pytestmark = pytest.mark.compiled_quickly


def test_parameters_are_counted_by_part_and_add_up(run, tiny_moshi, tiny_moshi_folder):
    code, out, _ = run("info", tiny_moshi_folder)
    assert code == 0
    counts = {}
    for line in out.splitlines():
        name, _, value = line.strip().partition(": ")
        if name in (*COMPONENTS["lm"].groups, *COMPONENTS["mimi"].groups):
            counts[name] = int(value.replace(",", ""))
    lm, mimi = tiny_moshi.num_parameters("lm"), tiny_moshi.num_parameters("mimi")
    assert f"language model: {lm:,} parameters, stored as float32" in out
    assert f"codec Mimi: {mimi:,} parameters, stored as float32" in out
    assert sum(counts.get(name, 0) for name in COMPONENTS["lm"].groups) == lm
    assert sum(counts[name] for name in COMPONENTS["mimi"].groups) == mimi
    assert f"float32 {size(4 * (lm + mimi))}, bfloat16 {size(4 * mimi + 2 * lm)}, int8 {size(4 * mimi + lm)}" in out
    assert "delays, frames: text 0; agent 0 1 1 1; user 0 1 1 1" in out
    assert "context 20 frames (1.6 s)" in out and "8 codebooks of 32 entries, 4 in use" in out


def test_a_codec_alone_is_described(run, tiny_mimi_file, tiny_mimi):
    code, out, _ = run("info", tiny_mimi_file)
    assert code == 0 and "Mimi, a codec" in out and "language model" not in out
    assert f"weights take: {size(4 * tiny_mimi.num_parameters())}" in out


def test_info_reads_no_weights(run, tiny_moshi_folder, monkeypatch):
    monkeypatch.setattr(SafetensorsSource, "read", None)
    assert run("info", tiny_moshi_folder)[0] == 0


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (15_400_000_000, "15.4 GB"), (3e15, "3000 TB")],
)
def test_bytes_are_written_for_people(count, text):
    assert size(count) == text


@pytest.mark.parametrize("layout", ["kyutai", "hf", "orbax"])
def test_a_converted_model_is_the_same_model(layout, run, tmp_path, tiny_moshi, tiny_moshi_folder):
    code, out, err = run("convert", tiny_moshi_folder, tmp_path / "dst", "--to", layout)
    assert code == 0, err
    assert f"as {layout}" in out
    back = flatten(jomni.load(tmp_path / "dst").params)
    for path, value in flatten(tiny_moshi.params).items():
        np.testing.assert_array_equal(back.pop(path), value, err_msg=path)
    assert not back
    original, converted = (run("info", model)[1].splitlines()[1:] for model in (tiny_moshi_folder, tmp_path / "dst"))
    assert len(original) > 3
    assert [line.partition(", stored")[0] for line in converted] == [line.partition(", stored")[0] for line in original]


def test_a_dtype_is_converted_but_the_codec_stays(run, tmp_path, tiny_moshi_folder):
    assert run("convert", tiny_moshi_folder, tmp_path / "dst", "--dtype", "bfloat16")[0] == 0
    out = run("info", tmp_path / "dst")[1]
    assert "parameters, stored as bfloat16" in out and "parameters, stored as float32" in out


def test_a_model_is_replaced_only_with_force_and_other_folders_never(run, refuses, tmp_path, tiny_mimi_file):
    target = tmp_path / "dst"
    assert run("convert", tiny_mimi_file, target)[0] == 0
    refuses("convert", tiny_mimi_file, target, says=[target, "--force"])
    assert run("convert", tiny_mimi_file, target, "--force")[0] == 0
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("precious")
    refuses("convert", tiny_mimi_file, tmp_path / "home", "--force", says=[tmp_path / "home", "thesis.txt"])


def test_a_model_is_never_converted_onto_itself(run, refuses, tmp_path, tiny_mimi_file):
    assert run("convert", tiny_mimi_file, tmp_path / "src")[0] == 0
    for source in (tmp_path / "src", next((tmp_path / "src").glob("*.safetensors"))):
        refuses("convert", source, tmp_path / "src", "--force", says=[tmp_path / "src"])


def test_a_layout_that_cannot_express_the_model_is_refused(refuses, tmp_path, listener):
    refuses("convert", listener, tmp_path / "dst", "--to", "hf", says=["stt"])


@pytest.mark.parametrize("place", ["file", "file/dst", "/proc/dst"])
def test_a_target_that_cannot_be_written_is_refused_before_the_model_is_looked_at(place, refuses, tmp_path):
    (tmp_path / "file").touch()
    target = place if place.startswith("/") else tmp_path / place
    refuses("convert", tmp_path / "no-model", target, says=[target])


def test_names_of_results_are_unique_and_stable(tmp_path):
    paths = [tmp_path / name for name in ("a.wav", "b/a.mp3", "a-2.wav", "A.wav", "c.wav")]
    assert unique_names(paths) == ["a", "a-3", "a-2", "A-4", "c"]


def test_a_whisper_is_described_and_converted(run, refuses, tmp_path, recording):
    model = PARITY_DATA / "whisper" / "openai.pt"
    code, out, _ = run("info", model)
    assert code == 0 and "Whisper, a speech encoder" in out and "codec" not in out
    count = jomni.load(model).num_parameters("whisper")
    assert f"encoder: {count:,} parameters, stored as float16" in out
    assert "80 mel channels of 16 kHz audio in, 50 frames of 20 ms out (1 s)" in out
    assert f"weights take: float32 {size(4 * count)}, bfloat16 {size(2 * count)}" in out
    code, out, _ = run("convert", model, tmp_path / "own")
    assert code == 0 and "as openai" in out
    assert run("info", tmp_path / "own")[1].splitlines()[1:] == run("info", model)[1].splitlines()[1:]
    assert run("convert", model, tmp_path / "hf", "--to", "hf")[0] == 0
    refuses("convert", model, tmp_path / "no", "--to", "kyutai", says=["'kyutai'", "openai, hf, orbax"])
    refuses("encode", recording, tmp_path / "codes.npz", "--model", model, says=[model, "codec"])
    refuses("talk", recording, "--model", model, "--out", tmp_path / "talk", says=[model])


def test_a_mini_omni_is_described_and_converted(run, refuses, tmp_path):
    model = tmp_path / "model"
    mini_omni_case.write(model, "gated-post", neighbours=True)
    code, out, _ = run("info", model)
    assert code == 0 and "Mini-Omni, turn-based dialogue" in out and "none beside it" not in out
    checkpoint = jomni.load(model)
    counts = dict(line.strip().split(": ", 1) for line in out.splitlines() if ": " in line)
    parts = sum(int(counts[name].replace(",", "")) for name in COMPONENTS["omni"].groups)
    assert parts == checkpoint.num_parameters("omni")
    assert f"language model: {parts:,} parameters, stored as float32" in out
    assert "streams: text of 320 tokens, 7 of audio with 192 each; embeddings merged by their mean" in out
    assert "post-adapter of 2 layers" in out
    codec = checkpoint.num_parameters("snac")
    rest = checkpoint.num_parameters() - codec
    assert f"float32 {size(4 * (codec + rest))}, bfloat16 {size(4 * codec + 2 * rest)}" in out
    assert f"int8 {size(4 * codec + rest)} (codec" in out
    code, out, err = run("convert", model, tmp_path / "own", "--dtype", "bfloat16")
    assert code == 0 and "as litgpt, bfloat16" in out, err
    out = run("info", tmp_path / "own")[1]
    assert f"language model: {parts:,} parameters, stored as bfloat16" in out
    assert run("convert", tmp_path / "own", tmp_path / "own2", "--force")[0] == 0
    refuses("convert", tmp_path / "own", tmp_path / "model", "--force", says=[model, "lit_model.pth"])
    for name in ("tokenizer.json", "small.pt"):
        (model / name).unlink()
    out = run("info", model)[1]
    assert "text tokenizer: none beside it" in out and "encoder Whisper: none beside it" in out
    (model / "model_config.yaml").unlink()
    refuses("info", model, says=[model / "model_config.yaml"])
