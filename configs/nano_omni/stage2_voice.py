"""Train nano-omni between stages 2 and 3: the audio heads learn to speak, by reading answers aloud.

jomni train nano_omni/stage2_voice

It is part of alignment, which is stage 1 in the paper. Here it follows stage 2, which changes the hidden states that
the audio heads read, and is a run of its own, because its examples are short.

Hardware: one CPU core, 13 min. Metric: valid/audio_loss of spoken answers to written questions (T1-A2): 2.11.
"""

from jomni.configs.nano_omni.stage1 import SECONDS

from jomni.data.turns.batches import TaskShares
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.mini_omni import ALIGN, OmniConfig
from jomni.train.tasks.mini_omni_data import OmniData

LENGTH = 64
"""Steps of an example: a written question with its spoken answer."""


def get_config() -> TrainConfig:
    """Return the run."""
    read = TaskShares(a1_a2=0, a1_t2=0, a1_t1=0, t1_a2=1, t1_t2=0)
    task = OmniConfig(
        data=OmniData(("data/turns.parquet",), read, (LENGTH,), SECONDS, skip_bad=True),
        valid=OmniData(("data/turns_valid.parquet",), read, (LENGTH,), SECONDS, skip_bad=True),
        init_from="runs/omni_stage2/export", freeze=(*ALIGN, "whisper_adapter/"), batch=32,
        optimizer=OptimizerConfig(lr=1e-3, warmup=100, weight_decay=0.01, final_lr=1e-4),
    )  # fmt: skip
    return TrainConfig(name="omni_stage2_voice", task=task, steps=800, log_every=50, valid_every=200)
