"""Mini-Omni's prefill and decoding steps, each one jitted function, for every mode of decoding.

    state = prefill(params, state, block, lengths, controls)        compiled once for each length of block
    state = decode_step(params, state, controls)                    compiled once

A step feeds the tokens sampled last of all streams and samples the next ones. After the end of text the text stream is
fed padding (as in litgpt/generate/base.py); a row of text alone is fed padding in its audio streams.

Axes: B batch (conversations), R rows per conversation, A audio streams, T time (block), W width of speech features,
V text tokens, U tokens of an audio stream.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt32

from jomni.errors import ConfigError
from jomni.generation.sampling import Sampler, batch_seeds, row_keys, sample
from jomni.models.decoder import DecoderState
from jomni.models.decoder.generate import TextSampling, block_sizes, can_rewind
from jomni.models.mini_omni import MiniOmni, MiniOmniConfig, set_apart
from jomni.printing import short_repr

Params = Any
VOICES = ("text_only", "single", "batch_parallel")
"""How answers are generated.

text_only: text alone; nothing is computed for audio.
single: one row decodes text and audio.
batch_parallel: two rows. Row 1 decodes text and gets no audio of the answer. Row 0 decodes audio, conditioned on the
text of row 1. The text is then as good as with text_only (batch-parallel decoding, arXiv:2408.16725, section 3.3)."""


class OmniControls(NamedTuple):
    """Settings of a step: arrays with one entry per conversation, so that changing them does not recompile."""

    active: Bool[Array, "B"]  # False: the row's state does not change (`decode_step`)
    speaks: Bool[Array, "B"]  # False: the answer is text alone
    temperature: Float[Array, "B"]  # of text and audio; 0: most probable
    top_k: Int[Array, "B"]  # number of candidate tokens; 0: all
    top_p: Float[Array, "B"]  # probability mass of the candidates; 1: all

    def __repr__(self) -> str:
        return short_repr(self)


class OmniState(NamedTuple):
    """Streaming state of conversations."""

    backbone: DecoderState  # batch_parallel: leaves [B, 2, ...], row 0 audio, row 1 text
    post_adapter: DecoderState | None  # of the row that decodes audio; None without post-adapter or with text_only
    tokens: Int[Array, "B A+1"]  # sampled last, text last, and fed by the next `decode_step`
    ended: Bool[Array, "B"]  # the answer's text has ended
    seed: UInt32[Array, "B"]

    def __repr__(self) -> str:
        return short_repr(self)


class OmniBlock(NamedTuple):
    """A block of a prompt."""

    tokens: Int[Array, "B A+1 T"]  # numbered in each stream's own vocabulary
    features: Float[Array, "B T W"]  # from the speech encoder, read where `is_speech`
    is_speech: Bool[Array, "B T"]
    own: Bool[Array, "B T"]  # steps of the model's answers: batch_parallel masks their audio in row 1

    def __repr__(self) -> str:
        return short_repr(self)


@dataclasses.dataclass(frozen=True)
class OmniGenerator:
    """A Mini-Omni as step functions. Hashable; parameters (from `prepare`) and state are passed separately."""

    config: MiniOmniConfig
    context: int  # largest number of steps of a conversation, which is the size of the cache
    voice: str = "single"  # one of VOICES
    block: int = 256  # longest block of `prefill`, a power of two
    dtype: str = "float32"  # of the cache
    sampler: Sampler = sample  # draws the tokens from their logits

    def __repr__(self) -> str:
        d = self.config.decoder
        size = f"{d.num_layers} layers of {d.dim}, context={self.context}"
        return f"OmniGenerator({size}, voice={self.voice!r}, {self.dtype})"

    def __post_init__(self) -> None:
        most = self.config.decoder.max_positions
        if not 2 <= self.context <= most:
            raise ConfigError(f"a context of {self.context} steps was asked for; the model takes 2 to {most}.")
        if self.voice not in VOICES:
            raise ConfigError(f"voice {self.voice!r} is not known, only {', '.join(VOICES)}.")

    @property
    def model(self) -> MiniOmni:
        """Return the module, with separate arrays for text and audio rows."""
        return MiniOmni(self.config, apart=True)

    @property
    def rows(self) -> int:
        """Return the number of rows in the backbone's batch per conversation."""
        return 2 if self.voice == "batch_parallel" else 1

    @property
    def blocks(self) -> tuple[int, ...]:
        """Return the block lengths in use. `prefill` is compiled once for each that occurs."""
        return block_sizes(min(self.block, self.context))

    def prepare(self, params: Params) -> dict[str, Any]:
        """Return the parameters as the steps take them (`set_apart`). Keep `params` itself for export."""
        return set_apart(params, self.config)

    def init_state(self, batch: int, seed: int | Sequence[int] = 0) -> OmniState:
        """Return the state before the first step. `seed` is row 0's, row i has seed + i; or one per row."""
        whole = self.model.init_state(batch * self.rows, self.context, self.dtype, self.blocks[-1])
        post = None
        if self.voice != "text_only":
            post = self.model.init_state(batch, self.context, self.dtype, self.blocks[-1]).post_adapter
        tokens = jnp.zeros((batch, self.config.vocabulary.streams + 1), jnp.int32)
        backbone = _split_rows(whole.backbone, self.rows)
        return OmniState(backbone, post, tokens, jnp.zeros((batch,), bool), batch_seeds(seed, batch))

    def controls(self, batch: int, sampling: TextSampling | None = None) -> OmniControls:
        """Return controls with the same settings for all rows; greedy without `sampling`; text alone if "text_only"."""
        s = sampling or TextSampling()
        return OmniControls(
            active=jnp.ones((batch,), bool), speaks=jnp.full((batch,), self.voice != "text_only"),
            temperature=jnp.full((batch,), s.temperature, jnp.float32),
            top_k=jnp.full((batch,), s.top_k, jnp.int32), top_p=jnp.full((batch,), s.top_p, jnp.float32),
        )  # fmt: skip

    def prefill(
        self, params: Params, state: OmniState, block: OmniBlock, lengths: Int[Array, "B"],
        controls: OmniControls | None = None,
    ) -> OmniState:  # fmt: skip
        """Feed a block of prompts and sample each answer's first tokens. Jitted once per T; the state is donated.

        Args:
          params: from `prepare`.
          state: from `init_state` or the call before.
          block: padded on the right with any values; T is at most the last of `blocks`.
          lengths: number of valid steps of each row; 0 leaves a row unchanged.
          controls: how the tokens after the block are sampled; `active` is not read here. None: greedy.
        """
        return _prefill(self, params, state, block, lengths, controls)

    def decode_step(self, params: Params, state: OmniState, controls: OmniControls | None = None) -> OmniState:
        """Feed the tokens sampled last and sample the next, greedily without controls. Jitted; the state is donated."""
        return _decode_step(self, params, state, controls)

    def can_rewind(self, held: int, kept: int) -> bool:
        """Return whether a row of `held` steps can be rewound to its first `kept` steps by setting its offset."""
        return can_rewind(self.config.decoder, self.context, self.blocks[-1], held, kept)


