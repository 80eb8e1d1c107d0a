"""Tiny random Whisper models of OpenAI and Hugging Face: their files and outputs.

    python -m tools.goldens.make_whisper

rewrites tests/parity/data/whisper and tests/goldens/whisper_layouts.json. Needs the extra `peers` and openai-whisper.
Weights and inputs are drawn by name (see `draw`). The parity tests read these files without torch, and call these
functions if torch is installed.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import whisper
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration
from whisper.model import AudioEncoder, ModelDimensions, TextDecoder, Whisper

from jomni.models.whisper.config import WHISPER
from jomni.models.whisper.weights import write_hf_config
from tools.goldens import draw

TESTS = Path(__file__).parents[2] / "tests"
DATA = TESTS / "parity" / "data" / "whisper"
LAYOUTS = TESTS / "goldens" / "whisper_layouts.json"
SEED = 1
KEPT = np.r_[0:720:24, 728:734, 1000, 2000, 2999]  # log-mel frames in the golden: of the audio, its end, the silence

GOLDEN_SIZES = ("tiny", "base", "small", "medium", "large-v2", "large-v3", "large-v3-turbo")
_AUDIO = ("n_mels", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer")  # in the order of `AudioEncoder`
_TEXT = ("n_vocab", "n_text_ctx", "n_text_state", "n_text_head", "n_text_layer")  # in that of `TextDecoder`

_SMALL = dict(
    n_mels=80, n_audio_ctx=50, n_audio_state=12, n_audio_head=3, n_audio_layer=2, n_vocab=20, n_text_ctx=6,
    n_text_state=12, n_text_head=2, n_text_layer=1,
)  # fmt: skip
OPENAI_CASES: dict[str, dict[str, int]] = {
    "plain": _SMALL,
    "one head": _SMALL | dict(n_mels=128, n_audio_head=1, n_audio_layer=1, n_text_layer=2),
    "30 s": _SMALL | dict(n_audio_ctx=1500, n_audio_state=16, n_text_state=16, n_audio_head=4),
}
"""Dimensions; the golden has the first. The last take 30 s, as the published models."""

_SMALL_HF = dict(
    num_mel_bins=128, max_source_positions=50, d_model=12, encoder_attention_heads=3, encoder_layers=2,
    encoder_ffn_dim=48, decoder_attention_heads=2, decoder_layers=1, decoder_ffn_dim=48, max_target_positions=6,
    vocab_size=20, pad_token_id=1, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, suppress_tokens=None,
    begin_suppress_tokens=None,
)  # fmt: skip
HF_CASES: dict[str, dict[str, Any]] = {
    "plain": _SMALL_HF,
    "80 mels": _SMALL_HF | dict(num_mel_bins=80, encoder_layers=1, encoder_attention_heads=2, decoder_layers=2),
}
"""Configurations; the golden has the first."""


def make_openai(case: str, seed: int) -> Whisper:
    """Return OpenAI's model in float32 with random weights by name."""
    return _drawn(Whisper(ModelDimensions(**OPENAI_CASES[case])), seed)


def make_hf(case: str, seed: int) -> WhisperForConditionalGeneration:
    """Return Hugging Face's model in float32 with random weights by name."""
    return _drawn(WhisperForConditionalGeneration(WhisperConfig(**HF_CASES[case])), seed)


def _drawn(model: Any, seed: int) -> Any:
    """Set all parameters and buffers of a model to random values by name; return the model."""
    state = model.state_dict()
    manifest = {name: tuple(value.shape) for name, value in state.items() if name != "proj_out.weight"}  # tied
    for name, value in draw.weights(manifest, seed).items():
        state[name].copy_(torch.from_numpy(value))
    return model.eval()


