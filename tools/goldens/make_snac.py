"""Regenerate tests/parity/data/snac with the original: python -m tools.goldens.make_snac

Needs the extra `peers` and the package snac. Weights, audio and noise are not stored; tests draw them by name. A golden
is refused if its codes vary too little for a meaningful test.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from jomni.models.snac.config import SNAC_24KHZ, SNAC_44KHZ
from tools.goldens import snac, snac_cases

DATA = Path(__file__).parents[2] / "tests" / "parity" / "data" / "snac"
PRESETS = {"snac_24khz": SNAC_24KHZ, "snac_44khz": SNAC_44KHZ}  # snac_32khz differs by its sampling rate only
VARIETY = 8  # least number of different codes in a codebook


def main() -> None:
    """Write all goldens."""
    torch.set_num_threads(1)
    DATA.mkdir(parents=True, exist_ok=True)
    (DATA / "manifests.json").write_text(json.dumps(manifests(), separators=(",", ":")))
    with tempfile.TemporaryDirectory() as scratch:
        for case in snac_cases.SNAC:
            _record(Path(scratch) / case, case)
    print(f"{sum(f.stat().st_size for f in DATA.iterdir()) / 1e3:.0f} kB in {DATA}")


def manifests() -> dict[str, snac.Manifest]:
    """Return the published names and shapes of the cases and of the published models at full size."""
    configs = snac_cases.SNAC | {name: config.to_published() for name, config in PRESETS.items()}
    return {name: snac.manifest(config) for name, config in configs.items()}


def _record(folder: Path, case: str) -> None:
    config, seed = snac_cases.SNAC[case], snac_cases.SEEDS[case]
    snac.write(folder, config, seed)
    model = snac.load(folder)
    codes, gaps = snac.encode(model, snac_cases.audio(case, seed))
    noise = snac_cases.noises(case, seed, codes[0].shape[1] * config["vq_strides"][0])
    pcm = snac.decode(model, codes, noise)
    variety = [len(np.unique(c)) for c in codes]
    ties = [gap < snac_cases.TIE for gap in gaps]
    level = float(np.sqrt(np.mean(np.square(pcm))))
    print(f"{case}: {variety} different codes, {sum(int(t.sum()) for t in ties)} near ties, RMS {level:.2f}")
    if min(variety) < VARIETY or not 0.05 < level < 0.7:
        raise SystemExit(f"{case}: too monotonous, too soft or too loud; choose another seed")
    held = {f"codes_{k}": c.astype(np.uint8) for k, c in enumerate(codes)}
    held |= {f"ties_{k}": t for k, t in enumerate(ties)}
    np.savez_compressed(DATA / f"{case}.npz", pcm=pcm[..., :: snac_cases.EVERY], **held)


if __name__ == "__main__":
    main()
