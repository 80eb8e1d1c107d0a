"""Train nano-omni's codec with codebooks, which start as k-means of the latents and are updated as moving averages.

jomni train nano_omni/codec --task.init_from runs/omni_latent/export

Hardware: one CPU core, 62 min. Metric: spectral, the spectral distance: 0.48.
"""

import dataclasses

from jomni.configs.nano_omni.latent import get_config as latent

from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.snac import SnacLossConfig, SnacTrainConfig


def get_config() -> TrainConfig:
    """Return the run."""
    run = latent()
    assert isinstance(run.task, SnacTrainConfig)
    task = dataclasses.replace(
        run.task, init_from="runs/omni_latent/export", fit_codebooks=100, codebook_decay=0.99, quantize=1.0, ema=0.999,
        loss=SnacLossConfig(commitment=1.0),
        optimizer=OptimizerConfig(lr=5e-4, b1=0.8, b2=0.99, weight_decay=1e-4, warmup=100, final_lr=2e-5),
    )  # fmt: skip
    return dataclasses.replace(run, name="omni_codec", task=task, steps=3_500, export_every=1_000)
