"""Tiny Mini-Omnis in the original's config format with the published vocabulary, and their inputs (without torch).

The order of streams is audio 0 to 6, text. Tokens are numbers in the vocabulary of their stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tools.goldens import draw

_SMALL: dict[str, Any] = dict(
    name="qwen2-0.5b", block_size=64, n_layer=2, n_head=4, n_embd=16, n_query_groups=2, vocab_size=181_120,
    padded_vocab_size=181_120, intermediate_size=24, parallel_residual=False, bias=False, add_qkv_bias=True,
    norm_class_name="RMSNorm", norm_eps=1e-6, mlp_class_name="LLaMAMLP", rotary_percentage=1.0, rope_base=1_000_000,
    tie_word_embeddings=True, whisper_adapter_dim=12, post_adapter=False, post_adapter_layers=2,
)  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "gated": _SMALL | dict(asr_adapter="llamamlp"),
    "linear": _SMALL | dict(asr_adapter="mlp"),
    "gated-post": _SMALL | dict(asr_adapter="llamamlp", post_adapter=True),
    "linear-post": _SMALL | dict(asr_adapter="mlp", post_adapter=True),
}
"""Case -> fields of `model_config.yaml`: both speech adapters, without and with a post-adapter."""

TASKS = ("A1T2", "T1T2", "A1A2", "T1A2")  # of each slot, by the original's names; A1: spoken question
FRAMES = (4, 3, 6, 5)  # of speech in each slot; the original ignores those of text questions
STEPS, STREAMS, TEXT, AUDIO = 10, 7, 152_000, 4160
TOLERANCE = 1e-3  # of logits
TEXT_COLUMNS = np.r_[0:TEXT:8000, TEXT - 64 : TEXT - 58, TEXT - 1]  # text tokens in the golden, some of them special
AUDIO_COLUMNS = np.r_[0:AUDIO:400, AUDIO - 64 : AUDIO - 58, AUDIO - 1]  # of each audio stream

ANSWERS: dict[str, tuple[str, str, str]] = {
    "A1-A2": ("A1-A2", "single", "gated"),
    "A1-T2": ("A1-T2", "text_only", "gated"),
    "A1-T1": ("A1-T1", "text_only", "gated"),
    "T1-A2": ("T1-A2", "single", "gated"),
    "T1-T2": ("T1-T2", "text_only", "gated"),
    "A1-A2-parallel": ("A1-A2", "batch_parallel", "gated"),
    "A1-A2-post": ("A1-A2", "single", "gated-post"),
}
"""Mode of the original -> task, jomni's voice, case."""
CONTEXT, LONG = 256, 200  # steps of the cache, and of an answer that does not end
END_GAIN = {"text": 4.0, "audio": 3.0}  # factors of the embedding rows of end tokens, for answers that should end


def spoken() -> np.ndarray:
    """Return the frames of speech in each slot, int32 [B]; 0 for text questions."""
    return np.array([n if task.startswith("A1") else 0 for n, task in zip(FRAMES, TASKS, strict=True)], np.int32)


def inputs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random tokens int32 [B, 8, T], and features of speech float32 [B, F, W]."""
    slots = len(TASKS)
    audio = draw.tokens(seed, "audio", (slots, STREAMS, STEPS), AUDIO)
    text = draw.tokens(seed, "text", (slots, 1, STEPS), TEXT)
    shape = (slots, max(FRAMES), _SMALL["whisper_adapter_dim"])
    return np.concatenate([audio, text], 1), draw.stream(seed, "features").standard_normal(shape).astype(np.float32)


def weights(manifest: Mapping[str, Iterable[int]], seed: int) -> dict[str, np.ndarray]:
    """Return random values of all tensors, float32, for which logits have a standard deviation above 1."""
    drawn = draw.weights(manifest, seed)
    return {name: value * np.float32(2 if name.endswith("wte.weight") else 1) for name, value in drawn.items()}


def kept(text: np.ndarray, audio: np.ndarray) -> dict[str, np.ndarray]:
    """Return the kept part of logits [B, T, V] and [B, T, 7, U]: some columns, the best token, and the log-sum-exp."""
    return {
        "text": text[..., TEXT_COLUMNS], "text_best": text.argmax(-1).astype(np.int32), "text_sum": _log_sum(text),
        "audio": audio[..., AUDIO_COLUMNS], "audio_best": audio.argmax(-1).astype(np.int32),
        "audio_sum": _log_sum(audio),
    }  # fmt: skip


def _log_sum(logits: np.ndarray) -> np.ndarray:
    top = logits.max(-1, keepdims=True)
    return (top[..., 0] + np.log(np.exp(logits - top).sum(-1, dtype=np.float64))).astype(np.float32)


def answering(mode: str) -> dict[str, Any]:
    """Return the fields of `model_config.yaml` for a mode."""
    return CASES[ANSWERS[mode][2]] | dict(block_size=CONTEXT)


def question(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a random question as text tokens int32 [Q] and as features of speech float32 [F, W]."""
    features = draw.stream(seed, "question").standard_normal((9, _SMALL["whisper_adapter_dim"]))
    return draw.tokens(seed, "asked", (7,), TEXT - 64), features.astype(np.float32)


def answer_weights(manifest: Mapping[str, Iterable[int]], seed: int, ends: bool) -> dict[str, np.ndarray]:
    """Return `weights`, with larger rows for the ends of text and of the last audio stream if answers should end."""
    drawn = weights(manifest, seed)
    if ends:
        last = (STREAMS - 1) * AUDIO + AUDIO - 64
        drawn["transformer.wte.weight"][TEXT - 64] *= END_GAIN["text"]
        drawn["transformer.wte.weight"][TEXT + last] *= END_GAIN["audio"]
        if (post := drawn.get("transformer.post_adapter_audio_lm_head.weight")) is not None:
            post[last] *= END_GAIN["audio"]
    return drawn
