"""Settings of a step: arrays with one entry per row of the batch, so that no change of them recompiles.

Axes: B batch, V text logits, Q agent's codebooks, U user's codebooks.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int, UInt32

from jomni.printing import short_repr

UNFORCED = -2
"""Entry of a forced-token array that forces nothing (the original's "ungenerated" token)."""


class Controls(NamedTuple):
    """Settings of one step. Make them with `Generator.controls` or `Duplex.controls`, change them with `_replace`.

    Forced tokens replace those that the step itself generates: text of one frame, and codes of the frames that their
    delays assign to the step (`DuplexOutput` describes when they are returned).
    """

    reset: Bool[Array, "B"]  # restart the row's conversation before the step
    active: Bool[Array, "B"]  # False: the row is paused, its state does not change
    seed: UInt32[Array, "B"]  # seed of the row's sampling, used where `reset` is set
    force_text: Int[Array, "B"]  # text token instead of a sampled one; UNFORCED: sample
    force_audio: Int[Array, "B Q"]  # agent's codes likewise, codebook by codebook
    force_user: Int[Array, "B U"]  # user codes instead of those of the audio; UNFORCED: the audio's
    text_bias: Float[Array, "B V"]  # added to the text logits; -inf forbids a token
    temperature: Float[Array, "B"]  # of the audio tokens; 0: most probable
    text_temperature: Float[Array, "B"]
    top_k: Int[Array, "B"]  # candidates among audio tokens; 0: all
    text_top_k: Int[Array, "B"]
    guidance: Float[Array, "B"]  # classifier-free guidance coefficient; read where the generator has guidance
    masked_until: Int[Array, "B"]  # frames hidden from the unguided branch; read by Guidance(masked_prefix=True)

    def __repr__(self) -> str:
        return short_repr(self)
