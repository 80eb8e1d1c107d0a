"""Bulk tokenization: what it writes, that it goes on after a kill, and what it refuses."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from jomni.data.conversations import codes, tokenize
from jomni.data.conversations.alignment import Word
from jomni.data.conversations.codes import Conversation, decode_record, encode_record, read_header
from jomni.data.conversations.tokenize import bucketed, plan_tokenization, read_shard
from jomni.errors import DataError, OutputError
from jomni.folders import LOCK
from tests.unit.data.cases import FRAME, RATE, READ, conversations, encoder, hear

OPTIONS = {"shard_size": 3, "batch": 4, "bucket": 20}


def run(manifest, out, codec=None, progress=lambda seconds: None, **options):
    return tokenize.tokenize(plan_tokenization(manifest, out, codec or encoder(), **{**OPTIONS, **options}), progress)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def manifest(tmp_path):
    return conversations(tmp_path / "corpus")


def test_every_conversation_is_encoded_as_if_alone_and_keeps_its_words(manifest, tmp_path):
    done = []
    header = run(manifest, tmp_path / "out", progress=done.append)
    assert header == read_header(tmp_path / "out") and header.conversations == 7 and header.codebooks == 3
    assert [len(shard.frames) for shard in header.shards] == [3, 3, 1]
    held = [c for shard in header.shards for c in read_shard(tmp_path / "out" / shard.name)]
    assert [c.name for c in held] == [f"data/{i}.wav" for i in range(7)]
    for index, conversation in enumerate(held):
        pcm = soundfile.read(manifest.parent / conversation.name, dtype="float32")[0].T
        frames = -(-pcm.shape[1] // FRAME)
        expected = hear(np.pad(pcm, ((0, 0), (0, frames * FRAME - pcm.shape[1]))))
        np.testing.assert_array_equal(conversation.agent, expected[0])
        np.testing.assert_array_equal(conversation.user, expected[1])
        beside = json.loads((manifest.parent / f"data/{index}.json").read_text())
        assert [[w.text, [w.start, w.end], w.speaker] for w in conversation.words] == beside["alignments"]
        assert conversation.meta == {"turns": [{"n": index}]} | ({"read": True} if index in READ else {})
    assert header.frames == sum(c.frames for c in held)
    assert sum(done) == pytest.approx(sum(c.agent.shape[1] for c in held) * 0.08, abs=7 * 0.08)


def test_the_encoder_sees_few_shapes(manifest, tmp_path):
    shapes = set()
    run(manifest, tmp_path / "out", encoder(encode=lambda pcm: shapes.add(pcm.shape) or hear(pcm)))
    assert shapes and {rows for rows, _ in shapes} == {4} and all(length % (20 * FRAME) == 0 for _, length in shapes)
    assert len(shapes) < 5


class Killed(BaseException):
    pass


@pytest.mark.parametrize("calls", range(5))
def test_a_run_that_ends_early_leaves_finished_shards_alone_and_the_next_ends_with_the_same_bytes(
    calls, manifest, tmp_path
):
    run(manifest, tmp_path / "whole")
    count = iter(range(calls))

    def dies(pcm):
        if next(count, None) is None:
            raise Killed
        return hear(pcm)

    with pytest.raises(Killed):
        run(manifest, tmp_path / "out", encoder(encode=dies))
    held = content(tmp_path / "out")
    assert set(held) <= set(content(tmp_path / "whole")) and len(held) == 1 + calls // 2
    with pytest.raises(DataError, match=rf"^{tmp_path}/out: .*'jomni tokenize'"):
        read_header(tmp_path / "out")
    encoded = []
    run(manifest, tmp_path / "out", progress=encoded.append)
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert len(encoded) == 5 - calls // 2 * 2
    run(manifest, tmp_path / "out", encoder(encode=None))  # nothing is left to do


def test_a_run_killed_by_the_system_at_any_moment_goes_on(manifest, tmp_path):
    run(manifest, tmp_path / "whole")
    script = (
        "import sys, time; from tests.unit.data.conversations import test_tokenize as t;"
        "from tests.unit.data.cases import *;"
        "t.run(sys.argv[1], sys.argv[2], encoder(encode=lambda pcm: print(flush=True) or time.sleep(.05) or hear(pcm)))"
    )
    reached = []
    for calls, delay in ((1, 0.0), (2, 0.055), (2, 0.06)):
        command = [sys.executable, "-c", script, manifest, tmp_path / "out"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            for _ in range(calls):
                assert process.stdout.readline() == b"\n"
            time.sleep(delay)
            process.kill()
        reached.append(len(list((tmp_path / "out").glob("*.array_record"))))
    assert reached[0] == 0 and reached == sorted(reached)
    (tmp_path / "out" / ".codes-00001-of-00003.array_record.part").write_bytes(b"half")
    run(manifest, tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_second_run_is_refused_while_the_first_is_at_work_which_notices_nothing(manifest, tmp_path):
    run(manifest, tmp_path / "whole")
    refused = []

    def disturbed(pcm):
        with pytest.raises(OutputError, match=rf"^{tmp_path}/out: "):
            run(manifest, tmp_path / "out")
        refused.append(True)
        return hear(pcm)

    run(manifest, tmp_path / "out", encoder(encode=disturbed))
    assert len(refused) == 5 and content(tmp_path / "out") == content(tmp_path / "whole")


def test_what_is_being_written_is_nobody_elses_to_sweep_away(manifest, tmp_path):
    run(manifest, tmp_path / "out")
    held = list(read_shard(tmp_path / "out/codes-00000-of-00003.array_record"))

    def disturbed():
        yield held[0]
        with pytest.raises(OutputError, match=f"^{tmp_path}/out: "):
            run(manifest, tmp_path / "out")
        yield from held[1:]

    before = content(tmp_path / "out")
    with tokenize.finishing(tmp_path / "out"):
        tokenize.write_shard(tmp_path / "out/codes-00000-of-00003.array_record", disturbed())
    assert content(tmp_path / "out") == before


def test_a_folder_in_which_a_run_was_killed_before_its_header_was_written_is_gone_on_with(manifest, tmp_path):
    run(manifest, tmp_path / "whole")
    (tmp_path / "out").mkdir()
    for name in (LOCK, ".codes.json.part"):
        (tmp_path / "out" / name).write_bytes(b"half")
    run(manifest, tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_another_codec_manifest_or_form_is_refused_and_nothing_changes(manifest, tmp_path):
    run(manifest, tmp_path / "out")
    before = content(tmp_path / "out")
    for changed, options, says in [
        (encoder("codec 2"), {}, "codec"), (encoder(codebooks=2), {}, "3 codebooks.* 2"),
        (encoder(), {"shard_size": 4}, "shards of 3 .* 4"),
    ]:  # fmt: skip
        with pytest.raises(DataError, match=says):
            run(manifest, tmp_path / "out", changed, **options)
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(DataError, match="manifest"):
        run(manifest, tmp_path / "out")
    manifest.write_text("\n".join(lines) + "\n")
    words = manifest.parent / "data/2.json"
    words.write_text(words.read_text().replace("0.1,", "0.11,"))
    with pytest.raises(DataError, match="words"):
        run(manifest, tmp_path / "out")
    assert content(tmp_path / "out") == before


def test_a_folder_of_something_else_is_not_written_to(manifest, tmp_path):
    with pytest.raises(OutputError, match=rf"^{manifest.parent}: .*all\.jsonl"):
        run(manifest, manifest.parent)
    with pytest.raises(OutputError, match=f"^{manifest}/out: .*Not a directory"):
        run(manifest, manifest / "out")


def test_bad_items_refuse_the_manifest_or_are_skipped(manifest, tmp_path):
    soundfile.write(manifest.parent / "data/1.wav", np.zeros(RATE), RATE)
    (manifest.parent / "data/4.json").unlink()
    with pytest.raises(DataError, match=r"2 of 7 (.|\n)*data/1\.wav: .*1 channel(.|\n)*data/4\.wav: .*4\.json"):
        run(manifest, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    plan = plan_tokenization(manifest, tmp_path / "out", encoder(), **OPTIONS, skip_bad=True)
    assert plan.report.bad == 2
    header = tokenize.tokenize(plan)
    assert header.conversations == 5


def test_a_recording_that_was_cut_short_since_it_was_checked_is_refused(manifest, tmp_path):
    plan = plan_tokenization(manifest, tmp_path / "out", encoder(), **OPTIONS)
    wav = manifest.parent / "data/5.wav"
    wav.write_bytes(wav.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"5\.wav: .* 4800 .* 4700 "):
        tokenize.tokenize(plan)
    soundfile.write(wav, np.full((4800, 2), np.nan), RATE, subtype="FLOAT")
    with pytest.raises(DataError, match="NaN"):
        tokenize.tokenize(plan)


def test_a_recording_that_breaks_off_is_skipped_and_counted(manifest, tmp_path):
    wav = manifest.parent / "data/5.wav"
    soundfile.write(wav, np.full((4800, 2), np.nan), RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=r"1 of 7 (.|\n)*data/5\.wav: .*sample 0 .*nan"):
        plan_tokenization(manifest, tmp_path / "out", encoder(), **OPTIONS)
    plan = plan_tokenization(manifest, tmp_path / "out", encoder(), **OPTIONS, skip_bad=True)
    assert plan.report.bad == 1 and tokenize.tokenize(plan).conversations == 6


def test_codes_outside_the_codebooks_are_refused(manifest, tmp_path):
    with pytest.raises(DataError, match=r"a/codec: .*499"):
        run(manifest, tmp_path / "out", encoder(encode=lambda pcm: hear(pcm) + 1))
    with pytest.raises(DataError, match=r"a/codec: .*70000"):
        run(manifest, tmp_path / "out", dataclasses.replace(encoder(), bins=70000))


def test_a_shard_has_its_name_only_when_it_is_whole(manifest, tmp_path, monkeypatch):
    replace = os.replace

    def full(source, target):
        if str(target).endswith("00001-of-00003.array_record"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left on device"):
        run(manifest, tmp_path / "out")
    assert set(content(tmp_path / "out")) == {"codes.json", "codes-00000-of-00003.array_record"}


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
arrays = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 9), st.integers(0, 2**32 - 1))


@given(texts, arrays, st.lists(st.builds(Word, texts, st.floats(0, 99), st.floats(0, 99), texts), max_size=4))
def test_records_come_back_as_they_were_and_damaged_ones_are_noticed(name, shape, words):
    agents, users, frames, seed = shape
    rng = np.random.default_rng(seed)
    agent, user = (rng.integers(0, 2**16, (k, frames), np.uint16) for k in (agents, users))
    record = encode_record(Conversation(name, agent, user, tuple(words), {"turns": [1, {"a": name}]}))
    back = decode_record(record)
    assert (back.name, back.words, back.meta) == (name, tuple(words), {"turns": [1, {"a": name}]})
    np.testing.assert_array_equal(back.agent, agent)
    np.testing.assert_array_equal(back.user, user)
    assert back.agent.dtype == np.uint16 and back.frames == frames
    for damaged in (record[:-1], record + b"x", record[:10], b"RIFF" + record[4:], record[:4] + b"\x02" + record[5:]):
        with pytest.raises(DataError, match="record"):
            decode_record(damaged)


def test_records_refuse_codes_of_another_type_or_length():
    with pytest.raises(DataError, match=r"int32 \[2, 3\]"):
        encode_record(Conversation("x", np.zeros((2, 3), np.int32), np.zeros((2, 3), np.uint16)))
    with pytest.raises(DataError, match=r"\[2, 3\].*\[2, 4\]"):
        encode_record(Conversation("x", np.zeros((2, 3), np.uint16), np.zeros((2, 4), np.uint16)))


def test_headers_that_are_damaged_or_of_another_version_are_refused(manifest, tmp_path):
    run(manifest, tmp_path / "out")
    header = tmp_path / "out" / codes.HEADER
    text = header.read_text()
    for damaged in (text[:-9], text.replace('"version": 1', '"version": 2'), text.replace('"bins"', '"bin"'), "[]"):
        header.write_text(damaged)
        with pytest.raises(DataError, match="jomni tokenize"):
            read_header(tmp_path / "out")
    header.write_text(text)
    os.unlink(tmp_path / "out" / "codes-00001-of-00003.array_record")
    with pytest.raises(DataError, match="codes-00001-of-00003"):
        read_header(tmp_path / "out")


@given(st.integers(1, 10**6), st.integers(1, 1000))
def test_bucket_lengths_hold_what_they_must_and_waste_less_than_a_bucket(frames, bucket):
    length = bucketed(frames, bucket)
    assert length % bucket == 0 and 0 <= length - frames < bucket
