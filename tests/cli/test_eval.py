"""`jomni eval codec` and `jomni eval talk`, end to end with the small random model."""

import json

import numpy as np
import pytest
import soundfile

from jomni.cli.parser import parse
from tests.unit.eval.cases import turn, write_item
from tests.unit.eval.test_recogniser import SPOKEN, TEXTS


@pytest.fixture(scope="module")
def tests_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval") / "tests"
    for cell in ("seen", "unseen_both"):
        write_item(folder, cell, [turn(0.3, 0.8, (1.0, 1.5))], 2.0, cell=cell)
    return folder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for text in TEXTS:
        name = text.replace(" ", "_")
        (folder / f"{name}.flac").write_bytes((SPOKEN / f"{name}.flac").read_bytes())
        (folder / f"{name}.json").write_text(json.dumps({"text": text, "voice": "slt"}))
    return folder


QUICK = ["--seeds", 1, "--slots", 2, "--minutes", 0, "--replies", 2, "--frames", 5, "--processes", 1]


@pytest.mark.slow
def test_talk_writes_a_report_and_prints_the_table(run, tests_folder, tiny_moshi_folder, tmp_path):
    out = tmp_path / "report"
    arguments = ["eval", "talk", tests_folder, "--model", tiny_moshi_folder, "--out", out, *QUICK]
    code, printed, err = run(*arguments)
    assert code == 0, err
    assert {path.name for path in out.iterdir()} == {
        "report.md", "report.json", "turns.jsonl", "accuracy.png", "cells.png", "latency.png", "timeline.png",
        "examples",
    }  # fmt: skip
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(table) == 10 and all(line in (out / "report.md").read_text() for line in table)
    held = json.loads((out / "report.json").read_text())
    assert held["cells"]["unseen_both"]["count"] == 1 and held["slowest_frames"]["count"] == 5
    assert held["settings"]["temperature"] == pytest.approx(0.8) and held["cells"]["seen"]["count"] == 1
    turns = [json.loads(line) for line in (out / "turns.jsonl").read_text().splitlines()]
    assert [(t["item"], t["seed"]) for t in turns] == [("data/seen.wav", 0), ("data/unseen_both.wav", 0)]
    both, rate = soundfile.read(out / "examples/00.wav")
    assert rate == 24_000 and both.shape[1] == 2 and np.abs(both).max(axis=0).min() > 0.01
    code, _, err = run(*arguments)
    assert code == 2 and str(out) in err and "--force" in err
    code, _, err = run(*arguments, "--force")
    again = [json.loads(line) for line in (out / "turns.jsonl").read_text().splitlines()]
    assert code == 0 and again == turns  # the same seeds, the same conversations


@pytest.mark.slow
def test_codec_writes_a_report(run, recordings, tiny_mimi_file, tmp_path):
    out = tmp_path / "report"
    code, printed, err = run("eval", "codec", tiny_mimi_file, recordings, "--codebooks", 2, 8, "--out", out,
                             "--processes", 1)  # fmt: skip
    assert code == 0, err
    assert {path.name for path in out.iterdir()} == {"report.md", "report.json", "files.json", "codec.png", "examples"}
    held = json.loads((out / "report.json").read_text())
    assert [score["codebooks"] for score in held["scores"]] == [2, 8] and held["original"]["value"] == 0
    assert held["scores"][1]["bitrate"] == 500 and len(held["codebooks"]) == 8 and list(held["voices"]) == ["slt"]
    assert "kbit/s" in printed and "0.0 % [0.0, 0.0]" in printed
    assert {path.name for path in (out / "examples").iterdir()} >= {"00-original.wav", "00-2.wav", "01-8.wav"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tests": "nowhere"}, "nowhere"),
        ({"model": "nowhere/at/all"}, "nowhere/at/all"),
        ({"extra": ["--sentences", "nowhere.txt"]}, "nowhere.txt"),
        ({"out": "tests"}, "tests"),
    ],
)
def test_talk_refuses_bad_input(refuses, tests_folder, tiny_moshi_folder, tmp_path, change, says):
    tests = tests_folder if "tests" not in change else tmp_path / change["tests"]
    out = tests_folder if "out" in change else tmp_path / "report"
    refuses("eval", "talk", tests, "--model", change.get("model", tiny_moshi_folder), "--out", out, *QUICK,
            *change.get("extra", []), says=[says])  # fmt: skip


def test_talk_refuses_models_that_do_not_talk(refuses, tests_folder, tiny_mimi_file, listener, tmp_path):
    for model, says in ((tiny_mimi_file, "codec"), (listener, "depth transformer")):
        refuses("eval", "talk", tests_folder, "--model", model, "--out", tmp_path / "report", *QUICK, says=[says])


def test_talk_refuses_an_unknown_word_before_it_talks(refuses, tiny_moshi_folder, tmp_path):
    folder = tmp_path / "tests"
    write_item(folder, "a", [turn(0.3, 0.8, (1.0, 1.5), answer="it is flurb")], 2.0)
    refuses(
        "eval", "talk", folder, "--model", tiny_moshi_folder, "--out", tmp_path / "report", *QUICK, says=["'flurb'"]
    )


def test_codec_refuses_bad_input(refuses, recordings, tiny_mimi_file, tmp_path):
    def refused(*arguments, says):
        refuses("eval", "codec", *arguments, "--out", tmp_path / "report", says=[says])

    refused(tiny_mimi_file, tmp_path / "nothing.wav", says="nothing.wav: ")
    refused(tiny_mimi_file, recordings, "--codebooks", 9, says="1 to 8")
    refused(tmp_path / "no-model", recordings, says="no-model")


def test_the_grammar_of_eval(run):
    options = parse(["eval", "codec", "m", "a.wav", "--out", "r", "--codebooks", "1", "8", "--limit", "3"])
    assert (options.command, options.model, options.codebooks, options.limit) == ("eval codec", "m", [1, 8], 3)
    for line, word in (("eval", "WHAT"), ("eval sing", "invalid choice"),
                       ("eval codec m --out r", "AUDIO"), ("eval talk tests --model m", "--out")):  # fmt: skip
        code, out, err = run(*line.split())
        assert code == 2 and not out and word in err and len(err.splitlines()) == 2
