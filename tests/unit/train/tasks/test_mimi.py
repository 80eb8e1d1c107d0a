"""Codec training: its quantiser is the codec's, its losses mean what they say, and a step changes what it should."""

import dataclasses

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import optax
import pytest

from jomni.errors import ConfigError
from jomni.models.mimi.model import Mimi
from jomni.models.mimi.quantizer import SplitQuantizer
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.audio_losses import (
    SpectralConfig,
    balance,
    distillation_loss,
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    mel_filters,
    spectral_distance,
    stft,
)
from jomni.train.tasks.mimi import CodecDataConfig, CodecTask, CodecTaskConfig, LossWeights
from jomni.train.tasks.mimi_discriminator import DiscriminatorConfig
from jomni.train.tasks.mimi_quantizer import QuantizerTraining, quantize, update_codebooks
from tests.tiny import TINY_MIMI, plainly, random_params

pytestmark = pytest.mark.compiled_quickly

ALL = QuantizerTraining(quantize=1.0, all_codebooks=1.0)
DISCRIMINATOR = DiscriminatorConfig(sizes=(64, 32), filters=4, dilations=(1, 2))


@pytest.fixture(scope="module")
def quantizer():
    config, width = TINY_MIMI.quantizer, TINY_MIMI.seanet.dimension
    module = SplitQuantizer(config, width)
    latent = jnp.asarray(np.random.default_rng(0).standard_normal((3, 5, width)), jnp.float32)
    params = random_params(
        module, jnp.zeros((1, 8, 5), jnp.int32), method=lambda m, c: (m.decode(c), m.encode(latent, 8))
    )
    return module, params, latent


def test_quantiser_in_training_is_the_codecs(quantizer):
    module, params, latent = quantizer
    trained = quantize(TINY_MIMI.quantizer, ALL, params, latent, jax.random.key(0))
    codes = module.apply({"params": params}, latent, 8, method="encode")
    assert len(np.unique(codes)) > 20
    np.testing.assert_array_equal(trained.codes, codes)
    decoded = module.apply({"params": params}, codes, method="decode")
    np.testing.assert_allclose(trained.latent, decoded, atol=1e-5)
    semantic = module.apply({"params": params}, codes[:, :1], method="decode")
    np.testing.assert_allclose(trained.semantic, semantic, atol=1e-5)


def test_dropped_codebooks_decode_as_fewer_codebooks_do(quantizer):
    module, params, latent = quantizer
    training = QuantizerTraining(quantize=1.0, all_codebooks=0.0)
    seen = set()
    for seed in range(12):
        trained = quantize(TINY_MIMI.quantizer, training, params, latent, jax.random.key(seed))
        for row in range(latent.shape[0]):
            decoded = {
                k: module.apply({"params": params}, trained.codes[row : row + 1, :k], method="decode")[0]
                for k in range(1, 9)
            }
            matches = [k for k, y in decoded.items() if np.allclose(trained.latent[row], y, atol=1e-5)]
            assert len(matches) == 1
            seen.update(matches)
    assert len(seen) >= 6


def test_examples_that_are_not_quantised_pass_through_the_projections(quantizer):
    _, params, latent = quantizer
    trained = quantize(TINY_MIMI.quantizer, QuantizerTraining(quantize=0.0), params, latent, jax.random.key(0))
    parts = [params[name] for name in ("rvq_first", "rvq_rest")]
    expected = sum(latent @ p["input_proj"]["weight"].T @ p["output_proj"]["weight"].T for p in parts)
    np.testing.assert_allclose(trained.latent, expected, atol=1e-4)


def test_half_of_the_examples_are_quantised_unless_told_otherwise(quantizer):
    _, params, latent = quantizer
    latent = jnp.tile(latent[:1], (400, 1, 1))
    passed = quantize(TINY_MIMI.quantizer, QuantizerTraining(quantize=0.0), params, latent, jax.random.key(0)).latent
    made = quantize(TINY_MIMI.quantizer, QuantizerTraining(), params, latent, jax.random.key(0)).latent
    unquantised = np.isclose(made, passed, atol=1e-5).all((1, 2))  # example by example, not all of a batch or none
    assert 0.4 < unquantised.mean() < 0.6


