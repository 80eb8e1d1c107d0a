"""Fixtures shared by all tests: small seeded checkpoints in Kyutai's layout, written without torch."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import jax
import numpy as np
import pytest
import sentencepiece

import jomni
from jomni.codec.config import MIMI
from jomni.weights.load import lm_tree, mimi_tree
from tests.tiny import TINY_MOSHI

SENTENCES = [
    "Hello, how are you today?", "I am well, thank you.", "The weather is fine.", "What would you like to hear?",
    "Tell me a story about the sea.", "Once upon a time there was a small boat.",
]  # fmt: skip

CODEC = dataclasses.replace(
    MIMI,
    seanet=dataclasses.replace(MIMI.seanet, n_filters=2, dimension=16),
    transformer=dataclasses.replace(
        MIMI.transformer, dim=16, num_heads=2, num_layers=1, dim_feedforward=32, context=20
    ),
    quantizer=dataclasses.replace(MIMI.quantizer, dimension=8, n_q=8, bins=32),
)
"""A Mimi of a few thousand parameters with Mimi's own rates: 24 kHz, frames of 1920 samples."""

TEXT_CARD = 48
LM = dataclasses.replace(TINY_MOSHI, text_card=TEXT_CARD, text_card_out=TEXT_CARD, depformer_num_layers=1)


def random_params(tree, seed):
    """Seeded parameters of the given shapes, such that signals keep about their size on the way through."""
    leaves, structure = jax.tree.flatten_with_path(tree)
    rng = np.random.default_rng(seed)
    values = []
    for path, leaf in leaves:
        name = path[-1].key
        if name in ("cluster_usage", "initialized", "alpha") or (name == "weight" and leaf.ndim == 1):
            value = 1 + 0.1 * rng.standard_normal(leaf.shape)  # usage, and the scales of norms
        elif name == "scale" or name == "bias":
            value = 0.3 * rng.standard_normal(leaf.shape)
        else:
            fan_in = np.prod(leaf.shape[:-1]) if name == "kernel" else leaf.shape[-1]
            value = rng.standard_normal(leaf.shape) * (2 / fan_in) ** 0.5
            if name == "embedding_sum":
                value = 2 * rng.standard_normal(leaf.shape)
        values.append(np.asarray(value, leaf.dtype))
    return jax.tree.unflatten(structure, values)


@pytest.fixture(scope="session")
def tokenizer_bytes() -> bytes:
    """A sentencepiece model of `TEXT_CARD` pieces, numbered as Moshi's: 0 unknown, 1 begin, 2 end, 3 padding."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=model, vocab_size=TEXT_CARD, model_type="bpe", pad_id=3,
        unk_id=0, bos_id=1, eos_id=2, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


@pytest.fixture(scope="session")
def tiny_mimi() -> jomni.Checkpoint:
    """A codec alone."""
    return jomni.Checkpoint("mimi", CODEC, None, {"mimi": random_params(mimi_tree(CODEC), 0)}, model_type="mimi")


@pytest.fixture(scope="session")
def tiny_moshi(tiny_mimi, tokenizer_bytes) -> jomni.Checkpoint:
    """A language model with its codec and tokenizer."""
    params = {"mimi": tiny_mimi.params["mimi"], "lm": random_params(lm_tree(LM), 1)}
    return jomni.Checkpoint("moshi", CODEC, LM, params, tokenizer_bytes)


@pytest.fixture(scope="session")
def tiny_mimi_file(tiny_mimi, tmp_path_factory) -> Path:
    """A bare Mimi file in Kyutai's layout, its configuration beside it."""
    folder = tmp_path_factory.mktemp("mimi") / "mimi"
    jomni.save(tiny_mimi, folder)
    return next(folder.glob("*.safetensors"))


@pytest.fixture(scope="session")
def tiny_moshi_folder(tiny_moshi, tmp_path_factory) -> Path:
    """A folder in Kyutai's layout."""
    folder = tmp_path_factory.mktemp("moshi") / "moshi"
    jomni.save(tiny_moshi, folder)
    return folder
