"""Text from a decoder: prefill and decoding as jitted steps, and conversations whose history stays in the cache.

Axes: B batch, T time (block), V vocabulary.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from jomni.errors import ConfigError, PromptError
from jomni.generation.sampling import Sampler, batch_seeds, row_keys, sample
from jomni.models.decoder import Decoder, DecoderConfig, DecoderState
from jomni.models.decoder.config import SLIDING
from jomni.printing import short_repr

Params = Any
SMALLEST_BLOCK = 16
"""Smallest block of a prompt. Blocks are this times a power of two, up to the generator's `block`."""


class TextControls(NamedTuple):
    """Settings of a step: arrays with one entry per row, so that changing them does not recompile."""

    active: Bool[Array, "B"]  # False: the row's state does not change (`decode_step`)
    temperature: Float[Array, "B"]  # 0: most probable
    top_k: Int[Array, "B"]  # number of candidate tokens; 0: all
    top_p: Float[Array, "B"]  # probability mass of the candidates; 1: all

    def __repr__(self) -> str:
        return short_repr(self)


class TextState(NamedTuple):
    """Streaming state of conversations."""

    decoder: DecoderState
    token: Int[Array, "B"]  # sampled last, and fed by the next `decode_step`
    seed: UInt32[Array, "B"]

    def __repr__(self) -> str:
        return short_repr(self)


@dataclasses.dataclass(frozen=True)
class TextSampling:
    """Sampling settings of a model, from its generation_config.json."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    ignored: tuple[str, ...] = ()  # options of the file that would change the text but are not supported

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any]) -> TextSampling:
        """Read a generation_config.json with transformers' defaults (generation/configuration_utils.py).

        Raises:
          ConfigError: an option has a value of the wrong type.
        """
        neutral = {
            "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_p": None, "typical_p": 1.0, "epsilon_cutoff": 0,
            "eta_cutoff": 0, "num_beams": 1, "penalty_alpha": None, "bad_words_ids": None, "suppress_tokens": None,
            "begin_suppress_tokens": None, "forced_bos_token_id": None, "forced_eos_token_id": None,
            "sequence_bias": None, "guidance_scale": None, "encoder_repetition_penalty": 1.0, "min_length": 0,
            "min_new_tokens": None, "exponential_decay_length_penalty": None, "top_h": None,
        }  # fmt: skip
        ignored = tuple(f"{key}={raw[key]!r}" for key, value in neutral.items() if raw.get(key) not in (value, None))
        if not raw.get("do_sample", False):
            return cls(ignored=ignored)
        settings = {"temperature": 1.0, "top_k": 50, "top_p": 1.0}
        settings |= {key: raw[key] for key in settings if raw.get(key) is not None}
        try:
            return cls(float(settings["temperature"]), int(settings["top_k"]), float(settings["top_p"]), ignored)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"generation_config.json: a sampling option is not a number ({error}).") from None


def stop_tokens(raw: Mapping[str, Any]) -> frozenset[int]:
    """Return the tokens that end an answer: `eos_token_id` of a generation_config.json, one or several."""
    ids = raw.get("eos_token_id")
    return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])


@dataclasses.dataclass(frozen=True)
class TextGenerator:
    """A decoder as step functions. Hashable; parameters and state are passed separately."""

    decoder: Decoder
    context: int  # largest number of steps of a conversation, which is the size of the cache
    block: int = 256  # longest block of `prefill`, a power of two
    dtype: str = "float32"  # of the cache
    sampler: Sampler = sample  # draws the tokens from their logits

    def __repr__(self) -> str:
        c = self.decoder.config
        return f"TextGenerator({c.num_layers} layers of {c.dim}, context={self.context}, {self.dtype})"

    def __post_init__(self) -> None:
        most = self.decoder.config.max_positions
        if not 2 <= self.context <= most:
            raise ConfigError(f"a context of {self.context} tokens was asked for; the model takes 2 to {most}.")

    @property
    def blocks(self) -> tuple[int, ...]:
        """Return the block lengths in use. `prefill` is compiled once for each that occurs."""
        return block_sizes(min(self.block, self.context))

    def init_state(self, batch: int, seed: int | Sequence[int] = 0) -> TextState:
        """Return the state before the first step. `seed` is row 0's, row i has seed + i; or one per row."""
        decoder = self.decoder.init_state(batch, self.context, self.dtype, self.blocks[-1])
        return TextState(decoder, jnp.zeros((batch,), jnp.int32), batch_seeds(seed, batch))

    def controls(self, batch: int, sampling: TextSampling | None = None) -> TextControls:
        """Return controls with the same settings for all rows; greedy without `sampling`."""
        s = sampling or TextSampling()
        return TextControls(
            active=jnp.ones((batch,), bool), temperature=jnp.full((batch,), s.temperature, jnp.float32),
            top_k=jnp.full((batch,), s.top_k, jnp.int32), top_p=jnp.full((batch,), s.top_p, jnp.float32),
        )  # fmt: skip

    def prefill(
        self, params: Params, state: TextState, tokens: Int[Array, "B T"], lengths: Int[Array, "B"],
        controls: TextControls,
    ) -> tuple[TextState, Float[Array, "B V"]]:  # fmt: skip
        """Feed a block of tokens. Jitted once per T; the state is donated.

        Args:
          params: of the decoder.
          state: from `init_state` or the call before.
          tokens: the block, padded on the right with any tokens; T is at most the last of `blocks`.
          lengths: number of valid tokens of each row; 0 leaves a row unchanged.
          controls: how the token after the block is sampled; `active` is not read here.

        Returns:
          The state, with that token in it, and the logits it was drawn from.
        """
        return _prefill(self, params, state, tokens, lengths, controls)

    def decode_step(
        self, params: Params, state: TextState, controls: TextControls
    ) -> tuple[TextState, Float[Array, "B V"]]:
        """Feed the token sampled last and sample the next. Jitted once; the state is donated."""
        return _decode_step(self, params, state, controls)

    def can_rewind(self, held: int, kept: int) -> bool:
        """Return whether a row of `held` steps can be rewound to its first `kept` steps by setting its offset."""
        return can_rewind(self.decoder.config, self.context, self.blocks[-1], held, kept)


