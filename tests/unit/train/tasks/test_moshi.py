"""The language model's loss against moshi-finetune's formula, and what trains under low-rank adapters."""

import dataclasses
import importlib.util
import os
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jomni
from jomni.errors import ConfigError, DataError
from jomni.models.moshi import MoshiLM
from jomni.tensors.weight_map import flatten
from jomni.train.freeze import join, split
from jomni.train.lora import LoRAConfig, fuse
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.moshi import LMConfig, add_noise, draw_frames
from jomni.train.tasks.moshi_data import SyntheticData, check_batch
from jomni.train.tasks.moshi_loss import LMLossConfig, counts, lm_loss
from tests.tiny import TINY_MOSHI, random_params
from tests.train_case import SMALL

pytestmark = pytest.mark.compiled_quickly

CONFIG = dataclasses.replace(TINY_MOSHI, depformer_num_layers=1, num_layers=1)
LOSS = LMLossConfig(text_padding_weight=0.5, first_codebook_weight_multiplier=100.0)


def case(seed: int = 0):
    """Parameters, and codes with padding, absent tokens and all."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, CONFIG.card, (4, CONFIG.n_q + 1, 9)).astype(np.int32)
    codes[:, 0] = rng.choice([0, 3, 3, 7, 11], (4, 9))
    codes[1, :, 6:] = -1
    codes[2, 1:3, 2] = -1
    lm = MoshiLM(CONFIG)
    return lm, random_params(lm, jnp.asarray(codes)), jnp.asarray(codes)


def ours(lm, params, codes, rows=slice(None)):
    delayed = lm.apply({}, codes, method="delay")
    total = counts(CONFIG, LOSS, delayed)
    logits = lm.apply({"params": params}, delayed[rows], method="delayed_logits")
    return lm_loss(CONFIG, LOSS, logits, delayed[rows], total)


@pytest.mark.slow
def test_the_users_words_train_the_extra_head_and_add_to_the_loss():
    config = dataclasses.replace(CONFIG, extra_heads_num_heads=1, extra_heads_dim=CONFIG.text_card)
    weights = dataclasses.replace(LOSS, heard_weight=0.7)
    _, _, codes = case()
    heard = jnp.asarray(np.random.default_rng(1).choice([-1, 0, 3, 7, 11], (4, 9)), jnp.int32)
    lm = MoshiLM(config)
    params = random_params(lm, codes)
    delayed = lm.apply({}, codes, method="delay")
    total = counts(config, weights, delayed, heard)

    def loss(params, heard):
        logits = lm.apply({"params": params}, delayed, method="delayed_logits")
        return lm_loss(config, weights, logits, delayed, total, heard)

    (whole, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(params, heard)
    plain, _ = loss(params, None)
    logits = lm.apply({"params": params}, delayed, method="delayed_logits").heads[0]
    each = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), np.maximum(heard, 0)[..., None], -1)[..., 0]
    weight = np.select([heard < 0, (heard == 0) | (heard == 3)], [0.0, 0.5], 1.0)
    np.testing.assert_allclose(metrics["heard_loss"], (each * weight).sum() / weight.sum(), rtol=1e-5)
    np.testing.assert_allclose(whole, plain + 0.7 * metrics["heard_loss"], rtol=1e-6)
    assert np.abs(gradient["extra_heads_0"]["weight"]).max() > 0
    words = (heard == 7) | (heard == 11)
    np.testing.assert_allclose(metrics["heard_accuracy"], (logits.argmax(-1) == heard)[words].mean(), rtol=1e-6)


@pytest.mark.slow
def test_what_the_agent_reads_aloud_trains_its_voice_and_not_its_text():
    lm, params, codes = case()
    delayed, read = lm.apply({}, codes, method="delay"), jnp.asarray([False, True, False, True])

    def loss(logits, read):
        return lm_loss(CONFIG, LOSS, logits, delayed, counts(CONFIG, LOSS, delayed, read=read), read=read)

    logits = lm.apply({"params": params}, delayed, method="delayed_logits")
    gradient, metrics = jax.grad(loss, has_aux=True)(logits, read)
    assert not gradient.text[read].any() and gradient.text[~read].any()
    assert all(audio[read].any() for audio in gradient.audio)
    kept = logits._replace(audio=None)
    rows = jax.tree.map(lambda leaf: leaf[~read], kept)
    _, spoken = lm_loss(CONFIG, LOSS, rows, delayed[~read], counts(CONFIG, LOSS, delayed[~read]))
    assert {"text_loss", "word_accuracy"} <= spoken.keys() - {"loss"}
    for name in spoken.keys() - {"loss"}:
        np.testing.assert_allclose(metrics[name], spoken[name], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(metrics["audio_loss"], loss(logits, None)[1]["audio_loss"], rtol=1e-6)


def test_the_users_words_need_a_head_and_data_that_has_them():
    task = {"data": SyntheticData(), "model": CONFIG, "loss": dataclasses.replace(LOSS, heard_weight=1.0)}
    with pytest.raises(ConfigError, match="extra_heads_num_heads"):
        LMConfig(**task).build(10)
    model = dataclasses.replace(CONFIG, extra_heads_num_heads=1, extra_heads_dim=CONFIG.text_card)
    with pytest.raises(DataError, match="heard"):
        check_batch({"codes": np.zeros((1, CONFIG.n_q + 1, 4), np.int32)}, model, heard=True)


@pytest.mark.slow
def test_the_depth_transformer_learns_from_the_frames_that_were_drawn_and_from_no_others():
    lm, params, codes = case()
    delayed = lm.apply({}, codes, method="delay")
    frames = draw_frames(delayed, 0.4, jax.random.key(3))
    assert frames.shape == (4, 4) and (np.diff(frames) > 0).all() and frames.min() >= 0 and frames.max() < 9
    assert len({tuple(row) for row in np.asarray(frames)}) > 1
    whole = lm.apply({"params": params}, delayed, method="delayed_logits")
    some = lm.apply({"params": params}, delayed, None, frames, method="delayed_logits")
    _, metrics = lm_loss(CONFIG, LOSS, some, delayed, counts(CONFIG, LOSS, delayed, frames=frames), frames=frames)
    hidden = np.ones(delayed[:, :1].shape, bool)
    np.put_along_axis(hidden, np.asarray(frames)[:, None], False, 2)
    kept = jnp.where(hidden & (np.arange(CONFIG.n_q + 1) > 0)[:, None], -1, delayed)  # as if nothing else were there
    _, expected = lm_loss(CONFIG, LOSS, whole, kept, counts(CONFIG, LOSS, kept))
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


def test_frames_in_which_the_agent_moves_are_drawn_more_often():
    tokens = np.zeros((64, 3, 100), np.int32)
    tokens[:, 1, 40:60] = np.arange(20) + 1  # 21 of the frames differ from the one before
    draw = partial(draw_frames, jnp.asarray(tokens), 0.2)
    counts = [np.bincount(np.ravel(draw(jax.random.key(1), w)), minlength=100) for w in (1.0, 4.0)]
    for count in counts:
        assert count.sum() == 64 * 20 and count.max() <= 64
    even, uneven = ((c[40:61].mean() / np.delete(c, np.s_[40:61]).mean()) for c in counts)
    assert 0.8 < even < 1.25 and 2.4 < uneven < 4  # below 4: none is drawn twice


def test_the_loss_is_moshi_finetunes_formula_on_the_shifted_logits():
    lm, params, codes = case()
    out = jax.tree.map(np.asarray, lm.apply({"params": params}, codes))

    def mean(logits, target, mask, weights):
        target = np.where(mask, target, 0)
        shifted = logits - logits.max(-1, keepdims=True)
        each = np.log(np.exp(shifted).sum(-1)) - np.take_along_axis(shifted, target[..., None], -1)[..., 0]
        return (np.where(mask, each, 0) * weights).sum() / weights.sum()

    text, audio = np.asarray(codes[:, :1]), np.asarray(codes[:, 1 : CONFIG.dep_q + 1])
    text_weights = out.text_mask * np.where((text == 3) | (text == 0), 0.5, 1.0)
    audio_weights = out.mask * np.where(np.arange(CONFIG.dep_q) == 0, 100.0, 1.0)[:, None]
    expected = (
        mean(out.text_logits, text, out.text_mask, text_weights),
        mean(out.logits, audio, out.mask, audio_weights),
    )
    loss, metrics = ours(lm, params, codes)
    assert float(metrics["text_loss"]) == pytest.approx(expected[0], rel=1e-5)
    assert float(metrics["audio_loss"]) == pytest.approx(expected[1], rel=1e-5)
    assert float(loss) == pytest.approx(sum(expected), rel=1e-5)


@pytest.mark.peers
@pytest.mark.skipif("JOMNI_MOSHI_FINETUNE" not in os.environ, reason="set JOMNI_MOSHI_FINETUNE to its repository")
def test_the_loss_is_that_of_moshi_finetunes_own_code():
    import torch

    path = Path(os.environ["JOMNI_MOSHI_FINETUNE"]) / "finetune" / "loss.py"
    module_spec = importlib.util.spec_from_file_location("moshi_finetune_loss", path)
    peer = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = peer
    module_spec.loader.exec_module(peer)
    for seed in range(4):
        lm, params, codes = case(seed)
        out = jax.tree.map(lambda x: torch.from_numpy(np.array(x)), lm.apply({"params": params}, codes))
        theirs = torch.from_numpy(np.array(codes)).long()
        text = peer.compute_loss_with_mask(
            out.text_logits, theirs[:, :1], out.text_mask, "text", text_padding_weight=0.5, text_padding_ids={0, 3}
        )
        audio = peer.compute_loss_with_mask(
            out.logits, theirs[:, 1 : CONFIG.dep_q + 1], out.mask, "audio", first_codebook_weight_multiplier=100.0
        )
        loss, metrics = ours(lm, params, codes)
        assert float(metrics["text_loss"]) == pytest.approx(text.item(), rel=1e-5)
        assert float(metrics["audio_loss"]) == pytest.approx(audio.item(), rel=1e-5)
        assert float(loss) == pytest.approx((text + audio).item(), rel=1e-5)


@pytest.mark.slow
def test_shares_of_rows_add_up_to_the_batch():
    lm, params, codes = case()
    _, whole = ours(lm, params, codes)
    parts = [ours(lm, params, codes, rows)[1] for rows in (slice(0, 1), slice(1, 4))]
    for name, value in whole.items():
        assert sum(float(part[name]) for part in parts) == pytest.approx(float(value), rel=1e-5, abs=1e-6), name


def test_noise_on_the_user_is_random_codes_and_touches_no_absent_ones():
    _, _, codes = case()
    noisy = add_noise(codes, CONFIG, 1.0, 0.0, jax.random.key(0))
    own = CONFIG.dep_q + 1
    np.testing.assert_array_equal(noisy[:, :own], codes[:, :own])
    np.testing.assert_array_equal(noisy[:, own:] == -1, codes[:, own:] == -1)
    assert (noisy[:, own:] != codes[:, own:]).mean() > 0.5
    np.testing.assert_array_equal(add_noise(codes, CONFIG, 0.0, 0.0, jax.random.key(0)), codes)


def test_noise_on_the_agent_is_whole_frames_of_its_own():
    _, _, codes = case()
    noisy = add_noise(codes, CONFIG, 0.0, 0.5, jax.random.key(0))
    own = slice(1, CONFIG.dep_q + 1)
    np.testing.assert_array_equal(np.delete(noisy, np.r_[own], 1), np.delete(codes, np.r_[own], 1))
    np.testing.assert_array_equal(noisy[:, own] == -1, codes[:, own] == -1)
    changed = 0
    for row, true in zip(np.asarray(noisy[:, own]), np.asarray(codes[:, own]), strict=True):
        frames = {tuple(frame) for frame in true.T}
        assert all(tuple(frame) in frames for frame in row.T if -1 not in frame)
        changed += (row != true).any(0).sum()
    assert 0.2 * codes.shape[0] * codes.shape[2] < changed < 0.6 * codes.shape[0] * codes.shape[2]


def test_a_noisy_past_is_read_by_the_temporal_transformer_alone():
    lm, params, codes = case()
    delayed = lm.apply({}, codes, method="delay")
    noisy = lm.apply({}, add_noise(codes, CONFIG, 0.5, 0.5, jax.random.key(0)), method="delay")
    clean = lm.apply({"params": params}, delayed, method="delayed_logits")
    same = lm.apply({"params": params}, delayed, None, None, delayed, method="delayed_logits")
    other = lm.apply({"params": params}, delayed, None, None, noisy, method="delayed_logits")
    np.testing.assert_array_equal(same.text, clean.text)
    assert np.abs(other.text - clean.text).max() > 1e-3
    # The depth transformer still goes on from the true codes of its frame: at the first nothing is past yet.
    np.testing.assert_array_equal(other.audio[1][:, 0], clean.audio[1][:, 0])


@pytest.mark.slow
def test_layers_computed_again_give_the_same_step_and_half_precision_nearly_the_same():
    values = {}
    for name, options in {"plain": {}, "remat": {"remat": True}, "half": {"dtype": "bfloat16"}}.items():
        task = LMConfig(data=SyntheticData(frames=14), model=SMALL, batch=4, **options).build(10)
        state, step = jax.jit(task.init)(jax.random.key(0)), jax.jit(task.update)
        batches, losses = iter(task.dataset(0)), []
        for i in range(3):
            state, metrics = step(state, jax.tree.map(jnp.asarray, next(batches)), jax.random.key(i))
            losses.append(float(metrics["loss"]))
        values[name] = losses
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(state.params)} == {"float32"}
        if name != "half":
            text = str(jax.make_jaxpr(task.update)(state, jax.tree.map(jnp.asarray, next(batches)), jax.random.key(0)))
            assert ("checkpoint" in text or "remat" in text) == (name == "remat")
    np.testing.assert_allclose(values["remat"], values["plain"], rtol=1e-5)
    np.testing.assert_allclose(values["half"], values["plain"], rtol=0.02)
    assert values["half"] != values["plain"]


def test_without_a_monologue_the_text_only_pads():
    update = {}
    for monologue in (True, False):
        task = LMConfig(data=SyntheticData(), model=SMALL, batch=2, monologue=monologue).build(10)
        state = jax.jit(task.init)(jax.random.key(0))
        batch = jax.tree.map(jnp.asarray, next(iter(task.dataset(0))))
        others = {**batch, "codes": batch["codes"].at[:, 0].set(SMALL.text_card - 1)}
        step = jax.jit(task.update)
        update[monologue] = [float(step(state, x, jax.random.key(0))[1]["loss"]) for x in (batch, others)]
    assert update[False][0] == update[False][1] and update[True][0] != update[True][1]


def test_without_a_monologue_a_conversation_ends_where_it_ended():
    ends = jnp.asarray(np.tile(np.r_[3, 0, 7, 3, -1, -1], (2, SMALL.n_q + 1, 1)), jnp.int32)
    with_text, without = (
        LMConfig(data=SyntheticData(), model=SMALL, monologue=monologue).build(10).rows({"codes": ends}, None).delayed
        for monologue in (True, False)
    )
    np.testing.assert_array_equal(with_text < 0, without < 0)
    assert set(np.unique(without[:, 0])) == {-1, SMALL.existing_text_padding_id}


def test_what_a_batch_has_nothing_of_has_no_metric_and_no_loss():
    lm, params, codes = case()
    silent = codes.at[:, 0].set(3).at[:, 1 : CONFIG.dep_q + 1].set(-1)
    loss, metrics = ours(lm, params, silent)
    nothing = {name for name, value in metrics.items() if np.isnan(value)}
    assert nothing == {"word_accuracy", "audio_loss", *(f"audio_loss_{k}" for k in range(CONFIG.dep_q))}
    np.testing.assert_allclose(loss, metrics["text_loss"])
    assert not any(np.isnan(value) for value in ours(lm, params, codes)[1].values())


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A checkpoint to adapt: SMALL, random."""
    folder = tmp_path_factory.mktemp("base") / "model"
    task = LMConfig(data=SyntheticData(), model=SMALL).build(10)
    task.export(jax.jit(task.init)(jax.random.key(3)), folder)
    return folder


