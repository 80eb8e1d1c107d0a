"""SNAC's streaming decode keeps the contract, though it looks ahead: it runs late by a number that is stated."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jomni.models.snac import model as snac
from jomni.models.snac.config import SNAC_24KHZ, SNAC_44KHZ
from jomni.models.snac.layers import squared_sine
from jomni.models.snac.model import Snac
from jomni.nn import reset
from jomni.nn.contract import verify_contract
from jomni.nn.lookahead import Block
from tests.tiny import random_params

SPEECH = dataclasses.replace(SNAC_24KHZ, encoder_dim=2, decoder_dim=16, codebook_size=32, codebook_dim=4)
"""snac_24khz, narrow: all its rates."""
MUSIC = dataclasses.replace(
    SNAC_44KHZ, encoder_dim=16, encoder_rates=(2, 3), decoder_dim=64, decoder_rates=(3, 2), attn_window_size=8,
    vq_strides=(4, 2, 1), codebook_size=32, codebook_dim=4,
)  # fmt: skip
"""snac_44khz in small: an odd rate, attention in windows of two frames."""
PLAIN = dataclasses.replace(MUSIC, attn_window_size=None, noise=False, depthwise=False)
CASES = {"speech": SPEECH, "music": MUSIC, "plain": PLAIN}
QUIETER = {"speech": 0.003, "music": 0.1, "plain": 0.3}
"""Factor on the last convolution, so that the tanh after it does not hide what comes before."""
ROWS = 3
KEYS = jax.random.split(jax.random.key(7), ROWS)


@functools.cache
def made(case):
    codec = Snac(CASES[case])
    pcm = jnp.zeros((1, 1, codec.config.frame_size * codec.config.frame_multiple))
    params = random_params(codec, pcm)
    layers = params["decoder"]
    last = last_convolution(layers)
    scaled = {k: v if k == "direction" else QUIETER[case] * v for k, v in layers[last].items()}
    return codec, {**params, "decoder": {**layers, last: scaled}}


def last_convolution(layers):
    return max((k for k in layers if "direction" in layers[k]), key=lambda name: int(name.split("_")[1]))


def standardised(codec, params, pcm):
    """Gives the encoder's latent mean 0 and deviation 1: else its biases would make every code the same."""
    latent = codec.apply({"params": params}, pcm, method=lambda self, x: self.encoder(Block(x.swapaxes(1, 2)))[0].steps)
    mean, deviation = latent.mean((0, 1)), latent.std((0, 1))
    layers = params["encoder"]
    last = last_convolution(layers)
    layer = layers[last]
    new = {"magnitude": layer["magnitude"] / deviation, "bias": (layer["bias"] - mean) / deviation}
    return {**params, "encoder": {**layers, last: layer | new}}


