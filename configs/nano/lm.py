"""Train the language model of nano from random weights, on conversations encoded by its codec.

python -m tools.synth conversations data/train --hours 60
python -m tools.synth readings data/readings --hours 10
python -m tools.synth tokenizer data/words.model
python -m tools.synth facts data/facts.txt
jomni tokenize data/train/MANIFEST.jsonl data/codes --model runs/nano_voice/export
jomni tokenize data/readings/MANIFEST.jsonl data/read_codes --model runs/nano_voice/export
jomni train nano/lm --task.data.folders data/codes,data/read_codes,data/read_codes \
    --task.data.text data/facts.txt --task.tokenizer data/words.model --task.codec runs/nano_voice/export

Hardware: two CPU cores, 113 min. Metric: heard_accuracy, the accuracy of the user ASR head: 0.95 after 2,700
steps.
"""

from jomni.models.moshi.config import MoshiConfig
from jomni.train.config import TrainConfig
from jomni.train.optimizer import OptimizerConfig
from jomni.train.tasks.moshi import LMConfig
from jomni.train.tasks.moshi_data import ConversationData
from jomni.train.tasks.moshi_loss import LMLossConfig

MODEL = MoshiConfig(
    dim=256, num_heads=4, num_layers=6, delays=(0, 1, 1, *[2] * 6, *[0] * 4), n_q=12, dep_q=8, card=512,
    text_card=773, text_card_out=773, hidden_scale=3.0, norm="rms_norm_f32", context=250, gating="silu",
    positional_embedding="rope", extra_heads_num_heads=1, extra_heads_dim=773, depformer_dim=128,
    depformer_dim_feedforward=384, depformer_num_heads=4, depformer_num_layers=2, depformer_multi_linear=True,
    depformer_weights_per_step=True, depformer_weights_per_step_schedule=(0, 1, 2, 2, 2, 2, 2, 2),
    depformer_pos_emb="none", depformer_gating="silu",
)  # fmt: skip
"""The language model of nano. Its user streams are the codec's four semantic codebooks, its agent streams all eight.
Text precedes the first two agent streams by 80 ms and the others by 160 ms. The extra head is a user ASR head."""


def get_config() -> TrainConfig:
    return TrainConfig(
        name="nano_lm",
        steps=9_000,
        log_every=50,
        checkpoint_every=500,
        export_every=500,
        task=LMConfig(
            model=MODEL,
            data=ConversationData(
                folders=("data/codes", "data/read_codes", "data/read_codes"),
                frames=250,
                heard=True,
                keep_and_shift=True,
                text_lead=2,
                text="data/facts.txt",
                text_share=0.17,
            ),
            tokenizer="data/words.model",
            codec="runs/nano_voice/export",
            batch=8,
            depth_share=0.3,  # the text is harder to learn than the codes
            depth_moving=4.0,
            user_noise=0.06,
            agent_noise=0.08,
            temperature=0.3,
            text_temperature=0.0,
            ema=0.998,
            loss=LMLossConfig(text_weight=3.0, heard_weight=1.2, first_codebook_weight_multiplier=4.0),
            optimizer=OptimizerConfig(lr=1.5e-3, b1=0.9, b2=0.95, weight_decay=0.05, warmup=200, final_lr=1e-4),
        ),
    )