def test_shrunk_layers_begin_between_the_checkpoints_weights_and_new_ones(base):
    def begun(seed, **options):
        key = jax.random.key(seed)
        task = LMConfig(data=SyntheticData(), init_from=str(base), **options).build(10)
        fresh = jax.jit(task.init)(key)
        drawn = flatten(jax.device_get(fresh.params))  # before the state gives its memory away
        return drawn, flatten(task.warm_start(fresh, key).params)

    drawn, shrunk = begun(5, shrink_and_perturb=0.25)
    _, whole = begun(5)
    layers = {path for path in whole if path.startswith("transformer/")}
    assert layers and layers < whole.keys()
    for path, weight in whole.items():
        expected = 0.25 * weight + 0.75 * drawn[path] if path in layers else weight
        np.testing.assert_allclose(shrunk[path], expected, rtol=1e-6, atol=1e-7, err_msg=path)
    matrices = [path for path in layers if "norm" not in path]
    assert matrices and not any(np.array_equal(drawn[path], whole[path]) for path in matrices)


def adapted(base, export="adapters", embeddings=False):
    """A task that adapts `base`, and its state after two updates."""
    config = LMConfig(
        data=SyntheticData(frames=14, examples=16), init_from=str(base), lora=LoRAConfig(4, 2.0, embeddings), batch=4,
        optimizer=OptimizerConfig(lr=1e-2, schedule="constant"), export=export,
    )  # fmt: skip
    task = config.build(10)
    key = jax.random.key(0)
    state = task.warm_start(jax.jit(task.init)(key), key)
    update, batches = jax.jit(task.update), iter(task.dataset(0))
    for step in range(2):
        state, _ = update(state, jax.tree.map(jnp.asarray, next(batches)), jax.random.key(step))
    return task, state


