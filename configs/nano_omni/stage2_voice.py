"""nano-omni, between stages 2 and 3: what has learnt to hear is given a voice, and reads answers aloud.

jomni train nano_omni/stage2_voice

It is alignment too, and the paper has it in stage 1. Here it comes after stage 2, which changes what the voice is read
from, and apart from hearing, as its examples are short.

Hardware: one CPU core, 13 min. Metric: valid/audio_loss of answers to what was read (T1-A2): 2.11.
"""

from jomni.configs.nano_omni.stage1 import SECONDS

from jomni.data.turns.batches import TaskShares
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.mini_omni import ALIGN, OmniConfig
from jomni.train.tasks.mini_omni_data import OmniData

LENGTH = 64
"""Steps that hold a question in text with its spoken answer."""


def get_config() -> TrainConfig:
    """The run."""
    read = TaskShares(a1_a2=0, a1_t2=0, a1_t1=0, t1_a2=1, t1_t2=0)
    task = OmniConfig(
        data=OmniData(("data/turns.parquet",), read, (LENGTH,), SECONDS, skip_bad=True),
        valid=OmniData(("data/turns_valid.parquet",), read, (LENGTH,), SECONDS, skip_bad=True),
        init_from="runs/omni_stage2/export", freeze=(*ALIGN, "whisper_adapter/"), batch=32,
        optimizer=OptimizerConfig(lr=1e-3, warmup=100, weight_decay=0.01, final_lr=1e-4),
    )  # fmt: skip
    return TrainConfig(name="omni_stage2_voice", task=task, steps=800, log_every=50, valid_every=200)
