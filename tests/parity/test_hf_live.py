"""jomni beside transformers itself: models with every option, in both directions."""

from __future__ import annotations

import numpy as np
import pytest

from jomni.checkpoints.load import load
from jomni.checkpoints.save import save
from tests.parity.test_hf_golden import check_mimi, check_moshi, full_precision

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tools.goldens import hf as peer  # noqa: E402

__all__ = ["full_precision"]  # the fixture


@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("case", peer.MIMI_CASES)
def test_mimi_there_and_back(case, seed, tmp_path):
    """transformers -> jomni -> transformers: the same answers at each station."""
    model = peer.make_mimi(case, seed)
    expected = peer.run_mimi(model, seed)
    model.save_pretrained(tmp_path / "theirs")
    checkpoint = load(tmp_path / "theirs")
    check_mimi(checkpoint, expected)
    save(checkpoint, tmp_path / "ours", "hf")
    again = transformers.MimiModel.from_pretrained(tmp_path / "ours")
    assert same_weights(model, again)
    for name, value in peer.run_mimi(again.eval(), seed).items():
        np.testing.assert_array_equal(value, expected[name], name)


@pytest.mark.parametrize("case", peer.MOSHI_CASES)
def test_moshi_there_and_back(case, tmp_path):
    """transformers -> jomni -> transformers: the same answers at each station."""
    model = peer.make_moshi(case, 2)
    expected = peer.run_moshi(model, 2)
    model.save_pretrained(tmp_path / "theirs")
    checkpoint = load(tmp_path / "theirs")
    check_moshi(checkpoint, expected)
    check_mimi(checkpoint, peer.run_mimi(model.audio_encoder, 2))
    save(checkpoint, tmp_path / "ours", "hf")
    again = transformers.MoshiForConditionalGeneration.from_pretrained(tmp_path / "ours")
    assert same_weights(model, again)
    for name, value in peer.run_moshi(again.eval(), 2).items():
        np.testing.assert_array_equal(value, expected[name], name)


def test_transformers_generates_from_an_exported_folder(tmp_path):
    """What was written is enough for `generate`, sampling options and all, and for the feature extractor."""
    peer.make_moshi("plain", 2).save_pretrained(tmp_path / "theirs")
    save(load(tmp_path / "theirs"), tmp_path / "ours", "hf")
    model = transformers.MoshiForConditionalGeneration.from_pretrained(tmp_path / "ours").eval()
    assert model.generation_config.top_k == 25 and model.generation_config.depth_decoder_config["top_k"] == 250
    torch.manual_seed(0)
    out = model.generate(**model.get_unconditional_inputs(), max_new_tokens=6, return_audio_codes=True)
    assert out.audio_codes.shape[1] == 3 and out.audio_codes.max() < 32
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "ours")
    assert extractor.sampling_rate == 24_000 and extractor.feature_size == 1


def same_weights(one, other) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
