"""jomni against recorded outputs of Kyutai's code; needs no torch. tools/goldens/make_kyutai.py makes the recordings.

Weights are drawn by published name, written in the published layout and read by `jomni.load`.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import jomni
from tests.cases import slow_except
from tests.parity import jomni_side
from tests.parity.compare import audio_error, differing_codes, largest_difference
from tests.paths import PARITY_DATA
from tools.goldens import kyutai_runs, layout
from tools.goldens.kyutai_cases import LM, MIMI

DATA = PARITY_DATA / "kyutai"
MANIFESTS = json.loads((DATA / "manifests.json").read_text())


@pytest.fixture(autouse=True)
def _float32():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.mark.parametrize("case", slow_except({"base", "replicate"}, MIMI))
def test_mimi_gives_the_codes_and_audio_of_the_original(case, tmp_path):
    seed, frames = kyutai_runs.MIMI_SEEDS[case], kyutai_runs.MIMI_FRAMES
    golden = np.load(DATA / f"mimi-{case}.npz")
    layout.write_mimi(tmp_path, MIMI[case], MANIFESTS["mimi"][case], seed)
    mimi, params = jomni_side.load_mimi(tmp_path, MIMI[case]["quantizer"]["n_q"])
    pcm, semantic = kyutai_runs.mimi_audio(case, seed, frames), mimi.config.quantizer.n_q_semantic
    theirs = golden["codes"].astype(np.int32)

    whole = np.asarray(jomni.encode(mimi, params, pcm))
    assert differing_codes(whole, theirs, golden["ties"], semantic) < 10
    assert audio_error(kept(np.asarray(jomni.decode(mimi, params, theirs))), golden["pcm"]) < 1e-4


@pytest.mark.parametrize("case", ("base", "replicate"))
def test_mimi_in_steps_gives_the_codes_and_audio_of_the_original_in_steps(case, tmp_path):
    # In the original's ring convention, while slots pause and start anew.
    seed, frames = kyutai_runs.MIMI_SEEDS[case], kyutai_runs.MIMI_FRAMES
    golden = np.load(DATA / f"mimi-{case}.npz")
    layout.write_mimi(tmp_path, MIMI[case], MANIFESTS["mimi"][case], seed)
    mimi, params = jomni_side.load_mimi(tmp_path, MIMI[case]["quantizer"]["n_q"])
    active, reset = kyutai_runs.mimi_control(seed, frames)
    control = {"ring": "kyutai", "active": active, "reset": reset}
    heard = active.T[:, None]

    codes = jomni_side.encode_stream(mimi, params, kyutai_runs.mimi_audio(case, seed, frames), **control)
    theirs = golden["stream_codes"].astype(np.int32)
    assert (theirs != golden["codes"]).any()
    semantic = mimi.config.quantizer.n_q_semantic
    assert differing_codes(np.where(heard, codes, 0), np.where(heard, theirs, 0), golden["stream_ties"], semantic) < 10

    voice = jomni_side.decode_stream(mimi, params, golden["codes"].astype(np.int32), **control)
    heard = heard[..., list(kyutai_runs.KEPT_FRAMES), None]
    assert audio_error(np.where(heard, kept(voice), 0), np.where(heard, golden["stream_pcm"], 0)) < 1e-4


def kept(pcm: np.ndarray) -> np.ndarray:
    """The frames that the recording holds."""
    return pcm.reshape(*pcm.shape[:2], kyutai_runs.MIMI_FRAMES, -1)[:, :, list(kyutai_runs.KEPT_FRAMES)]


@pytest.mark.parametrize("case", slow_except({"moshi", "hibiki", "lora", "stt"}, kyutai_runs.GOLDEN_TRAIN))
def test_training_form_gives_the_logits_and_masks_of_the_original(case, tmp_path):
    golden = np.load(DATA / f"train-{case}.npz")
    seed = kyutai_runs.TRAIN_SEED
    lm, params = jomni_side.load_lm(written(tmp_path, case, seed))
    codes = kyutai_runs.train_codes(case, seed, kyutai_runs.TRAIN_BATCH, kyutai_runs.TRAIN_FRAMES)
    ours = jomni_side.train(lm, params, codes, kyutai_runs.condition_rows(case, seed, kyutai_runs.TRAIN_BATCH))
    assert sorted(ours) == sorted(golden)
    for name in golden:
        if "mask" in name:
            np.testing.assert_array_equal(ours[name], golden[name])
        else:
            assert np.nanstd(golden[name]) >= 1
            assert largest_difference(ours[name], golden[name]) < 1e-3


@pytest.mark.parametrize("name", slow_except({"moshi", "stt"}, kyutai_runs.GOLDEN_RUNS))
def test_greedy_streaming_gives_the_tokens_of_the_original(name, tmp_path):
    golden = np.load(DATA / f"run-{name}.npz")
    run = next(r for r in kyutai_runs.RUNS if r.name == name)
    lm, params = jomni_side.load_lm(written(tmp_path, run.case, run.seed))
    inputs = kyutai_runs.run_inputs(run)
    ours = jomni_side.stream(lm, params, run, inputs)
    np.testing.assert_array_equal(ours.tokens, golden["tokens"])
    kept = slice(None, None, kyutai_runs.EVERY)
    heard = inputs.active[kept]
    assert largest_difference(ours.text_logits[kept][heard], golden["text_logits"][heard]) < 1e-3
    assert ("heads" in golden) == (LM[run.case].get("extra_heads_num_heads", 0) > 0)
    if "heads" in golden:
        assert ours.heads is not None
        assert largest_difference(ours.heads[kept][heard], golden["heads"][heard]) < 1e-4


def written(folder: Path, case: str, seed: int) -> Path:
    return layout.write_lm(folder, LM[case], MANIFESTS["lm"][case], seed, MANIFESTS["lora"][case])
