"""The model that comes with the package: it answers the README's question."""

import json

import soundfile

from jomni.cli.main import main
from jomni.weights.hub import ASSETS


def test_the_readmes_question_is_heard_answered_and_spoken(tmp_path, capsys):
    assert main(["talk", str(ASSETS / "samples/question.wav"), "--out", str(tmp_path)]) == 0
    assert "seven plus five is twelve" in capsys.readouterr().out
    told = json.loads((tmp_path / "question.json").read_text())
    assert told["text"] == "seven plus five is twelve" and "what is seven plus" in told["heard"]
    voice, rate = soundfile.read(tmp_path / "question.wav")
    answer = voice[round(told["input"]["seconds"] * rate) :]
    assert rate == 16_000 and 0.03 < abs(answer).max() <= 1


def test_nano_is_small_enough_to_come_along():
    assert sum(path.stat().st_size for path in (ASSETS / "nano").iterdir()) <= 24_000_000
