"""The text decoder: one definition for whole sequences, prefill and decoding.

Follows transformers/models/{qwen2,qwen3,llama,gemma2,gemma3}/modeling_*.py, whose differences are the options of
`DecoderConfig`. Axes: B batch, T time, N query heads, K key/value heads, S keys, H head width, D model, F feed-forward,
V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jomni.models.decoder.config import DecoderConfig
from jomni.models.decoder.rope import rope_angles
from jomni.nn.attention import KVCache, Timeline, attend, attend_causally, ring_timeline, write
from jomni.nn.layers import Linear, LoRA, RMSNorm, contract_last, rotate
from jomni.printing import short_repr

_ACTIVATIONS = {
    "silu": jax.nn.silu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
}


class DecoderState(NamedTuple):
    """Streaming state: one cache leaf per layer, so that each is updated in place."""

    offset: Int[Array, "B"]  # steps taken since the last reset
    layers: tuple[KVCache, ...]

    def __repr__(self) -> str:
        return short_repr(self)


class Embedding(nn.Module):
    """Embedding table. Parameter: `weight` [V, D]."""

    entries: int
    features: int

    def setup(self) -> None:
        self.weight = self.param("weight", nn.initializers.normal(1.0), (self.entries, self.features))

    def __call__(self, tokens: Int[Array, "..."]) -> Float[Array, "... D"]:
        return jnp.take(self.weight, tokens, axis=0, mode="clip")

    def attend(self, x: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Return the products of x with every row: the output head of a model with tied embeddings."""
        return contract_last(x, self.weight)


