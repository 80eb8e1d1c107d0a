"""The text decoder keeps the streaming contract, and prefill of padded blocks is the whole sequence too."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jomni.models.decoder import Decoder, RopeConfig
from jomni.nn.contract import verify_contract
from jomni.nn.layers import LoRA
from tests.decoder_cases import PLAIN, SLIDING, params

pytestmark = pytest.mark.compiled_quickly

YARN = dataclasses.replace(PLAIN, rope=RopeConfig(1000.0, "yarn", 4.0, 32), tied=False, mlp_bias=True, out_bias=True)


@pytest.mark.parametrize("config", [SLIDING, YARN], ids=["sliding", "yarn"])
def test_steps_equal_the_whole(config):
    decoder, held = Decoder(config), params(config)
    x = jax.random.normal(jax.random.key(1), (3, 23, config.dim))
    verify_contract(
        lambda x, state, active: decoder.apply({"params": held}, x, state, active),
        lambda batch, block: decoder.init_state(batch, 23, jnp.float32, block),
        x, blocks=(1, 11),
    )  # fmt: skip


def test_padded_blocks_equal_the_whole():
    decoder, held = Decoder(SLIDING), params(SLIDING)
    x = np.asarray(jax.random.normal(jax.random.key(2), (2, 24, SLIDING.dim)))
    whole = np.asarray(decoder.apply({"params": held}, x)[0])
    step = jax.jit(lambda x, state, lengths: decoder.apply({"params": held}, x, state, None, lengths))
    state = decoder.init_state(2, 24, jnp.float32, 6)
    done = np.array([0, 0])
    for lengths in ([6, 1], [0, 6], [3, 6], [6, 0], [1, 6], [6, 5]):
        block = np.full((2, 6, SLIDING.dim), np.nan, np.float32)
        for row, length in enumerate(lengths):
            block[row, :length] = x[row, done[row] : done[row] + length]
        y, state = step(block, state, np.array(lengths))
        for row, length in enumerate(lengths):
            want = whole[row, done[row] : done[row] + length]
            np.testing.assert_allclose(np.asarray(y)[row, :length], want, atol=2e-5)
        done += lengths
    assert done.tolist() == np.asarray(state.offset).tolist() == [22, 24]


def test_sliding_layers_hold_their_window_and_no_more():
    state = Decoder(SLIDING).init_state(2, 500, block=4)
    assert [cache.keys.shape[2] for cache in state.layers] == [8, 500, 8]


def test_adapters_that_begin_at_zero_change_nothing():
    plain, adapted = Decoder(PLAIN), Decoder(PLAIN, lora=LoRA(3, 2.0))
    tokens = jnp.arange(8).reshape(2, 4)
    held = adapted.init(jax.random.key(0), tokens, method="whole")
    assert "lora_A" in held["params"]["layers_0"]["self_attn"]["q_proj"]
    np.testing.assert_array_equal(
        adapted.apply(held, tokens, method="whole"), plain.apply(held, tokens, method="whole")
    )
