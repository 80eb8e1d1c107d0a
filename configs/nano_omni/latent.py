"""Train nano-omni's codec, a small SNAC at 16 kHz, on the agent's voice, without quantisation.

python -m tools.synth utterances data/agent --hours 1.5 --agent-share 1 --kinds add subtract compare day month \
    opposite colour number fact sound greeting
jomni train nano_omni/latent

With random codebooks from the beginning, the latents collapse. Hardware: one CPU core, 31 min. Metric: spectral.
"""

from jomni.models.snac.config import SnacConfig
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.snac import SnacData, SnacTrainConfig

MODEL = SnacConfig(
    sampling_rate=16_000, encoder_dim=8, encoder_rates=(8, 5, 2, 2, 2), decoder_dim=256, decoder_rates=(2, 2, 2, 5, 8),
    attn_window_size=None, codebook_size=512, vq_strides=(4, 2, 1),
)  # fmt: skip
"""Frames of 80 ms with 1, 2 and 4 codes, as in Mini-Omni. Few layers run at the full rate, because they are slow on a
CPU."""


def get_config() -> TrainConfig:
    """Return the run."""
    task = SnacTrainConfig(
        model=MODEL, data=SnacData("data/agent/MANIFEST.jsonl", frames=20, on_frames=True), batch=4, quantize=0.0,
        ema=0.99, optimizer=OptimizerConfig(lr=5e-4, b1=0.8, b2=0.99, weight_decay=1e-4, warmup=100, final_lr=1e-4),
    )  # fmt: skip
    return TrainConfig(name="omni_latent", task=task, steps=2_000, log_every=50)
