"""The model that comes with the package: it answers the README's question."""

import itertools
import json

import numpy as np
import soundfile

from jomni.cli.main import main
from jomni.eval.quality import mel_distance
from jomni.weights.hub import ASSETS


def test_the_readmes_question_is_heard_answered_and_spoken(tmp_path, capsys):
    assert main(["talk", str(ASSETS / "samples/question.wav"), "--out", str(tmp_path)]) == 0
    assert "seven plus five is twelve" in capsys.readouterr().out
    told = json.loads((tmp_path / "question.json").read_text())
    heard = " ".join(word for word, _ in itertools.groupby(told["heard"].split()))  # it may write a word twice
    assert told["text"] == "seven plus five is twelve" and "what is seven plus" in heard
    voice, rate = soundfile.read(tmp_path / "question.wav")
    answer = voice[round(told["input"]["seconds"] * rate) :]
    assert rate == 16_000 and 0.03 < abs(answer).max() <= 1


def test_nano_snac_codes_the_voice_that_it_was_trained_on(tmp_path):
    question, codes, back = ASSETS / "samples/question.wav", str(tmp_path / "x.npz"), str(tmp_path / "back.wav")
    assert main(["talk", str(question), "--out", str(tmp_path)]) == 0
    answer = str(tmp_path / "question.wav")
    assert main(["encode", answer, codes, "--model", "nano_snac"]) == 0
    assert main(["decode", codes, back, "--model", "nano_snac"]) == 0
    said, again = (soundfile.read(path, dtype="float32")[0] for path in (answer, back))
    spoken = np.flatnonzero(np.abs(said) > 0.01)
    said, again = (wave[spoken[0] : spoken[-1]] for wave in (said, again))
    assert mel_distance(said, again, 16_000) < 0.2 * mel_distance(said, np.zeros_like(said), 16_000)


def test_nano_is_small_enough_to_come_along():
    assert sum(path.stat().st_size for path in (ASSETS / "nano").iterdir()) <= 24_000_000
