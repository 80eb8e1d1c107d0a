"""What steers a step: one array per setting, one row per slot, so that no change of them recompiles.

Axes: B batch, V text logits, Q agent's codebooks, U user's codebooks.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int, UInt32

from jomni.printing import short_repr

UNFORCED = -2
"""In a forced-token array: this token is not forced (the original's "ungenerated" token)."""


class Controls(NamedTuple):
    """Settings of one step. Make them with `Generator.controls` or `Duplex.controls`, change them with `_replace`.

    Forced tokens are those that the step itself generates: text for one frame, and codebooks of the frames their delays
    put there (`DuplexOutput` says when they are heard).
    """

    reset: Bool[Array, "B"]  # start this slot's conversation anew before the step
    active: Bool[Array, "B"]  # False: the slot is paused, nothing of it moves
    seed: UInt32[Array, "B"]  # of the slot's sampling, taken up where `reset` is set
    force_text: Int[Array, "B"]  # text token to take instead of a sampled one; UNFORCED: sample
    force_audio: Int[Array, "B Q"]  # agent's codes likewise, codebook by codebook
    force_user: Int[Array, "B U"]  # user's codes to hear instead of those of the audio; UNFORCED: hear the audio
    text_bias: Float[Array, "B V"]  # added to the text logits; -inf forbids a token
    temperature: Float[Array, "B"]  # of the audio tokens; 0: most probable
    text_temperature: Float[Array, "B"]
    top_k: Int[Array, "B"]  # audio tokens that compete; 0: all
    text_top_k: Int[Array, "B"]
    guidance: Float[Array, "B"]  # classifier-free guidance coefficient; read where the generator has guidance
    masked_until: Int[Array, "B"]  # frames hidden from the unguided branch; read by Guidance(masked_prefix=True)

    def __repr__(self) -> str:
        return short_repr(self)
