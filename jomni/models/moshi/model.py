"""The Moshi language model: temporal transformer over frames, depth transformer over codebooks (arXiv:2410.00037, 3.4).

One definition serves training (`__call__`: logits of whole sequences) and streaming (`temporal`, then `depth_step`
for one codebook after another). Axes: B batch, T frames, K streams (text, agent's codebooks, user's codebooks), Q
agent's codebooks, D width of the temporal transformer, E of the depth transformer, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jomni.models.moshi.conditioning import ConditionProvider, fuse
from jomni.models.moshi.config import MoshiConfig
from jomni.models.moshi.delays import delay_streams, undelay_streams
from jomni.nn.attention import KVCache
from jomni.nn.layers import LayerNorm, Linear, LoRA, make_norm
from jomni.nn.transformer import Transformer, TransformerState
from jomni.printing import short_repr

ZERO = -1
"""Token that is embedded as exactly zero, and left out of the loss."""

_init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=1, out_axis=0)

_EOS, _PAD = 2, 3  # sentencepiece ids that Hibiki's end-of-text rule is about


class LMOutput(NamedTuple):
    """Logits aligned with the codes they predict; frames whose mask is False hold NaN or count as unknown."""

    text_logits: Float[Array, "B 1 T V"]
    text_mask: Bool[Array, "B 1 T"]
    logits: Float[Array, "B Q T V"] | None  # None where the model has no depth transformer
    mask: Bool[Array, "B Q T"] | None

    def __repr__(self) -> str:
        return short_repr(self)


class DelayedLogits(NamedTuple):
    """Logits in the model's own time: position t of stream k predicts the delayed token t."""

    text: Float[Array, "B T V"]
    audio: tuple[Float[Array, "B T V"], ...] | None  # of each of the agent's codebooks; None: no depth transformer
    heads: tuple[Float[Array, "B T C"], ...]  # of the extra heads

    def __repr__(self) -> str:
        return short_repr(self)


class Conditions(NamedTuple):
    """What conditions a conversation, ready for the temporal transformer."""

    added: Float[Array, "B 1 D"] | None = None
    cross: tuple[KVCache, ...] | None = None

    def __repr__(self) -> str:
        return short_repr(self)


