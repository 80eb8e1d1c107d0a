"""The language model beside Kyutai's own, both reading the same seeded files in the published layout."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jomni
from jomni.nn.layers import make_norm
from tests.parity import jomni_side
from tests.parity.compare import audio_error, largest_difference
from tools.goldens import draw, kyutai_runs, layout
from tools.goldens.kyutai_cases import GATINGS, LM, MIMI, lm_config

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("one_thread_and_float32")]
torch = pytest.importorskip("torch")
pytest.importorskip("moshi")

from moshi.modules.transformer import create_norm_fn  # noqa: E402

from tools.goldens import kyutai  # noqa: E402

LOGITS = 1e-3  # largest difference, of logits whose standard deviation is at least 1


@functools.cache
def files(case: str, seed: int) -> Path:
    base, adapters = kyutai.lm_manifest(LM[case])
    return layout.write_lm(Path(tempfile.mkdtemp()), LM[case], base, seed, adapters)


def compare_training(folder: Path, codes: np.ndarray, rows=None) -> str:
    """Asserts equal masks and logits; returns what to say of them."""
    theirs = kyutai.train(kyutai.load_lm(folder), codes, rows)
    ours = jomni_side.train(*jomni_side.load_lm(folder), codes, rows)
    assert sorted(ours) == sorted(theirs)
    said = []
    for name in sorted(theirs):
        if "mask" in name:
            np.testing.assert_array_equal(ours[name], theirs[name])
            continue
        spread, difference = float(np.nanstd(theirs[name])), largest_difference(ours[name], theirs[name])
        assert spread >= 1
        assert difference < LOGITS
        said.append(f"{name} within {difference:.1e} (standard deviation {spread:.1f})")
    return ", ".join(said)


@pytest.mark.parametrize("case", LM)
def test_training_form(case, say):
    codes = kyutai_runs.train_codes(case, 1, kyutai_runs.SLOTS, 64)  # more than twice the context
    rows = kyutai_runs.condition_rows(case, 1, kyutai_runs.SLOTS)
    say(f"training form, {case}: {compare_training(files(case, 1), codes, rows)}")


def test_training_form_on_fewer_frames_than_the_delays():
    codes, folder = kyutai_runs.train_codes("mixed", 0, 1, 3), files("mixed", 0)
    theirs = kyutai.train(kyutai.load_lm(folder), codes)
    ours = jomni_side.train(*jomni_side.load_lm(folder), codes, None)
    assert set(theirs["mask"].any((0, 2))) == {True, False}  # some streams are predicted nowhere
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], atol=LOGITS)


@pytest.mark.parametrize("run", kyutai_runs.RUNS, ids=lambda run: run.name)
def test_greedy_streaming_with_pauses_and_resets(run, say):
    folder, inputs = files(run.case, run.seed), kyutai_runs.run_inputs(run)
    theirs = kyutai.stream(kyutai.load_lm(folder, run.fuse_lora), run, inputs)
    ours = jomni_side.stream(*jomni_side.load_lm(folder, run.fuse_lora), run, inputs)
    np.testing.assert_array_equal(ours.tokens, theirs.tokens)
    heard = inputs.active
    difference = largest_difference(ours.text_logits[heard], theirs.text_logits[heard])
    assert theirs.text_logits[heard].std() >= 1
    assert difference < LOGITS
    assert (theirs.heads is not None) == (LM[run.case].get("extra_heads_num_heads", 0) > 0)
    if theirs.heads is not None:
        assert ours.heads is not None
        assert largest_difference(ours.heads[heard], theirs.heads[heard]) < 1e-4
    text = len(np.unique(theirs.tokens[:, 0, 0]))
    if run.steps >= 200:
        assert run.steps > 3 * LM[run.case]["context"]  # the ring has wrapped
        assert text >= 50
    audio = len(np.unique(theirs.tokens[:, 0, 1:]))
    say(
        f"streaming, {run.name}: {theirs.tokens.size} tokens of {run.steps} steps equal, text logits within "
        f"{difference:.1e}; in slot 0 {text} different text and {audio} audio tokens, least margin {theirs.margin:.1e}"
    )


def small_config(**options):
    """Few streams and layers: what does not depend on their number."""
    few = {"n_q": 3, "dep_q": 2, "delays": [0, 0, 1, 0], "num_layers": 1, "depformer_num_layers": 1}
    return lm_config("moshi", **few | options)


@pytest.mark.parametrize("gating", GATINGS)
def test_every_gating(gating, tmp_path):
    config = small_config(gating=gating, depformer_gating=gating)
    layout.write_lm(tmp_path, config, kyutai.lm_manifest(config)[0], 0)
    compare_training(tmp_path, kyutai_runs.train_codes("moshi", 0, 1, 6)[:, :4])


@pytest.mark.parametrize("kind", ("layer_norm", "layer_norm_f32", "rms_norm", "rms_norm_f32"))
def test_every_norm_at_every_scale(kind):
    # Small inputs tell their epsilons apart.
    x = draw.stream(0, kind).standard_normal((1, 5, 16)) * np.array([1e-5, 1e-3, 1e-2, 1, 100])[:, None]
    x = x.astype(np.float32)
    norm, scales = create_norm_fn(kind, 16), draw.stream(1, kind).standard_normal((2, 16)).astype(np.float32)
    names = ("alpha",) if kind.startswith("rms") else ("weight", "bias")
    with torch.no_grad():
        for name, value in zip(names, scales, strict=False):
            getattr(norm, name)[:] = torch.from_numpy(value)
        theirs = norm(torch.from_numpy(x)).numpy()
    params = dict(zip(names, scales, strict=False))
    ours = np.asarray(make_norm(kind).apply({"params": params}, x))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_norms_of_faint_embeddings(tmp_path):
    # The norm after each embedding, where its epsilon matters.
    config = small_config(norm_emb=True)
    folder = layout.write_lm(tmp_path, config, kyutai.lm_manifest(config)[0], 0)
    weights = load_file(folder / "model.safetensors")
    faint = {k: v * 3e-3 if k.split(".")[0] in ("emb", "text_emb", "depformer_emb") and v.ndim == 2 else v
             for k, v in weights.items()}  # fmt: skip
    save_file(faint, folder / "model.safetensors")
    compare_training(folder, kyutai_runs.train_codes("moshi", 0, 1, 6)[:, :4])


def test_weights_under_the_names_of_the_current_modules(tmp_path):
    # The original's `state_dict()` holds the weight sets apart, also those of the adapters.
    folder = files("lora", 0)
    model = kyutai.load_lm(folder)
    state = {k.replace(".frozen_W.", "."): v.numpy() for k, v in model.state_dict().items()}
    assert any(".in_projs.2.lora_A." in k for k in state)
    save_file({k: v for k, v in state.items() if "lora_" not in k}, tmp_path / "model.safetensors")
    save_file({k: v for k, v in state.items() if "lora_" in k}, tmp_path / "lora.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    stacked, apart = jomni.load(folder), jomni.load(tmp_path)
    assert jax.tree.structure(stacked.params) == jax.tree.structure(apart.params)
    jax.tree.map(np.testing.assert_array_equal, stacked.params, apart.params)


def test_a_conversation_is_that_of_the_offline_runner(say, tmp_path):
    # Codec, language model and their order, through the runner that Kyutai publishes (moshi/run_inference.py).
    frames, codebooks = 60, 4
    layout.write_mimi(tmp_path, MIMI["base"], kyutai.mimi_manifest(MIMI["base"]), 1)
    folder = files("one_set", 0)
    pcm = kyutai_runs.mimi_audio("base", 1, frames)
    text, voice = kyutai.converse(kyutai.load_mimi(tmp_path, codebooks), kyutai.load_lm(folder), pcm)

    mimi, codec = jomni_side.load_mimi(tmp_path, codebooks)
    lm, params = jomni_side.load_lm(folder)
    duplex = jomni.Duplex(mimi, jomni.Generator(lm))
    state = duplex.init_state(len(pcm), ring="kyutai")
    controls = duplex.controls(len(pcm), temperature=0.0, text_temperature=0.0)
    texts, voices = [], []
    for frame in np.split(pcm, frames, -1):
        state, out = duplex.step({"mimi": codec, "lm": params}, state, frame, controls)
        if np.asarray(out.valid).all():
            texts.append(np.asarray(out.text))
            voices.append(np.asarray(out.pcm))
    np.testing.assert_array_equal(np.stack(texts, 1), text)
    error = audio_error(np.concatenate(voices, -1), voice)
    say(f"conversation: {text.size} text tokens equal ({len(np.unique(text))} different), audio {error:.1e} of RMS")
    assert error < 1e-4
