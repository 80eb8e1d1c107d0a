"""The bundled model says what Kyutai's own code says with its files, as recorded by tools/goldens/make_nano.py."""

import jax
import numpy as np
import pytest

from tests.parity import nano_side
from tests.parity.compare import audio_error
from tools.goldens.nano_case import GOLDEN, digest, question, sketch


@pytest.fixture(scope="module")
def theirs():
    with np.load(GOLDEN) as held:
        return dict(held)


def test_the_golden_is_of_the_files_that_are_bundled(theirs):
    assert theirs["digest"] == digest(), "run python -m tools.goldens.make_nano where the original is installed"


def test_nano_says_what_kyutais_code_said_with_its_files(theirs):
    checkpoint, duplex = nano_side.load()
    with jax.default_matmul_precision("highest"):
        text, voice = nano_side.converse(
            checkpoint, duplex, question(duplex.frame_size, checkpoint.configs["mimi"].sample_rate)
        )
    np.testing.assert_array_equal(text, theirs["text"])
    assert (text > 3).sum() > 8
    assert audio_error(sketch(voice, duplex.frame_size), theirs["sketch"]) < 1e-4
