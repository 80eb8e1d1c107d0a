"""What a language model would say at every moment of true conversations: each frame after the true past.

A decoder that has only ever heard a codec's own codes is brittle: codes that are nearly right, as a language model
draws them, already cost it its clarity. Trained on these, beside the true audio, it learns to speak from what it will
be given (as vocoders are tuned on a synthesiser's teacher-forced output; Tacotron 2, arXiv:1712.05884, 2.3).

Axes: B row, K streams, Q agent's codebooks, T frames.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jomni.generate.generator import slot_seeds
from jomni.generate.sampling import sample, slot_keys
from jomni.models.moshi.delays import undelay_streams
from jomni.models.moshi.lm import MoshiLM


def foretell(
    lm: MoshiLM,
    params: Any,
    codes: Int[Array, "B K T"],
    seed: int = 0,
    temperature: float = 0.8,
    top_k: int = 250,
) -> Int[Array, "B Q T"]:
    """Draws the agent's codes of every frame, each frame from the true ones before it.

    Within a frame each codebook follows from those drawn before it, as when the model speaks. The text is the true one.

    Args:
      lm: the model.
      params: its parameters.
      codes: text, the agent's and the user's codes, not delayed; -1 where there is none.
      seed: of row 0, the next rows count on from it.
      temperature: 0 takes the most probable codes.
      top_k: codes that compete; 0: all.

    Returns:
      int32. The last frames of a stream, as many as its delay, are the true ones: nothing foretells them.
    """
    return _foretell(lm, params, codes, slot_seeds(seed, codes.shape[0]), jnp.float32(temperature), jnp.int32(top_k))


@functools.partial(jax.jit, static_argnums=0)
def _foretell(lm: MoshiLM, params: Any, codes: Array, seeds: Array, temperature: Array, top_k: Array) -> Array:
    delayed: Any = lm.apply({}, codes, method="delay")
    drawn: Any = lm.apply({"params": params}, delayed, seeds, temperature, top_k, method=_draw)
    spoken = slice(1, 1 + lm.config.dep_q)
    said, mask = undelay_streams(drawn[..., None], lm.config.delays[spoken], fill=-1)
    return jnp.where(mask, said[..., 0], codes[:, spoken])


def _draw(
    lm: MoshiLM, delayed: Int[Array, "B K T"], seeds: Array, temperature: Float[Array, ""], top_k: Int[Array, ""]
) -> Int[Array, "B Q T"]:
    rows, streams, frames = delayed.shape
    first = jnp.broadcast_to(lm.initial_tokens()[:, None], (rows, streams, 1))
    hidden, _ = lm.temporal(jnp.concatenate([first, delayed[..., :-1]], -1))
    flat = hidden.reshape(rows * frames, 1, -1)
    # A key for every frame of every row, as a generator's step has it.
    keys = functools.partial(slot_keys, jnp.repeat(seeds, frames), jnp.tile(jnp.arange(frames), rows))
    every = lambda x: jnp.full((rows * frames,), x)  # noqa: E731
    token, past, codes = delayed[:, 0].reshape(-1), None, []
    for k in range(lm.config.dep_q):
        logits, past = lm.depth_step(token, flat, past, k)
        token = sample(logits, every(temperature), every(top_k), keys(1 + k))
        codes.append(token.reshape(rows, frames))
    return jnp.stack(codes, 1)