def block_sizes(longest: int) -> tuple[int, ...]:
    """Return `SMALLEST_BLOCK` and its doubles, up to the first that holds `longest` steps."""
    sizes = [SMALLEST_BLOCK]
    while sizes[-1] < longest:
        sizes.append(2 * sizes[-1])
    return tuple(sizes)


def can_rewind(config: DecoderConfig, context: int, block: int, held: int, kept: int) -> bool:
    """Return whether a row of `held` steps can be rewound to its first `kept` steps by setting its offset.

    Full layers always can. The ring of a sliding layer holds `block` - 1 steps more than its window: once it has
    wrapped, `block` steps can be rewound.
    """
    if SLIDING not in config.kinds:
        return True
    assert config.window is not None
    return held <= min(context, config.window + block - 1) or held - kept <= block


def _advance(
    generator: TextGenerator, params: Params, state: TextState, tokens: Array, lengths: Array, controls: TextControls
) -> tuple[TextState, Array]:
    def run(decoder: Decoder) -> tuple[Array, DecoderState]:
        hidden, after = decoder(decoder.embed(tokens), state.decoder, None, lengths)
        last = jnp.maximum(lengths - 1, 0)[:, None, None]
        assert after is not None
        return decoder.logits(jnp.take_along_axis(hidden, last, 1)[:, 0]), after

    out: Any = generator.decoder.apply({"params": params}, method=run)
    logits, decoder = out
    keys = row_keys(state.seed, decoder.offset, 0)
    drawn = generator.sampler(logits, controls.temperature, controls.top_k, keys, controls.top_p)
    return TextState(decoder, jnp.where(lengths > 0, drawn, state.token), state.seed), logits


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _prefill(
    generator: TextGenerator, params: Params, state: TextState, tokens: Array, lengths: Array, controls: TextControls
) -> tuple[TextState, Array]:
    return _advance(generator, params, state, tokens, lengths, controls)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _decode_step(
    generator: TextGenerator, params: Params, state: TextState, controls: TextControls
) -> tuple[TextState, Array]:
    return _advance(generator, params, state, state.token[:, None], controls.active.astype(jnp.int32), controls)


