"""nano-omni, stage 1, modality alignment: the text model of stage 0 is given ears and a voice, and stays as it is.

python -m tools.synth spoken data/turns.tsv data/turns.parquet --snac runs/omni_codec/export
python -m tools.synth spoken data/turns_valid.tsv data/turns_valid.parquet --snac runs/omni_codec/export --seed 1 \
    --voices heldout
jomni train configs/omni_stage1.py

The speech encoder begins here from nothing, so it trains along, in this stage alone. docs/training.md has the command
for a published text model, speech encoder and codec.

Metric: valid/text_accuracy of what was heard (A1-T1). Not yet measured.
"""

from jomni.data.omni_batches import TaskShares
from jomni.models.whisper import WhisperConfig
from jomni.train.config import TrainConfig
from jomni.train.omni import ALIGN, OmniConfig, VoiceConfig
from jomni.train.omni_data import OmniData
from jomni.train.optimizer import OptimizerConfig

ENCODER = WhisperConfig(
    n_mels=80, n_audio_ctx=400, n_audio_state=256, n_audio_head=4, n_audio_layer=4, n_vocab=1, n_text_ctx=1,
    n_text_state=256, n_text_head=4, n_text_layer=1,
)  # fmt: skip
"""8 seconds. The text decoder that a Whisper has besides is not built."""


def get_config() -> TrainConfig:
    """The run."""
    task = OmniConfig(
        data=OmniData(
            ("data/turns.parquet",), TaskShares(a1_a2=0, a1_t2=0, a1_t1=2, t1_a2=1, t1_t2=0), (256, 512), seconds=8.0
        ),
        valid=OmniData(
            ("data/turns_valid.parquet",), TaskShares(0, 0, a1_t1=1, t1_a2=0, t1_t2=0), (512,), seconds=8.0
        ),
        backbone="runs/omni_stage0/export", encoder_model=ENCODER, freeze=ALIGN[1:], batch=16,
        voice=VoiceConfig(audio_size=512),
        optimizer=OptimizerConfig(lr=1e-3, warmup=200, weight_decay=0.01, final_lr=1e-4),
    )  # fmt: skip
    return TrainConfig(name="omni_stage1", task=task, steps=8000, log_every=50, valid_every=500)
