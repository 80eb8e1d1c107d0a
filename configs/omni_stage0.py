"""nano-omni, stage 0: a tiny text model from nothing, on the synthetic world's questions and answers.

python -m tools.synth turns data/turns.tsv --count 60000
python -m tools.synth turns data/turns_valid.tsv --count 1000 --seed 1
python -m tools.synth chat-tokenizer data/turns.tsv data/chat_tokenizer
jomni train configs/omni_stage0.py

Metric: valid/exact, the share of answers of which every token is foretold. Not yet measured.
"""

from jomni.models.decoder import DecoderConfig
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.text import TextConfig, TextData

MODEL = DecoderConfig(
    vocab_size=1024, dim=256, num_layers=6, num_heads=4, num_kv_heads=2, head_dim=64, hidden_dim=768,
    max_positions=1024, tied=True, qkv_bias=True,
)  # fmt: skip


def get_config() -> TrainConfig:
    """The run."""
    task = TextConfig(
        data=TextData("data/turns.tsv"), valid=TextData("data/turns_valid.tsv"), model=MODEL,
        tokenizer="data/chat_tokenizer", batch=64,
        optimizer=OptimizerConfig(lr=1.5e-3, warmup=200, weight_decay=0.05, final_lr=1e-4),
    )  # fmt: skip
    return TrainConfig(name="omni_stage0", task=task, steps=6000, log_every=50, valid_every=500)
