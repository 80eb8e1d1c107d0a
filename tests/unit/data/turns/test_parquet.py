"""Turns in VoiceAssistant-400K's schema are checked row by row; their parallel streams can be undone."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from jomni.data.turns import parquet as omni
from jomni.data.turns.parquet import RowKind, Turn, check_turns, format_snac, parse_snac, read_turns, write_turns
from jomni.errors import DataError, JomniError
from jomni.models.mini_omni.config import Vocabulary
from jomni.models.mini_omni.streams import IGNORE, Task, build_example, undelay

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SMALL = Vocabulary(text_size=100, text_special=5, audio_size=50, audio_special=5, streams=2)
EOT, PAD_T, IN_T, ANS_T, ASR = range(100, 105)
EOA, PAD_A, IN_A, ANS_A = range(50, 54)
CODES = np.array([[1, 2], [3, 4]])


def wav(samples=160):
    file = io.BytesIO()
    soundfile.write(
        file, np.linspace(-0.5, 0.5, samples), 1600, format="WAV", subtype="PCM_16"
    )  # FLOAT would hold the time of day
    return file.getvalue()


def row(**changes):
    good = {
        "split_name": "s", "index": "7", "round": "None", "question": "why", "answer": "so",
        "question_audio": {"bytes": wav(), "path": None}, "answer_snac": "# 1 2 3 4 5 6 7 # 8 9 10 11 12 13 4095",
    }  # fmt: skip
    return good | changes


def write(path, *rows):
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def test_published_rows_are_read(tmp_path):
    (turn,) = read_turns(write(tmp_path / "a.parquet", row())).turns()
    assert (turn.question, turn.answer, turn.split_name, turn.index, turn.round) == ("why", "so", "s", "7", "None")
    assert turn.answer_codes.dtype == np.int32
    np.testing.assert_array_equal(turn.answer_codes.T, [[1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 4095]])
    pcm, rate = turn.read_question()
    assert rate == 1600
    np.testing.assert_allclose(pcm, np.linspace(-0.5, 0.5, 160)[None], atol=1e-4)


BAD = {
    "no bytes": (RowKind.MISSING_AUDIO, "no bytes", {"question_audio": {"bytes": None, "path": "x.wav"}}),
    "no audio": (RowKind.MISSING_AUDIO, "no bytes", {"question_audio": None}),
    "noise": (RowKind.UNREADABLE_AUDIO, "question_audio", {"question_audio": {"bytes": b"?" * 50, "path": None}}),
    "no samples": (RowKind.UNREADABLE_AUDIO, "no samples", {"question_audio": {"bytes": wav(0), "path": None}}),
    "no answer": (RowKind.MISSING_TEXT, "answer", {"answer": None}),
    "blank question": (RowKind.MISSING_TEXT, "question", {"question": " "}),
    "no codes": (RowKind.BAD_CODES, "None", {"answer_snac": None}),
    "empty codes": (RowKind.BAD_CODES, "'#'", {"answer_snac": ""}),
    "six codes": (RowKind.BAD_CODES, "frame 1 has 6 codes", {"answer_snac": "# 1 2 3 4 5 6 7 # 1 2 3 4 5 6"}),
    "headless": (RowKind.BAD_CODES, "begins with '9 #", {"answer_snac": "9 # 1 2 3 4 5 6 7"}),
    "too large": (RowKind.BAD_CODES, "the code '4096'", {"answer_snac": "# 1 2 3 4 5 6 4096"}),
    "negative": (RowKind.BAD_CODES, "the code '-1'", {"answer_snac": "# 1 2 3 4 5 6 -1"}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_row_is_told_and_refused_or_left_out(tmp_path, name):
    kind, detail, changes = BAD[name]
    path = write(tmp_path / "a.parquet", row(index="0"), row(**changes), row(index="2"))
    with pytest.raises(DataError, match=r"1 of 3 (.|\n)*row 1: ") as error:
        read_turns(path)
    assert detail in str(error.value)
    report = read_turns(path, skip_bad=True)
    assert (report.rows, report.bad, report.counts()) == ((0, 2), 1, {kind: 1})
    assert [turn.index for turn in report.turns()] == ["0", "2"]


def test_no_row_left_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"a\.parquet: (.|\n)*row 0: "):
        read_turns(write(tmp_path / "a.parquet", row(answer="")), skip_bad=True)


def test_file_that_is_no_such_file_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_text("?")
    with pytest.raises(DataError, match=r"parquet: .*parquet"):
        check_turns(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"parquet: .*question, question_audio"):
        check_turns(write(tmp_path / "b.parquet", {"answer": "a", "answer_snac": "#"}))


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("jomni.extras.missing", lambda *names: list(names))
    with pytest.raises(JomniError, match=r"pyarrow.*jomni\[train\]"):
        check_turns(tmp_path / "a.parquet")


def test_own_turns_are_written_in_the_same_schema(tmp_path):
    codes = np.random.default_rng(0).integers(0, 4096, (130, 7, 3))
    path = tmp_path / "a.parquet"
    assert write_turns(path, (Turn(f"q{i}", wav(), f"a{i}", c) for i, c in enumerate(codes))) == 130
    assert tuple(pq.read_schema(path).names) == omni._COLUMNS
    turns = list(read_turns(path).turns())
    assert [turn.question for turn in turns] == [f"q{i}" for i in range(130)]
    np.testing.assert_array_equal([turn.answer_codes for turn in turns], codes)
    assert (turns[5].question_audio, turns[5].index) == (wav(), "5")


def test_turn_that_could_not_be_read_is_not_written(tmp_path):
    turns = [Turn("q", wav(), "a", np.ones((7, 1), int)), Turn("q", b"", "a", np.ones((7, 1), int))]
    with pytest.raises(DataError, match=r"a.parquet: turn 1 .*question_audio"):
        write_turns(tmp_path / "a.parquet", turns)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match=r"\[7, frames\]"):
        format_snac(np.ones((3, 7), int))


def test_spoken_answer_to_a_heard_question():
    tokens, targets, features = build_example(Task.A1_A2, SMALL, 2, [9], CODES)
    assert features == 2
    np.testing.assert_array_equal(tokens, [
        [IN_A, PAD_A, PAD_A, EOA, ANS_A, PAD_A, 1, 2, EOA],
        [IN_A, PAD_A, PAD_A, EOA, ANS_A, PAD_A, PAD_A, 3, 4],
        [IN_T, PAD_T, PAD_T, EOT, ANS_T, 9, EOT, PAD_T, PAD_T],
    ])  # fmt: skip
    np.testing.assert_array_equal(targets, [
        [IGNORE] * 4 + [PAD_A, 1, 2, EOA, PAD_A],
        [IGNORE] * 4 + [PAD_A, PAD_A, 3, 4, EOA],
        [IGNORE] * 4 + [9, EOT, IGNORE, IGNORE, IGNORE],
    ])  # fmt: skip


@pytest.mark.parametrize("task", [Task.A1_T2, Task.A1_T1, Task.T1_T2])
def test_written_answer_leaves_audio_silent(task):
    tokens, targets, _ = build_example(task, SMALL, 1 if task.listens else [8], [9])
    audio = [IN_A, PAD_A, EOA, PAD_A, PAD_A] if task.listens else [PAD_A] * 5
    asked, last = PAD_T if task.listens else 8, ASR if task is Task.A1_T1 else ANS_T
    np.testing.assert_array_equal(tokens, [audio, audio, [IN_T, asked, EOT, last, 9]])
    np.testing.assert_array_equal(targets, [[IGNORE] * 5] * 2 + [[IGNORE] * 3 + [9, EOT]])


def test_text_that_outlasts_the_speech():
    tokens, targets, _ = build_example(Task.T1_A2, SMALL, [8], [9] * 6, CODES[:, :1])
    np.testing.assert_array_equal(tokens[0], [PAD_A, PAD_A, PAD_A, ANS_A, PAD_A, 1, EOA, PAD_A, PAD_A, PAD_A])
    np.testing.assert_array_equal(targets[1, 3:], [PAD_A, PAD_A, 3, EOA, IGNORE, IGNORE, IGNORE])
    np.testing.assert_array_equal(targets[2, 3:], [9] * 6 + [EOT])


@settings(max_examples=60)
@given(st.data(), st.sampled_from([Task.A1_A2, Task.T1_A2]), st.integers(1, 8), st.integers(0, 30))
def test_undoing_the_delays_gives_the_frames_back(data, task, frames, written):
    seed = data.draw(st.integers(0, 2**32 - 1))
    codes = np.random.default_rng(seed).integers(0, 4096, (7, frames))
    vocabulary = Vocabulary()
    question = 3 if task.listens else [1, 2, 3]
    tokens, targets, _ = build_example(task, vocabulary, question, [5] * written, parse_snac(format_snac(codes)))
    assert tokens.shape == targets.shape and tokens.dtype == targets.dtype == np.int32
    np.testing.assert_array_equal(undelay(targets[:-1, 5:], vocabulary.end_of_audio), codes)
    told = targets[:, 5:-1] != IGNORE
    np.testing.assert_array_equal(tokens[:, 6:][told], targets[:, 5:-1][told])  # each target is the next input


def test_what_a_task_does_not_take_is_refused():
    for task, question, codes in ((Task.A1_A2, [1], CODES), (Task.T1_T2, [1], CODES), (Task.T1_A2, [1], None)):
        with pytest.raises(DataError, match=f"task {task.value} "):
            build_example(task, SMALL, question, [9], codes)
    with pytest.raises(DataError, match=r"\[2, .*\(1, 2\)"):
        build_example(Task.A1_A2, SMALL, 2, [9], CODES[:1])
    with pytest.raises(DataError, match=r" 50 .* 2 steps"):
        undelay(CODES, EOA)
