"""Tiny random models of Hugging Face's Mimi and Moshi: folders written by `save_pretrained`, and the models' outputs.

    python -m tools.goldens.hf          rewrites tests/parity/data/hf_mimi and tests/parity/data/hf_moshi

Needs the `peers` extra. The parity tests read these files without torch, and call these functions if torch is
installed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import GenerationConfig, MimiConfig, MimiModel, MoshiConfig, MoshiForConditionalGeneration

DATA = Path(__file__).parents[2] / "tests" / "parity" / "data"

_MIMI: dict[str, Any] = dict(
    hidden_size=16, num_filters=2, upsampling_ratios=[4, 3, 2], codebook_size=32, codebook_dim=8,
    vector_quantization_hidden_dimension=8, num_quantizers=5, upsample_groups=16, num_hidden_layers=2,
    intermediate_size=24, num_attention_heads=2, num_key_value_heads=2, sliding_window=7,
)  # fmt: skip
MIMI_CASES: dict[str, dict[str, Any]] = {
    "plain": _MIMI,
    "every option": _MIMI | dict(
        num_attention_heads=4, num_key_value_heads=2, num_residual_layers=2, use_conv_shortcut=True, audio_channels=2,
        num_semantic_quantizers=2, pad_mode="replicate", rope_parameters={"rope_type": "default", "rope_theta": 300.0},
        frame_rate=250.0, kernel_size=5, last_kernel_size=5, residual_kernel_size=5, dilation_growth_rate=3, compress=1,
        sampling_rate=24_000,
    ),
}  # fmt: skip
"""Configurations of Mimi; the golden has the first. "every option" downsamples by 4 and has 2 channels."""

_MOSHI: dict[str, Any] = dict(
    vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=40, num_codebooks=3,
    sliding_window=40, max_position_embeddings=40,
    depth_decoder_config=dict(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, ffn_dim=28, sliding_window=3,
        max_position_embeddings=4,
    ),
)  # fmt: skip
MOSHI_CASES: dict[str, dict[str, Any]] = {
    "plain": _MOSHI,
    "every option": _MOSHI | dict(
        hidden_size=24, num_attention_heads=4, num_key_value_heads=2, hidden_act="gelu", ffn_dim=2 * 63,
        num_codebooks=4, rope_parameters={"rope_type": "default", "rope_theta": 300.0},
        depth_decoder_config=dict(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=1, hidden_act="relu",
            ffn_dim=2 * 42, sliding_window=9, max_position_embeddings=5,
        ),
    ),
}  # fmt: skip
"""Configurations of Moshi; the golden has the first. "every option" has grouped queries and ff = 4 x dim."""


def make_mimi(case: str, seed: int) -> MimiModel:
    """Return a random Mimi in float32; no tensor is constant."""
    return randomise(MimiModel(MimiConfig(**MIMI_CASES[case])), seed)


def make_moshi(case: str, seed: int) -> MoshiForConditionalGeneration:
    """Return a random Moshi in float32 with a random Mimi."""
    config = MoshiConfig(audio_encoder_config=MimiConfig(**MIMI_CASES["plain"]).to_dict(), **MOSHI_CASES[case])
    return randomise(MoshiForConditionalGeneration(config), seed)


@torch.no_grad()
def randomise(model: Any, seed: int) -> Any:
    """Set all parameters and buffers to random values for which codes, logits and attention vary."""
    generator = torch.Generator().manual_seed(seed)
    kept = set(model.state_dict())
    for path, module in model.named_modules():
        tensors = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        for name, value in tensors.items():
            if f"{path}.{name}" in kept:
                value.copy_(_draw(module, f"{path}.{name}", value, generator))
    return model.eval()


def _draw(module: Any, name: str, value: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    normal = torch.randn(value.shape, generator=generator)
    if name.endswith("initialized"):
        return torch.ones(value.shape)
    if name.endswith("cluster_usage"):
        normal = (2 * normal).exp()
        normal[::7] = 0  # unused entries, whose sum is divided by 1e-5
        return normal
    if name.endswith("embed_sum"):  # registered after cluster_usage
        return 0.8 * normal * module.cluster_usage.clamp(min=1e-5)[:, None]
    if name.endswith(".scale"):
        return 0.5 + 0.2 * normal
    if name.endswith(".bias"):
        return 0.1 * normal
    if value.ndim == 1:
        return 1 + 0.3 * normal
    if isinstance(module, nn.Embedding):
        return normal
    if isinstance(module, nn.ConvTranspose1d):  # two taps reach each sample
        return 1.3 * normal / (2 * value.shape[0] / module.groups) ** 0.5
    fan_in = value[0].numel() if isinstance(module, nn.Conv1d) else value.shape[-1]
    return (2.5 if "lm_head." in name else 1.3) * normal / fan_in**0.5


@torch.no_grad()
def run_mimi(model: MimiModel, seed: int, frames: int = 24, batch: int = 2) -> dict[str, np.ndarray]:
    """Return random `pcm` [B, C, T], its `codes` [B, K, N], and `audio` [B, C, T] decoded from them.

    `audio_few` is decoded from the semantic codebooks and one more.
    """
    config = model.config
    generator = torch.Generator().manual_seed(seed + 1)
    size = round(config.sampling_rate / config.frame_rate)
    pcm = torch.randn(batch, config.audio_channels, frames * size, generator=generator).clamp(-3, 3) / 3
    codes = model.encode(pcm).audio_codes
    few = codes[:, : config.num_semantic_quantizers + 1]
    return {
        "pcm": pcm.numpy(),
        "codes": codes.numpy().astype(np.int32),
        "audio": model.decode(codes).audio_values.numpy(),
        "audio_few": model.decode(few).audio_values.numpy(),
    }


@torch.no_grad()
def run_moshi(model: MoshiForConditionalGeneration, seed: int, frames: int = 12) -> dict[str, np.ndarray]:
    """Return random tokens and their logits in the training form, delayed by Hugging Face's own code.

    `codes` [B, 1 + 2 K, T]: text, agent's and user's tokens, not delayed. `text_logits` [B, T, V] predict text t.
    `audio_logits` [B, T + 1, K, card] are in the delayed alignment: entry s of codebook k predicts its delayed token s.
    """
    config = model.config
    batch, books = 2, config.num_codebooks
    draw = np.random.default_rng(seed + 1)
    text = torch.from_numpy(draw.integers(0, config.vocab_size, (batch, frames)))
    audio = torch.from_numpy(draw.integers(0, config.audio_vocab_size, (batch, 2 * books, frames)))
    length = frames + 2
    _, delayed_text, user, agent, *_ = model._prepare_inputs_embeds_for_generation(
        input_ids=text, moshi_audio_codes=audio[:, :books], user_audio_codes=audio[:, books:],
        generation_config=GenerationConfig(max_length=length), apply_delay_pattern_mask=True,
        concat_unconditional_inputs=True,
    )  # fmt: skip
    out = model(
        input_ids=delayed_text[:, :-1], moshi_audio_codes=agent[..., :-1], user_audio_codes=user[..., :-1],
        attention_mask=None,
    )  # fmt: skip
    following = torch.cat([delayed_text[:, None], agent], 1)[:, :books, 1:]  # the depth decoder's input
    depth = model.depth_decoder(
        input_ids=following.transpose(1, 2).reshape(-1, books),
        last_hidden_state=out.last_hidden_state.reshape(batch * frames, 1, -1),
    )
    return {
        "codes": torch.cat([text[:, None], audio], 1).numpy().astype(np.int32),
        "text_logits": out.logits.numpy(),
        "audio_logits": depth.logits.reshape(batch, frames, books, -1).numpy(),
    }


def main() -> None:
    """Rewrite the committed files."""
    for kind, make, answer in (("mimi", make_mimi, run_mimi), ("moshi", make_moshi, run_moshi)):
        folder = DATA / f"hf_{kind}"
        shutil.rmtree(folder, ignore_errors=True)
        model = make("plain", 1)
        model.save_pretrained(folder)
        np.savez_compressed(folder / "expected.npz", **answer(model, 1))
        for file in sorted(folder.iterdir()):
            print(f"{file.stat().st_size:8d} {file}")


if __name__ == "__main__":
    main()