def save_openai(model: Whisper, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a checkpoint in OpenAI's layout."""
    state = {name: value.to(dtype) for name, value in model.state_dict().items()}
    torch.save({"dims": vars(model.dims), "model_state_dict": state}, path)


def mel_input(n_mels: int, frames: int, seed: int, batch: int = 2) -> np.ndarray:
    """Return random features with the range of speech, float32 [B, M, N]."""
    return (0.5 * draw.stream(seed, "mel").standard_normal((batch, n_mels, frames))).astype(np.float32)


def pcm_input(seed: int, samples: int = 117_000, batch: int = 2) -> np.ndarray:
    """Return random audio at 16 kHz, float32 [B, T]; by default a little more than 7.3 s."""
    return draw.audio(seed, batch, 1, samples, 16_000)[:, 0]


@torch.no_grad()
def encode_openai(model: Whisper, mel: np.ndarray) -> np.ndarray:
    """Return the output of OpenAI's encoder, float32 [B, T, D]."""
    return model.embed_audio(torch.from_numpy(mel)).numpy()


@torch.no_grad()
def encode_hf(model: WhisperForConditionalGeneration, mel: np.ndarray) -> np.ndarray:
    """Return the output of Hugging Face's encoder, float32 [B, T, D]."""
    return model.get_encoder()(torch.from_numpy(mel)).last_hidden_state.numpy()


def log_mel_openai(pcm: np.ndarray, n_mels: int) -> np.ndarray:
    """Return OpenAI's features [B, M, 3000] of recordings [B, T], padded to 30 s."""
    return np.stack([whisper.log_mel_spectrogram(whisper.pad_or_trim(row), n_mels).numpy() for row in pcm])


def log_mel_hf(pcm: np.ndarray, n_mels: int) -> np.ndarray:
    """Return Hugging Face's features [B, M, 3000] of recordings [B, T], padded to 30 s."""
    extract = WhisperFeatureExtractor(feature_size=n_mels)
    return np.asarray(extract(list(pcm), sampling_rate=16_000, return_tensors="np").input_features)


def layouts(sizes: Iterable[str] = GOLDEN_SIZES) -> dict[str, dict[str, Any]]:
    """Return names and shapes of the published sizes in both layouts, without allocating tensors.

    The tensors of all blocks are one entry with `*` in its name; the first number of its shape is the number of blocks.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in sizes:
        dims = WHISPER[name].to_openai()
        audio, text = ([v for k, v in dims.items() if k in keys] for keys in (_AUDIO, _TEXT))
        with torch.device("meta"):
            models = {
                "openai": torch.nn.ModuleDict({"encoder": AudioEncoder(*audio), "decoder": TextDecoder(*text)}),
                "hf": WhisperForConditionalGeneration(WhisperConfig(**write_hf_config(WHISPER[name]))),
            }
        tensors = {key: fold({n: tuple(t.shape) for n, t in m.state_dict().items()}) for key, m in models.items()}
        found[name] = {"config": dims, **tensors}
    return found


def fold(shapes: dict[str, tuple[int, ...]]) -> dict[str, list[int]]:
    """Return one entry for the tensors of all blocks, which must have one shape and be numbered from 0 on."""
    groups: dict[str, dict[int, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        match = re.search(r"\.(?:blocks|layers)\.(\d+)\.", name)
        folded = name if match is None else f"{name[: match.start(1)]}*{name[match.end(1) :]}"
        groups.setdefault(folded, {})[-1 if match is None else int(match[1])] = shape
    out = {}
    for name, members in groups.items():
        assert len(set(members.values())) == 1 and sorted(members) in ([-1], list(range(len(members)))), name
        shape = next(iter(members.values()))
        out[name] = [len(members), *shape] if "*" in name else list(shape)
    return out


def main() -> None:
    """Rewrite the committed files."""
    torch.set_num_threads(1)
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    openai, hf = make_openai("plain", SEED), make_hf("plain", SEED)
    save_openai(openai, DATA / "openai.pt")
    hf.save_pretrained(DATA / "hf")
    (DATA / "hf" / "generation_config.json").unlink(missing_ok=True)  # of decoding text
    pcm = pcm_input(SEED)
    np.savez_compressed(
        DATA / "expected.npz",
        mel_80=log_mel_openai(pcm, 80)[..., KEPT],
        mel_128=log_mel_openai(pcm[:1], 128)[..., KEPT],
        openai=encode_openai(whisper.load_model(str(DATA / "openai.pt"), "cpu"), mel_input(80, 100, SEED)),
        hf=encode_hf(hf, mel_input(128, 100, SEED)),
    )
    text = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in layouts().items())
    LAYOUTS.write_text("{" + text + "}\n", encoding="utf-8")
    for file in [*sorted(p for p in DATA.rglob("*") if p.is_file()), LAYOUTS]:
        print(f"{file.stat().st_size:8d} {file}")


if __name__ == "__main__":
    main()
