"""nano-omni, stage 1, modality alignment: the text model of stage 0 is given a speech encoder, and stays as it is.

python -m tools.synth spoken data/turns.tsv data/turns.parquet --snac runs/omni_codec/export
python -m tools.synth spoken data/turns_valid.tsv data/turns_valid.parquet --snac runs/omni_codec/export --seed 1 \
    --voices heldout
jomni train nano_omni/stage1

The speech encoder is that of nano_omni/speech_encoder; the voice comes with nano_omni/stage2_voice.
docs/guides/train_mini_omni.md has the command for a published text model, speech encoder and codec.

Hardware: one CPU core, 5 min. Metric: valid/text_accuracy of what was heard (A1-T1), voices held out: 0.28.
"""

from jomni.data.turns.batches import TaskShares
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.mini_omni import ALIGN, OmniConfig, VoiceConfig
from jomni.train.tasks.mini_omni_data import OmniData

SECONDS, LENGTH = 3.2, 176
"""Seconds that the speech encoder takes at a time, and steps that hold them with a text: 99 % of the questions. Longer
ones are left out."""


def get_config() -> TrainConfig:
    """The run.

    So small a text model was never asked to repeat what it reads: so it answers what it hears, too, and what it reads,
    to learn how it is asked now.
    """
    shares = TaskShares(a1_a2=0, a1_t2=1, a1_t1=1, t1_a2=0, t1_t2=0.5)
    heard = TaskShares(a1_a2=0, a1_t2=0, a1_t1=1, t1_a2=0, t1_t2=0)
    task = OmniConfig(
        data=OmniData(("data/turns.parquet",), shares, (LENGTH,), SECONDS, skip_bad=True),
        valid=OmniData(("data/turns_valid.parquet",), heard, (LENGTH,), SECONDS, skip_bad=True),
        backbone="runs/omni_stage0/export", encoder="runs/omni_speech_encoder/export", freeze=ALIGN, batch=16,
        voice=VoiceConfig(post_adapter_layers=2, merge="sum", text_special=8, audio_size=512, audio_special=8),
        optimizer=OptimizerConfig(lr=1e-3, warmup=100, weight_decay=0.01, final_lr=1e-4),
    )  # fmt: skip
    return TrainConfig(name="omni_stage1", task=task, steps=250, log_every=50, valid_every=125)
