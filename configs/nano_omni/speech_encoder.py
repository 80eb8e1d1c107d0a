"""nano-omni's speech encoder: a small Whisper encoder from nothing; it names users' phones in 5 s windows.

python -m tools.synth utterances data/utterances --hours 24 --agent-share 0.12
jomni train nano_omni/speech_encoder

Hardware: one CPU core, 29 min. It stands in for a published Whisper, which the method takes for granted. Metric:
accuracy, share of the 20 ms frames whose phone is named: 0.91.
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
"""5 seconds. The text decoder that a Whisper has besides is not built."""


def get_config() -> TrainConfig:
    """The run."""
    task = SpeechEncoderConfig(
        model=MODEL, data=SpeechEncoderData("data/utterances/MANIFEST.jsonl", PHONES, seconds=2.0, gain_db=(-6.0, 3.0)),
        batch=16, ema=0.998,
        optimizer=OptimizerConfig(lr=1e-3, warmup=200, weight_decay=0.01, final_lr=5e-5),
    )  # fmt: skip
    return TrainConfig(name="omni_speech_encoder", task=task, steps=3_300, log_every=50, export_every=1000)