def codes_of(config, frames, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(
        jnp.asarray(rng.integers(0, config.codebook_size, (ROWS, frames * n)), jnp.int32)
        for n in config.tokens_per_frame
    )


def frames_of(config, codes, first, last):
    return tuple(c[:, first * n : last * n] for c, n in zip(codes, config.tokens_per_frame, strict=True))


def in_steps(codec, params, codes, size):
    """All samples that steps of `size` frames and the flush give."""
    state, out = codec.init_decode_state(ROWS), []
    for first in range(0, codes[0].shape[1], size):
        piece = frames_of(codec.config, codes, first, first + size)
        state, pcm = snac.decode_step(codec, params, state, piece, noise=KEYS)
        assert pcm.shape == (ROWS, 1, size * codec.config.frame_size)
        out.append(pcm)
    state, pcm = snac.decode_flush(codec, params, state, noise=KEYS)
    return np.concatenate([*out, pcm], -1), state


@pytest.mark.parametrize(
    ("case", "size"),
    [
        ("music", 2), ("plain", 5), *(
            pytest.param(case, size, marks=pytest.mark.slow)
            for case, size in [*(("speech", n) for n in range(1, 9)), ("music", 6), ("plain", 1)]
        ),
    ],
)  # fmt: skip
def test_steps_and_flush_joined_together_are_the_whole(case, size):
    codec, params = made(case)
    ahead = codec.config.look_ahead
    frames = size * max(2, -(-8 // size))
    codes = codes_of(codec.config, frames)
    whole = np.asarray(snac.decode(codec, params, codes, KEYS))
    joined, _ = in_steps(codec, params, codes, size)
    assert joined.shape[-1] == whole.shape[-1] + ahead
    assert not joined[..., :ahead].any()
    assert np.abs(joined[..., ahead:] - whole).max() < 1e-5
    assert 0.05 < whole.std() < 0.9
    compiled = snac.decode_step._cache_size()
    in_steps(codec, params, codes_of(codec.config, frames, seed=1), size)
    assert snac.decode_step._cache_size() == compiled


@pytest.mark.parametrize(
    ("case", "size"), [pytest.param("speech", 3, marks=pytest.mark.slow), ("music", 4), ("plain", 2)]
)
def test_encoding_in_steps_and_a_flush_gives_the_codes_of_the_whole(case, size):
    codec, params = made(case)
    c = codec.config
    pcm = 0.5 * jax.random.normal(jax.random.key(3), (ROWS, 1, 3 * size * c.frame_size))
    params = standardised(codec, params, pcm)
    whole = snac.encode(codec, params, pcm)
    state, out = codec.init_encode_state(ROWS), []
    for piece in jnp.split(pcm, 3, axis=-1):
        state, codes = snac.encode_step(codec, params, state, piece)
        out.append(codes)
    state, codes = snac.encode_flush(codec, params, state)
    out.append(codes)
    assert state.offset.tolist() == [0] * ROWS
    for k, n in enumerate(c.tokens_per_frame):
        joined = np.concatenate([codes[k] for codes in out], 1)
        assert joined.shape[1] == whole[k].shape[1] + c.encode_delay * n
        np.testing.assert_array_equal(joined[:, c.encode_delay * n :], whole[k])
        assert len(np.unique(whole[k])) > 1


@pytest.mark.parametrize("case", ["music", "plain"])
def test_a_stream_pauses_and_starts_anew_and_no_row_feels_its_neighbours(case):
    codec, params = made(case)
    c = codec.config
    latent = jax.random.normal(jax.random.key(1), (ROWS, 8 * c.frame_multiple * c.vq_strides[0], c.latent_width))

    def run(x, state, active):
        pcm, state = codec.apply({"params": params}, x, KEYS, state, active, method="decode_latent")
        if state is None:  # as late as the stream, so that the two can be compared
            pcm = jnp.pad(pcm, ((0, 0), (0, 0), (c.look_ahead, 0)))[..., : pcm.shape[-1]]
        return pcm, state

    # NaN as a paused row is fed them must not outlive the pause either.
    verify_contract(
        run, lambda batch, block: codec.init_decode_state(batch), latent, unit=c.frame_multiple * c.vq_strides[0],
        out_axis=2, blocks=(1, 2),
    )  # fmt: skip


def test_a_flushed_slot_starts_anew_and_a_paused_one_is_not_flushed():
    codec, params = made("plain")
    codes = codes_of(codec.config, 4)
    state = codec.init_decode_state(ROWS)
    state, first = snac.decode_step(codec, params, state, codes, noise=KEYS)
    ended = np.array([True, False, True])
    state, _ = snac.decode_flush(codec, params, state, ended, KEYS)
    assert state.offset.tolist() == [0, 4, 0]
    state, again = snac.decode_step(codec, params, state, codes, noise=KEYS)
    assert np.abs(np.asarray(again - first))[ended].max() < 1e-6
    state, _ = snac.decode_step(codec, params, reset(state, np.ones(ROWS, bool)), codes, noise=KEYS)
    assert state.offset.tolist() == [4, 4, 4]


def test_the_look_ahead_is_how_far_the_influence_of_the_future_reaches():
    codec, params = made("plain")
    c, first = codec.config, 10
    latent = jax.random.normal(jax.random.key(1), (1, 20 * c.vq_strides[0], c.latent_width))

    def influence(at):
        """Of frame `first` and what follows on the sample `at`. A gradient: differences would be lost in rounding."""
        sample = lambda x: codec.apply({"params": params}, x, method="decode_latent")[0][0, 0, at]  # noqa: E731
        return np.abs(jax.grad(sample)(latent)[0, first * c.vq_strides[0] :]).max()

    reached = first * c.frame_size - c.look_ahead
    assert influence(reached - 1) == 0 < influence(reached)


def test_noise_depends_on_key_stage_and_position_alone():
    codec, params = made("speech")
    codes = codes_of(codec.config, 2)
    a, b = (np.asarray(snac.decode(codec, params, codes, keys)) for keys in (KEYS, KEYS[::-1]))
    silent = np.asarray(snac.decode(codec, params, codes))
    assert np.abs(a - silent).max() > 1e-2
    assert (a[1] == b[1]).all()
    assert np.abs(a[0] - b[0]).max() > 1e-2


@pytest.mark.parametrize(("config", "samples"), [(SNAC_24KHZ, 4757), (SNAC_44KHZ, 14735)])
def test_the_look_ahead_of_published_models(config, samples):
    assert config.look_ahead == samples


def test_the_squared_sine_is_one_and_so_is_its_slope():
    x = np.concatenate([np.linspace(-20, 20, 20_001), np.linspace(-1000, 1000, 20_001)]).astype(np.float32)
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(squared_sine)))(x)
    np.testing.assert_allclose(value, np.sin(x.astype(np.float64)) ** 2, atol=1e-6)
    np.testing.assert_allclose(slope, np.sin(2 * x.astype(np.float64)), atol=2e-6)
