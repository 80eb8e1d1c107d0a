"""The model that comes with the package: it answers the README's question."""

import itertools
import json

import numpy as np
import pytest
import soundfile

from jomni.checkpoints.hub import ASSETS
from jomni.cli.main import main
from jomni.eval.codec.quality import mel_distance


def test_the_readmes_question_is_heard_answered_and_spoken(tmp_path, capsys):
    assert main(["talk", str(ASSETS / "samples/question.wav"), "--out", str(tmp_path)]) == 0
    assert "seven plus five is twelve" in capsys.readouterr().out
    told = json.loads((tmp_path / "question.json").read_text())
    heard = " ".join(word for word, _ in itertools.groupby(told["heard"].split()))  # it may write a word twice
    assert told["text"] == "seven plus five is twelve" and "what is seven plus" in heard
    voice, rate = soundfile.read(tmp_path / "question.wav")
    answer = voice[round(told["input"]["seconds"] * rate) :]
    assert rate == 16_000 and 0.03 < abs(answer).max() <= 1


@pytest.mark.slow
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


@pytest.mark.slow
def test_nano_omni_hears_reads_answers_and_speaks(tmp_path, capsys):
    question, talk = str(ASSETS / "samples/question.wav"), ["talk", "--model", "nano_omni", "--out", str(tmp_path)]
    assert main([*talk, question]) == 0
    assert "seven plus five is twelve" in capsys.readouterr().out
    assert main([*talk, "--ask", "what is the opposite of hot"]) == 0
    for name, answer in (("question", "seven plus five is twelve."), ("ask", "the opposite of hot is cold.")):
        told = json.loads((tmp_path / f"{name}.json").read_text())
        voice, rate = soundfile.read(tmp_path / f"{name}.wav")
        assert told["text"] == answer and told["complete"] and rate == 16_000
        assert 0.8 < len(voice) / rate < 3 and abs(voice).max() > 0.03


@pytest.mark.parametrize(("name", "size"), [("nano", 24_000_000), ("nano_omni", 17_000_000), ("nano_snac", 1_400_000)])
def test_models_are_small_enough_to_come_along(name, size):
    assert 0 < sum(path.stat().st_size for path in (ASSETS / name).rglob("*") if path.is_file()) <= size
