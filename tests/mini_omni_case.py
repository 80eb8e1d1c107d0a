"""A small Mini-Omni as published, its Whisper and its SNAC beside it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import yaml

from jomni.models.snac import weights as snac_weights
from jomni.models.snac.config import SnacConfig
from tests import decoder_cases
from tests.checkpoint_files import write_torch
from tests.parity.test_snac_golden import MANIFESTS
from tests.paths import PARITY_DATA
from tools.goldens import omni_cases, snac_cases

AUDIO = snac_cases.SNAC["speech"]["codebook_size"] + 64
TEXT = 256 + 64
ROWS = TEXT + 7 * AUDIO
SMALL = {
    "padded_vocab_size": ROWS, "vocab_size": ROWS, "text_vocab_size": TEXT, "audio_vocab_size": AUDIO,
    "cat_audio_vocab_size": 7 * AUDIO,
}  # fmt: skip
CODEC = dataclasses.replace(SnacConfig.tiny(), sampling_rate=160)
"""A voice for streams of 16 tokens."""


def codec_params(config: SnacConfig = CODEC) -> Any:
    """Its random parameters."""
    leaves, form = jax.tree.flatten(snac_weights.abstract_params(config))
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(form, [jnp.asarray(0.3 * rng.standard_normal(x.shape), jnp.float32) for x in leaves])


def fields(case: str = "gated") -> dict[str, Any]:
    """Of its model_config.yaml: a small vocabulary in place of the published one."""
    return omni_cases.CASES[case] | SMALL | {"hf_config": {"name": "small", "org": "nobody"}}


def tensors(case: str = "gated", seed: int = 0) -> dict[str, np.ndarray]:
    """Under the names that the original gives them, without the head, which is tied."""
    published = json.loads((PARITY_DATA / "omni" / "cases.json").read_text())[case]["tensors"]
    rows = {181_120: ROWS, 29_120: 7 * AUDIO}
    manifest = {name: [rows.get(n, n) for n in shape] for name, shape in published.items()}
    return omni_cases.weights(manifest, seed)


def write(
    folder: Path, case: str = "gated", *, neighbours: bool = False, speaks: bool = False
) -> dict[str, np.ndarray]:
    """Fills a folder as published, the head beside the embedding; returns the tensors. A model that `speaks` has
    special audio tokens that are never likely: at random, a third of all would be silence."""
    folder.mkdir(parents=True, exist_ok=True)
    held = tensors(case)
    if speaks:
        held["transformer.wte.weight"][TEXT:].reshape(7, AUDIO, -1)[:, AUDIO - 64 :] = 0
    write_torch(folder / "lit_model.pth", held | {"lm_head.weight": held["transformer.wte.weight"]})
    (folder / "model_config.yaml").write_text(yaml.safe_dump(fields(case)))
    for name, content in decoder_cases.files().items():
        (folder / name).write_bytes(content)
    if neighbours:
        shutil.copy(PARITY_DATA / "whisper" / "openai.pt", folder / "small.pt")
        snac_cases.write(folder / "snac_24khz", snac_cases.SNAC["speech"], MANIFESTS["speech"], 0)
    return held
