"""A training run that takes seconds, and its configuration file for the command."""

import dataclasses

from jomni.configs.tiny_lm import MODEL

from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.moshi import LMConfig
from jomni.train.tasks.moshi_data import SyntheticData

SMALL = dataclasses.replace(MODEL, dim=32, num_heads=2, num_layers=1, depformer_dim=16, depformer_dim_feedforward=32)


def get_config() -> TrainConfig:
    task = LMConfig(
        data=SyntheticData(frames=14, words=4, examples=64), model=SMALL, batch=8, user_noise=0.1, ema=0.9,
        valid=SyntheticData(frames=14, words=4, examples=8),
        optimizer=OptimizerConfig(lr=1e-2, warmup=2, schedule="constant"),
    )  # fmt: skip
    return TrainConfig(name="small", task=task, steps=40, log_every=5, checkpoint_every=4, tensorboard=False)
