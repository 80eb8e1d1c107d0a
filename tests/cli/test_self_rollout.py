"""`jomni self-rollout`."""

import numpy as np
import pytest
import soundfile

from jomni.data.conversations.codes import read_header
from jomni.data.conversations.tokenize import read_shard
from tests.cli.conftest import everything, speech

RATE = 24000


@pytest.fixture
def codes(tmp_path, run, tiny_moshi_folder):
    (tmp_path / "corpus").mkdir()
    for index, seconds in enumerate((1.3, 2.0)):
        pcm = np.stack([speech(seconds, RATE, 2 * index), speech(seconds, RATE, 2 * index + 1)], 1)
        soundfile.write(tmp_path / f"corpus/{index}.wav", pcm, RATE)
        (tmp_path / f"corpus/{index}.json").write_text('{"alignments": [["well", [0.2, 0.5], "SPEAKER_MAIN"]]}')
    lines = ('{"path": "0.wav", "duration": 1.3}\n', '{"path": "1.wav", "duration": 2.0}\n')
    (tmp_path / "corpus/all.jsonl").write_text("".join(lines))
    code, *_ = run("tokenize", tmp_path / "corpus/all.jsonl", tmp_path / "codes", "--model", tiny_moshi_folder)
    assert code == 0
    return tmp_path / "codes"


def test_codes_are_rolled_out_and_what_cannot_be_is_refused(
    codes, tmp_path, run, refuses, tiny_moshi_folder, tiny_mimi_file
):
    out = tmp_path / "own"
    arguments = ("self-rollout", codes, out, "--model", tiny_moshi_folder, "--batch", 2)
    code, said, _ = run(*arguments, "--text-lead", 1, "--keep-and-shift")
    assert code == 0 and f"{out}: 2 conversations, 0.00 hours, with sampled codes" in said
    before, after = ([c for s in read_header(f).shards for c in read_shard(f / s.name)] for f in (codes, out))
    for old, new in zip(before, after, strict=True):
        assert old.own is None and new.own.shape == old.agent.shape and new.own.max() < 32
        assert (new.own != old.agent).any()
        np.testing.assert_array_equal(new.agent, old.agent)
    held = everything(out)
    refuses(*arguments, says=[out, "self-rollout"])
    refuses("self-rollout", codes, tmp_path / "x", "--model", tiny_mimi_file, says=[tiny_mimi_file, "Moshi"])
    refuses("self-rollout", tmp_path / "corpus", tmp_path / "x", "--model", tiny_moshi_folder, says=["codes.json"])
    refuses(*arguments, "--text-lead", 1, says=["keep_and_shift"])
    assert everything(out) == held and not (tmp_path / "x").exists()
