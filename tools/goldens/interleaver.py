"""Regenerate tests/parity/data/interleaver.json with moshi-finetune.

python -m tools.goldens.interleaver FOLDER

FOLDER is a checkout of kyutai-labs/moshi-finetune (the golden is of commit 2acc879). Needs the extra `peers`.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parents[2] / "tests" / "parity" / "data" / "interleaver.json"

SPECIAL = {"text_padding": 3, "end_of_text_padding": 0, "zero_padding": -1}

OPTIONS: dict[str, dict[str, Any]] = {
    "as trained": {"keep_main_only": True},
    "all speakers": {},
    "turns": {"use_bos_eos": True},
    "in-word padding": {"in_word_padding": 7, "keep_main_only": True},
    "shift": {"keep_and_shift": True},
    "shift, turns, in-word padding": {"keep_and_shift": True, "use_bos_eos": True, "in_word_padding": 7},
    "text ahead": {"audio_delay": 0.57},
    "text behind": {"audio_delay": -0.57, "in_word_padding": 7},
    "another main speaker": {"keep_main_only": True, "main_speaker_label": "SPEAKER_01"},
}
"""Purpose -> options of the original's `Interleaver`."""


class Letters:
    """A tokenizer with one token for every two letters, and the methods that the original calls."""

    def encode(self, text: Any) -> list[Any]:
        if isinstance(text, list):
            return [self.encode(line) for line in text]
        return [10 + sum(map(ord, text[i : i + 2])) % 90 for i in range(0, len(text), 2)]

    def bos_id(self) -> int:
        return 1

    def eos_id(self) -> int:
        return 2


def conversation(seed: int) -> tuple[list[tuple[str, tuple[float, float], str]], float]:
    """Return random words in the original's format and a duration in seconds.

    Some words overlap, begin together, have no duration or lie beyond the end; some times are exact frame boundaries.
    """
    rng = np.random.default_rng(seed)
    seconds = float(rng.choice([0.6, 1.0, 2.0, 5.04]))
    words, time = [], -0.1 * rng.random()
    for _ in range(rng.integers(0, 25)):
        time += float(rng.choice([0.0, 0.02, 0.1, 0.4])) * (1 + rng.random())
        if rng.random() < 0.3:
            time = round(time / 0.08) * 0.08
        length = float(rng.choice([0.0, 0.05, 0.3, 1.0])) * rng.random()
        text = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), rng.integers(0, 9)))
        words.append((f" {text}", (time, time + length), f"SPEAKER_{rng.choice(['MAIN', '01'])}"))
    return words, seconds


def original(folder: str | Path) -> Any:
    """Return the original's module."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module("finetune.data.interleaver")


def run_original(module: Any, tokenizer: Any, options: dict[str, Any], words: Any, seconds: float) -> list[int]:
    """Return the original's tokens."""
    interleaver = module.Interleaver(tokenizer, 12.5, **SPECIAL, **options, device="cpu")
    return interleaver.prepare_item(words, seconds).flatten().tolist()


def main() -> None:
    """Write the golden."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tools.goldens.interleaver FOLDER")
    module = original(sys.argv[1])
    found = {
        name: [run_original(module, Letters(), options, *conversation(seed)) for seed in range(12)]
        for name, options in OPTIONS.items()
    }
    if any(found[a] == found[b] for a in found for b in found if a < b):
        sys.exit("two sets of options give the same tokens. Change the conversations.")
    GOLDEN.write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
