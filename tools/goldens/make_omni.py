"""Regenerates tests/parity/data/omni from the original: python -m tools.goldens.make_omni CHECKOUT

CHECKOUT is a checkout of github.com/gpt-omni/mini-omni; torch and pyyaml are needed, lightning is not. Weights and
inputs are not stored: tests draw them anew by name. `cases.json` holds each case's seed, names and shapes; `CASE.npz`
what `omni_cases.kept` keeps of the logits of whole sequences.
"""

from __future__ import annotations

import argparse
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tools.goldens import omni_cases

DATA = Path(__file__).parents[2] / "tests" / "parity" / "data" / "omni"


def main() -> None:
    """Writes all goldens."""
    parser = argparse.ArgumentParser(description="Writes the goldens of Mini-Omni.")
    parser.add_argument("checkout", type=Path, help="a checkout of the original's repository")
    checkout = parser.parse_args().checkout
    if not (checkout / "litgpt" / "model.py").is_file():
        raise SystemExit(f"{checkout} is no checkout of Mini-Omni: it has no litgpt/model.py")
    sys.path.insert(0, str(checkout))
    torch.set_num_threads(1)
    DATA.mkdir(parents=True, exist_ok=True)
    goldens = {case: _record(case) for case in omni_cases.CASES}
    (DATA / "cases.json").write_text(json.dumps(goldens, separators=(",", ":")) + "\n")
    print(f"{sum(f.stat().st_size for f in DATA.iterdir()) / 1e3:.0f} kB in {DATA}")


def _record(case: str) -> dict[str, Any]:
    """Keeps the first seed whose best tokens lead by more than two values within the tolerance can make up for."""
    model = build(case)
    tensors = {k: list(v.shape) for k, v in model.state_dict().items() if k != "lm_head.weight"}  # tied
    for seed in range(50):
        text, audio = run(model, tensors, seed)
        margin, spread = min(_lead(text), _lead(audio)), min(text.std(), audio.std())
        if margin > 2 * omni_cases.TOLERANCE and spread > 1:
            np.savez_compressed(DATA / f"{case}.npz", **omni_cases.kept(text, audio))
            print(f"{case}: seed {seed}, least lead {margin:.1e}, standard deviation of logits {spread:.2f}")
            return {"seed": seed, "tensors": tensors}
    raise SystemExit(f"{case}: no seed without near ties")


def build(case: str) -> Any:
    """The original with the weights it was born with."""
    _replace_lightning()
    from litgpt.config import Config
    from litgpt.model import GPT

    return GPT(Config(**omni_cases.CASES[case])).eval()


@torch.no_grad()
def run(model: Any, tensors: dict[str, list[int]], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 of text [B, T, V] and of audio [B, T, 7, U], weights and inputs drawn from `seed`."""
    drawn = omni_cases.weights(tensors, seed)
    missing, surplus = model.load_state_dict({k: torch.from_numpy(v) for k, v in drawn.items()}, strict=False)
    assert not surplus and set(missing) == {"lm_head.weight"}, (missing, surplus)
    tokens, features = omni_cases.inputs(seed)
    first_rows = [omni_cases.TEXT + i * omni_cases.AUDIO for i in range(omni_cases.STREAMS)] + [0]
    streams = [torch.from_numpy(tokens[:, i]).long() + row for i, row in enumerate(first_rows)]
    lengths, tasks = list(omni_cases.FRAMES), list(omni_cases.TASKS)
    audio, text = model(torch.from_numpy(features), streams, whisper_lens=lengths, task=tasks)
    return text.numpy(), torch.stack(audio, 2).numpy()


def _lead(logits: np.ndarray) -> float:
    """Least distance between the two highest logits."""
    top = np.partition(logits, -2, -1)
    return float((top[..., -1] - top[..., -2]).min())


class _Empty(types.ModuleType):
    """A package in which every name is a class without anything."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _replace_lightning() -> None:
    """The original imports lightning for its training tools; the model itself needs nothing of it."""
    for name in ("", ".fabric", ".fabric.loggers", ".fabric.strategies", ".fabric.utilities", ".fabric.utilities.load",
                 ".pytorch", ".pytorch.loggers", ".pytorch.cli"):  # fmt: skip
        sys.modules.setdefault(f"lightning{name}", _Empty(f"lightning{name}"))


if __name__ == "__main__":
    main()