def test_only_adapters_train_and_the_weights_are_the_checkpoints(base):
    _, state = adapted(base)
    loaded = jomni.load(base)
    kept = jax.tree.map(np.asarray, state.frozen)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), kept, loaded.params["lm"]))
    paths = list(flatten(state.params))
    assert paths and all("/lora_" in path for path in paths)
    assert any(jnp.any(x != 0) for p, x in jax.tree_util.tree_leaves_with_path(state.params) if "lora_B" in str(p[-1]))


@pytest.mark.slow
def test_exported_adapters_load_beside_the_checkpoint_and_fused_weights_say_the_same(base, tmp_path):
    task, state = adapted(base, embeddings=True)
    task.export(state, tmp_path / "adapters")
    beside = jomni.load(base, lora=tmp_path / "adapters" / "lora.safetensors")
    assert beside.configs["lm"].lora_rank == 4
    trained = join(state.params, state.frozen)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), beside.params["lm"], trained))

    plain = dataclasses.replace(task.model, lora_rank=0)
    codes = jnp.asarray(next(iter(task.dataset(1)))["codes"])
    with_adapters = MoshiLM(task.model).apply({"params": trained}, codes).text_logits
    fused = MoshiLM(plain).apply({"params": fuse(trained, 2.0)}, codes).text_logits
    np.testing.assert_allclose(fused, with_adapters, atol=1e-5)


