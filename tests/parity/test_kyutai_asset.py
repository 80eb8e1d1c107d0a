"""Kyutai's own test of its language model, on Kyutai's own data (moshi/tests/test_lm.py)."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.parity import jomni_side
from tests.parity.compare import largest_difference
from tests.paths import PARITY_DATA

ASSETS = PARITY_DATA / "kyutai_lm"
CONFIG = {
    "delays": [0, 1, 2, 4], "n_q": 3, "dep_q": 3, "card": 32, "text_card": 48, "dim": 16, "num_layers": 2,
    "num_heads": 1, "hidden_scale": 1, "depformer_dim": 16, "depformer_multi_linear": True,
    "depformer_weights_per_step": True, "depformer_weights_per_step_schedule": [0, 1, 1],
    "depformer_low_rank_embeddings": 8, "depformer_num_heads": 1, "depformer_gating": "silu", "context": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asset")
    shutil.copy(ASSETS / "test_lm_model.safetensors", folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    lm, params = jomni_side.load_lm(folder)
    with jax.default_matmul_precision("highest"):
        return jomni_side.train(lm, params, codes(), None)


def codes() -> np.ndarray:
    return load_file(ASSETS / "test_lm_codes.safetensors")["codes"].astype(np.int32)


@pytest.mark.parametrize("name", ("mask", "text_mask"))
def test_masks_are_those_of_the_asset(ours, name):
    np.testing.assert_array_equal(ours[name], load_file(ASSETS / "test_lm_out.safetensors")[name])


@pytest.mark.parametrize("name", ("logits", "text_logits"))
def test_logits_are_those_of_the_asset(ours, name):
    theirs = load_file(ASSETS / "test_lm_out.safetensors")[name]
    assert largest_difference(ours[name], theirs) < 1e-4
    # The original's own criterion: the mean cross entropy of each stream, to 1e-6 of itself.
    part = slice(None, 1) if name == "text_logits" else slice(1, None)
    mask = ours["text_mask" if name == "text_logits" else "mask"]
    entropy, reference = (mean_entropy(x, codes()[:, part], mask) for x in (ours[name], theirs))
    assert (np.abs(entropy - reference) / reference).max() <= 1e-6


def mean_entropy(logits: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Cross entropy of each stream over all frames, those left out counting as zero (moshi/utils/utils.py)."""
    safe = np.where(mask, targets, 0)[..., None]
    entropy = jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(jnp.asarray(logits), safe, -1)[..., 0]
    return np.asarray(jnp.where(mask, entropy, 0).mean((0, 2)))
