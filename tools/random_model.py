"""Write a small Moshi with seeded random weights, for tests and trials that need no trained model.

    python -m tools.random_model FOLDER

FOLDER then holds codec, language model, tokenizer and config.json in Kyutai's layout, at a size that compiles in
seconds.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import sentencepiece

import jomni
from jomni.models.mimi import weights as mimi_weights
from jomni.models.mimi.config import MimiConfig
from jomni.models.moshi import weights as moshi_weights
from jomni.models.moshi.config import MoshiConfig

CODEC = MimiConfig.tiny()
LM = MoshiConfig.tiny()

_SENTENCES = (
    "Hello, how are you today?", "I am well, thank you.", "The weather is fine.", "What would you like to hear?",
    "Tell me a story about the sea.", "Once upon a time there was a small boat.",
)  # fmt: skip


def random_params(tree: Any, seed: int) -> Any:
    """Return random parameters that keep the size of signals; no scale is 1 and no bias 0.

    Args:
      tree: parameters or their shapes.
      seed: of the random numbers.
    """
    leaves, structure = jax.tree.flatten_with_path(tree)
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        name, values = path[-1].key, rng.standard_normal(leaf.shape)
        if name in ("cluster_usage", "initialized", "alpha", "scale") or (name == "weight" and leaf.ndim == 1):
            return 1 + 0.3 * np.tanh(values)  # usage, scales of norms and layer scales
        if leaf.ndim == 1:
            return 0.3 * values
        if name == "embedding_sum":
            return 2 * values
        return values * (2 / (np.prod(leaf.shape[:-1]) if name == "kernel" else leaf.shape[-1])) ** 0.5

    return jax.tree.unflatten(structure, [np.asarray(draw(path, leaf), leaf.dtype) for path, leaf in leaves])


def random_tokenizer(vocabulary: int) -> bytes:
    """Return a sentencepiece model with Moshi's special tokens: 0 unknown, 1 begin, 2 end, 3 padding."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_SENTENCES), model_writer=model, vocab_size=vocabulary, model_type="bpe", pad_id=3,
        unk_id=0, bos_id=1, eos_id=2, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def random_checkpoint(seed: int = 0) -> jomni.Checkpoint:
    """Return the small model: codec, language model and tokenizer."""
    params = {
        "mimi": random_params(mimi_weights.abstract_params(CODEC), seed),
        "lm": random_params(moshi_weights.abstract_params(LM), seed + 1),
    }
    last = params["mimi"]["decoder"][f"model_{3 * len(CODEC.seanet.ratios) + 2}"]
    last["kernel"] *= np.float32(0.05)  # at the level of speech
    return jomni.Checkpoint("moshi", {"lm": LM, "mimi": CODEC}, params, tokenizer=random_tokenizer(LM.text_card))


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tools.random_model FOLDER")
    jomni.save(random_checkpoint(), Path(sys.argv[1]))
    print(f"wrote a small model with random weights to {sys.argv[1]}")


if __name__ == "__main__":
    main()
