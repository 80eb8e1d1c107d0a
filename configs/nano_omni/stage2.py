"""Train nano-omni, stage 2, adaptation: the text model learns to answer spoken questions in text.

jomni train nano_omni/stage2

Hardware: one CPU core, 30 min. Metric: valid/text_accuracy (A1-T2, held-out voices): 0.97.
"""

from jomni.configs.nano_omni.stage1 import LENGTH, SECONDS

from jomni.data.turns.batches import TaskShares
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.mini_omni import ADAPT, OmniConfig
from jomni.train.tasks.mini_omni_data import OmniData


def get_config() -> TrainConfig:
    """Return the run."""
    shares, heard = TaskShares(a1_a2=0, a1_t2=3, a1_t1=0, t1_a2=0, t1_t2=1), TaskShares(0, 1, a1_t1=0, t1_a2=0, t1_t2=0)
    task = OmniConfig(
        data=OmniData(("data/turns.parquet",), shares, (LENGTH,), SECONDS, skip_bad=True),
        valid=OmniData(("data/turns_valid.parquet",), heard, (LENGTH,), SECONDS, skip_bad=True),
        init_from="runs/omni_stage1/export", freeze=ADAPT, batch=16,
        optimizer=OptimizerConfig(lr=1e-3, warmup=50, weight_decay=0.01, final_lr=1e-4),
    )  # fmt: skip
    return TrainConfig(name="omni_stage2", task=task, steps=1500, log_every=50, valid_every=200)
