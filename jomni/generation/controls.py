"""Settings of a step, as arrays with one entry per row of the batch: changing them does not recompile.

Axes: B batch, V text logits, Q agent's codebooks, U user's codebooks.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int, UInt32

from jomni.printing import short_repr

UNFORCED = -2
"""Entry of a forced-token array for a token that is not forced (the original's "ungenerated" token)."""


class Controls(NamedTuple):
    """Settings of one step. Create them with `Generator.controls` or `Duplex.controls`, change them with `_replace`.

    Forced tokens replace the tokens that the step generates: the text of one frame, and codes of the frames that the
    delays assign to the step (`DuplexOutput` describes when they are returned).
    """

    reset: Bool[Array, "B"]  # restart the row's conversation before the step
    active: Bool[Array, "B"]  # False: the row is paused, its state does not change
    seed: UInt32[Array, "B"]  # seed of the row's sampling, used where `reset` is set
    force_text: Int[Array, "B"]  # text token instead of a sampled one; UNFORCED: sample
    force_audio: Int[Array, "B Q"]  # agent's codes instead of sampled ones; UNFORCED: sample
    force_user: Int[Array, "B U"]  # user codes instead of the encoder's; UNFORCED: the encoder's
    text_bias: Float[Array, "B V"]  # added to the text logits; -inf forbids a token
    temperature: Float[Array, "B"]  # of the audio tokens; 0: greedy
    text_temperature: Float[Array, "B"]  # of the text tokens; 0: greedy
    top_k: Int[Array, "B"]  # number of candidate audio tokens; 0: all
    text_top_k: Int[Array, "B"]  # number of candidate text tokens; 0: all
    guidance: Float[Array, "B"]  # classifier-free guidance coefficient; used if the generator has guidance
    masked_until: Int[Array, "B"]  # frames hidden from the unguided branch; used by Guidance(masked_prefix=True)

    def __repr__(self) -> str:
        return short_repr(self)
