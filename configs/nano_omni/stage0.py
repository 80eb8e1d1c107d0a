"""Train nano-omni, stage 0: a tiny text model from random weights, on questions and answers of the synthetic corpus.

python -m tools.synth turns data/turns.tsv --count 60000 --kinds add subtract compare day month opposite colour number \
    fact sound greeting
python -m tools.synth turns data/turns_valid.tsv --count 1000 --seed 1 --kinds ...
python -m tools.synth chat-tokenizer data/turns.tsv data/chat_tokenizer
jomni train nano_omni/stage0

`python -m tools.make_nano_omni work` runs all stages. Hardware: one CPU core, 20 min. Metric: valid/exact, the share of
answers with all tokens right: 1.00.
"""

from jomni.models.decoder import DecoderConfig
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.decoder import TextConfig, TextData

MODEL = DecoderConfig(
    vocab_size=1024, dim=192, num_layers=4, num_heads=4, num_kv_heads=2, head_dim=48, hidden_dim=576,
    max_positions=1024, tied=True, qkv_bias=True,
)  # fmt: skip
"""The vocabulary has one token for each word of the corpus."""


def get_config() -> TrainConfig:
    """Return the run."""
    task = TextConfig(
        data=TextData("data/turns.tsv", steps=24), valid=TextData("data/turns_valid.tsv", steps=24), model=MODEL,
        tokenizer="data/chat_tokenizer", batch=64,
        optimizer=OptimizerConfig(lr=2e-3, warmup=150, weight_decay=0.05, final_lr=1e-4),
    )  # fmt: skip
    return TrainConfig(name="omni_stage0", task=task, steps=2500, log_every=50, valid_every=250)
