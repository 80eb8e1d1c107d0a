"""The bundled model in Kyutai's own code: its files are theirs to read, and it says the same there."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import jomni
from jomni import audio
from jomni.weights.hub import ASSETS
from tests.parity.compare import audio_error

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("one_thread_and_float32")]
torch = pytest.importorskip("torch")
pytest.importorskip("moshi")

from tools.goldens import kyutai  # noqa: E402

NANO = ASSETS / "nano"


def test_kyutais_code_says_what_nano_says(say):
    raw = json.loads((NANO / "config.json").read_text())
    names = ("config.json", raw["moshi_name"], raw["mimi_name"], raw["mimi_config_name"], raw["tokenizer_name"])
    config, weights, codec, codec_config, tokenizer = (NANO / name for name in names)
    info = kyutai.loaders.CheckpointInfo.from_hf_repo(
        "nano", moshi_weights=weights, mimi_weights=codec, tokenizer=tokenizer, config_path=config,
        mimi_config_path=codec_config,
    )  # fmt: skip
    mimi = kyutai.loaders.get_mimi(codec, info.mimi_config, num_codebooks=8)
    lm = info.get_moshi(dtype=torch.float32)  # through `get_moshi_lm`

    checkpoint = jomni.load("nano", dtype="float32")
    duplex = jomni.Duplex.from_checkpoint(checkpoint)
    params = duplex.prepare(checkpoint.params)
    size, rate = duplex.frame_size, checkpoint.mimi.sample_rate
    question = audio.read(ASSETS / "samples/conversation.wav", rate)
    question = np.pad(question, (0, -len(question) % size + 40 * size))[None, None]
    text, voice = kyutai.converse(mimi, lm, question)

    state = duplex.initial_state(1, ring="kyutai")
    controls = duplex.controls(1, temperature=0.0, text_temperature=0.0)
    texts, voices = [], []
    for frame in np.split(question, question.shape[-1] // size, -1):
        state, out = duplex.step(params, state, jnp.asarray(frame), controls)
        if np.asarray(out.valid).all():
            texts.append(np.asarray(out.text))
            voices.append(np.asarray(out.pcm))
    np.testing.assert_array_equal(np.stack(texts, 1), text)
    error = audio_error(np.concatenate(voices, -1), voice)
    said = checkpoint.text_tokenizer().decode([int(token) for token in text[0] if token > 3])
    assert len(said.split()) > 8
    say(f"nano: {text.size} text tokens equal, audio {error:.1e} of RMS: {said!r}")
    assert error < 1e-4
