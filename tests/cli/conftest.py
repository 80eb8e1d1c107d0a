"""Fixtures for the tests of the command."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

import jomni
from jomni.cli.main import main
from jomni.models.moshi import weights as moshi_weights
from tools.random_model import random_params


@pytest.fixture
def run(capsys):
    """Runs the command in this process: (exit code, stdout, stderr)."""

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def refuses(run, tmp_path):
    """Asserts that a call exits with 2, says the given words on stderr without a traceback, and leaves no file."""

    def call(*arguments, says):
        assert says and not isinstance(says, str)
        before = everything(tmp_path)
        code, out, err = run(*arguments)
        assert code == 2, (code, out, err)
        assert "Traceback" not in err and err.startswith("jomni "), err
        assert len(err.strip().splitlines()) <= 2, err
        for word in says:
            assert str(word) in err, err
        assert everything(tmp_path) == before

    return call


def everything(folder: Path) -> dict[Path, bytes | None]:
    """Every file below a folder with its content."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def speech(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    """A tone that comes and goes, with some noise, float32."""
    time = np.arange(round(seconds * rate)) / rate
    noise = 0.02 * np.random.default_rng(seed).standard_normal(len(time))
    return (0.3 * np.sin(2 * np.pi * (200 + 40 * seed) * time) * np.sin(3 * time) ** 2 + noise).astype(np.float32)


@pytest.fixture
def recording(tmp_path):
    """A recording of 2.3 s at 24 kHz."""
    path = tmp_path / "question.wav"
    soundfile.write(path, speech(2.3, 24000), 24000)
    return path


@pytest.fixture(scope="session")
def listener(tiny_moshi, tmp_path_factory):
    """A speech-to-text model: no depth transformer, text 2.5 s late, a second of silence to begin with."""
    lm = dataclasses.replace(tiny_moshi.configs["lm"], dep_q=0, n_q=4, delays=(0, 0, 0, 0, 0))
    params = {"mimi": tiny_moshi.params["mimi"], "lm": random_params(moshi_weights.abstract_params(lm), 5)}
    settings = {"stt_config": {"audio_delay_seconds": 2.5, "audio_silence_prefix_seconds": 1.0}}
    folder = tmp_path_factory.mktemp("stt") / "stt"
    configs = tiny_moshi.configs | {"lm": lm}
    made = dataclasses.replace(tiny_moshi, configs=configs, params=params, model_type="stt", settings=settings)
    jomni.save(made, folder)
    return folder
