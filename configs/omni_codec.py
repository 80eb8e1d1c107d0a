"""nano-omni's voice: codebooks that begin as k-means of the latents, and a decoder that learns to speak from the codes.

jomni train configs/omni_codec.py --task.init_from runs/omni_latent/export

The codes stay what they are at the beginning: what is encoded with an early export need not be encoded again. Metric:
spectral.
"""

import dataclasses

from omni_latent import get_config as latent

from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.snac import SnacTrainConfig


def get_config() -> TrainConfig:
    """The run."""
    run = latent()
    assert isinstance(run.task, SnacTrainConfig)
    task = dataclasses.replace(
        run.task, init_from="runs/omni_latent/export", fit_codebooks=100, freeze=("encoder", "quantizer"), quantize=1.0,
        ema=0.999,
        optimizer=OptimizerConfig(lr=5e-4, b1=0.8, b2=0.99, weight_decay=1e-4, warmup=100, final_lr=1e-5),
    )  # fmt: skip
    return dataclasses.replace(run, name="omni_codec", task=task, steps=3_600, export_every=600)
