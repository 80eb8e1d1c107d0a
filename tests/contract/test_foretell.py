"""What a model foretells after the true past is what its steps would draw there."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jomni.generate import Generator
from jomni.generate.foretell import foretell
from jomni.models.moshi import MoshiLM
from tests.tiny import TINY_MOSHI, random_params


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_foretold_codes_are_those_of_steps_whose_past_is_true(temperature):
    config = dataclasses.replace(TINY_MOSHI, delays=(0, *[1] * TINY_MOSHI.dep_q, *[0] * TINY_MOSHI.user_q))
    lm, frames = MoshiLM(config), 9
    params = random_params(lm, jnp.zeros((1, config.n_q + 1, 2), jnp.int32))
    rng = np.random.default_rng(0)
    text = rng.integers(4, config.text_card, (2, 1, frames))
    codes = jnp.asarray(np.concatenate([text, rng.integers(0, config.card, (2, config.n_q, frames))], 1), jnp.int32)
    found = foretell(lm, params, codes, seed=3, temperature=temperature, top_k=0)

    generator = Generator(lm)
    controls = generator.controls(2, temperature=temperature, top_k=0)
    state, own = generator.initial_state(2, seed=3), slice(1, 1 + config.dep_q)
    for step in range(frames):
        heard = codes[:, 1 + config.dep_q :, max(step - 1, 0)]
        state, out = generator.step(params, state, heard, controls._replace(force_text=codes[:, 0, step]))
        if step:
            np.testing.assert_array_equal(found[:, :, step - 1], out.sampled_codes)
            # What was drawn is not what was said: the past stays the true one.
            past = state.tokens.at[:, own, step % state.tokens.shape[-1]].set(0)
            at = (state.offset % state.tokens.shape[-1])[:, None]
            past = past.at[jnp.arange(2)[:, None], jnp.arange(1, 1 + config.dep_q), at].set(codes[:, own, step - 1])
            state = state._replace(tokens=past)
    np.testing.assert_array_equal(found[:, :, -1], codes[:, own, -1])
    assert jax.tree.leaves(found)[0].dtype == jnp.int32
