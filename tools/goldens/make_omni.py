"""Regenerate tests/parity/data/omni with the original: python -m tools.goldens.make_omni CHECKOUT

CHECKOUT is a checkout of github.com/gpt-omni/mini-omni. Needs torch, pyyaml, openai-whisper and snac, but not
lightning. Weights and inputs are not stored; tests draw them by name. `cases.json` holds seed, names and shapes of each
case; `CASE.npz` a part of the logits of whole sequences (`omni_cases.kept`); `answers.json` the seeds of each mode's
answers, and `answers.npz` their tokens, by the original's prompts, KV cache and loops.
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
NEAR_TIE = 5e-5  # larger than any difference of the two implementations' logits


def main() -> None:
    """Write all goldens."""
    parser = argparse.ArgumentParser(description="Write the goldens of Mini-Omni.")
    parser.add_argument("checkout", type=Path, help="a checkout of the original's repository")
    parser.add_argument("--only", choices=("logits", "answers"), help="write only these")
    args = parser.parse_args()
    checkout = args.checkout
    if not (checkout / "litgpt" / "model.py").is_file():
        raise SystemExit(f"{checkout}: is not a checkout of Mini-Omni, as it has no litgpt/model.py")
    sys.path.insert(0, str(checkout))
    torch.set_num_threads(1)
    DATA.mkdir(parents=True, exist_ok=True)
    if args.only != "answers":
        goldens = {case: _record(case) for case in omni_cases.CASES}
        (DATA / "cases.json").write_text(json.dumps(goldens, separators=(",", ":")) + "\n")
    if args.only != "logits":
        answers = {
            f"{mode} {'short' if ends else 'long'}": _record_answer(mode, ends)
            for mode in omni_cases.ANSWERS for ends in (True, False)
        }  # fmt: skip
        kept = {mode: {k: v for k, v in found.items() if k != "tokens"} for mode, found in answers.items()}
        (DATA / "answers.json").write_text(json.dumps(kept, separators=(",", ":")) + "\n")
        np.savez_compressed(DATA / "answers.npz", **{mode: found["tokens"] for mode, found in answers.items()})
    print(f"{sum(f.stat().st_size for f in DATA.iterdir()) / 1e3:.0f} kB in {DATA}")


def _record(case: str) -> dict[str, Any]:
    """Write the golden of the first seed whose best tokens lead by more than twice the tolerance."""
    model = build(omni_cases.CASES[case])
    tensors = _tensors(model)
    for seed in range(50):
        text, audio = run(model, tensors, seed)
        margin, spread = min(_lead(text), _lead(audio)), min(text.std(), audio.std())
        if margin > 2 * omni_cases.TOLERANCE and spread > 1:
            np.savez_compressed(DATA / f"{case}.npz", **omni_cases.kept(text, audio))
            print(f"{case}: seed {seed}, least lead {margin:.1e}, standard deviation of logits {spread:.2f}")
            return {"seed": seed, "tensors": tensors}
    raise SystemExit(f"{case}: no seed without near ties")


def _record_answer(mode: str, ends: bool) -> dict[str, Any]:
    """Return the golden of the first seed whose answer ends (or does not end) and has no near tie."""
    model = build(omni_cases.answering(mode))
    tensors, most = _tensors(model), omni_cases.LONG // 4 if ends else omni_cases.LONG
    speaks = omni_cases.ANSWERS[mode][0].endswith("A2")
    for seed in range(100):
        load(model, omni_cases.answer_weights(tensors, seed, ends))
        try:
            tokens = answer(model, mode, seed, most)
        except NearTie:
            continue
        steps, text_ends = tokens.shape[1], tokens[-1] == omni_cases.TEXT - 64
        if text_ends[0]:  # the original ignores an end as the first token
            continue
        if (steps < most) == ends and steps > 8 and (text_ends.any() or not speaks or not ends):
            kinds = len(np.unique(tokens, axis=1).T)
            print(f"{mode}: seed {seed}, {steps} steps, {kinds} of them different", flush=True)
            return {"mode": mode, "seed": seed, "ends": ends, "tokens": tokens}
    raise SystemExit(f"{mode}: no seed whose answer is as it should be, without near ties")


class NearTie(Exception):
    """Raised if two tokens have nearly the same probability."""


def answer(model: Any, mode: str, seed: int, most: int) -> np.ndarray:
    """Return the tokens of the original's loop, int32 [8, T] or, for text only, [1, T]; T is at most `most`."""
    base, inference = original()
    task, voice, _ = omni_cases.ANSWERS[mode]
    model.device = torch.device("cpu")
    model.set_kv_cache(batch_size=2 if voice == "batch_parallel" else 1)
    features, ids = prompt(task, voice, *omni_cases.question(seed))
    generate = {"A1-A2": base.generate_AA, "A1-T2": base.generate_AT, "A1-T1": base.generate_ASR,
                "T1-A2": base.generate_TA, "T1-T2": base.generate_TT}[task]  # fmt: skip
    generate = base.generate_TA_BATCH if voice == "batch_parallel" else generate
    sample = base.sample

    def best(logits: torch.Tensor, **options: Any) -> torch.Tensor:
        """Return the result of the original's sampling with a top_k of 1."""
        top = torch.topk(logits[0, -1], 2)
        if top.values[0] - top.values[1] < NEAR_TIE:
            raise NearTie
        return top.indices[:1]

    base.sample = best
    try:
        found = generate(
            model, features, ids, None, None, max_returned_tokens=ids[0].shape[1] + most, temperature=0.9,
            top_k=1, eos_id_a=inference._eoa, eos_id_t=inference._eot, pad_id_t=inference._pad_t, shift=omni_cases.TEXT,
        )  # fmt: skip
    finally:
        base.sample = sample
    return np.atleast_2d(np.array(found, np.int32))


