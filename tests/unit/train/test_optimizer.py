"""Schedules, decay, accumulation, averages and the guard."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jomni.train.optimizer import (
    OptimizerConfig,
    accumulate,
    all_finite,
    decay_mask,
    ema_update,
    guard,
    make_optimizer,
    make_schedule,
)


@pytest.mark.parametrize(("schedule", "middle"), [("constant", 1.0), ("cosine", 0.55), ("linear", 0.55)])
def test_the_schedule_rises_then_ends_at_the_last_step(schedule, middle):
    config = OptimizerConfig(lr=1.0, warmup=10, schedule=schedule, final_lr=0.1)
    lr = make_schedule(config, 110)
    assert [float(lr(s)) for s in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert float(lr(60)) == pytest.approx(middle)
    assert float(lr(110)) == pytest.approx(1.0 if schedule == "constant" else 0.1)


def test_vectors_are_not_decayed_and_tables_only_where_asked():
    names = ("emb_3/weight", "text_emb/weight", "depformer_emb_0/weight", "depformer_text_emb/weight")
    params = {name: jnp.ones((2, 2)) for name in (*names, "in_proj/weight")} | {"norm/alpha": jnp.ones(2)}
    assert decay_mask(params) == {name: name != "norm/alpha" for name in params}
    assert decay_mask(params, embeddings=False) == {name: name == "in_proj/weight" for name in params}


def test_codebooks_are_not_decayed():
    book, weight = "quantizer/rvq_first/layers_0/embedding_sum", "encoder/weight"
    mask, _ = decay_mask(({book: jnp.ones((2, 2)), weight: jnp.ones((2, 2))}, jnp.ones((2, 2))))
    assert mask == {book: False, weight: True}


def test_decay_shrinks_and_clipping_limits_the_gradient():
    config = OptimizerConfig(lr=0.1, weight_decay=0.5, clip=1.0, schedule="constant")
    params, huge = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}, {"w": jnp.zeros((2, 2)), "b": jnp.full(2, 1e9)}
    optimizer = make_optimizer(config, 10)
    updates, state = optimizer.update(huge, optimizer.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.05, rtol=1e-6)  # lr * weight_decay
    assert float(jnp.abs(optax.tree.get(state, "mu")["b"]).max()) < 0.1  # (1 - b1) * clipped


@pytest.mark.parametrize("microbatches", [2, 4])
def test_accumulated_shares_equal_the_whole_batch(microbatches):
    x, y = np.random.default_rng(0).normal(size=(2, 8, 3)).astype(np.float32)

    def share(params, rows):
        return jnp.square(rows["x"] @ params - rows["y"].sum(-1)).sum() / 8, {"n": jnp.float32(len(rows["x"]))}

    params = jnp.ones(3)
    step = lambda rows, key: jax.value_and_grad(share, has_aux=True)(params, rows)  # noqa: E731
    batch, key = {"x": jnp.asarray(x), "y": jnp.asarray(y)}, jax.random.key(0)
    (whole, n), gradient = accumulate(step, batch, key, 1)
    (parts, m), summed = accumulate(step, batch, key, microbatches)
    assert float(parts) == pytest.approx(float(whole), rel=1e-6)
    assert float(n["n"]) == float(m["n"]) == 8
    np.testing.assert_allclose(summed, gradient, rtol=1e-5)


def test_the_average_forgets_its_beginning():
    average = {"w": jnp.zeros(())}
    for step in range(100):
        average = ema_update(average, {"w": jnp.ones(())}, 0.999, jnp.asarray(step))
    assert float(average["w"]) > 0.99


@partial(jax.tree_util.register_dataclass, data_fields=["step", "params", "optimizer"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class _State:
    step: jax.Array
    params: jax.Array
    optimizer: Any


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, 2.0])
def test_a_step_that_is_not_finite_changes_nothing_but_the_counts_of_steps(value):
    optimizer = make_optimizer(OptimizerConfig(warmup=2), 10)
    params, gradient = jnp.ones(2), jnp.full(2, value)
    before = optimizer.init(params)
    _, after = optimizer.update(gradient, before, params)
    old, new = _State(jnp.int32(3), params, before), _State(jnp.int32(4), gradient, after)
    kept, finite = guard(all_finite(gradient), new, old), bool(np.isfinite(value))
    assert int(kept.step) == 4
    np.testing.assert_array_equal(kept.params, gradient if finite else params)
    adam, schedule = (
        next(part for part in kept.optimizer if isinstance(part, kind))
        for kind in (optax.ScaleByAdamState, optax.ScaleByScheduleState)
    )
    assert (int(adam.count), int(schedule.count)) == (int(finite), 1)


def test_numbers_out_of_range_are_refused():
    from jomni.errors import ConfigError

    for wrong in ({"lr": 0.0}, {"b1": 1.0}, {"clip": -1.0}, {"lr": float("nan")}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            OptimizerConfig(**wrong)
