"""Train encoder and semantic codebooks of nano's codec from random weights, with phones as targets.

nano/voice then trains acoustic codebooks and decoder.

python -m tools.synth utterances data/utterances --hours 24 --agent-share 0.12
jomni train nano/codec --task.data.manifest data/utterances/MANIFEST.jsonl

Hardware: two CPU cores, 29 min. Metric: distillation, the cross entropy of phones: 0.60 on new recordings.
"""

from jomni.models.mimi.config import MimiConfig, QuantizerConfig, SeanetConfig
from jomni.nn.config import TransformerConfig
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.mimi import CodecDataConfig, CodecTaskConfig, LossWeights
from jomni.train.tasks.mimi_quantizer import QuantizerTraining

# The phones of tools/synth, silence first.
PHONES = (
    "pau", "aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw", "b",
    "ch", "d", "dh", "f", "g", "hh", "jh", "k", "l", "m", "n", "ng", "p", "r", "s", "sh", "t", "th", "v", "w", "y",
    "z", "zh",
)  # fmt: skip

MODEL = MimiConfig(
    sample_rate=16_000,
    frame_rate=12.5,
    channels=1,
    seanet=SeanetConfig(
        dimension=192, n_filters=8, n_residual_layers=1, ratios=(4, 4, 5, 8), last_kernel_size=3, compress=2
    ),
    transformer=TransformerConfig(
        dim=192, num_heads=4, num_layers=3, dim_feedforward=576, context=32, layer_scale=0.3,
        positional_embedding="rope",
    ),
    quantizer=QuantizerConfig(dimension=64, n_q=8, n_q_semantic=4, bins=512),
)  # fmt: skip
"""The codec of nano: Mimi at 16 kHz with 8 codebooks of 512 entries, four of them semantic."""


def get_config() -> TrainConfig:
    return TrainConfig(
        name="nano_codec",
        steps=11_000,
        log_every=50,
        checkpoint_every=500,
        export_every=1000,
        task=CodecTaskConfig(
            model=MODEL,
            data=CodecDataConfig(
                manifest="data/utterances/MANIFEST.jsonl",
                segment_seconds=1.92,
                batch=8,
                teacher="phones",
                phones=PHONES,
                lookahead=0.08,
                gain_db=(-6.0, 3.0),
            ),
            input_gain=20.0,
            freeze=("decoder", "upsample", "quantizer/rvq_rest"),
            distillation="cross_entropy",
            quantizer=QuantizerTraining(quantize=1.0, all_codebooks=1.0),
            weights=LossWeights(spectral=0.0, distillation=3.0),
            optimizer=OptimizerConfig(
                lr=1e-3, b1=0.8, b2=0.99, weight_decay=1e-4, warmup=100, schedule="linear", final_lr=5e-5
            ),
        ),
    )