def test_split_and_join_are_inverse(base):
    params = jomni.load(base).params["lm"]
    assert split(params, lambda path: True) == (params, None)
    trains, rest = split(params, LoRAConfig(embeddings=True).trains)
    assert sorted(trains) == ["depformer_emb_0", "depformer_text_emb", "emb_0", "emb_1", "emb_2", "emb_3", "text_emb"]
    assert jax.tree.structure(join(trains, rest)) == jax.tree.structure(params)


def test_data_of_another_model_is_refused():
    codes = np.zeros((2, 5, 7), np.int32)
    check_batch({"codes": codes}, SMALL)
    with pytest.raises(DataError, match=r" 4 streams.* 5"):
        check_batch({"codes": codes[:, :4]}, SMALL)
    codes[0, 2, 3] = SMALL.card
    with pytest.raises(DataError, match=f"audio code {SMALL.card}"):
        check_batch({"codes": codes}, SMALL)
    codes[0, 0, 0] = SMALL.text_card
    with pytest.raises(DataError, match="text token 16"):
        check_batch({"codes": codes}, SMALL)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": None}, "'model' .*'init_from'"),
        ({"init_from": "x"}, "'model' .*'init_from'"),
        ({"lora": LoRAConfig()}, "'lora' .*'init_from'"),
        ({"shrink_and_perturb": 0.5}, "'shrink_and_perturb' .*'init_from'"),
        (
            {"model": None, "init_from": "x", "lora": LoRAConfig(), "shrink_and_perturb": 0.5},
            "'shrink_and_perturb' .*'lora'",
        ),
        ({"shrink_and_perturb": 1.5}, "'shrink_and_perturb' .*1.5"),
        ({"export": "fused"}, "'export' = 'fused'"),
        ({"monologue": False, "loss": LMLossConfig(text_weight=0)}, "'monologue' .*'loss.text_weight'"),
        ({"batch": 8, "microbatches": 3}, " 8 .* 3 "),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        LMConfig(**({"data": SyntheticData(), "model": SMALL} | options))


def test_a_tokenizer_or_codec_that_does_not_fit_is_refused(tmp_path, tokenizer_bytes, tiny_mimi_file):
    (tmp_path / "text.model").write_bytes(tokenizer_bytes)
    (tmp_path / "broken.model").write_bytes(b"no model")
    for options, said in [
        ({"tokenizer": str(tmp_path / "none.model")}, "'tokenizer' .*none.model"),
        ({"tokenizer": str(tmp_path / "broken.model")}, "'tokenizer' .*broken.model"),
        ({"tokenizer": str(tmp_path / "text.model")}, "'tokenizer' .* 48 .*text_card .*16"),
        ({"codec": str(tiny_mimi_file), "model": dataclasses.replace(SMALL, card=64)}, "'codec' .* 32 .* 64"),
    ]:
        with pytest.raises(ConfigError, match=said):
            LMConfig(**({"data": SyntheticData(), "model": SMALL} | options)).build(1)