def test_gradients_pass_the_quantiser_straight_through_and_leave_the_codebooks_alone(quantizer):
    _, params, latent = quantizer

    def loss(params, latent):
        return quantize(TINY_MIMI.quantizer, ALL, params, latent, jax.random.key(0)).latent.sum()

    by_params, by_latent = jax.grad(loss, (0, 1))(params, latent)
    parts = [params[name] for name in ("rvq_first", "rvq_rest")]
    expected = sum((p["output_proj"]["weight"] @ p["input_proj"]["weight"]).sum(0) for p in parts)
    np.testing.assert_allclose(by_latent, jnp.broadcast_to(expected, latent.shape), rtol=1e-3, atol=1e-4)
    books = [by_params[p][n] for p in ("rvq_first", "rvq_rest") for n in by_params[p] if n.startswith("layers")]
    assert all(not np.any(x) for x in jax.tree.leaves(books))


def test_codebooks_are_moving_averages_and_entries_nothing_uses_are_restarted(quantizer):
    _, params, latent = quantizer
    trained = quantize(TINY_MIMI.quantizer, ALL, params, latent, jax.random.key(0))
    new, _ = update_codebooks(ALL, params, trained.updates)
    old, book = params["rvq_first"]["layers_0"], new["rvq_first"]["layers_0"]
    projected = np.asarray(latent @ params["rvq_first"]["input_proj"]["weight"].T).reshape(15, -1)
    codes = np.asarray(trained.codes[:, 0]).ravel()
    usage = 0.99 * np.asarray(old["cluster_usage"]) + 0.01 * np.bincount(codes, minlength=32)
    total = 0.99 * np.asarray(old["embedding_sum"])
    np.add.at(total, codes, 0.01 * projected)
    np.testing.assert_allclose(book["cluster_usage"], usage, rtol=1e-5)
    np.testing.assert_allclose(book["embedding_sum"], total, rtol=1e-4, atol=1e-5)

    rare = {**old, "cluster_usage": old["cluster_usage"].at[7].set(1e-6)}
    params = {**params, "rvq_first": {**params["rvq_first"], "layers_0": rare}}
    trained = quantize(TINY_MIMI.quantizer, ALL, params, latent, jax.random.key(0))
    new, _ = update_codebooks(ALL, params, trained.updates)
    book = new["rvq_first"]["layers_0"]
    restarted = np.asarray(book["embedding_sum"][7] / book["cluster_usage"][7])
    assert np.abs(projected - restarted).max(1).min() < 1e-5  # one of the batch's latents


def test_balancer_gives_each_loss_its_share_of_the_gradient_whatever_its_scale():
    audio = jnp.asarray(np.random.default_rng(0).standard_normal((2, 1, 50)), jnp.float32)
    directions = [jnp.zeros_like(audio).at[..., part].set(1) for part in (slice(0, 25), slice(25, 50))]
    losses = {"a": lambda y: 1e4 * (y * directions[0]).sum(), "b": lambda y: 1e-3 * (y * directions[1]).sum()}
    zero = {"a": jnp.zeros(()), "b": jnp.zeros(())}
    _, gradient, norms = balance(audio, losses, {"a": 1.0, "b": 3.0}, zero)
    sizes = [float(jnp.sqrt(jnp.square(gradient * d).sum((1, 2))).mean()) for d in directions]
    np.testing.assert_allclose(sizes, [0.25, 0.75], rtol=1e-5)
    _, gradient, _ = balance(audio, losses, {"a": 1.0, "b": 3.0}, {"a": 2 * norms["a"], "b": norms["b"]})
    sizes = [float(jnp.sqrt(jnp.square(gradient * d).sum((1, 2))).mean()) for d in directions]
    np.testing.assert_allclose(sizes, [0.125, 0.75], rtol=2e-3)


def test_spectrogram_and_mel_bands_are_librosas():
    x = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    ours = np.asarray(stft(jnp.asarray(x)[None], 512, 128))[0].T
    window = np.hanning(513)[:-1]
    theirs = librosa.stft(x, n_fft=512, hop_length=128, window=window, pad_mode="reflect") / np.sqrt((window**2).sum())
    np.testing.assert_allclose(ours, theirs[:, : ours.shape[1]], atol=1e-4)
    theirs = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=32, htk=True, norm=None).T
    np.testing.assert_allclose(mel_filters(16_000, 512, 32), theirs / theirs.sum(0), atol=1e-4)


