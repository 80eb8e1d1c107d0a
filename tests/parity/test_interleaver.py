"""Text-audio alignment against moshi-finetune: its recorded tokens, and live where JOMNI_MOSHI_FINETUNE is a checkout.

The recording is made by tools/goldens/interleaver.py.
"""

import json
import math
import os
import types

import numpy as np
import pytest

from jomni.data.conversations.alignment import Alignment, Pieces, Word, align, between
from tools.goldens import interleaver as cases

CHECKOUT = os.environ.get("JOMNI_MOSHI_FINETUNE")
NAMES = {"use_bos_eos": "bos_eos", "main_speaker_label": "main_speaker"}


def ours(options, words, seconds, tokenizer):
    options = Alignment(**{"keep_main_only": False, **{NAMES.get(k, k): v for k, v in options.items()}})
    words = [Word(text, *span, speaker) for text, span, speaker in words]
    return align(words, math.ceil(seconds * 12.5), Pieces(tokenizer), options)


@pytest.fixture
def original():
    """The original's module."""
    if CHECKOUT is None:
        pytest.skip("JOMNI_MOSHI_FINETUNE is not set to a checkout of kyutai-labs/moshi-finetune")
    return cases.original(CHECKOUT)


@pytest.mark.parametrize("name", cases.OPTIONS)
def test_the_tokens_are_those_that_the_original_gave(name):
    for seed, golden in enumerate(json.loads(cases.GOLDEN.read_text())[name]):
        words, seconds = cases.conversation(seed)
        np.testing.assert_array_equal(ours(cases.OPTIONS[name], words, seconds, cases.Letters()), golden, str(seed))


@pytest.mark.peers
@pytest.mark.parametrize("name", cases.OPTIONS)
def test_the_tokens_of_many_conversations_are_those_of_the_original(name, original):
    seen = set()
    for seed in range(100, 500):
        words, seconds = cases.conversation(seed)
        theirs = cases.run_original(original, cases.Letters(), cases.OPTIONS[name], words, seconds)
        np.testing.assert_array_equal(ours(cases.OPTIONS[name], words, seconds, cases.Letters()), theirs, str(seed))
        seen |= set(theirs)
    assert len(seen) > 40


@pytest.mark.peers
def test_windows_of_a_conversation_are_those_of_the_original(original, tmp_path, monkeypatch):
    # Its InterleavedTokenizer, with a codec that gives zeros.
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    mimi = types.SimpleNamespace(frame_rate=12.5, encode=lambda wav: torch.zeros(1, 1, 25, dtype=torch.int64))
    options = cases.OPTIONS["as trained"]
    tokenizer = original.InterleavedTokenizer(
        mimi, original.Interleaver(cases.Letters(), 12.5, **cases.SPECIAL, **options, device="cpu"), 2.0
    )
    for seed in range(60):
        words = cases.conversation(seed)[0]
        (tmp_path / "x.json").write_text(json.dumps({"alignments": words}))
        for start in np.random.default_rng(seed).uniform(0, 4, 5).tolist() + [word[1][0] for word in words[:3]]:
            theirs = tokenizer(np.zeros((1, 1)), start, str(tmp_path / "x.wav")).codes[0, 0]
            held = between([Word(text, *span, speaker) for text, span, speaker in words], start, 2.0)
            np.testing.assert_array_equal(align(held, 25, Pieces(cases.Letters()), Alignment()), theirs)
