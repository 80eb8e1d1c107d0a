"""Codecs through their common interface: interchangeable streams, and inputs that do not fit, refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jomni
from jomni.errors import AudioError
from tests.tiny import TINY_MIMI, random_params

pytestmark = pytest.mark.compiled_quickly

MODULES = {"mimi": jomni.Mimi(TINY_MIMI, 4), "snac": jomni.Snac(jomni.SnacConfig.tiny())}


def made(name):
    module = MODULES[name]
    codec = jomni.MimiCodec(module) if name == "mimi" else jomni.SnacCodec(module)
    return codec, random_params(module, jnp.zeros((1, 1, codec.frame_size)))


@pytest.mark.parametrize("name", MODULES)
def test_a_caller_streams_any_codec_alike(name):
    codec, params = made(name)
    assert isinstance(codec, jomni.Codec)
    params = codec.prepare(params)
    block = 6 * codec.frame_multiple
    pcm = 0.1 * jax.random.normal(jax.random.key(0), (2, 1, 3 * block * codec.frame_size))
    whole = jomni.encode(codec, params, pcm)
    wanted = np.asarray(jomni.decode(codec, params, whole))

    state, pieces = codec.init_encode_state(2, block), []
    for piece in jnp.split(pcm, 3, -1):
        state, codes = jomni.encode_step(codec, params, state, piece)
        pieces.append(codes)
    pieces.append(codec.encode_flush(params, state)[1])
    streamed = jax.tree.map(lambda *leaves: np.concatenate(leaves, -1), *pieces)
    for ours, theirs in zip(jax.tree.leaves(streamed), jax.tree.leaves(whole), strict=True):
        late = ours.shape[-1] - theirs.shape[-1]  # encode_delay frames, of one token or several
        assert bool(late) == bool(codec.encode_delay)
        np.testing.assert_array_equal(ours[..., late:], theirs)

    state, audio = codec.init_decode_state(2, block), []
    for n in range(3):
        part = jax.tree.map(lambda x, n=n: jnp.split(x, 3, -1)[n], whole)
        state, pcm = jomni.decode_step(codec, params, state, part)
        audio.append(pcm)
    audio.append(codec.decode_flush(params, state)[1])
    error = np.abs(np.concatenate(audio, -1)[..., codec.decode_delay :] - wanted).max()
    assert error < 1e-5 * np.sqrt(np.mean(wanted**2))


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda x: x[:, 0], "shape"), (lambda x: jnp.concatenate([x, x], 1), "shape"), (lambda x: x[..., :0], "shape"),
        (lambda x: x[..., :-1], "multiple of"), (lambda x: (x * 3e4).astype(jnp.int16), "int16"),
        (lambda x: x[:1], "batch of 1.* 2"),
    ],
)  # fmt: skip
def test_a_step_refuses_samples_that_do_not_fit_by_name(name, change, word):
    codec, params = made(name)
    pcm = jnp.zeros((2, 1, codec.frame_size * codec.frame_multiple))
    with pytest.raises(AudioError, match=word):
        codec.encode_step(params, codec.init_encode_state(2), change(pcm))


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    ("change", "word"),
    [(lambda x: x.astype(jnp.float32), "float32"), (lambda x: x[:1], "batch of 1.* 2")],
)
def test_a_step_refuses_codes_that_do_not_fit_by_name(name, change, word):
    codec, params = made(name)
    codes = jomni.encode(codec, params, jnp.zeros((2, 1, codec.frame_size)))
    with pytest.raises(AudioError, match=word):
        codec.decode_step(params, codec.init_decode_state(2), jax.tree.map(change, codes))
