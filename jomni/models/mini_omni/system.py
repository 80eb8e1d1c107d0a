"""A whole Mini-Omni: speech encoder, language model and codec as functions of (params, state, ...).

    state = model.init_state(batch=2, seed=0)
    state, out = model.prefill(params, state, block, lengths)     a block of the prompt
    state, out = model.decode_step(params, state)                 the next tokens of every answer

`out.tokens` are the tokens of all streams. `model.chat(params)` keeps conversations in slots and gives text and sound.

Axes: B batch, A audio streams, T samples, N frames of 20 ms, D width of speech features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int

from jomni.errors import ConfigError
from jomni.generation.tokenizer import TextTokenizer
from jomni.models.mini_omni.chat import CONTEXT, OmniChat, OmniParts
from jomni.models.mini_omni.generate import OmniBlock, OmniControls, OmniGenerator, OmniState
from jomni.models.mini_omni.weights import check_neighbours
from jomni.models.snac.codec import SnacCodec
from jomni.models.snac.model import Snac
from jomni.models.whisper.encoder import WhisperEncoder
from jomni.models.whisper.speech_encoder import SpeechEncoder
from jomni.printing import short_repr
from jomni.tensors.component import Loaded

Params = Mapping[str, Any]


class OmniOutput(NamedTuple):
    """Output of a step. Axes: B batch, A audio streams."""

    tokens: Int[Array, "B A+1"]  # of each stream, text last, in the stream's own vocabulary
    text_ended: Bool[Array, "B"]  # the answer's text is complete

    def __repr__(self) -> str:
        return short_repr(self)


@dataclasses.dataclass(frozen=True)
class OmniModel:
    """Mini-Omni as step functions. Parameters: {"omni": ..., "whisper": ..., "snac": ...}."""

    generator: OmniGenerator
    encoder: SpeechEncoder | None = None  # None: it takes text alone
    codec: SnacCodec | None = None  # None: it answers in text alone
    tokenizer: TextTokenizer | None = dataclasses.field(default=None, repr=False, compare=False)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Loaded, *, voice: str = "single", context: int | None = None, dtype: str | None = None
    ) -> OmniModel:
        """Return the model of a loaded checkpoint.

        Args:
          checkpoint: a Mini-Omni.
          voice: see `jomni.models.mini_omni.generate.VOICES`.
          context: steps that a conversation may have; None: 2048, or the model's most.
          dtype: of the caches; None: that of the parameters.

        Raises:
          ConfigError: the checkpoint is not a Mini-Omni, its Whisper or SNAC does not fit it, or `context` is out of
            range.
        """
        config = checkpoint.configs.get("omni")
        if config is None:
            raise ConfigError(f"{checkpoint.source}: is not a Mini-Omni. Give a model of that family.")
        whisper, snac = checkpoint.configs.get("whisper"), checkpoint.configs.get("snac")
        check_neighbours(config, whisper, snac, checkpoint.source)
        size = min(CONTEXT, config.decoder.max_positions) if context is None else context
        held = dtype or str(checkpoint.params["omni"]["backbone"]["norm"]["alpha"].dtype)
        return cls(
            OmniGenerator(config, size, voice, dtype=held),
            None if whisper is None else SpeechEncoder(WhisperEncoder(whisper)),
            None if snac is None else SnacCodec(Snac(snac)),
            TextTokenizer(checkpoint.files, checkpoint.source) if "tokenizer.json" in checkpoint.files else None,
        )

    def prepare(self, params: Params) -> dict[str, Any]:
        """Return parameters for the steps: the same results with less work per step. Keep `params` for export."""
        prepared = {**params, "omni": self.generator.prepare(params["omni"])}
        if self.codec is not None:
            prepared["snac"] = self.codec.prepare(params["snac"])
        return prepared

    def init_state(self, batch: int, seed: int | Sequence[int] = 0) -> OmniState:
        """Return the state before the first step; `seed` is row 0's and counts on, or one per row."""
        return self.generator.init_state(batch, seed)

    def controls(self, batch: int, **settings: Any) -> OmniControls:
        """Return controls for all rows alike, greedy by default; `settings` replace fields of `OmniControls`."""
        return self.generator.controls(batch)._replace(**settings)

    def prefill(
        self, params: Params, state: OmniState, block: OmniBlock, lengths: Int[Array, "B"],
        controls: OmniControls | None = None,
    ) -> tuple[OmniState, OmniOutput]:  # fmt: skip
        """Feed a block of prompts and sample each answer's first tokens; see `OmniGenerator.prefill`."""
        state = self.generator.prefill(params["omni"], state, block, lengths, controls)
        return state, _output(state)

    def decode_step(
        self, params: Params, state: OmniState, controls: OmniControls | None = None
    ) -> tuple[OmniState, OmniOutput]:
        """Feed the tokens sampled last and sample the next. Jitted once; the state is donated."""
        state = self.generator.decode_step(params["omni"], state, controls)
        return state, _output(state)

    def encode_speech(self, params: Params, pcm: Float[Array, "B T"]) -> Float[Array, "B N D"]:
        """Return speech features of recordings at 16 kHz; see `SpeechEncoder.encode`.

        Raises:
          ConfigError: the model has no speech encoder.
        """
        if self.encoder is None:
            raise ConfigError("the model has no speech encoder. Load a checkpoint with its Whisper beside it.")
        return self.encoder.encode(params["whisper"], pcm)

    def chat(self, params: Params, slots: int = 1, **settings: Any) -> OmniChat:
        """Return conversations in slots, which give text and sound; `settings` as for `OmniChat`.

        Raises:
          ConfigError: the model has no tokenizer.
        """
        if self.tokenizer is None:
            raise ConfigError("the model has no text tokenizer. Load a checkpoint with tokenizer.json.")
        encoder = None if self.encoder is None else (self.encoder.config, params["whisper"])
        codec = None if self.codec is None else (self.codec.config, params["snac"])
        parts = OmniParts(self.generator.config, params["omni"], self.tokenizer, encoder, codec)
        defaults: dict[str, Any] = {"voice": self.generator.voice, "context": self.generator.context}
        return OmniChat(parts, slots, **(defaults | settings))


def _output(state: OmniState) -> OmniOutput:
    # Copies: the state is donated to the next step.
    return OmniOutput(state.tokens + 0, state.ended | False)