def test_spectral_distance_is_zero_for_equal_waveforms_and_grows_with_their_difference():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 1, 3000)), jnp.float32)
    noise = jnp.asarray(rng.standard_normal((2, 1, 3000)), jnp.float32)
    for mels in (16, None):
        config = SpectralConfig(sizes=(256, 64), mels=mels)
        values = [float(spectral_distance(x + a * noise, x, config, 16_000)) for a in (0, 0.1, 0.5, 2.0)]
        assert values[0] == 0 and values == sorted(values) and values[1] > 0.01
    silent = jax.grad(lambda y: spectral_distance(y, x, SpectralConfig(sizes=(256,)), 16_000))(jnp.zeros_like(x))
    assert np.isfinite(silent).all()


def test_what_is_below_the_floor_is_silence_to_the_spectral_distance():
    rng = np.random.default_rng(0)
    faint, fainter = (a * jnp.asarray(rng.standard_normal((1, 1, 3000)), jnp.float32) for a in (1e-3, 1e-4))
    heard, deaf = (
        float(spectral_distance(faint, fainter, SpectralConfig(sizes=(256,), floor=floor), 16_000))
        for floor in (1e-5, 1e-2)
    )
    assert heard > 1.5 and 0 < deaf < 2e-3, "amplitudes are compared all the same"
    with pytest.raises(ConfigError, match="'floor'"):
        SpectralConfig(floor=0)


@pytest.mark.parametrize("kind", ["cosine", "l1", "cross_entropy"])
def test_distillation_leaves_out_frames_without_a_teacher(kind):
    rng = np.random.default_rng(0)
    teacher = jax.nn.softmax(jnp.asarray(rng.standard_normal((2, 4, 2, 3)), jnp.float32)).reshape(2, 4, 6)
    guess = jnp.asarray(rng.standard_normal((2, 4, 6)), jnp.float32)
    known = distillation_loss(guess[:, :3], teacher[:, :3], kind, 2)
    holes = distillation_loss(guess.at[:, 3].set(100.0), teacher.at[:, 3, 0].set(jnp.nan), kind, 2)
    np.testing.assert_allclose(holes, known, rtol=1e-6)
    right = jnp.log(teacher) if kind == "cross_entropy" else teacher
    assert distillation_loss(right, teacher, kind, 2) < known
    assert distillation_loss(guess, jnp.full_like(teacher, jnp.nan), kind, 2) == 0


def task(**changes) -> CodecTask:
    base = {
        "model": TINY_MIMI,
        "data": CodecDataConfig(batch=4, segment_seconds=0.1, teacher="phones", phones=("pau", "aa", "b")),
        "distillation": "cross_entropy",
        "spectral": SpectralConfig(sizes=(256, 64), mels=16),
        "optimizer": OptimizerConfig(lr=3e-3, weight_decay=0.0),
    }
    return CodecTaskConfig(**(base | changes)).build(100)


def batch(seed=0):
    """Tones, and as their teacher which third of the frequencies they lie in."""
    rng = np.random.default_rng(seed)
    time = np.arange(2400) / 24_000
    band = rng.integers(0, 3, 4)
    tones = np.sin(2 * np.pi * np.array([150, 900, 4000])[band, None, None] * time) * rng.uniform(0.2, 0.5, (4, 1, 1))
    teacher = np.broadcast_to(np.eye(3)[band][:, None, None], (4, 30, 2, 3)).reshape(4, 30, 6)
    return {"pcm": jnp.asarray(tones, jnp.float32), "teacher": jnp.asarray(teacher, jnp.float32)}


def run(trained: CodecTask, steps: int):
    state, update = plainly(trained.init)(jax.random.key(0)), plainly(trained.update)
    values = []
    for step in range(steps):
        state, metrics = update(state, batch(step), jax.random.key(step))
        values.append({name: float(value) for name, value in metrics.items()})
    return state, values