def place(state: OmniState, offset: Int[Array, "B"]) -> OmniState:
    """Return the state with every row rewound to the given step; 0 restarts it."""
    held = state.backbone.offset
    backbone = state.backbone._replace(offset=jnp.broadcast_to(offset.reshape(-1, *[1] * (held.ndim - 1)), held.shape))
    post = state.post_adapter
    # A copy: two leaves of a donated state may not be one array.
    post = None if post is None else post._replace(offset=jnp.array(offset, copy=True))
    return state._replace(backbone=backbone, post_adapter=post)


def _advance(
    generator: OmniGenerator, params: Params, state: OmniState, block: OmniBlock, lengths: Array,
    controls: OmniControls, begins: bool,
) -> OmniState:  # fmt: skip
    v, rows, speaking = generator.config.vocabulary, generator.rows, generator.voice != "text_only"
    batch = len(lengths)
    last = jnp.maximum(lengths - 1, 0)[:, None, None]

    def run(model: MiniOmni) -> tuple[Array, Array | None, Any, Any]:
        tokens, features, is_speech = _each_row(generator, block)
        x, backbone = model.listen(
            tokens, features, is_speech, _join_rows(state.backbone, rows), None, jnp.repeat(lengths, rows)
        )
        x = x.reshape(batch, rows, *x.shape[1:])
        text = model.text_logits(jnp.take_along_axis(x[:, -1], last, 1)[:, 0])
        if not speaking:
            return text, None, backbone, None
        y, post = model.speak(x[:, 0], state.post_adapter, None, lengths)
        return text, model.audio_logits(jnp.take_along_axis(y, last, 1)[:, 0]), backbone, post

    text_logits, audio_logits, backbone, post = generator.model.apply({"params": params}, method=run)  # type: ignore[misc]
    backbone = _split_rows(backbone, rows)
    offset = backbone.offset.reshape(batch, rows)[:, 0]
    text = _draw(generator.sampler, text_logits[:, None], state.seed, offset, 0, controls)[:, 0]
    before = jnp.zeros_like(state.ended) if begins else state.ended
    text = jnp.where(before, v.pad_text, text)
    audio = jnp.full((batch, v.streams), v.pad_audio, jnp.int32)
    if audio_logits is not None:
        drawn = _draw(generator.sampler, audio_logits, state.seed, offset, 1, controls)
        audio = jnp.where(controls.speaks[:, None], drawn, audio)
    taken = lengths > 0
    tokens = jnp.concatenate([audio, text[:, None]], 1)
    return OmniState(
        backbone, post, jnp.where(taken[:, None], tokens, state.tokens),
        jnp.where(taken, before | (text == v.end_of_text), state.ended), state.seed,
    )  # fmt: skip


