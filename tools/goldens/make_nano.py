"""Regenerate tests/parity/data/nano.npz, the output of Kyutai's code for nano: python -m tools.goldens.make_nano

Needs the extra `peers`. The golden holds the text tokens, a sketch of each frame of audio, and a digest of the model's
files.
"""

from __future__ import annotations

import json

import numpy as np
import torch

from tools.goldens import kyutai
from tools.goldens.nano_case import GOLDEN, NANO, digest, question, sketch


def converse() -> tuple[np.ndarray, np.ndarray]:
    """Return a greedy conversation by Kyutai's code: text int32 [1, N], pcm float32 [1, 1, N * frame_size]."""
    raw = json.loads((NANO / "config.json").read_text())
    names = ("config.json", raw["moshi_name"], raw["mimi_name"], raw["mimi_config_name"], raw["tokenizer_name"])
    config, weights, codec, codec_config, tokenizer = (NANO / name for name in names)
    info = kyutai.loaders.CheckpointInfo.from_hf_repo(
        "nano", moshi_weights=weights, mimi_weights=codec, tokenizer=tokenizer, config_path=config,
        mimi_config_path=codec_config,
    )  # fmt: skip
    mimi = kyutai.loaders.get_mimi(codec, info.mimi_config, num_codebooks=8)
    lm = info.get_moshi(dtype=torch.float32)  # through `get_moshi_lm`
    return kyutai.converse(mimi, lm, question(mimi.frame_size, mimi.sample_rate))


def main() -> None:
    """Write the golden."""
    torch.set_num_threads(1)
    text, voice = converse()
    size = voice.shape[-1] // text.shape[-1]
    np.savez_compressed(GOLDEN, text=text.astype(np.int16), sketch=sketch(voice, size), digest=digest())
    print(f"{GOLDEN}: {text.size} frames, {(text > 3).sum()} tokens of words")


if __name__ == "__main__":
    main()