def test_codec_learns_to_reconstruct_and_to_follow_its_teacher():
    # As in the recipe of nano: left to itself the audio drowns the teacher for its first thousands of steps.
    weights = LossWeights(audio=0.1, audio_warmup=100, distillation=3.0)
    _, values = run(task(weights=weights, input_gain=5.0), 80)
    first, last = values[:5], values[-5:]
    mean = lambda part, name: np.mean([v[name] for v in part])  # noqa: E731
    assert mean(last, "spectral") < 0.8 * mean(first, "spectral")
    assert mean(last, "distillation") < 0.1 * mean(first, "distillation")
    assert all(v["skipped"] == 0 for v in values)


@pytest.mark.slow
def test_without_a_teacher_the_state_can_be_saved_and_trained():
    trained = task(data=CodecDataConfig(batch=4, segment_seconds=0.1))
    state, values = run(trained, 2)
    assert all(leaf.size for leaf in jax.tree.leaves(state))  # checkpoints cannot hold empty arrays
    assert values[-1]["distillation"] == values[-1]["skipped"] == 0


def test_the_adversarial_losses_are_hinges_and_relative_distances_of_features():
    real, fake = [jnp.array([2.0, 0.5]), jnp.array([-1.0])], [jnp.array([-3.0, 0.0]), jnp.array([0.5])]
    assert hinge_discriminator(real, fake) == ((0 + 0.5) / 2 + (0 + 1) / 2 + 2 + 1.5) / 2
    assert hinge_generator(fake) == (1.5 - 0.5) / 2
    features = [[jnp.array([2.0, -4.0])], [jnp.array([1.0])]], [[jnp.array([3.0, -1.0])], [jnp.array([3.0])]]
    np.testing.assert_allclose(feature_matching(*features), (2 / 3 + 2) / 2, rtol=1e-6)
    to_real, to_fake = jax.grad(feature_matching, (0, 1))(*features)
    assert not any(np.any(x) for x in jax.tree.leaves(to_real))
    np.testing.assert_allclose(to_fake[0][0], [1 / 12, 1 / 12], rtol=1e-6)
    np.testing.assert_allclose(to_fake[1][0], [0.5])


@pytest.mark.slow
def test_the_discriminator_learns_to_tell_and_the_codec_to_be_taken_for_real():
    adversarial = {
        "discriminator": DISCRIMINATOR, "weights": LossWeights(spectral=0.0),
        "data": CodecDataConfig(batch=4, segment_seconds=0.1),
        "discriminator_optimizer": OptimizerConfig(lr=3e-3, b1=0.5, b2=0.9, weight_decay=0.0),
    }  # fmt: skip
    _, told = run(task(**adversarial, freeze=("encoder", "downsample", "quantizer", "decoder")), 20)
    _, fooled = run(task(**adversarial), 20)
    assert told[0]["discriminator"] > 1.9 and told[-1]["discriminator"] < 1.3, "2 is to know nothing"
    for name in ("adversarial", "feature"):
        with_codec, alone = (np.mean([v[name] for v in values[-5:]]) for values in (fooled, told))
        assert with_codec < 0.5 * alone, name


@pytest.mark.slow
def test_adversarial_training_alone_moves_both_sides():
    trained = task(
        discriminator=DISCRIMINATOR,
        weights=LossWeights(spectral=0.0),
        data=CodecDataConfig(batch=4, segment_seconds=0.1),
    )
    state = plainly(trained.init)(jax.random.key(0))
    new, metrics = plainly(trained.update)(state, {"pcm": batch()["pcm"]}, jax.random.key(0))
    assert "spectral" not in metrics and {"adversarial", "feature", "discriminator"} <= set(metrics)
    for part in ("params", "discriminator"):
        moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), getattr(state, part), getattr(new, part))
        assert np.mean(jax.tree.leaves(moved)) > 0.9


@pytest.mark.slow
def test_frozen_parts_keep_every_bit_and_the_codes_stay():
    trained = task(freeze=("encoder", "downsample", "quantizer"))
    state, _ = run(trained, 3)
    start = plainly(trained.init)(jax.random.key(0))
    for part in state.params:
        same = all(
            np.array_equal(a, b)
            for a, b in zip(*map(jax.tree.leaves, (start.params[part], state.params[part])), strict=True)
        )
        assert same == (part not in ("decoder", "decoder_transformer", "upsample")), part
    assert not any("encoder/" in path and "decoder" not in path for path in trained._split(state.params)[0])


