"""The language model of nano again, after it has rehearsed: it learns from a past that it hears in its own voice.

jomni rehearse data/codes data/rehearsed --model runs/nano_lm/export --text-lead 2 --keep-and-shift
jomni train configs/nano_rehearsed.py --task.init_from runs/nano_lm/export \
    --task.data.folders data/rehearsed,data/read_codes --task.data.text data/facts.txt \
    --task.tokenizer data/words.model --task.codec runs/nano_voice/export

Hardware: one CPU core, 72 min. Metric: `jomni eval talk`; docs/training.md has the figures.
"""

import dataclasses

from nano_lm import get_config as unrehearsed

from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.moshi import LMConfig


def get_config() -> TrainConfig:
    run = unrehearsed()
    task = run.task
    assert isinstance(task, LMConfig)
    data = dataclasses.replace(task.data, folders=("data/rehearsed", "data/read_codes"), own_share=0.85, text_share=0.1)
    task = dataclasses.replace(
        task, model=None, init_from="runs/nano_lm/export", data=data, depth_share=0.25,
        optimizer=OptimizerConfig(lr=9e-4, b1=0.9, b2=0.95, weight_decay=0.05, warmup=30, final_lr=2e-5),
    )  # fmt: skip
    return dataclasses.replace(run, name="nano_rehearsed", steps=3_700, task=task)