class TextSession:
    """Conversations of tokens, one in each slot. A slot's cache is kept between turns: only the part of a prompt that
    differs from what the cache holds is fed."""

    def __init__(self, generator: TextGenerator, params: Params, slots: int = 1, seed: int | Sequence[int] = 0) -> None:
        self.generator = generator
        self.params = params
        self.held: list[list[int]] = [[] for _ in range(slots)]  # tokens in the cache, by slot
        self._state = generator.init_state(slots, seed)

    def answer(
        self, prompts: Sequence[Sequence[int] | None], *, max_tokens: int, stop: Collection[int] = (),
        sampling: TextSampling | None = None,
    ) -> Iterator[list[int | None]]:  # fmt: skip
        """Continue each slot's prompt, one token per step.

        Args:
          prompts: all tokens of each slot's conversation so far; None: no answer in this slot.
          max_tokens: longest answer, tokens; it also ends where the context is full.
          stop: tokens that end an answer; the last token returned for the slot.
          sampling: None: greedy.

        Returns:
          An iterator of the slots' new tokens; None for a slot whose answer is complete. The prompts are checked
          before it is returned, and fed at its first step.

        Raises:
          PromptError: a prompt is empty or longer than the context leaves room for.
        """
        if len(prompts) != len(self.held):
            raise ValueError(f"{len(prompts)} prompts for {len(self.held)} slots")
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
        context = self.generator.context
        for prompt in prompts:
            if prompt is not None and not len(prompt):
                raise PromptError("the prompt is empty. Give some text.")
            if prompt is not None and len(prompt) >= context:
                raise PromptError(
                    f"the conversation is {len(prompt)} tokens long and leaves no room for an answer: the context is "
                    f"{context} tokens. Shorten it, start a new one, or set a longer context "
                    f"(the model takes up to {self.generator.decoder.config.max_positions})."
                )
        return self._answer(prompts, max_tokens, frozenset(stop), sampling)

    def _answer(
        self, prompts: Sequence[Sequence[int] | None], max_tokens: int, stop: Collection[int],
        sampling: TextSampling | None,
    ) -> Iterator[list[int | None]]:  # fmt: skip
        controls = self.generator.controls(len(prompts), sampling)
        self._read(prompts, controls)
        active = np.array([prompt is not None for prompt in prompts])
        given = 0
        while active.any():
            drawn = np.asarray(self._state.token).tolist()
            given += 1
            yield [token if on else None for token, on in zip(drawn, active, strict=True)]
            for slot, token in enumerate(drawn):
                if token in stop or given == max_tokens or len(self.held[slot]) == self.generator.context:
                    active[slot] = False
            if active.any():
                controls = controls._replace(active=jnp.array(active))
                self._state, _ = self.generator.decode_step(self.params, self._state, controls)
                for slot in np.flatnonzero(active).tolist():
                    self.held[slot].append(drawn[slot])

    def _read(self, prompts: Sequence[Sequence[int] | None], controls: TextControls) -> None:
        """Feed what each slot's cache lacks of its prompt, and sample the first token of its answer."""
        rest: list[Sequence[int]] = []
        for slot, prompt in enumerate(prompts):
            held = self.held[slot]
            if prompt is None:
                rest.append([])
                continue
            parting = (i for i, (one, other) in enumerate(zip(held, prompt, strict=False)) if one != other)
            kept = min(next(parting, len(held)), len(prompt) - 1)
            if not self.generator.can_rewind(len(held), kept):
                kept = 0
            del held[kept:]
            rest.append(prompt[kept:])
        offset = jnp.array([len(held) for held in self.held], jnp.int32)
        self._state = self._state._replace(decoder=self._state.decoder._replace(offset=offset))
        blocks = self.generator.blocks
        while longest := max(len(tokens) for tokens in rest):
            size = next((block for block in blocks if block >= longest), blocks[-1])
            now = [tokens[:size] for tokens in rest]
            padded = np.array([[*tokens, *[0] * (size - len(tokens))] for tokens in now], np.int32)
            lengths = np.array([len(tokens) for tokens in now], np.int32)
            given = jnp.asarray(padded), jnp.asarray(lengths)
            self._state, _ = self.generator.prefill(self.params, self._state, *given, controls)
            for held, tokens in zip(self.held, now, strict=True):
                held.extend(tokens)
            rest = [tokens[size:] for tokens in rest]
