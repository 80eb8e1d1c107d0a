"""SNAC's training: its pass is the codec's own with gradients, and a few steps bring the audio nearer."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

import jomni
from jomni.codec.snac import Snac
from jomni.codec.snac_config import SnacConfig
from jomni.errors import ConfigError
from jomni.train.losses import SpectralConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.snac import LearningSnac, SnacData, SnacTrainConfig
from tests.tiny import random_params

TINY = SnacConfig(
    sampling_rate=1600, encoder_dim=4, encoder_rates=(2, 4), decoder_dim=16, decoder_rates=(4, 2),
    attn_window_size=None, codebook_size=16, codebook_dim=4, vq_strides=(4, 2, 1),
)  # fmt: skip
"""Frames of 32 samples."""
PLAIN = {"xla_backend_optimization_level": 0}  # so small a model is not worth optimising


def test_the_pass_it_learns_from_is_the_codecs_own_with_a_gradient_to_every_part():
    pcm = jnp.asarray(np.random.default_rng(0).normal(size=(3, 1, 96)), jnp.float32)
    params, keys = random_params(Snac(TINY), pcm), jax.random.split(jax.random.key(1), 3)

    def learn(params):
        audio, entry, latent, _ = LearningSnac(TINY).apply({"params": params}, pcm, keys, method="learn")
        return jnp.square(audio - pcm).mean() + entry + latent, audio

    (_, audio), gradient = jax.jit(jax.value_and_grad(learn, has_aux=True), compiler_options=PLAIN)(params)
    codes = jomni.codec.snac.encode(Snac(TINY), params, pcm)
    np.testing.assert_allclose(audio, jomni.codec.snac.decode(Snac(TINY), params, codes, keys), atol=1e-5)
    still = [jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
             if not np.abs(leaf).max() > 0]  # fmt: skip
    assert not still


def test_a_few_steps_bring_the_audio_nearer_and_make_a_codec(tmp_path):
    time = np.arange(1600) / 1600
    lines = []
    for i in range(4):
        wave = 0.3 * np.sin(2 * np.pi * (60 + 40 * i) * time)
        soundfile.write(tmp_path / f"{i}.wav", wave, 1600, subtype="PCM_16")
        lines.append(json.dumps({"path": f"{i}.wav", "duration": 1.0}))
    (tmp_path / "MANIFEST.jsonl").write_text("\n".join(lines) + "\n")
    config = SnacTrainConfig(
        model=TINY, data=SnacData(str(tmp_path / "MANIFEST.jsonl"), frames=4), batch=2,
        spectral=SpectralConfig(sizes=(64,), mels=8), optimizer=OptimizerConfig(lr=1e-2, schedule="constant"),
    )  # fmt: skip
    task = config.build(20)
    state, batches = jax.jit(task.init, compiler_options=PLAIN)(jax.random.key(0)), iter(task.dataset(0))
    update, spectral = jax.jit(task.update, compiler_options=PLAIN), []
    for step in range(20):
        state, metrics = update(state, next(batches), jax.random.key(step))
        spectral.append(float(metrics["spectral"]))
    assert np.mean(spectral[-5:]) < 0.85 * np.mean(spectral[:3])
    task.export(state, tmp_path / "export")
    assert jomni.load(str(tmp_path / "export")).snac == TINY


def test_it_begins_near_silence_where_the_decoders_last_tanh_has_a_gradient():
    task = SnacTrainConfig(model=TINY, data=SnacData("none")).build(1)
    params = jax.jit(task.fresh, compiler_options=PLAIN)(jax.random.key(0))
    pcm = 0.3 * jax.random.normal(jax.random.key(1), (2, 1, 128))
    run = jax.jit(lambda params: Snac(TINY).apply({"params": params}, pcm), compiler_options=PLAIN)
    assert 0.01 < float(jnp.abs(run(params)).mean()) < 0.6


def test_segments_are_whole_windows():
    model = SnacConfig(
        sampling_rate=1600, encoder_dim=16, encoder_rates=(2, 2), decoder_dim=256, decoder_rates=(2, 2),
        attn_window_size=32, vq_strides=(4, 2, 1),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="multiple of 8"):
        SnacData("m.jsonl", frames=12).dataset(model, 2, 0)
