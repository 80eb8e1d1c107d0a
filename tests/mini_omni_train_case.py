"""A world of six words, in which a question is a tone, its answer a word and a few codes, for Mini-Omni's stages."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile

from jomni.data.text import chat_tokenizer
from jomni.data.turns.parquet import Turn, write_turns
from jomni.models.decoder import DecoderConfig
from jomni.models.whisper import WhisperConfig
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.decoder import TextConfig, TextData
from jomni.train.tasks.mini_omni import ALIGN, OmniConfig, VoiceConfig
from jomni.train.tasks.mini_omni_data import OmniData

WORDS = ("red", "green", "blue", "black", "white", "grey")
PAIRS = [(f"say {word}", f"it is {word}") for word in WORDS]
DECODER = DecoderConfig(
    vocab_size=280, dim=32, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=16, hidden_dim=64, max_positions=64,
    tied=True, qkv_bias=True,
)  # fmt: skip
ENCODER = WhisperConfig(
    n_mels=20, n_audio_ctx=10, n_audio_state=16, n_audio_head=2, n_audio_layer=1, n_vocab=8, n_text_ctx=4,
    n_text_state=16, n_text_head=2, n_text_layer=1,
)  # fmt: skip
VOICE = VoiceConfig(text_special=8, audio_size=16, audio_special=8)
OPTIMIZER = OptimizerConfig(lr=1e-2, schedule="constant", weight_decay=0.1)


def question(word: int, samples: int = 2400) -> bytes:
    """A sound file of the word's tone at 16 kHz."""
    wave = 0.3 * np.sin(2 * np.pi * 300 * (1 + word) * np.arange(samples) / 16_000)
    file = io.BytesIO()
    soundfile.write(file, wave, 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def codes(word: int) -> np.ndarray:
    """What the word is said with."""
    return (2 * word + np.arange(7)[:, None] + np.arange(2)) % VOICE.audio_size


def write_world(folder: Path) -> None:
    """The world's tokenizer, its text and its spoken turns."""
    (folder / "tokenizer").mkdir()
    for name, content in chat_tokenizer((text for pair in PAIRS for text in pair), DECODER.vocab_size).items():
        (folder / "tokenizer" / name).write_bytes(content)
    (folder / "turns.tsv").write_text("".join(f"{asked}\t{told}\n" for asked, told in PAIRS))
    turns = (Turn(asked, question(i), told, codes(i)) for i, (asked, told) in enumerate(PAIRS))
    write_turns(folder / "turns.parquet", turns)


def text_config(folder: Path) -> TrainConfig:
    """The text model, from nothing."""
    task = TextConfig(
        data=TextData(str(folder / "turns.tsv"), steps=24), model=DECODER, tokenizer=str(folder / "tokenizer"),
        optimizer=OPTIMIZER, batch=6,
    )  # fmt: skip
    return _run(folder, "stage0", task)


def omni_config(folder: Path) -> TrainConfig:
    """Stage 1."""
    task = OmniConfig(
        data=OmniData((str(folder / "turns.parquet"),), lengths=(28,), seconds=0.2),
        backbone=str(folder / "runs/stage0/export"), voice=VOICE, encoder_model=ENCODER, freeze=ALIGN,
        optimizer=OPTIMIZER, batch=6,
    )  # fmt: skip
    return _run(folder, "stage1", task)


def _run(folder: Path, name: str, task: TextConfig | OmniConfig) -> TrainConfig:
    return TrainConfig(
        name=name, task=task, steps=60, log_every=10, checkpoint_every=30, out=str(folder / "runs"), tensorboard=False
    )