def prompt(task: str, voice: str, text: np.ndarray, features: np.ndarray) -> tuple[Any, list[Any]]:
    """Return the input of the original's loops: features or None, and the eight streams as rows of the embedding."""
    inference = original()[1]
    tokenizer = types.SimpleNamespace(encode=lambda _: torch.from_numpy(text).long())
    encoder = types.SimpleNamespace(embed_audio=lambda _: torch.from_numpy(features)[None])
    speech = torch.zeros(1), len(features), encoder, "cpu"
    if voice == "batch_parallel":
        return inference.get_input_ids_whisper_ATBatch(*speech)
    if task in ("T1-A2", "T1-T2"):
        make = inference.get_input_ids_TA if task == "T1-A2" else inference.get_input_ids_TT
        return None, make("", tokenizer)
    special = {"A1-A2": (inference._answer_a, inference._answer_t), "A1-T2": (inference._pad_a, inference._answer_t),
               "A1-T1": (inference._pad_a, inference._asr)}[task]  # fmt: skip
    return inference.get_input_ids_whisper(*speech, *special)


def original() -> tuple[Any, Any]:
    """Return the original's modules of loops and of prompts."""
    _replace_lightning()
    import inference
    from litgpt.generate import base

    base.tqdm = inference.tqdm = lambda steps: steps
    return base, inference


def build(fields: dict[str, Any]) -> Any:
    """Return the original with its initial weights."""
    _replace_lightning()
    from litgpt.config import Config
    from litgpt.model import GPT

    return GPT(Config(**fields)).eval()


def _tensors(model: Any) -> dict[str, list[int]]:
    return {k: list(v.shape) for k, v in model.state_dict().items() if k != "lm_head.weight"}  # tied


def load(model: Any, drawn: dict[str, np.ndarray]) -> None:
    """Load weights into the original."""
    missing, surplus = model.load_state_dict({k: torch.from_numpy(v) for k, v in drawn.items()}, strict=False)
    assert not surplus and set(missing) == {"lm_head.weight"}, (missing, surplus)


@torch.no_grad()
def run(model: Any, tensors: dict[str, list[int]], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of text [B, T, V] and of audio [B, T, 7, U], float32, for weights and inputs of `seed`."""
    load(model, omni_cases.weights(tensors, seed))
    tokens, features = omni_cases.inputs(seed)
    first_rows = [omni_cases.TEXT + i * omni_cases.AUDIO for i in range(omni_cases.STREAMS)] + [0]
    streams = [torch.from_numpy(tokens[:, i]).long() + row for i, row in enumerate(first_rows)]
    lengths, tasks = list(omni_cases.FRAMES), list(omni_cases.TASKS)
    audio, text = model(torch.from_numpy(features), streams, whisper_lens=lengths, task=tasks)
    return text.numpy(), torch.stack(audio, 2).numpy()


def _lead(logits: np.ndarray) -> float:
    """Return the least distance of the two largest logits."""
    top = np.partition(logits, -2, -1)
    return float((top[..., -1] - top[..., -2]).min())


class _Empty(types.ModuleType):
    """A package in which every name is an empty class."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _replace_lightning() -> None:
    """Replace lightning, which the original imports but which its model does not need."""
    for name in ("", ".fabric", ".fabric.loggers", ".fabric.strategies", ".fabric.utilities", ".fabric.utilities.load",
                 ".pytorch", ".pytorch.loggers", ".pytorch.cli"):  # fmt: skip
        sys.modules.setdefault(f"lightning{name}", _Empty(f"lightning{name}"))


if __name__ == "__main__":
    main()
