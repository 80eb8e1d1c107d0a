"""A training run whose data is slower than its steps, and its configuration file for the command."""

from __future__ import annotations

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jomni.data.pipeline import Batch, endless
from jomni.train.config import TrainConfig, mutable_on_resume
from jomni.train.task import Task


@functools.partial(jax.tree_util.register_dataclass, data_fields=["step", "total"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Sum:
    """What has been drawn so far."""

    step: jax.Array
    total: jax.Array


@dataclasses.dataclass(frozen=True)
class Draw:
    """Takes its time."""

    seconds: float

    def __call__(self, number: int, rng: np.random.Generator) -> Batch:
        time.sleep(self.seconds)
        return {"number": np.float32(number)}


@dataclasses.dataclass(frozen=True)
class SlowConfig:
    """Numbers to be added up."""

    numbers: int = mutable_on_resume(10)
    seconds: float = mutable_on_resume(0.0)  # that each takes
    workers: int = mutable_on_resume(0)

    def build(self, steps: int) -> SlowTask:
        return SlowTask(self)


class SlowTask(Task):
    """Adds one number each step."""

    unit = "numbers"
    units_per_step = 1.0

    def __init__(self, config: SlowConfig) -> None:
        self.config = config

    def init(self, key: Any) -> Sum:
        return Sum(jnp.zeros((), jnp.int32), jnp.zeros(()))

    def update(self, state: Sum, batch: Batch, key: Any) -> tuple[Sum, dict[str, jax.Array]]:
        number = batch["number"].sum()
        return Sum(state.step + 1, state.total + number), {"loss": number}

    def dataset(self, seed: int) -> Any:
        numbers, draw = list(range(self.config.numbers)), Draw(self.config.seconds)
        return endless(numbers, draw, batch=1, seed=seed, workers=self.config.workers, prefetch=1)

    def export(self, state: Sum, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "total.txt").write_text(str(float(state.total)))


def get_config() -> TrainConfig:
    from tests.slow_case import SlowConfig  # a file that is run as a configuration is no module that workers can import

    task = SlowConfig(seconds=0.2, workers=1)
    return TrainConfig("slow", task, steps=4, log_every=1, checkpoint_every=1000, tensorboard=False)
