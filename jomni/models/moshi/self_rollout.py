"""Self-rollout: a model says its own part of conversations whose text and user are given.

In a recording of a whole utterance, a synthesiser's or a speaker's, each word's length and melody tell how much is
still to come. A model that learnt from such a past decides by it what to say next, when to stop above all, and then
speaks itself, and its own voice tells nothing. So it is trained on the past that it will have (scheduled sampling,
arXiv:1506.03099, drawn beforehand, and the text kept): what it hears of itself is its own, what it is to say is the
recording.

Axes: B conversations, N frames, Q agent's codebooks, U user's codebooks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt16

from jomni.generation.controls import UNFORCED
from jomni.models.moshi.generate import Generator, GeneratorState

BLOCK = 64
"""Frames of one call: one compiled function serves conversations of any length."""


def self_rollout(
    generator: Generator,
    params: Any,
    text: Sequence[Int[np.ndarray, "N"]],
    user: Sequence[UInt16[np.ndarray, "U N"]],
    seed: int = 0,
) -> list[UInt16[np.ndarray, "Q N"]]:
    """Sample the agent's codes of conversations with the checkpoint's defaults; B at once, of any lengths.

    Args:
      generator: of the language model.
      params: its parameters.
      text: of each conversation, a token a frame.
      user: of each, what is heard; codebooks beyond the model's are left aside.
      seed: of the first conversation's sampling; the next count on from it.

    Returns:
      Of each conversation as many frames as it has.
    """
    config = generator.lm.config
    lengths = [len(tokens) for tokens in text]
    steps = -(-(max(lengths) + config.max_delay) // BLOCK) * BLOCK
    forced = np.full((steps, len(text)), config.existing_text_padding_id, np.int32)
    heard = np.zeros((steps, len(text), config.user_q), np.int32)
    for slot, (tokens, codes) in enumerate(zip(text, user, strict=True)):
        forced[: len(tokens), slot] = tokens
        # The first step of a conversation hears nothing: each frame is heard in the step after it.
        heard[1:, slot] = np.pad(codes[: config.user_q], ((0, 0), (0, steps)), "edge")[:, : steps - 1].T
    state, said = generator.init_state(len(text), seed), []
    for first in range(0, steps, BLOCK):
        block = slice(first, first + BLOCK)
        state, codes = _say(generator, params, state, jnp.asarray(forced[block]), jnp.asarray(heard[block]))
        said.append(codes)
    whole = np.concatenate([np.asarray(codes) for codes in said])[config.max_delay :]
    return [whole[:length, slot].T.astype(np.uint16) for slot, length in enumerate(lengths)]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _say(
    generator: Generator, params: Any, state: GeneratorState, text: Int[Array, "N B"], heard: Int[Array, "N B U"]
) -> tuple[GeneratorState, Int[Array, "N B Q"]]:
    """Run several frames in one scan."""
    controls = generator.controls(text.shape[1])

    def step(state: GeneratorState, given: tuple[Array, Array]) -> tuple[GeneratorState, Array]:
        forced, codes = given
        # -1 stands where a conversation has no text: nothing is forced there.
        forced = jnp.where(forced < 0, UNFORCED, forced)
        state, out = generator.advance(params, state, codes, controls._replace(force_text=forced))
        return state, out.codes

    return jax.lax.scan(step, state, (text, heard))
