"""nano-omni's voice: a small SNAC at 16 kHz from nothing, on the agent's voice, the only one it will speak with.

python -m tools.synth utterances data/agent --hours 4 --agent-share 1
jomni train configs/omni_codec.py

Frames of 80 ms with 1, 2 and 4 codes, as Mini-Omni's streams want them. Metric: spectral. Not yet measured.
"""

from jomni.codec.snac_config import SnacConfig
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.snac import SnacData, SnacTrainConfig

MODEL = SnacConfig(
    sampling_rate=16_000, encoder_dim=8, encoder_rates=(8, 5, 4, 2), decoder_dim=256, decoder_rates=(2, 4, 5, 8),
    attn_window_size=None, codebook_size=512, vq_strides=(4, 2, 1),
)  # fmt: skip


def get_config() -> TrainConfig:
    """The run."""
    task = SnacTrainConfig(
        model=MODEL, data=SnacData("data/agent/MANIFEST.jsonl", frames=20, on_frames=True), batch=4, ema=0.999,
        optimizer=OptimizerConfig(lr=5e-4, b1=0.8, b2=0.99, weight_decay=1e-4, warmup=100, final_lr=2e-5),
    )  # fmt: skip
    return TrainConfig(name="omni_codec", task=task, steps=12_000, log_every=50, export_every=1000)
