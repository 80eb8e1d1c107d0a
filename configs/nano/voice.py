"""Train acoustic codebooks and decoder of nano's codec from random weights, on the agent's voice.

Encoder and semantic codebooks are frozen.

python -m tools.synth conversations data/train --hours 60
jomni train nano/voice --task.data.manifest data/train/MANIFEST.jsonl --task.init_from runs/nano_codec/export

Hardware: one CPU core, 35 min. Metric: spectral distance, on new recordings 0.36; after 24,000 more steps of the
decoder alone (`--task.freeze encoder,downsample,quantizer`, 57 min) 0.29.
"""

from jomni.configs.nano.codec import MODEL

from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.mimi import CodecDataConfig, CodecTaskConfig
from jomni.train.tasks.mimi_quantizer import QuantizerTraining


def get_config() -> TrainConfig:
    return TrainConfig(
        name="nano_voice",
        steps=12_000,
        log_every=50,
        checkpoint_every=500,
        export_every=500,
        task=CodecTaskConfig(
            model=MODEL,
            data=CodecDataConfig(
                manifest="data/train/MANIFEST.jsonl", channels="left", on_frames=True, segment_seconds=1.92, batch=4
            ),
            init_from="runs/nano_codec/export",
            freeze=("encoder", "downsample", "quantizer/rvq_first"),
            quantizer=QuantizerTraining(quantize=1.0, all_codebooks=1.0),
            optimizer=OptimizerConfig(lr=5e-4, b1=0.8, b2=0.99, weight_decay=1e-4, warmup=100, final_lr=2e-5),
        ),
    )
