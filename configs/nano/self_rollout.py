"""Train the language model of nano by self-rollout: the past of the agent's stream is sampled from the model.

jomni self-rollout data/codes data/self_rollout --model runs/nano_lm/export --text-lead 2 --keep-and-shift
jomni train nano/self_rollout --task.init_from runs/nano_lm/export \
    --task.data.folders data/self_rollout,data/read_codes --task.data.text data/facts.txt \
    --task.tokenizer data/words.model --task.codec runs/nano_voice/export

Hardware: one CPU core, 72 min. Metric: `jomni eval talk`; docs/reports/nano.md has the figures.
"""

import dataclasses

from jomni.configs.nano.lm import get_config as first_run

from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.moshi import LMConfig


def get_config() -> TrainConfig:
    run = first_run()
    task = run.task
    assert isinstance(task, LMConfig)
    data = dataclasses.replace(
        task.data, folders=("data/self_rollout", "data/read_codes"), own_share=0.85, text_share=0.1
    )
    task = dataclasses.replace(
        task, model=None, init_from="runs/nano_lm/export", data=data, depth_share=0.25,
        optimizer=OptimizerConfig(lr=9e-4, b1=0.9, b2=0.95, weight_decay=0.05, warmup=30, final_lr=2e-5),
    )  # fmt: skip
    return dataclasses.replace(run, name="nano_self_rollout", steps=3_700, task=task)
