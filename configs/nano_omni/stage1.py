"""Train nano-omni, stage 1, modality alignment: the adapter of the speech encoder, with a frozen text model.

python -m tools.synth spoken data/turns.tsv data/turns.parquet --snac runs/omni_codec/export
python -m tools.synth spoken data/turns_valid.tsv data/turns_valid.parquet --snac runs/omni_codec/export --seed 1 \
    --voices heldout
jomni train nano_omni/stage1

The speech encoder comes from nano_omni/speech_encoder. nano_omni/stage2_voice trains speech output.
docs/guides/train_mini_omni.md has the command for a published text model, speech encoder and codec.

Hardware: one CPU core, 5 min. Metric: valid/text_accuracy of transcripts (A1-T1, held-out voices): 0.28.
"""

from jomni.data.turns.batches import TaskShares
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.mini_omni import ALIGN, OmniConfig, VoiceConfig
from jomni.train.tasks.mini_omni_data import OmniData

SECONDS, LENGTH = 3.2, 176
"""Window of the speech encoder, and steps of an example: enough for 99 % of the questions. Longer ones are left out."""


def get_config() -> TrainConfig:
    """Return the run.

    The text model was not trained to repeat questions. So the tasks include answers to spoken and written questions,
    which also train the new prompt tokens.
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
