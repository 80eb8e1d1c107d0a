"""Small data sets of conversations, and a codec that is none, for the tests of jomni.data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from jomni.data.conversations.tokenize import Encoder

RATE, FRAME = 1600, 128
"""Sample rate, Hz, and samples in a frame: 12.5 frames a second."""

READ = (1, 4)
"""Which of the conversations say of themselves that the agent reads aloud."""

WORDS = ("three", "plus", "four", "is", "seven")


def conversations(folder: Path, seconds=(4.1, 1.0, 0.5, 2.56, 7.3, 3.0, 1.9)) -> Path:
    """Stereo noise with words of both speakers; gives the manifest."""
    (folder / "data").mkdir(parents=True)
    rng = np.random.default_rng(3)
    with (folder / "all.jsonl").open("w") as manifest:
        for index, length in enumerate(seconds):
            count = round(length * RATE)
            soundfile.write(folder / f"data/{index}.wav", rng.uniform(-0.5, 0.5, (count, 2)), RATE)
            starts = np.arange(0.1, length - 0.2, 0.37)
            words = [
                [WORDS[(i + index) % 5], [round(t, 3), round(t + 0.2, 3)], ["SPEAKER_MAIN", "USER"][i % 3 == 2]]
                for i, t in enumerate(starts)
            ]
            about = {"alignments": words, "turns": [{"n": index}]} | ({"read": True} if index in READ else {})
            (folder / f"data/{index}.json").write_text(json.dumps(about))
            manifest.write(json.dumps({"path": f"data/{index}.wav", "duration": count / RATE}) + "\n")
    return folder / "all.jsonl"


def hear(pcm: np.ndarray) -> np.ndarray:
    """Codes [B, 3, N] of waveforms [B, T], causal: what a frame's codes are depends on all samples up to its end."""
    frames = pcm.reshape(len(pcm), -1, FRAME)
    loud, mean = np.abs(frames).sum(2), np.cumsum(frames.sum(2), 1)
    return np.stack([(100 * value).astype(np.int64) % 500 for value in (loud, np.abs(mean), loud + 2)], 1)


def encoder(identity="codec 1", codebooks=3, encode=hear) -> Encoder:
    """`hear` as tokenization wants it."""
    return Encoder(encode, identity, "a/codec", RATE, 12.5, codebooks, 500)
