"""Self-rollout: sample the agent's codes of conversations whose text and user codes are given.

A recording of a whole utterance reveals in each word's length and melody how much is still to come. A model trained on
such a past relies on it, and lacks it when its past is its own output. So it is trained on its own past (scheduled
sampling, arXiv:1506.03099, offline, with the text kept): inputs are sampled codes, targets are the recording.

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
"""Frames of one call, so that one compiled function serves conversations of any length."""


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
      text: text tokens of each conversation, one per frame.
      user: user codes of each conversation; codebooks beyond the model's are ignored.
      seed: of the first conversation's sampling; conversation i has seed + i.

    Returns:
      The agent's codes of each conversation, as many frames as its text.
    """
    config = generator.lm.config
    lengths = [len(tokens) for tokens in text]
    steps = -(-(max(lengths) + config.max_delay) // BLOCK) * BLOCK
    forced = np.full((steps, len(text)), config.existing_text_padding_id, np.int32)
    inputs = np.zeros((steps, len(text), config.user_q), np.int32)
    for row, (tokens, codes) in enumerate(zip(text, user, strict=True)):
        forced[: len(tokens), row] = tokens
        # The first step of a conversation has no user codes: each frame enters in the step after it.
        inputs[1:, row] = np.pad(codes[: config.user_q], ((0, 0), (0, steps)), "edge")[:, : steps - 1].T
    state, sampled = generator.init_state(len(text), seed), []
    for first in range(0, steps, BLOCK):
        block = slice(first, first + BLOCK)
        state, codes = _scan(generator, params, state, jnp.asarray(forced[block]), jnp.asarray(inputs[block]))
        sampled.append(codes)
    whole = np.concatenate([np.asarray(codes) for codes in sampled])[config.max_delay :]
    return [whole[:length, row].T.astype(np.uint16) for row, length in enumerate(lengths)]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _scan(
    generator: Generator, params: Any, state: GeneratorState, text: Int[Array, "N B"], inputs: Int[Array, "N B U"]
) -> tuple[GeneratorState, Int[Array, "N B Q"]]:
    """Run several frames in one scan."""
    controls = generator.controls(text.shape[1])

    def step(state: GeneratorState, given: tuple[Array, Array]) -> tuple[GeneratorState, Array]:
        forced, codes = given
        # -1 marks frames without text: nothing is forced there.
        forced = jnp.where(forced < 0, UNFORCED, forced)
        state, out = generator.advance(params, state, codes, controls._replace(force_text=forced))
        return state, out.codes

    return jax.lax.scan(step, state, (text, inputs))
