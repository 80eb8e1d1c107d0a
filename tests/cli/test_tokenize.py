"""`jomni tokenize`."""

import dataclasses

import jax
import numpy as np
import pytest
import soundfile

import jomni
from jomni.cli import tokenize as command
from jomni.cli.tokenize import codec_identity
from jomni.data.conversations.codes import read_header
from jomni.data.conversations.tokenize import read_shard
from tests.cli.conftest import everything, speech

pytestmark = pytest.mark.compiled_quickly

RATE = 24000


@pytest.fixture
def manifest(tmp_path):
    """Three conversations, the second longer than one block."""
    (tmp_path / "corpus").mkdir()
    lines = []
    for index, seconds in enumerate((1.3, 5.1, 2.0)):
        pcm = np.stack([speech(seconds, RATE, 2 * index), speech(seconds, RATE, 2 * index + 1)], 1)
        soundfile.write(tmp_path / f"corpus/{index}.wav", pcm, RATE)
        (tmp_path / f"corpus/{index}.json").write_text('{"alignments": [["well", [0.2, 0.5], "SPEAKER_MAIN"]]}')
        lines.append(f'{{"path": "{index}.wav", "duration": {seconds}}}\n')
    (tmp_path / "corpus/all.jsonl").write_text("".join(lines))
    return tmp_path / "corpus/all.jsonl"


def test_codes_equal_the_offline_codes_of_each_channel(manifest, tmp_path, run, tiny_moshi, tiny_moshi_folder):
    out = tmp_path / "codes"
    code, said, _ = run("tokenize", manifest, out, "--model", tiny_moshi_folder, "--shard-size", 2, "--batch", 4)
    assert code == 0 and f"{out}: 3 conversations, 0.00 hours, 4 codebooks of each voice at 12.5 Hz" in said
    header = read_header(out)
    assert (header.sample_rate, header.bins, header.model) == (RATE, 32, str(tiny_moshi_folder))
    held = [c for shard in header.shards for c in read_shard(out / shard.name)]
    assert [c.frames for c in held] == [17, 64, 25] and len(header.shards) == 2
    mimi = jomni.Mimi(tiny_moshi.configs["mimi"], 4)
    for conversation in held:
        assert [word.text for word in conversation.words] == ["well"]
        pcm = soundfile.read(manifest.parent / conversation.name, dtype="float32")[0].T
        whole = jomni.encode(mimi, tiny_moshi.params["mimi"], pcm)
        np.testing.assert_array_equal(conversation.agent, whole[0])
        np.testing.assert_array_equal(conversation.user, whole[1])

    code, said, _ = run("tokenize", manifest, out, "--model", tiny_moshi_folder, "--shard-size", 2, "--batch", 4)
    assert code == 0 and "2 of 2 shards are there already" in said


def test_bad_recordings_are_listed_and_refused_or_skipped(manifest, tmp_path, run, tiny_mimi_file):
    soundfile.write(manifest.parent / "1.wav", speech(5.1, RATE), RATE)
    (manifest.parent / "2.json").unlink()
    arguments = ("tokenize", manifest, tmp_path / "codes", "--model", tiny_mimi_file, "--codebooks", 3, "--batch", 2)
    code, _, err = run(*arguments)
    assert code == 2 and "2 of 3 " in err and "1.wav: " in err and "1 channel" in err and "Traceback" not in err
    assert "2.json" in err and not (tmp_path / "codes").exists()
    code, out, _ = run(*arguments, "--skip-bad")
    assert code == 0 and "1.wav: " in out and "1 conversations" in out
    assert read_header(tmp_path / "codes").codebooks == 3


def test_another_codec_and_too_many_codebooks_are_refused(manifest, tmp_path, refuses, run, tiny_mimi, tiny_mimi_file):
    arguments = ("tokenize", manifest, tmp_path / "codes", "--batch", 4, "--model")
    refuses(*arguments, tiny_mimi_file, "--codebooks", 9, says=["--codebooks 9", "8"])
    run(*arguments, tiny_mimi_file)
    before = everything(tmp_path / "codes")
    params = jax.tree.map(lambda leaf: leaf * 1.01, tiny_mimi.params)
    jomni.save(dataclasses.replace(tiny_mimi, params=params), tmp_path / "other")
    code, _, err = run(*arguments, tmp_path / "other")
    assert code == 2 and f"{tmp_path}/codes: " in err and "codec" in err
    code, _, err = run(*arguments, tiny_mimi_file, "--codebooks", 7)
    assert code == 2 and f"{tmp_path}/codes: " in err and " 8 codebooks" in err and " 7" in err
    assert everything(tmp_path / "codes") == before


def test_a_codec_is_known_by_what_its_codes_depend_on_and_by_nothing_else(tiny_mimi):
    params = tiny_mimi.params["mimi"]
    identity = codec_identity(tiny_mimi.configs["mimi"], params)
    for part in params:
        changed = {**params, part: jax.tree.map(lambda leaf: leaf * 1.01, params[part])}
        matters = part in command._ENCODER
        assert (codec_identity(tiny_mimi.configs["mimi"], changed) != identity) == matters, part
    quantizer = jax.tree.map(lambda leaf: leaf, params["quantizer"])
    quantizer["rvq_first"]["output_proj"]["weight"] = quantizer["rvq_first"]["output_proj"]["weight"] * 2
    assert codec_identity(tiny_mimi.configs["mimi"], {**params, "quantizer": quantizer}) == identity
    assert codec_identity(jomni.MIMI, params) != identity


def test_one_step_is_compiled_for_conversations_of_any_length(manifest, tmp_path, run, tiny_mimi_file, monkeypatch):
    shapes, step = set(), jomni.encode_step
    monkeypatch.setattr(jomni, "encode_step", lambda *a: shapes.add(a[3].shape) or step(*a))
    assert run("tokenize", manifest, tmp_path / "codes", "--model", tiny_mimi_file, "--batch", 2)[0] == 0
    assert shapes == {(2, 1, command.BLOCK * 1920)}


def test_ctrl_c_keeps_finished_shards_and_says_so(manifest, tmp_path, run, tiny_mimi_file, monkeypatch, capsys):
    calls, step = iter(range(3)), jomni.encode_step

    def interrupted(*arguments):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return step(*arguments)

    arguments = ("tokenize", manifest, tmp_path / "codes", "--model", tiny_mimi_file, "--batch", 2, "--shard-size", 1)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(jomni, "encode_step", interrupted)
        run(*arguments)
    assert stop.value.code == 130 and "finished shards" in capsys.readouterr().err
    assert len(list((tmp_path / "codes").glob("codes-*"))) == 2 and not list((tmp_path / "codes").glob(".*"))
    code, out, _ = run(*arguments)
    assert code == 0 and "2 of 3 shards are there already" in out
