"""A task of one loss and one optimiser: what is frozen keeps its bytes, and microbatches change nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jomni.train.gradient_task import GradientConfig, GradientTask
from jomni.train.optimizer import OptimizerConfig

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
KEY = jax.random.key(0)
CONFIG = GradientConfig(batch=6, optimizer=OptimizerConfig(lr=0.1, weight_decay=0.1, schedule="constant"), ema=0.5)


class Toy(GradientTask):
    """y = (a + b) x, of which a is frozen and begins at given numbers."""

    def init_params(self, key):
        return {"a": jnp.zeros((2, 3)), "b": jnp.zeros((2, 3))}

    def frozen(self, params):
        return {"a"}

    def start(self, key):
        return {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}

    def counts(self, batch):
        return len(batch["x"])

    def loss(self, params, batch, counts, key):
        loss = jnp.square(batch["x"] @ (params["a"] + params["b"]).T).sum() / counts
        return loss, {"loss": loss}


def run(config, steps=4):
    task = Toy(config, steps)
    state = task.warm_start(task.init(KEY), KEY)
    update, losses = jax.jit(task.update), []
    for _ in range(steps):
        state, metrics = update(state, {"x": X}, jax.random.key(1))
        losses.append(float(metrics["loss"]))
    return task, state, losses


def test_what_is_frozen_keeps_its_bytes_and_the_rest_learns():
    task, state, losses = run(CONFIG)
    assert state.frozen["a"].tobytes() == task.start(KEY)["a"].tobytes() and set(state.params) == {"b"}
    assert losses[-1] < 0.9 * losses[0] and int(state.step) == 4
    exported = task.exported(state)
    np.testing.assert_array_equal(exported["b"], state.ema["b"])
    assert not np.array_equal(exported["b"], state.params["b"])
    again = task.warm_start(dataclasses.replace(state, frozen={"a": jnp.zeros((2, 3))}), KEY)
    assert again.frozen["a"].tobytes() == state.frozen["a"].tobytes(), "a resumed run reads it where it came from"


def test_microbatches_change_nothing():
    _, whole, losses = run(CONFIG, 2)
    _, parts, others = run(dataclasses.replace(CONFIG, microbatches=3), 2)
    np.testing.assert_allclose(losses, others, rtol=1e-5)
    np.testing.assert_allclose(whole.params["b"], parts.params["b"], rtol=1e-4)
