"""Whisper's log-mel and encoder beside the originals' answers in tests/parity/data/whisper (make_whisper.py)."""

from __future__ import annotations

import numpy as np
import pytest

import jomni
from jomni.models.whisper import WhisperEncoder, embed_audio, log_mel
from tests.parity.compare import largest_difference
from tests.paths import PARITY_DATA
from tools.goldens import draw

DATA = PARITY_DATA / "whisper"
SEED = 1
KEPT = np.r_[0:720:24, 728:734, 1000, 2000, 2999]  # log-mel frames in the golden: of the audio, its end, the silence


@pytest.fixture(scope="module")
def expected():
    return dict(np.load(DATA / "expected.npz"))


def check_encoder(checkpoint: jomni.Checkpoint, mel: np.ndarray, wanted: np.ndarray) -> float:
    """Every vector within 1e-3; returns the largest difference."""
    ours = np.asarray(embed_audio(WhisperEncoder(checkpoint.configs["whisper"]), checkpoint.params["whisper"], mel))
    assert wanted.std() > 0.5
    difference = largest_difference(ours, wanted)
    assert difference < 1e-3
    return difference


def check_log_mel(ours: np.ndarray, wanted: np.ndarray) -> float:
    """Every value within 1e-4; returns the largest difference."""
    assert wanted.std() > 0.1
    difference = largest_difference(ours, wanted)
    assert difference < 1e-4
    return difference


@pytest.mark.parametrize("n_mels", [80, 128])
def test_log_mel_is_that_of_openai(n_mels, expected, say):
    wanted = expected[f"mel_{n_mels}"]
    pcm = draw.audio(SEED, 2, 1, 117_000, 16_000)[: len(wanted), 0]
    ours = np.asarray(log_mel(pcm, n_mels))[..., KEPT]
    say(f"log-mel of {n_mels} channels, golden: {check_log_mel(ours, wanted):.1e}")


@pytest.mark.parametrize(("name", "path", "n_mels"), [("openai", "openai.pt", 80), ("hf", "hf", 128)])
def test_the_encoder_gives_the_vectors_of_the_original(name, path, n_mels, expected, say):
    mel = (0.5 * draw.stream(SEED, "mel").standard_normal((2, n_mels, 100))).astype(np.float32)
    say(f"Whisper encoder ({name}), golden: {check_encoder(jomni.load(DATA / path), mel, expected[name]):.1e}")
