"""Train nano-omni, stage 3, multimodal: all parameters but the speech encoder's, on all tasks.

jomni train nano_omni/stage3
jomni talk --model runs/omni_stage3/export QUESTION.wav

Hardware: one CPU core, 118 min. Metric: valid/text_accuracy and valid/audio_loss (A1-A2, held-out voices): 0.99 and
0.20, after two runs of 1,130 and 2,500 steps (docs/reports/nano_omni.md).
"""

from jomni.configs.nano_omni.stage1 import SECONDS

from jomni.data.turns.batches import TaskShares
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.mini_omni import ALL, OmniConfig
from jomni.train.tasks.mini_omni_data import OmniData

LENGTH = 192
"""Steps of an example, enough for 99 % of the spoken questions with their spoken answers."""


def get_config() -> TrainConfig:
    """Return the run."""
    shares = TaskShares(a1_a2=3, a1_t2=1, a1_t1=0.25, t1_a2=0.5, t1_t2=0.5)
    heard = TaskShares(a1_a2=1, a1_t2=0, a1_t1=0, t1_a2=0, t1_t2=0)
    task = OmniConfig(
        data=OmniData(("data/turns.parquet",), shares, (LENGTH,), SECONDS, skip_bad=True),
        valid=OmniData(("data/turns_valid.parquet",), heard, (LENGTH,), SECONDS, skip_bad=True),
        init_from="runs/omni_stage2_voice/export", codec="runs/omni_codec/export", freeze=ALL, batch=16, ema=0.99,
        optimizer=OptimizerConfig(lr=1e-3, warmup=100, weight_decay=0.01, final_lr=5e-5),
    )  # fmt: skip
    return TrainConfig(name="omni_stage3", task=task, steps=3_600, log_every=50, valid_every=200)