class Attention(nn.Module):
    """Grouped-query attention. Parameters: `q_proj`, `k_proj`, `v_proj`, `o_proj`, and `q_norm`, `k_norm`."""

    config: DecoderConfig
    kind: str
    lora: LoRA | None = None

    def setup(self) -> None:
        c = self.config
        self.q_proj = Linear(c.num_heads * c.head_dim, c.qkv_bias, self.lora)
        self.k_proj = Linear(c.num_kv_heads * c.head_dim, c.qkv_bias, self.lora)
        self.v_proj = Linear(c.num_kv_heads * c.head_dim, c.qkv_bias, self.lora)
        self.o_proj = Linear(c.dim, c.out_bias, self.lora)
        if c.qk_norm:
            self.q_norm, self.k_norm = (RMSNorm(c.norm_epsilon, offset=c.norm_offset) for _ in range(2))

    def __call__(
        self, x: Float[Array, "B T D"], timeline: Timeline, cache: KVCache | None
    ) -> tuple[Float[Array, "B T D"], KVCache | None]:
        """Attend within x (cache None: a whole sequence) or over the ring `cache`, returned with x added."""
        c = self.config
        queries, keys, values = (self._heads(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
        if c.qk_norm:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        assert timeline.angles is not None
        queries, keys = (rotate(y, timeline.angles, interleaved=False) for y in (queries, keys))
        options = c.attention_scale, c.attention_softcap
        if cache is None:
            y = attend_causally(queries, keys, values, c.window_of(self.kind), *options)
        else:
            assert timeline.write_at is not None
            cache = write(cache, keys, values, timeline.write_at)
            y = attend(queries, cache.keys, cache.values, timeline.mask, *options)
        return self.o_proj(y.swapaxes(1, 2).reshape(*x.shape[:2], -1)), cache

    def _heads(self, y: Float[Array, "B T X"]) -> Float[Array, "B N T H"]:
        return y.reshape(*y.shape[:2], -1, self.config.head_dim).swapaxes(1, 2)


class FeedForward(nn.Module):
    """down_proj(activation(gate_proj(x)) * up_proj(x))."""

    config: DecoderConfig
    lora: LoRA | None = None

    def setup(self) -> None:
        c = self.config
        self.gate_proj = Linear(c.hidden_dim, c.mlp_bias, self.lora)
        self.up_proj = Linear(c.hidden_dim, c.mlp_bias, self.lora)
        self.down_proj = Linear(c.dim, c.mlp_bias, self.lora)

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return self.down_proj(_ACTIVATIONS[self.config.activation](self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """Pre-norm layer: attention, then feed-forward, each added to the residual stream.

    Norms are named by their position. In published files without post norms, the norm before the feed-forward is named
    `post_attention_layernorm`.
    """

    config: DecoderConfig
    kind: str
    lora: LoRA | None = None

    def setup(self) -> None:
        c = self.config
        self.self_attn = Attention(c, self.kind, self.lora)
        self.mlp = FeedForward(c, self.lora)
        self.pre_attention_norm, self.pre_feedforward_norm = (self._norm() for _ in range(2))
        if c.post_norms:
            self.post_attention_norm, self.post_feedforward_norm = (self._norm() for _ in range(2))

    def __call__(
        self, x: Float[Array, "B T D"], timeline: Timeline, cache: KVCache | None
    ) -> tuple[Float[Array, "B T D"], KVCache | None]:
        update, cache = self.self_attn(self.pre_attention_norm(x), timeline, cache)
        x = x + (self.post_attention_norm(update) if self.config.post_norms else update)
        update = self.mlp(self.pre_feedforward_norm(x))
        return x + (self.post_feedforward_norm(update) if self.config.post_norms else update), cache

    def _norm(self) -> RMSNorm:
        return RMSNorm(self.config.norm_epsilon, offset=self.config.norm_offset)


class Decoder(nn.Module):
    """The decoder. Hashable; parameters are passed separately.

    `embed`, `__call__` and `logits` are separate, so that a model may feed other embeddings and put other heads on the
    hidden states. `lora` are low-rank adapters beside every linear layer but the head.
    """

    config: DecoderConfig
    lora: LoRA | None = None
    remat: bool = False  # training: keep only the layers' inputs for the backward pass, and recompute the rest

    def setup(self) -> None:
        c = self.config
        self.embed_tokens = Embedding(c.vocab_size, c.dim)
        layer = nn.remat(DecoderLayer) if self.remat else DecoderLayer
        self.layers = [layer(c, kind, self.lora) for kind in c.kinds]
        self.norm = RMSNorm(c.norm_epsilon, offset=c.norm_offset)
        if not c.tied:
            self.lm_head = Linear(c.vocab_size)

    def __call__(
        self,
        x: Float[Array, "B T D"],
        state: DecoderState | None = None,
        active: Bool[Array, "B"] | None = None,
        lengths: Int[Array, "B"] | None = None,
    ) -> tuple[Float[Array, "B T D"], DecoderState | None]:
        """Run T steps.

        Args:
          x: embeddings (from `embed`, or others) of the whole sequence (state None) or of its next block.
          state: from `init_state`; T may not be larger than its `block`.
          active: rows whose state advances; None: all.
          lengths: number of valid steps of each row's block, 0 to T; the rest is padding, whose outputs have no
            meaning. None: all T. Not needed with state None, as no step sees a later one.

        Returns:
          The hidden state of each step after the last norm, and the state after the block. Beyond the
          state's capacity full layers drop their oldest steps. No error is raised, as offsets are not known at trace
          time.
        """
        x, state = self.stack(x, state, active, lengths)
        return self.norm(x), state

    def stack(
        self,
        x: Float[Array, "B T D"],
        state: DecoderState | None = None,
        active: Bool[Array, "B"] | None = None,
        lengths: Int[Array, "B"] | None = None,
    ) -> tuple[Float[Array, "B T D"], DecoderState | None]:
        """Run the layers like `__call__`, without the final norm: for a model in which more layers follow."""
        c, T = self.config, x.shape[1]
        if state is None:
            timelines = {kind: self._timeline(kind, jnp.arange(T)[None]) for kind in c.kinds}
        else:
            taken = jnp.full_like(state.offset, T) if lengths is None else lengths
            taken = taken if active is None else jnp.where(active, taken, 0)
            capacities = {k: cache.keys.shape[2] for k, cache in zip(c.kinds, state.layers, strict=True)}
            timelines = {k: self._ring_timeline(k, state.offset, T, size, taken) for k, size in capacities.items()}
        caches: list[Any] = []
        for i, (layer, kind) in enumerate(zip(self.layers, c.kinds, strict=True)):
            x, cache = layer(x, timelines[kind], None if state is None else state.layers[i])
            caches.append(cache)
        if state is None:
            return x, None
        return x, DecoderState(state.offset + taken, tuple(caches))

    def whole(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T V"]:
        """Return the logits of whole sequences of tokens."""
        return self.logits(self(self.embed(tokens))[0])

    def embed(self, tokens: Int[Array, "..."]) -> Float[Array, "... D"]:
        """Return the embeddings of tokens, scaled by `embedding_scale`."""
        x = self.embed_tokens(tokens)
        return x * jnp.asarray(self.config.embedding_scale, x.dtype)

    def logits(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Return logits of the next token, float32."""
        return self.cap(self.embed_tokens.attend(hidden) if self.config.tied else self.lm_head(hidden))

    def cap(self, logits: Float[Array, "... V"]) -> Float[Array, "... V"]:
        """Convert a head's output to float32 logits, with the soft cap of the config."""
        y, cap = logits.astype(jnp.float32), self.config.logit_softcap
        return y if cap is None else cap * jnp.tanh(y / cap)

    def init_state(self, batch: int, capacity: int, dtype: Any = jnp.float32, block: int = 1) -> DecoderState:
        """Return the state before the first step.

        Args:
          batch: rows, B.
          capacity: most steps of a row. Sliding layers hold only their window.
          dtype: of the cache.
          block: largest number of steps a call will be given.
        """
        c = self.config
        layers = []
        for kind in c.kinds:
            window = c.window_of(kind)
            length = capacity if window is None else min(capacity, window + block - 1)
            shape = (batch, c.num_kv_heads, max(length, block), c.head_dim)
            layers.append(KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)))
        return DecoderState(jnp.zeros((batch,), jnp.int32), tuple(layers))

    def _timeline(self, kind: str, positions: Int[Array, "B T"]) -> Timeline:
        return Timeline(rope_angles(self.config.rope_of(kind), positions, self.config.head_dim))

    def _ring_timeline(self, kind: str, offset: Array, steps: int, capacity: int, lengths: Array) -> Timeline:
        if steps > capacity:
            raise ValueError(f"a block of {steps} steps does not fit a ring of {capacity}: make the state with a block")
        context = self.config.window_of(kind) or capacity
        write_at, mask = ring_timeline(offset, steps, capacity, context, None, lengths)
        return self._timeline(kind, offset[:, None] + jnp.arange(steps))._replace(write_at=write_at, mask=mask)