class MoshiLM(nn.Module):
    """The model (moshi/models/lm.py::LMModel) as a Flax module. Initialise it with `jax.jit(lm.init)`."""

    config: MoshiConfig
    remat: bool = False  # training: recompute each layer of the temporal transformer in the backward pass

    def setup(self) -> None:
        c = self.config
        lora = LoRA(c.lora_rank, c.lora_scaling) if c.lora_rank else None
        self.emb = [TokenEmbedding(c.card + 1, c.dim, c.norm_emb, lora=lora) for _ in range(c.n_q)]
        self.text_emb = TokenEmbedding(c.text_card + 1, c.dim, c.norm_emb, demux=c.demux_second_text_stream, lora=lora)
        self.transformer = Transformer(c.temporal, lora, self.remat)
        self.out_norm = make_norm(c.norm)
        self.text_linear = Linear(c.text_card_out, c.bias_proj, lora)
        self.extra_heads = [Linear(c.extra_heads_dim, lora=lora) for _ in range(c.extra_heads_num_heads)]
        if c.conditioners:
            self.condition_provider = ConditionProvider(c.conditioners, c.dim, lora)
        inputs = max(c.depth_input_sets) + 1 if c.depth_input_sets else int(not c.depformer_multi_linear)
        self.depformer_in = [Linear(c.depformer_dim, lora=lora) for _ in range(inputs)]
        if c.dep_q:
            low_rank = c.depformer_low_rank_embeddings
            self.depformer_emb = [
                TokenEmbedding(c.card + 1, c.depformer_dim, c.norm_emb, low_rank, lora=lora) for _ in range(c.dep_q - 1)
            ]
            self.depformer_text_emb = TokenEmbedding(
                c.text_card + 1, c.depformer_dim, c.norm_emb, low_rank, c.demux_second_text_stream, lora
            )
            self.depformer = Transformer(c.depth, lora)
            if c.depformer_norm is not None:
                self.depformer_norms = [make_norm(c.depformer_norm) for _ in range(c.dep_q)]
            self.linears = [Linear(c.card, c.bias_proj, lora) for _ in range(c.dep_q)]

    def __call__(
        self, codes: Int[Array, "B K T"], conditions: Mapping[str, tuple[Array, Array]] | None = None
    ) -> LMOutput:
        """Return logits of whole sequences, aligned with the codes as in `LMModel.forward`.

        Args:
          codes: text tokens, then the agent's and the user's codes, not delayed; `ZERO` (-1) where there is none.
          conditions: from `prepare_conditions`, for models that take them.

        Returns:
          `LMOutput`; position t of stream k predicts codes[:, k, t]. Masked out are the last `delay` frames of each
          stream and frames whose code is -1.
        """
        c = self.config
        out = self.delayed_logits(self.delay(codes), conditions)
        text_logits, text_mask = undelay_streams(out.text[:, None], c.delays[:1])
        text_mask &= codes[:, :1] != ZERO
        if out.audio is None:
            return LMOutput(text_logits, text_mask, None, None)
        logits, mask = undelay_streams(jnp.stack(out.audio, 1), c.delays[1 : c.dep_q + 1])
        mask &= codes[:, 1 : c.dep_q + 1] != ZERO
        return LMOutput(text_logits, text_mask, logits, mask)

    def delay(self, codes: Int[Array, "B K T"]) -> Int[Array, "B K T"]:
        """Shift each stream right by its delay, with the initial token before it."""
        c = self.config
        if codes.shape[1] != c.n_q + 1:
            raise ValueError(f"codes must hold {c.n_q + 1} streams (text and {c.n_q} audio), got {codes.shape[1]}")
        return delay_streams(codes, c.delays, self.initial_tokens())

    def delayed_logits(
        self,
        delayed: Int[Array, "B K T"],
        conditions: Mapping[str, tuple[Array, Array]] | None = None,
        depth_frames: Int[Array, "B S"] | None = None,
        past: Int[Array, "B K T"] | None = None,
    ) -> DelayedLogits:
        """Return logits of delayed tokens, not shifted back, and the logits of the extra heads.

        Args:
          delayed: from `delay`.
          conditions: from `prepare_conditions`, for models that take them.
          depth_frames: the frames for which the depth transformer computes logits, S instead of T; None: all.
          past: what the temporal transformer reads in place of `delayed`, such as tokens with noise; None: the same.
        """
        c = self.config
        first = jnp.broadcast_to(self.initial_tokens()[:, None], (delayed.shape[0], c.n_q + 1, 1))
        inputs = jnp.concatenate([first, (delayed if past is None else past)[..., :-1]], -1)
        hidden, _ = self.temporal(inputs, None, None, self.condition(conditions))
        if not c.dep_q:
            for layer in self.depformer_in:  # in the weights, without effect
                layer(hidden)
        codes, below = delayed, hidden
        if depth_frames is not None:
            codes = jnp.take_along_axis(delayed, depth_frames[:, None], 2)
            below = jnp.take_along_axis(hidden, depth_frames[..., None], 1)
        audio = self.depth(codes, below) if c.dep_q else None
        return DelayedLogits(self.text_logits(hidden), audio, self.heads(hidden))

    def initial_tokens(self) -> Int[Array, "K"]:
        """Return each stream's initial token, one past its vocabulary."""
        return jnp.asarray([self.config.text_card] + [self.config.card] * self.config.n_q, jnp.int32)

    def condition(self, prepared: Mapping[str, tuple[Array, Array]] | None) -> Conditions:
        """Embed and fuse prepared conditions."""
        c = self.config
        if self.is_initializing() and c.conditioners:
            prepared = prepared or _example_conditions(c)
        if not c.conditioners or c.fuser is None or not (c.fuser.sum or c.fuser.cross):
            if self.is_initializing() and prepared:
                self.condition_provider(prepared)
            return Conditions()
        if prepared is None:
            raise ValueError(f"this model takes the conditions {[x.name for x in c.conditioners]}, got none")
        added, cross = fuse(c.fuser, self.condition_provider(prepared))
        return Conditions(added, None if cross is None else self.transformer.cross_caches(cross))

    def temporal(
        self,
        tokens: Int[Array, "B K T"],
        state: TransformerState | None = None,
        active: Bool[Array, "B"] | None = None,
        conditions: Conditions | None = None,
    ) -> tuple[Float[Array, "B T D"], TransformerState | None]:
        """Return the hidden state of each frame from delayed tokens: a sequence (state None) or its next block."""
        text = tokens[:, 0]
        if self.config.text_eos_reads_as_padding:
            text = jnp.where(text == _EOS, _PAD, text)
        x = self.text_emb(text)
        for k, embed in enumerate(self.emb):
            x = x + embed(tokens[:, 1 + k])
        conditions = conditions or Conditions()
        if conditions.added is not None:
            x = x + conditions.added.astype(x.dtype)
        y, state = self.transformer(x, state, active, conditions.cross)
        return self.out_norm(y), state

    def text_logits(self, hidden: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        return self.text_linear(hidden)

    def heads(self, hidden: Float[Array, "B T D"]) -> tuple[Float[Array, "B T C"], ...]:
        """Return the class logits of the extra heads."""
        return tuple(head(hidden) for head in self.extra_heads)

    def depth(self, tokens: Int[Array, "B K T"], hidden: Float[Array, "B T D"]) -> tuple[Float[Array, "B T V"], ...]:
        """Return the logits of each agent codebook for whole sequences, given the (delayed) tokens to predict."""
        c = self.config
        B, T, _ = hidden.shape
        rows = hidden.reshape(B * T, 1, -1)
        steps = [self._depth_input(tokens[:, k].reshape(B * T, 1), rows, k) for k in range(c.dep_q)]
        if self.depformer.config.step_weights:
            ys = self.depformer.steps(steps)
        else:
            ys = jnp.split(self.depformer(jnp.concatenate(steps, 1))[0], c.dep_q, 1)
        return tuple(self._depth_logits(y, k).reshape(B, T, -1) for k, y in enumerate(ys))

    def depth_step(
        self,
        token: Int[Array, "B"],
        hidden: Float[Array, "B 1 D"],
        past: tuple[KVCache, ...] | None,
        codebook: int,
    ) -> tuple[Float[Array, "B V"], tuple[KVCache, ...]]:
        """Return the logits of one codebook of one frame.

        Args:
          token: the frame's text token for codebook 0, else the code before.
          hidden: of the temporal transformer.
          past: what the step before returned; None for codebook 0.
          codebook: its number, static.
        """
        x = self._depth_input(token[:, None], hidden, codebook)
        y, past = self.depformer.step(x, past, codebook)
        return self._depth_logits(y[:, 0], codebook), past

    def init_state(self, batch: int, dtype: Any = jnp.float32) -> TransformerState:
        """Return the state of the temporal transformer before the first frame."""
        return self.apply({}, batch, dtype, method=MoshiLM._initial_state)  # type: ignore[return-value]

    def _initial_state(self, batch: int, dtype: Any) -> TransformerState:
        return self.transformer.init_state(batch, dtype)

    def _depth_input(self, token: Int[Array, "B T"], hidden: Float[Array, "B T D"], codebook: int) -> Array:
        projected = self.depformer_in[self.config.depth_input_sets[codebook]](hidden)
        embed = self.depformer_emb[codebook - 1] if codebook else self.depformer_text_emb
        return projected + embed(token)

    def _depth_logits(self, y: Float[Array, "... E"], codebook: int) -> Float[Array, "... V"]:
        if self.config.depformer_norm is not None:
            y = self.depformer_norms[codebook](y)
        return self.linears[codebook](y)


def _example_conditions(config: MoshiConfig) -> dict[str, tuple[Array, Array]]:
    """Return conditions of the right shapes, for initialisation."""
    mask = jnp.ones((1, 1), bool)
    return {
        c.name: (jnp.zeros((1, 1), jnp.int32) if c.type == "lut" else jnp.zeros((1, 1, c.dim)), mask)
        for c in config.conditioners
    }


class TokenEmbedding(nn.Module):
    """Embedding table (moshi/models/lm_utils.py::ScaledEmbedding). `ZERO` maps to zeros, before any low-rank map.

    Parameters: `weight` [entries, features or low_rank], and as configured `norm`, `low_rank/weight`, `out1/weight`,
    `out2/weight`.
    """

    entries: int  # vocabulary and one initial token
    features: int
    norm: bool = False
    low_rank: int | None = None  # width of a factorised table
    demux: bool = False  # tokens are token1 + entries * (token2 + 1): two streams, each with its own projection
    lora: LoRA | None = None

    @nn.compact
    def __call__(self, tokens: Int[Array, "..."]) -> Float[Array, "... D"]:
        table = self.param("weight", _init, (self.entries, self.low_rank or self.features))
        zero = (tokens == ZERO)[..., None]
        index = jnp.maximum(tokens, 0)

        def look_up(index: Array) -> Array:
            return jnp.take(table, index, axis=0, mode="clip")

        if self.demux:
            first, second = index % self.entries, index // self.entries - 1
            left = Linear(self.features, lora=self.lora, name="out1")(look_up(first))
            right = Linear(self.features, lora=self.lora, name="out2")(look_up(jnp.maximum(second, 0)))
            both = left + jnp.where((second < 0)[..., None], 0, right)
            if self.low_rank is not None:  # held, published and not applied here by the original: compiled away
                Linear(self.features, lora=self.lora, name="low_rank")(look_up(first))
            return jnp.where(zero, 0, both)
        y = look_up(index)
        if self.norm:
            y = LayerNorm(name="norm")(y)
        y = jnp.where(zero, 0, y)
        if self.low_rank is not None:
            y = Linear(self.features, lora=self.lora, name="low_rank")(y)
        return y
