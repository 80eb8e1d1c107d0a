"""`jomni eval turns`, end to end with a small random Mini-Omni in its published layout."""

import json
import shutil

import pytest
import soundfile

from jomni.cli.parser import parse
from jomni.data.turns.parquet import Turn, write_turns
from jomni.models.mini_omni.streams import Task
from tests import mini_omni_case
from tests.mini_omni_train_case import PAIRS, codes, question

pytest.importorskip("pyarrow")
FILES = {"report.md", "report.json", "answers.jsonl", "examples"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("omni") / "mini-omni"
    mini_omni_case.write(folder, neighbours=True)
    return folder


@pytest.fixture(scope="module")
def turns(tmp_path_factory):
    path = tmp_path_factory.mktemp("turns") / "turns.parquet"
    write_turns(path, (Turn(asked, question(i, 1600), told, codes(i)) for i, (asked, told) in enumerate(PAIRS[:3])))
    return path


QUICK = ["--slots", 2, "--replies", 2, "--processes", 1]


@pytest.mark.slow
def test_turns_writes_a_report_and_prints_the_table(run, model, turns, tmp_path):
    out = tmp_path / "report"
    code, printed, err = run("eval", "turns", model, turns, "--out", out, *QUICK)
    assert code == 0, err
    assert {path.name for path in out.iterdir()} == FILES
    table = [line for line in printed.splitlines() if line.startswith("|")]
    written = (out / "report.md").read_text()
    assert len(table) == 7 and all(line in written for line in table)
    held = json.loads((out / "report.json").read_text())
    assert list(held["tasks"]) == ["T1-T2", "A1-T2", "A1-A2", "T1-A2", "A1-T1"] and not held["left_out"]
    assert held["tasks"]["A1-A2"]["exact"]["count"] == 3 and set(held["replies"]) == {"A1-A2", "T1-A2"}
    assert held["codec"]["count"] == 2 and held["settings"]["turns"] == "3 of 3"
    answers = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert [(a["task"], a["turn"]) for a in answers[:4]] == [("A1-A2", 0), ("A1-A2", 1), ("A1-A2", 2), ("A1-T2", 0)]
    assert len(answers) == 15 and answers[6]["expected"] == "say red" and answers[0]["expected"] == "it is red"
    examples = sorted((out / "examples").iterdir())
    assert len(examples) == 4 and soundfile.info(examples[0]).samplerate == 24_000
    code, _, err = run("eval", "turns", model, turns, "--out", out, *QUICK)
    assert code == 2 and str(out) in err and "--force" in err


def test_only_chosen_tasks_are_run(run, model, turns, tmp_path):
    code, _, err = run("eval", "turns", model, turns, "--out", tmp_path / "r", *QUICK, "--tasks", "A1-T1", "T1-T2")
    assert code == 0, err
    held = json.loads((tmp_path / "r/report.json").read_text())
    assert list(held["tasks"]) == ["T1-T2", "A1-T1"] and held["left_out"]["A1-A2"] == "not chosen"
    assert not held["replies"] and "A1-A2: left out, not chosen" in (tmp_path / "r/report.md").read_text()
    code, _, err = run("eval", "turns", model, turns, "--out", tmp_path / "s", *QUICK, "--tasks", "A2-A1")
    assert code == 2 and "invalid choice: 'A2-A1'" in err


def test_bad_input_is_refused(refuses, model, turns, tiny_moshi_folder, tmp_path, tmp_path_factory):
    def refused(model, turns, *more, says):
        refuses("eval", "turns", model, turns, "--out", tmp_path / "report", *QUICK, *more, says=[says])

    text = tmp_path_factory.mktemp("bad") / "turns.txt"
    text.write_text("no parquet")
    refused(model, text, says="turns.txt: ")
    refused(model, tmp_path / "nowhere.parquet", says="nowhere.parquet: ")
    refused("nowhere/at/all", turns, says="nowhere/at/all")
    refused(model, turns, "--codec", tiny_moshi_folder, says="SNAC")
    refused(tiny_moshi_folder, turns, says="tokenizer.json")
    refused(model, turns, "--sentences", tmp_path / "no.txt", says="no.txt")
    dumb = tmp_path_factory.mktemp("bare") / "omni"
    shutil.copytree(model, dumb, ignore=shutil.ignore_patterns("tokenizer.json"))
    refused(dumb, turns, says="tokenizer.json")
    strange = tmp_path_factory.mktemp("strange") / "turns.parquet"
    write_turns(strange, [Turn("say red", question(0), "it is flurb", codes(0))])
    refused(model, strange, says="'flurb'")


def test_rows_that_do_not_fit_are_refused_or_counted(run, model, turns, tmp_path):
    long = tmp_path / "long.parquet"
    write_turns(long, [Turn("say red", question(0, 16_000 * 31), "it is red", codes(0))])
    code, _, err = run("eval", "turns", model, long, "--out", tmp_path / "report", *QUICK)
    assert code == 2 and "31.0 s" in err and "row 0: " in err
    code, _, err = run("eval", "turns", model, long, "--out", tmp_path / "report", *QUICK, "--skip-bad")
    assert code == 2 and str(long) in err and "row 0: " in err and not (tmp_path / "report").exists()


def test_the_grammar_of_eval_turns(run):
    every = [task.value for task in Task]
    line = "eval turns m t.parquet --out r --codec c --limit 3 --voice batch_parallel --skip-bad --tasks"
    options = parse([*line.split(), *every])
    assert options.tasks == every
    assert (options.command, options.model, options.codec, options.limit) == ("eval turns", "m", "c", 3)
    assert (options.voice, options.skip_bad, options.slots, options.replies) == ("batch_parallel", True, 16, 300)
    code, out, err = run("eval", "turns", "m", "--out", "r")
    assert code == 2 and not out and "TURNS" in err
