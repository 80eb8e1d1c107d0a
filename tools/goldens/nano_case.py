"""The test conversation of the bundled model, and the part of it that the golden keeps (without torch)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from jomni import audio
from jomni.checkpoints.hub import ASSETS

NANO = ASSETS / "nano"
GOLDEN = Path(__file__).parents[2] / "tests" / "parity" / "data" / "nano.npz"


def question(frame_size: int, sample_rate: int) -> np.ndarray:
    """Return the user's audio: a bundled recording and 40 frames of silence, float32 [1, 1, T]."""
    wave = audio.read(ASSETS / "samples/conversation.wav", sample_rate)
    return np.pad(wave, (0, -len(wave) % frame_size + 40 * frame_size))[None, None]


def sketch(voice: np.ndarray, frame_size: int) -> np.ndarray:
    """Return eight random projections of each frame, with the RMS of its samples: [1, 1, T] -> float32 [N, 8]."""
    directions = np.random.default_rng(0).choice((-1.0, 1.0), (frame_size, 8)) / np.sqrt(frame_size)
    return (voice.reshape(-1, frame_size) @ directions).astype(np.float32)


def digest() -> str:
    """Return the SHA-256 of the names and contents of the model's files."""
    found = hashlib.sha256()
    for path in sorted(NANO.iterdir()):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()
