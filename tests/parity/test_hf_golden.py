"""jomni beside transformers' Mimi and Moshi, from answers kept in tests/parity/data (tools/goldens/hf.py made them)."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jomni.checkpoints.checkpoint import Checkpoint
from jomni.checkpoints.load import load
from jomni.models.mimi.model import Mimi, decode, encode
from jomni.models.moshi import MoshiLM
from tests.parity.compare import audio_error, largest_difference
from tests.paths import PARITY_DATA

DATA = PARITY_DATA


@pytest.fixture(autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"):
        yield


def check_mimi(checkpoint: Checkpoint, expected: dict[str, np.ndarray]) -> None:
    """Whole frames, whole sequences: every code equal, audio to 1e-4 of its RMS."""
    config = checkpoint.configs["mimi"]
    mimi, params = Mimi(config, config.num_codebooks), checkpoint.params["mimi"]
    codes = np.asarray(encode(mimi, params, expected["pcm"]))
    assert codes.shape == expected["codes"].shape
    assert len(np.unique(codes)) > 20  # not all alike
    np.testing.assert_array_equal(codes, expected["codes"])
    few = config.quantizer.n_q_semantic + 1
    for given, wanted in ((codes, expected["audio"]), (codes[:, :few], expected["audio_few"])):
        assert audio_error(np.asarray(decode(mimi, params, given)), wanted) < 1e-4


def check_moshi(checkpoint: Checkpoint, expected: dict[str, np.ndarray]) -> None:
    """Logits of the training form to 1e-3; Hugging Face's are delayed by its own code, ours by `config.delays`."""
    lm, config = MoshiLM(checkpoint.configs["lm"]), checkpoint.configs["lm"]
    out = jax.jit(lm.apply)({"params": checkpoint.params["lm"]}, expected["codes"])
    text, audio = expected["text_logits"], expected["audio_logits"]
    assert text.std() > 1 and audio.std() > 1
    assert largest_difference(np.asarray(out.text_logits)[:, 0], text) < 1e-3
    frames = text.shape[1]
    for k in range(config.dep_q):
        delay = config.delays[1 + k]
        ours, mask = np.asarray(out.logits)[:, k, : frames - delay], np.asarray(out.mask)[:, k]
        assert mask[:, : frames - delay].all() and not mask[:, frames - delay :].any()
        assert largest_difference(ours, audio[:, delay:, k]) < 1e-3, f"codebook {k}"


def test_mimi_gives_the_codes_and_the_audio_of_transformers():
    check_mimi(load(DATA / "hf_mimi"), dict(np.load(DATA / "hf_mimi" / "expected.npz")))


def test_moshi_gives_the_logits_of_transformers():
    check_moshi(load(DATA / "hf_moshi"), dict(np.load(DATA / "hf_moshi" / "expected.npz")))
