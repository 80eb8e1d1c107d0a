"""jomni beside openai-whisper and transformers themselves: features, encoder, and files in both directions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

import jomni
from jomni.models.whisper import WHISPER, log_mel
from tests.parity.compare import largest_difference
from tests.parity.test_whisper_golden import KEPT, SEED, check_encoder, check_log_mel

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")
pytest.importorskip("whisper")
pytest.importorskip("transformers")

import transformers  # noqa: E402
import whisper  # noqa: E402

from tools.goldens import make_whisper as peer  # noqa: E402


@pytest.fixture(autouse=True)
def beside(one_thread_and_float32):
    """Equal conditions."""


def signals() -> dict[str, np.ndarray]:
    """Audio of all kinds, [1, T] at 16 kHz."""
    rng = np.random.default_rng(0)
    time = np.arange(480_000) / 16_000
    tone = 0.5 * np.sin(2 * np.pi * 440 * time) + 1e-2 * rng.standard_normal(len(time))
    return {
        "the golden's": peer.pcm_input(SEED)[:1],
        "30 s": peer.pcm_input(2, 480_000, 1),
        "a tone in noise": tone[None].astype(np.float32),
        "full scale": rng.choice(np.float32([-1, 1]), (1, 80_001)),
        "very quiet": (1e-5 * rng.standard_normal((1, 30_000))).astype(np.float32),
        "silence": np.zeros((1, 16_000), np.float32),
        "one sample": np.ones((1, 1), np.float32),
        "at the very end": np.pad(rng.standard_normal((1, 50)).astype(np.float32), ((0, 0), (479_950, 0))),
    }


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("kind", signals())
def test_log_mel_is_that_of_both_originals(kind, n_mels, say):
    pcm = signals()[kind]
    ours = np.asarray(log_mel(pcm, n_mels))
    for name, theirs in (("openai", peer.log_mel_openai(pcm, n_mels)), ("hf", peer.log_mel_hf(pcm, n_mels))):
        assert ours.shape == theirs.shape == (1, n_mels, 3000)
        difference = largest_difference(ours, theirs)
        say(f"log-mel of {n_mels} channels, {kind}, {name}: {difference:.1e}")
        assert difference < 1e-4


def test_the_golden_is_what_openai_gives_today():
    kept = np.load(peer.DATA / "expected.npz")
    check_log_mel(peer.log_mel_openai(peer.pcm_input(SEED), 80)[..., KEPT], kept["mel_80"])
    np.testing.assert_array_equal(KEPT, peer.KEPT)


@pytest.mark.parametrize("case", peer.OPENAI_CASES)
def test_openai_there_and_back(case, tmp_path, say):
    """openai-whisper -> jomni -> openai-whisper: the same answers at each station."""
    model = peer.make_openai(case, 2)
    peer.save_openai(model, tmp_path / "model.pt", torch.float32)
    mel = peer.mel_input(model.dims.n_mels, 2 * model.dims.n_audio_ctx, 2)
    checkpoint = jomni.load(tmp_path / "model.pt")
    say(f"Whisper encoder, {case}: {check_encoder(checkpoint, mel, peer.encode_openai(model, mel)):.1e}")
    jomni.save(checkpoint, tmp_path / "out")
    exported = {n: torch.from_numpy(v) for n, v in load_file(tmp_path / "out" / "model.safetensors").items()}
    assert exported.keys() == {n for n in model.state_dict() if n.startswith("encoder.")}
    other = peer.make_openai(case, 3)  # another model, whose encoder is replaced by what was exported
    peer.save_openai(other, tmp_path / "other.pt", torch.float32)
    held = torch.load(tmp_path / "other.pt")
    held["model_state_dict"].update(exported)
    torch.save(held, tmp_path / "other.pt")
    again = whisper.load_model(str(tmp_path / "other.pt"), "cpu")
    np.testing.assert_array_equal(peer.encode_openai(again, mel), peer.encode_openai(model, mel))


@pytest.mark.parametrize("shard", ["1kB", "5GB"])
@pytest.mark.parametrize("case", peer.HF_CASES)
def test_hf_there_and_back(case, shard, tmp_path, say):
    """transformers -> jomni -> transformers: the same answers at each station."""
    model = peer.make_hf(case, 2)
    model.save_pretrained(tmp_path / "in", max_shard_size=shard)
    mel = peer.mel_input(model.config.num_mel_bins, 100, 2)
    wanted = peer.encode_hf(model, mel)
    checkpoint = jomni.load(tmp_path / "in")
    say(f"Whisper encoder of transformers, {case}: {check_encoder(checkpoint, mel, wanted):.1e}")
    jomni.save(checkpoint, tmp_path / "out", "hf")
    again = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    np.testing.assert_array_equal(peer.encode_hf(again, mel), wanted)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    assert extractor.feature_size == model.config.num_mel_bins and extractor.n_fft == 400


def test_a_bare_whisper_model_of_transformers_is_read(tmp_path):
    model = peer.make_hf("plain", 2)
    model.model.save_pretrained(tmp_path)
    assert not any(name.startswith("model.") for name in load_file(tmp_path / "model.safetensors"))
    mel = peer.mel_input(128, 100, 2)
    check_encoder(jomni.load(tmp_path), mel, peer.encode_hf(model, mel))


def test_the_golden_layouts_are_what_the_originals_give_today():
    assert peer.layouts() == json.loads(peer.LAYOUTS.read_text())


def test_the_english_models_are_the_others_with_one_token_less():
    for name in ("tiny", "base", "small", "medium"):
        one, other = peer.layouts((name,))[name], peer.layouts((f"{name}.en",))[f"{name}.en"]
        differing = {n for n in one["openai"] if one["openai"][n] != other["openai"][n]}
        assert differing == {"decoder.token_embedding.weight"}
        assert set(WHISPER) >= {name, f"{name}.en"}
