"""SNAC's training: its pass is the codec's own with gradients, and a few steps bring the audio nearer."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

import jomni
from jomni.errors import ConfigError
from jomni.models.snac.config import SnacConfig
from jomni.models.snac.model import Snac
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.audio_losses import SpectralConfig
from jomni.train.tasks.snac import SnacData, SnacTrainConfig, TrainableSnac
from tests.tiny import plainly, random_params

pytestmark = pytest.mark.compiled_quickly

TINY = SnacConfig(
    sampling_rate=1600, encoder_dim=4, encoder_rates=(2, 4), decoder_dim=16, decoder_rates=(4, 2),
    attn_window_size=None, codebook_size=16, codebook_dim=4, vq_strides=(4, 2, 1),
)  # fmt: skip
"""Frames of 32 samples."""


@pytest.mark.slow
def test_the_pass_it_learns_from_is_the_codecs_own_with_a_gradient_to_every_part():
    pcm = jnp.asarray(np.random.default_rng(0).normal(size=(3, 1, 96)), jnp.float32)
    params, keys = random_params(Snac(TINY), pcm), jax.random.split(jax.random.key(1), 3)

    def learn(params):
        found = TrainableSnac(TINY).apply({"params": params}, pcm, keys, jnp.ones(3), method="run")
        return jnp.square(found.audio - pcm).mean() + found.to_entry + found.to_latent, found.audio

    (_, audio), gradient = plainly(jax.value_and_grad(learn, has_aux=True))(params)
    codes = jomni.models.snac.model.encode(Snac(TINY), params, pcm)
    np.testing.assert_allclose(audio, jomni.models.snac.model.decode(Snac(TINY), params, codes, keys), atol=1e-5)
    still = [jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
             if not np.abs(leaf).max() > 0]  # fmt: skip
    assert not still


def manifest(folder):
    """Four tones of a second."""
    time, lines = np.arange(1600) / 1600, []
    for i in range(4):
        wave = 0.3 * np.sin(2 * np.pi * (60 + 40 * i) * time)
        soundfile.write(folder / f"{i}.wav", wave, 1600, subtype="PCM_16")
        lines.append(json.dumps({"path": f"{i}.wav", "duration": 1.0}))
    (folder / "MANIFEST.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder / "MANIFEST.jsonl")


@pytest.mark.slow
def test_a_few_steps_bring_the_audio_nearer_and_make_a_codec(tmp_path):
    config = SnacTrainConfig(
        model=TINY, data=SnacData(manifest(tmp_path), frames=4), batch=2,
        spectral=SpectralConfig(sizes=(64,), mels=8), optimizer=OptimizerConfig(lr=1e-2, schedule="constant"),
    )  # fmt: skip
    task = config.build(20)
    state, batches = plainly(task.init)(jax.random.key(0)), iter(task.dataset(0))
    update, spectral = plainly(task.update), []
    for step in range(20):
        state, metrics = update(state, next(batches), jax.random.key(step))
        spectral.append(float(metrics["spectral"]))
    assert np.mean(spectral[-5:]) < 0.85 * np.mean(spectral[:3])
    task.export(state, tmp_path / "export")
    assert jomni.load(str(tmp_path / "export")).configs["snac"] == TINY


@pytest.mark.slow
def test_codebooks_that_are_averages_stand_for_what_is_assigned_to_them(tmp_path):
    config = SnacTrainConfig(
        model=TINY, data=SnacData(manifest(tmp_path), frames=4), batch=2, codebook_decay=0.5, restart_below=0.05,
        spectral=SpectralConfig(sizes=(64,), mels=8), optimizer=OptimizerConfig(lr=1e-9, schedule="constant"),
    )  # fmt: skip
    task = config.build(20)
    batch = next(iter(task.dataset(0)))
    state = plainly(task.init)(jax.random.key(0))
    update = plainly(task.update)
    before = jax.jit(lambda held, pcm: TrainableSnac(TINY).apply({"params": held}, pcm, 0, method="codebook_input"))
    latents = np.concatenate(before(state.params, batch["pcm"]))
    for step in range(30):  # the encoder stays as it is
        state, metrics = update(state, batch, jax.random.key(step))
    found = np.asarray(state.params["quantizer"]["quantizers_0"]["codebook"])
    gap = np.square(latents[:, None] - found).sum(-1)
    assert gap.min(1).max() < 1e-4 * np.square(latents).sum(-1).mean()  # two frames of each of two: entries suffice
    assert metrics["perplexity_0"] > 2


def test_averages_want_the_whole_batch_at_once():
    with pytest.raises(ConfigError, match="microbatches"):
        SnacTrainConfig(model=TINY, data=SnacData("none"), batch=2, microbatches=2, codebook_decay=0.9)


def test_it_begins_near_silence_where_the_decoders_last_tanh_has_a_gradient():
    task = SnacTrainConfig(model=TINY, data=SnacData("none")).build(1)
    params = plainly(task.init_params)(jax.random.key(0))
    pcm = 0.3 * jax.random.normal(jax.random.key(1), (2, 1, 128))
    run = plainly(lambda params: Snac(TINY).apply({"params": params}, pcm))
    assert 0.01 < float(jnp.abs(run(params)).mean()) < 0.6


def test_directions_begin_as_small_as_the_originals_so_that_adam_turns_them():
    params = plainly(SnacTrainConfig(model=TINY, data=SnacData("none")).build(1).init_params)(jax.random.key(0))
    found = np.concatenate([np.ravel(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)
                            if path[-1].key == "direction"])  # fmt: skip
    assert 0.018 < found.std() < 0.022


def test_an_example_that_is_not_quantised_passes_as_it_is_and_moves_no_entry():
    pcm = 0.3 * jax.random.normal(jax.random.key(1), (2, 1, 128))
    params, keys = random_params(Snac(TINY), pcm), jax.random.split(jax.random.key(2), 2)

    def learn(books, quantised):
        held = {**params, "quantizer": books}
        audio, entry, *_ = TrainableSnac(TINY).apply({"params": held}, pcm, keys, quantised, method="run")
        return entry, audio

    books = params["quantizer"]
    moved = jax.tree_util.tree_map_with_path(
        lambda path, x: x + 1.0 if path[-1].key == "codebook" else x, books
    )  # fmt: skip
    run = plainly(jax.value_and_grad(learn, has_aux=True))
    half = jnp.array([0.0, 1.0])
    (entry, audio), gradient = run(books, half)
    (_, other), _ = run(moved, half)
    assert entry > 0 and np.abs(gradient["quantizers_0"]["codebook"]).max() > 0
    np.testing.assert_array_equal(audio[0], other[0])
    assert np.abs(audio[1] - other[1]).max() > 1e-3
    (entry, _), gradient = run(books, jnp.zeros(2))
    assert entry == 0 and not np.abs(gradient["quantizers_0"]["codebook"]).any()


@pytest.mark.slow
def test_codebooks_begin_where_latents_are(tmp_path):
    params = random_params(Snac(TINY), jnp.zeros((1, 1, 128)))
    made = jomni.Checkpoint("snac", {"snac": TINY}, {"snac": params})
    jomni.save(made, tmp_path / "begun")
    config = SnacTrainConfig(model=TINY, data=SnacData(manifest(tmp_path), frames=4), batch=2,
                             init_from=str(tmp_path / "begun"), fit_codebooks=20)  # fmt: skip
    fitted = config.build(1).start(jax.random.key(0))
    pcm = next(iter(config.build(1).dataset(1)))["pcm"]
    keys = jax.random.split(jax.random.key(1), len(pcm))

    @plainly
    def learn(held):
        return TrainableSnac(TINY).apply({"params": held}, pcm, keys, jnp.ones(len(pcm)), method="run")

    distance = {}
    for name, held in (("before", params), ("after", fitted)):
        distance[name] = float(learn(held).to_entry)
    assert distance["after"] < 0.3 * distance["before"]
    changed = [jax.tree_util.keystr(path) for path, same in jax.tree_util.tree_leaves_with_path(
        jax.tree.map(lambda a, b: bool((a == b).all()), params, fitted)) if not same]  # fmt: skip
    assert len(changed) == 3 and all("codebook" in path for path in changed)
    with pytest.raises(ConfigError, match="Increase it"):
        config = SnacTrainConfig(model=TINY, data=SnacData(manifest(tmp_path), frames=4), batch=2,
                                 init_from=str(tmp_path / "begun"), fit_codebooks=1)  # fmt: skip
        config.build(1).start(jax.random.key(0))
    with pytest.raises(ConfigError, match="init_from"):
        SnacTrainConfig(model=TINY, data=SnacData("none"), fit_codebooks=1)


@pytest.mark.slow
def test_what_is_frozen_stays_and_the_rest_learns():
    task = SnacTrainConfig(model=TINY, data=SnacData("none"), freeze=("encoder", "quantizer")).build(1)
    state = plainly(task.init)(jax.random.key(0))
    assert set(state.params) == {"decoder"} and set(state.frozen) == {"encoder", "quantizer"}
    pcm = 0.3 * jax.random.normal(jax.random.key(1), (2, 1, 128))
    after, _ = plainly(task.update)(state, {"pcm": pcm}, jax.random.key(2))
    assert after.params["decoder"]["model_0"]["bias"].any()
    with pytest.raises(ConfigError, match="'encodr'"):
        SnacTrainConfig(model=TINY, data=SnacData("none"), freeze=("encodr",)).build(1).frozen(state.frozen)


def test_segments_are_whole_windows():
    model = SnacConfig(
        sampling_rate=1600, encoder_dim=16, encoder_rates=(2, 2), decoder_dim=256, decoder_rates=(2, 2),
        attn_window_size=32, vq_strides=(4, 2, 1),
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"'frames' .* 8, .*12"):
        SnacData("m.jsonl", frames=12).dataset(model, 2, 0)
