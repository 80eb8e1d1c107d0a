"""The codec of nano learns to speak from what its language model says: its decoder alone, the codes stay as they are.

A decoder that has only heard the codec's own codes loses its clarity over the nearly right ones that a language model
draws. Here it is given those, drawn frame by frame after the true past, and learns to make the true audio of them.

python -m tools.foretell data/train/MANIFEST.jsonl data/codes --model runs/nano_lm/export --limit 800
jomni train configs/nano_decoder.py --task.data.manifest data/train/SAID.jsonl --task.init_from runs/nano_voice/export
python -m tools.join_codec runs/nano_lm/export runs/nano_decoder/export runs/nano
"""

from jomni.codec.config import MIMI_NANO
from jomni.train.codec import CodecDataConfig, CodecTaskConfig
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig


def get_config() -> TrainConfig:
    return TrainConfig(
        name="nano_decoder",
        steps=4_000,
        log_every=50,
        checkpoint_every=500,
        export_every=500,
        task=CodecTaskConfig(
            model=MIMI_NANO,
            data=CodecDataConfig(
                manifest="data/train/SAID.jsonl",
                channels="left",
                on_frames=True,
                segment_seconds=1.92,
                batch=4,
                codes=".said.npy",
            ),
            init_from="runs/nano_voice/export",
            freeze=("encoder", "downsample", "quantizer"),
            optimizer=OptimizerConfig(lr=5e-4, b1=0.8, b2=0.99, weight_decay=1e-4, warmup=100, final_lr=1e-5),
        ),
    )