def _each_row(generator: OmniGenerator, block: OmniBlock) -> tuple[Array, Array | None, Array | None]:
    """Return tokens, features and `is_speech` of each row of the backbone's batch, those of a conversation adjacent."""
    rows, tokens = generator.rows, block.tokens
    if rows == 2:
        muted = jnp.where(block.own[:, None], generator.config.vocabulary.pad_audio, tokens[:, :-1])
        written = jnp.concatenate([muted, tokens[:, -1:]], 1)
        tokens = jnp.stack([tokens, written], 1).reshape(-1, *tokens.shape[1:])
    if block.features is None:
        return tokens, None, None
    return tokens, jnp.repeat(block.features, rows, 0), jnp.repeat(block.is_speech, rows, 0)


def _draw(
    sampler: Sampler, logits: Float[Array, "B N V"], seed: Array, offset: Array, first: int, controls: OmniControls
) -> Int[Array, "B N"]:
    """Draw a token for each of N streams with the row's settings. The noise depends on (seed, offset, stream) alone."""
    batch, streams = logits.shape[:2]

    def drawn(logits: Array) -> Array:
        keys = jnp.stack([row_keys(seed, offset, first + i) for i in range(streams)], 1).reshape(-1)
        settings = (jnp.repeat(x, streams) for x in (controls.temperature, controls.top_k, controls.top_p))
        temperature, top_k, top_p = settings
        flat = logits.reshape(batch * streams, -1)
        return sampler(flat, temperature, top_k, keys, top_p).reshape(batch, streams)

    def best(logits: Array) -> Array:
        return jnp.argmax(logits, -1).astype(jnp.int32)

    if sampler is not sample:
        return drawn(logits)
    return jax.lax.cond((controls.temperature > 0).any(), drawn, best, logits)


def _join_rows(tree: Any, rows: int) -> Any:
    return tree if rows == 1 else jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def _split_rows(tree: Any, rows: int) -> Any:
    return tree if rows == 1 else jax.tree.map(lambda x: x.reshape(-1, rows, *x.shape[1:]), tree)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _prefill(
    generator: OmniGenerator, params: Params, state: OmniState, block: OmniBlock, lengths: Array,
    controls: OmniControls | None,
) -> OmniState:  # fmt: skip
    controls = generator.controls(len(lengths)) if controls is None else controls
    return _advance(generator, params, state, block, lengths, controls, begins=True)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _decode_step(
    generator: OmniGenerator, params: Params, state: OmniState, controls: OmniControls | None
) -> OmniState:
    controls = generator.controls(len(state.tokens)) if controls is None else controls
    nothing: Any = None
    block = OmniBlock(state.tokens[..., None], nothing, nothing, jnp.ones((len(state.tokens), 1), bool))
    return _advance(generator, params, state, block, controls.active.astype(jnp.int32), controls, begins=False)
