"""Train nano-omni's speech encoder, a small Whisper encoder, from random weights to classify phones in 5 s windows.

python -m tools.synth utterances data/utterances --hours 24 --agent-share 0.12
jomni train nano_omni/speech_encoder

It replaces the published Whisper of the method. Hardware: one CPU core, 29 min. Metric: accuracy, the share of 20 ms
frames with the right phone: 0.91.
"""

from jomni.configs.nano.codec import PHONES

from jomni.models.whisper import WhisperConfig
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.whisper import SpeechEncoderConfig, SpeechEncoderData

MODEL = WhisperConfig(
    n_mels=80, n_audio_ctx=250, n_audio_state=192, n_audio_head=3, n_audio_layer=4, n_vocab=1, n_text_ctx=1,
    n_text_state=192, n_text_head=3, n_text_layer=1,
)  # fmt: skip
"""The window is 5 seconds. Whisper's text decoder is not built."""


def get_config() -> TrainConfig:
    """Return the run."""
    task = SpeechEncoderConfig(
        model=MODEL, data=SpeechEncoderData("data/utterances/MANIFEST.jsonl", PHONES, seconds=2.0, gain_db=(-6.0, 3.0)),
        batch=16, ema=0.998,
        optimizer=OptimizerConfig(lr=1e-3, warmup=200, weight_decay=0.01, final_lr=5e-5),
    )  # fmt: skip
    return TrainConfig(name="omni_speech_encoder", task=task, steps=3_300, log_every=50, export_every=1000)
