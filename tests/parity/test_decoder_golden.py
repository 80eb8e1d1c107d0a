"""jomni beside transformers' text decoders, from answers kept in tests/parity/data/decoder.

tools/goldens/make_decoder.py made them.
"""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from jomni.checkpoints.checkpoint import Checkpoint
from jomni.checkpoints.load import load
from jomni.generation.template import render
from jomni.models.decoder import Decoder
from jomni.models.decoder import weights as decoder_weights
from jomni.models.decoder.generate import TextGenerator, TextSession
from jomni.models.decoder.weights import read_decoder_config
from tests.cases import slow_except
from tests.parity.compare import largest_difference
from tests.paths import PARITY_DATA
from tools.goldens.chats import CASES as CHATS
from tools.goldens.chats import SPECIAL, TEMPLATES
from tools.goldens.decoder import EVERY, PROMPT, write_folder

DATA = PARITY_DATA / "decoder"
CASES = json.loads((DATA / "cases.json").read_text())
LAYOUTS = json.loads((DATA / "layouts.json").read_text())


def logits_of(checkpoint: Checkpoint, tokens: np.ndarray) -> np.ndarray:
    """The training form: whole sequences."""
    decoder = Decoder(checkpoint.configs["decoder"])
    whole = jax.jit(lambda params, tokens: decoder.apply({"params": params}, tokens, method="whole"))
    return np.asarray(whole(checkpoint.params["decoder"], tokens))


def greedy(checkpoint: Checkpoint, tokens: np.ndarray, count: int, block: int = 16) -> np.ndarray:
    """Prefill in blocks, then decoding step by step."""
    generator = TextGenerator(Decoder(checkpoint.configs["decoder"]), tokens.shape[1] + count, block)
    session = TextSession(generator, checkpoint.params["decoder"], len(tokens))
    return np.array(list(session.answer(tokens.tolist(), max_tokens=count))).T


@pytest.mark.parametrize("case", slow_except({"qwen2", "llama3", "gemma3"}, CASES))
def test_logits_and_200_greedy_tokens_are_those_of_transformers(case, tmp_path, say):
    checkpoint = load(write_folder(tmp_path, case, CASES[case]))
    golden = dict(np.load(DATA / f"{case}.npz"))
    tokens = golden["tokens"].astype(np.int32)
    window = checkpoint.configs["decoder"].window
    assert tokens.shape[1] == PROMPT and (window is None or 3 * window < PROMPT)
    difference = largest_difference(logits_of(checkpoint, tokens)[:, EVERY - 1 :: EVERY], golden["logits"])
    say(f"{case}: logits differ by {difference:.1e} at most (standard deviation {golden['logits'].std():.2f})")
    assert golden["logits"].std() > 1 and difference < 1e-3
    assert golden["answer"].shape[1] >= 200
    np.testing.assert_array_equal(greedy(checkpoint, tokens, golden["answer"].shape[1]), golden["answer"])


@pytest.mark.parametrize("name", LAYOUTS)
def test_names_and_shapes_of_published_models_are_those_of_transformers(name):
    config = read_decoder_config(LAYOUTS[name]["config"], name)
    expected = decoder_weights.weight_map(config).expect(decoder_weights.abstract_params(config))
    assert {t.name: list(t.shape) for t in expected} == LAYOUTS[name]["tensors"]


@pytest.mark.parametrize("name", CHATS)
def test_chats_are_written_out_as_transformers_does(name):
    chat = CHATS[name]
    golden = json.loads((DATA / "chats.json").read_text())[name]
    given = render(
        TEMPLATES[chat["template"]], chat["messages"], SPECIAL, add_generation_prompt=chat["add_generation_prompt"]
    )
    assert given == golden