@pytest.mark.slow
def test_a_frozen_codebook_keeps_every_bit_and_the_others_move():
    for frozen in (0, 3):
        trained = task(freeze=(f"quantizer/rvq_rest/layers_{frozen}",))
        start, (state, _) = plainly(trained.init)(jax.random.key(0)), run(trained, 1)
        for k in range(7):
            before, after = (each.params["quantizer"]["rvq_rest"][f"layers_{k}"] for each in (start, state))
            same = [np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True)]
            assert all(same) if k == frozen else not any(same), (frozen, k)


@pytest.mark.slow
def test_without_losses_on_the_audio_the_encoder_learns_from_its_teacher_and_the_decoder_does_not_run():
    silent = LossWeights(spectral=0.0, distillation=3.0)
    trained = task(weights=silent, input_gain=5.0, freeze=("decoder", "upsample", "quantizer/rvq_rest"))
    state, values = run(trained, 60)
    assert values[-1]["loss"] == values[-1]["distillation"] < 0.2 * values[0]["distillation"]
    start = plainly(trained.init)(jax.random.key(0))
    for part in ("decoder", "decoder_transformer", "upsample"):
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, start.params[part], state.params[part]))), part
    rest = start.params["quantizer"]["rvq_rest"], state.params["quantizer"]["rvq_rest"]
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, *rest))), "the commitment alone would pull it to a constant"
    assert "spectral" not in trained.measure(state, batch())

    def flops(each: CodecTask) -> float:
        shapes = jax.eval_shape(each.init, jax.random.key(0)), batch(), jax.random.key(0)
        return plainly(each.update).lower(*shapes).compile().cost_analysis()["flops"]

    assert flops(trained) < 0.6 * flops(task())


@pytest.mark.slow
def test_a_batch_that_is_not_finite_is_skipped_and_changes_nothing_but_counts_of_steps():
    trained = task(discriminator=DISCRIMINATOR)
    state, update = plainly(trained.init)(jax.random.key(0)), plainly(trained.update)
    broken = {**batch(), "pcm": batch()["pcm"].at[1, 0, 5].set(jnp.nan)}
    new, metrics = update(state, broken, jax.random.key(0))
    assert metrics["skipped"] == 1 and new.step == 1
    scheduled = lambda x: isinstance(x, optax.ScaleByScheduleState)  # noqa: E731
    held = [
        jax.tree.leaves(jax.tree.map(lambda x: () if scheduled(x) else x, each, is_leaf=scheduled))
        for each in (dataclasses.replace(new, step=state.step), state)
    ]
    assert all(map(np.array_equal, *held)) and len(held[0]) > 100


@pytest.mark.slow
def test_export_is_a_codec_that_loads_and_a_run_can_start_from(tmp_path):
    import jomni

    trained = task(ema=0.0)
    state, _ = run(trained, 2)
    trained.export(state, tmp_path / "codec")
    trained.export(state, tmp_path / "codec")  # again: replaces its own
    found = jomni.load(tmp_path / "codec")
    assert found.configs["mimi"] == TINY_MIMI
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, found.params["mimi"], state.params)))
    codes = jomni.encode(Mimi(found.configs["mimi"], 8), found.params["mimi"], batch()["pcm"])
    assert codes.shape == (4, 8, 30)
    again, key = task(ema=0.0, init_from=str(tmp_path / "codec")), jax.random.key(1)
    warm = again.warm_start(plainly(again.init)(key), key)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, warm.params, state.params)))
    other = dataclasses.replace(TINY_MIMI, transformer=dataclasses.replace(TINY_MIMI.transformer, num_layers=1))
    with pytest.raises(ConfigError, match="codec"):
        again = task(model=other, init_from=str(tmp_path / "codec"))
        again.warm_start(plainly(again.init)(key), key)


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match=r"weights.spectral"):
        task(weights=LossWeights(spectral=0.0), data=CodecDataConfig(batch=4, segment_seconds=0.1))
    with pytest.raises(ConfigError, match=r"data.phones"):
        task(data=CodecDataConfig(teacher="phones"))
    trained = task(freeze=("",))
    with pytest.raises(ConfigError, match="freeze"):
        jax.eval_shape(trained.init, jax.random.key(0))
