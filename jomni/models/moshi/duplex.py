"""Full-duplex conversations: one frame of user audio in, one frame of agent audio and text out, in one jitted function.

Axes: B batch, C audio channels, S samples of a frame, Q agent's codebooks, U user's codebooks.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import sentencepiece
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jomni.errors import AudioError, ConfigError
from jomni.generation.controls import UNFORCED, Controls
from jomni.models.checks import check_floating
from jomni.models.mimi.model import DecodeState, EncodeState, Mimi
from jomni.models.mimi.quantizer import fold_codebooks
from jomni.models.moshi.generate import Generator, GeneratorOutput, GeneratorState, Guidance, SamplingDefaults
from jomni.models.moshi.model import MoshiLM
from jomni.nn.streaming import reset
from jomni.printing import short_repr
from jomni.tensors.component import Loaded

Params = Mapping[str, Any]


class DuplexState(NamedTuple):
    """Streaming state of conversations. A plain pytree: rows of it can be saved and restored."""

    encode: EncodeState
    generator: GeneratorState
    decode: DecodeState | tuple[()]

    def __repr__(self) -> str:
        return short_repr(self)


class DuplexOutput(NamedTuple):
    """Output of one call.

    Call f (counted from 0 at the row's reset) returns the agent's frame f + 1 - max_delay, which is played live right
    after the user's frame f has ended. Its token in a stream of delay d was generated in call f + d - max_delay. The
    tokens that call f generates first (text, first codebook) are returned max_delay calls later, and so are played
    max_delay + 1 frames after the start of frame f.
    """

    pcm: Float[Array, "B C S"]  # the agent's voice; zeros where `valid` is False
    text: Int[Array, "B"]  # text token of that frame, UNFORCED (-2) where there is none
    codes: Int[Array, "B Q"]  # its codes, likewise
    valid: Bool[Array, "B"]  # the row is active and past the first max_delay - 1 calls after its reset
    sampled_text: Int[Array, "B"]  # text token generated in this call: `text` of the call max_delay - delays[0] later
    user_codes: Int[Array, "B U"]  # codes of the user's frame
    heads: tuple[Float[Array, "B C"], ...]  # class probabilities of the extra heads

    def __repr__(self) -> str:
        return short_repr(self)


@dataclasses.dataclass(frozen=True)
class Duplex:
    """Codec and language model joined into one step function. Hashable; parameters and state are passed separately.

    The first frame of a conversation is not lost: the language model's first step, which has no user codes, runs before
    it, as Kyutai's offline runner (moshi/run_inference.py) does by feeding the first frame twice.
    """

    mimi: Mimi
    generator: Generator
    tokenizer: bytes | None = None  # sentencepiece model, for `text`

    def __repr__(self) -> str:
        c = self.generator.lm.config
        return (
            f"Duplex(Mimi {self.sample_rate} Hz, {self.frame_rate:g} frames/s of {self.frame_size} samples; "
            f"MoshiLM {c.num_layers} layers of {c.dim}, {c.dep_q} codebooks of the agent, {c.user_q} of the user, "
            f"{self.generator.dtype})"
        )

    def __post_init__(self) -> None:
        config = self.generator.lm.config
        if self.mimi.num_codebooks < config.user_q or self.mimi.config.num_codebooks < config.dep_q:
            raise ConfigError(
                f"the language model takes {config.user_q} user and gives {config.dep_q} agent codebooks, "
                f"but the codec is set to {self.mimi.num_codebooks} of {self.mimi.config.num_codebooks}"
            )

    @classmethod
    def from_checkpoint(cls, checkpoint: Loaded, guidance: Guidance | None = None) -> Duplex:
        """Return the step function of a loaded checkpoint.

        Raises:
          ConfigError: the checkpoint has no language model, or no codec.
        """
        if "lm" not in checkpoint.configs or "mimi" not in checkpoint.configs:
            raise ConfigError(f"{checkpoint.source}: a conversation needs a codec and a language model; one is missing")
        if checkpoint.settings.get("tts_config", {}).get("multistream"):
            raise ConfigError(f"{checkpoint.source}: 'tts_config.multistream' is not supported: no dialogue model")
        lm = MoshiLM(checkpoint.configs["lm"])
        dtype = str(checkpoint.params["lm"]["text_emb"]["weight"].dtype)
        defaults = SamplingDefaults.from_kyutai(checkpoint.generation)
        mimi = Mimi(checkpoint.configs["mimi"], checkpoint.codec_codebooks)
        return cls(mimi, Generator(lm, dtype, guidance, defaults), checkpoint.tokenizer)

    @property
    def frame_size(self) -> int:
        """Return the number of samples per frame, which a call takes and returns."""
        return self.mimi.config.frame_size

    @property
    def frame_rate(self) -> float:
        """Return the number of frames per second."""
        return self.mimi.config.frame_rate

    @property
    def sample_rate(self) -> int:
        """Return the sample rate, Hz."""
        return self.mimi.config.sample_rate

    def text(self, tokens: Any) -> list[str]:
        """Return the text of each token in an array, such as `DuplexOutput.text`: "" for padding and special tokens.

        A word begins with a blank. Bytes of a character in several tokens are written as `<0x..>`; use
        `jomni.transcribe` for whole conversations.

        Raises:
          ConfigError: the model was made without a tokenizer.
        """
        if self.tokenizer is None:
            raise ConfigError("the model has no text tokenizer. Load a checkpoint that brings one.")
        pieces, silent = _tokenizer(self.tokenizer), self.generator.lm.config.silent_tokens
        return [
            "" if t in silent or not 0 <= t < pieces.get_piece_size() or pieces.is_control(t)
            else pieces.id_to_piece(t).replace("\u2581", " ")
            for t in np.asarray(tokens).reshape(-1).tolist()
        ]  # fmt: skip

    def prepare(self, params: Params) -> dict[str, Any]:
        """Fold the codec's codebooks: the same results with less work per step. Optional; keep `params` for export."""
        return {**params, "mimi": fold_codebooks(params["mimi"])}

    def init_state(
        self,
        batch: int,
        seed: int | Sequence[int] = 0,
        params: Params | None = None,
        conditions: Mapping[str, Any] | None = None,
        unguided: Mapping[str, Any] | None = None,
        ring: str = "exact",
    ) -> DuplexState:
        """Return the state before the first frame; see `Generator.init_state`, for `ring` `Transformer.init_state`."""
        lm_params = None if params is None else params["lm"]
        return DuplexState(
            self.mimi.init_encode_state(batch, ring=ring),
            self.generator.init_state(batch, seed, lm_params, conditions, unguided),
            self.mimi.init_decode_state(batch, ring=ring) if self.generator.lm.config.dep_q else (),
        )

    def controls(self, batch: int, **settings: Any) -> Controls:
        """Return controls with the checkpoint's defaults; see `Generator.controls`."""
        return self.generator.controls(batch, **settings)

    def step(
        self, params: Params, state: DuplexState, pcm: Float[Array, "B C S"], controls: Controls | None = None
    ) -> tuple[DuplexState, DuplexOutput]:
        """Advance B conversations by one frame. Jitted; the state is donated.

        Args:
          params: {"mimi": ..., "lm": ...}, as loaded or from `prepare`.
          state: from `init_state` or the step before.
          pcm: the user's next frame, float in [-1, 1]. Samples that are not finite are taken as zeros.
          controls: steering; None: the checkpoint's defaults. Forced tokens act on the call's own step, not on the one
            that precedes a conversation.

        Raises:
          AudioError: `pcm` has another shape or is not floating-point.
        """
        self._check(state, pcm)
        return _step_donated(self, params, state, pcm, controls)

    def step_undonated(
        self, params: Params, state: DuplexState, pcm: Float[Array, "B C S"], controls: Controls | None = None
    ) -> tuple[DuplexState, DuplexOutput]:
        """Advance like `step`, but leave `state` usable: to fork a conversation, or to keep a copy of it."""
        self._check(state, pcm)
        return _step_undonated(self, params, state, pcm, controls)

    def _check(self, state: DuplexState, pcm: Any) -> None:
        config = self.mimi.config
        wanted = (state.generator.offset.shape[0], config.channels, config.frame_size)
        if tuple(pcm.shape) != wanted:
            raise AudioError(
                f"pcm must have shape {list(wanted)}: [batch of the state, channels, frame_size], got "
                f"{list(pcm.shape)}. Give every conversation's next frame of {config.frame_size} samples."
            )
        check_floating(pcm)


def _step(
    duplex: Duplex, params: Params, state: DuplexState, pcm: Array, controls: Controls | None
) -> tuple[DuplexState, DuplexOutput]:
    controls = duplex.controls(pcm.shape[0]) if controls is None else controls
    mimi, generator, active = duplex.mimi, duplex.generator, controls.active
    encode, decode = reset((state.encode, state.decode), controls.reset)
    codec = {"params": params["mimi"]}
    codes, encoded = mimi.apply(codec, pcm, encode, active, method=Mimi.encode)
    user = codes[:, : generator.lm.config.user_q, 0]
    spoken, out = _advance(generator, params["lm"], generator.restart(state.generator, controls), user, controls)
    voice = jnp.zeros(pcm.shape, codec_dtype(params["mimi"]))
    if generator.lm.config.dep_q:
        voice, decode = mimi.apply(codec, jnp.maximum(out.codes, 0)[..., None], decode, out.valid, method=Mimi.decode)
        voice = jnp.where(out.valid[:, None, None], voice, 0)
    result = DuplexOutput(voice, out.text, out.codes, out.valid, out.sampled_text, user, out.heads)
    return DuplexState(encoded, spoken, decode), result  # type: ignore[arg-type]


def _advance(
    generator: Generator, params: Params, state: GeneratorState, user: Array, controls: Controls
) -> tuple[GeneratorState, GeneratorOutput]:
    """Run one step of the language model, and for a new conversation two: the first one has no user codes.

    A loop of one or two iterations instead of a second copy of the model: this halves the size of the program, and the
    second iteration costs nothing when no conversation is new.
    """
    beginning = (state.offset == 0) & controls.active
    turns = 1 + jnp.any(beginning).astype(jnp.int32)
    unforced = controls._replace(
        active=beginning, force_text=jnp.full_like(controls.force_text, UNFORCED),
        force_audio=jnp.full_like(controls.force_audio, UNFORCED),
    )  # fmt: skip

    def turn(index: Array, carry: tuple[GeneratorState, GeneratorOutput]) -> tuple[GeneratorState, GeneratorOutput]:
        last = index == turns - 1
        now = jax.tree.map(lambda a, b: jnp.where(last, a, b), controls, unforced)
        return generator.advance(params, carry[0], user, now)

    shapes = jax.eval_shape(generator.advance, params, state, user, controls)[1]
    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return lax.fori_loop(0, turns, turn, (state, nothing))


@functools.lru_cache(maxsize=8)
def _tokenizer(model: bytes) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=model)


def codec_dtype(params: Any) -> Any:
    """Return the dtype of the codec's parameters."""
    return params["quantizer"]["rvq_first"]["input_proj"]["weight"].dtype


_step_donated = jax.jit(_step, static_argnums=0, donate_argnums=2)
_step_undonated = jax.jit(_step, static_argnums=0)
