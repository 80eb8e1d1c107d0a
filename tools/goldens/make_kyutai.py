"""Regenerate tests/parity/data/kyutai with the original: python -m tools.goldens.make_kyutai

Needs the extra `peers`. Weights and inputs are not stored; tests draw them by name (see `draw`). A golden is refused if
two logits are so near that rounding could change a token, or if its values vary too little for a meaningful test.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from tools.goldens import kyutai, layout
from tools.goldens import kyutai_runs as runs
from tools.goldens.kyutai_cases import LM, MIMI

DATA = Path(__file__).parents[2] / "tests" / "parity" / "data" / "kyutai"
MARGIN = 1e-4  # least distance of the two largest logits


def main() -> None:
    """Write all goldens."""
    torch.set_num_threads(1)
    DATA.mkdir(parents=True, exist_ok=True)
    manifests: dict[str, dict] = {"mimi": {}, "lm": {}, "lora": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for case in MIMI:
            manifests["mimi"][case] = kyutai.mimi_manifest(MIMI[case])
            _mimi(Path(scratch) / case, case, manifests["mimi"][case])
        for case in runs.GOLDEN_TRAIN:
            manifests["lm"][case], manifests["lora"][case] = kyutai.lm_manifest(LM[case])
            _train(Path(scratch) / case, case, manifests)
        for run in runs.RUNS:
            if run.name in runs.GOLDEN_RUNS:
                _run(Path(scratch) / run.name, run, manifests)
    (DATA / "manifests.json").write_text(json.dumps(manifests, separators=(",", ":")))
    print(f"{sum(f.stat().st_size for f in DATA.iterdir()) / 1e6:.2f} MB in {DATA}")


def _mimi(folder: Path, case: str, manifest: kyutai.Manifest) -> None:
    config, seed = MIMI[case], runs.MIMI_SEEDS[case]
    layout.write_mimi(folder, config, manifest, seed)
    model = kyutai.load_mimi(folder, config["quantizer"]["n_q"])
    pcm = runs.mimi_audio(case, seed, runs.MIMI_FRAMES)
    active, reset = runs.mimi_control(seed, runs.MIMI_FRAMES)
    codes, gaps = kyutai.encode(model, pcm)
    streamed, stream_gaps = kyutai.encode_stream(model, pcm, active=active, reset=reset)
    variety = min(len(np.unique(codes[:, k])) for k in range(codes.shape[1]))
    _refuse(case, variety >= 20, f"a codebook has only {variety} different codes")
    np.savez_compressed(
        DATA / f"mimi-{case}.npz", codes=codes.astype(np.uint8), stream_codes=streamed.astype(np.uint8),
        ties=gaps < runs.TIE, stream_ties=stream_gaps < runs.TIE, pcm=_kept(kyutai.decode(model, codes)),
        stream_pcm=_kept(kyutai.decode_stream(model, codes, active=active, reset=reset)),
    )  # fmt: skip
    ties = int((gaps < runs.TIE).sum() + (stream_gaps < runs.TIE).sum())
    print(f"mimi {case}: {ties} near ties, at least {variety} different codes in each codebook")


def _kept(pcm: np.ndarray) -> np.ndarray:
    """Return the kept frames of audio [B, C, T * frame], [B, C, frames, samples]."""
    return pcm.reshape(*pcm.shape[:2], runs.MIMI_FRAMES, -1)[:, :, list(runs.KEPT_FRAMES)]


def _train(folder: Path, case: str, manifests: dict[str, dict]) -> None:
    layout.write_lm(folder, LM[case], manifests["lm"][case], runs.TRAIN_SEED, manifests["lora"][case])
    codes = runs.train_codes(case, runs.TRAIN_SEED, runs.TRAIN_BATCH, runs.TRAIN_FRAMES)
    rows = runs.condition_rows(case, runs.TRAIN_SEED, runs.TRAIN_BATCH)
    out = kyutai.train(kyutai.load_lm(folder), codes, rows)
    spread = min(float(np.nanstd(out[k])) for k in out if "logits" in k)
    _refuse(case, spread >= 1, f"logits have a standard deviation of only {spread:.2f}")
    np.savez_compressed(DATA / f"train-{case}.npz", **out)
    print(f"train {case}: standard deviation of logits {spread:.2f}")


def _run(folder: Path, run: runs.Run, manifests: dict[str, dict]) -> None:
    layout.write_lm(folder, LM[run.case], manifests["lm"][run.case], run.seed, manifests["lora"][run.case])
    out = kyutai.stream(kyutai.load_lm(folder, run.fuse_lora), run, runs.run_inputs(run))
    different = len(np.unique(out.tokens[:, 0, 0]))
    _refuse(run.name, out.margin >= MARGIN, f"two logits are {out.margin:.1e} apart: choose another seed")
    _refuse(run.name, different >= 50 or run.steps < 200, f"only {different} different text tokens")
    kept = slice(None, None, runs.EVERY)
    heads = {} if out.heads is None else {"heads": out.heads[kept]}
    np.savez_compressed(
        DATA / f"run-{run.name}.npz", tokens=out.tokens.astype(np.int16), text_logits=out.text_logits[kept], **heads
    )
    print(f"run {run.name}: least margin {out.margin:.1e}, {different} different text tokens in slot 0")


def _refuse(name: str, holds: bool, why: str) -> None:
    if not holds:
        raise SystemExit(f"{name}: {why}")


if __name__ == "__main__":
    main()
