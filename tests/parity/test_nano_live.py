"""The bundled model in Kyutai's own code: its files are theirs to read, and it says the same there."""

import numpy as np
import pytest

from tests.parity import nano_side
from tests.parity.compare import audio_error

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("one_thread_and_float32")]
pytest.importorskip("torch")
pytest.importorskip("moshi")

from tools.goldens import make_nano  # noqa: E402
from tools.goldens.nano_case import question  # noqa: E402


def test_kyutais_code_says_what_nano_says(say):
    text, voice = make_nano.converse()
    checkpoint, duplex = nano_side.load()
    heard = question(duplex.frame_size, checkpoint.configs["mimi"].sample_rate)
    texts, voices = nano_side.converse(checkpoint, duplex, heard)
    np.testing.assert_array_equal(texts, text)
    error = audio_error(voices, voice)
    said = checkpoint.text_tokenizer().decode([int(token) for token in text[0] if token > 3])
    assert len(said.split()) > 8
    say(f"nano: {text.size} text tokens equal, audio {error:.1e} of RMS: {said!r}")
    assert error < 1e-4
