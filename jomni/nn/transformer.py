"""The causal transformer of the codec, the temporal and the depth model: one definition for training and streaming.

Axes: B batch, T time, D model, F feed-forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jomni.nn.attention import CrossAttention, KVCache, SelfAttention, Timeline, ring_timeline
from jomni.nn.config import TransformerConfig
from jomni.nn.layers import LayerNorm, Linear, LoRA, make_norm, rotary_angles, sinusoidal
from jomni.printing import short_repr

ACTIVATIONS = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
    "softsign": jax.nn.soft_sign,
    "identity": lambda x: x,
}


class TransformerState(NamedTuple):
    """Streaming state of a stack: one cache leaf per layer, so that each is updated in place."""

    offset: Int[Array, "B"]  # steps taken since the last reset
    layers: tuple[KVCache, ...]

    def __repr__(self) -> str:
        return short_repr(self)


class LayerScale(nn.Module):
    """Learnt scale per channel on a residual branch (arXiv:2103.17239). Parameter: `scale` [D]."""

    initial: float

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        return x * self.param("scale", nn.initializers.constant(self.initial), (x.shape[-1],))


class GatedFeedForward(nn.Module):
    """linear_out(activation(first half of linear_in(x)) * second half) (moshi/modules/gating.py)."""

    dim: int
    hidden: int
    activation: str
    lora: LoRA | None = None

    def setup(self) -> None:
        self.linear_in = Linear(2 * self.hidden, lora=self.lora)
        self.linear_out = Linear(self.dim, lora=self.lora)

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        gate, value = jnp.split(self.linear_in(x), 2, -1)
        return self.linear_out(ACTIVATIONS[self.activation](gate) * value)


class TransformerLayer(nn.Module):
    """Pre-norm layer: self-attention, cross-attention where configured, feed-forward."""

    config: TransformerConfig
    lora: LoRA | None = None

    def setup(self) -> None:
        c = self.config
        self.norm1 = make_norm(c.norm)
        self.norm2 = make_norm(c.norm)
        self.self_attn = SelfAttention(c, self.lora)
        if c.cross_attention:
            self.norm_cross = LayerNorm(1e-5)  # always a layer norm, as in the original
            self.cross_attention = CrossAttention(c, self.lora)
        if c.gating == "none":
            assert isinstance(c.dim_feedforward, int)
            self.linear1 = Linear(c.dim_feedforward, lora=self.lora)
            self.linear2 = Linear(c.dim, lora=self.lora)
        else:
            sets = [GatedFeedForward(c.dim, c.gated_width(s), c.gating, self.lora) for s in range(c.num_weight_sets)]
            self.gating: Any = sets if c.step_weights else sets[0]
        if c.layer_scale is not None:
            self.layer_scale_1 = LayerScale(c.layer_scale)
            self.layer_scale_2 = LayerScale(c.layer_scale)
            if c.cross_attention:
                self.layer_scale_cross = LayerScale(c.layer_scale)

    def __call__(
        self, x: Float[Array, "B T D"], timeline: Timeline, cache: KVCache | None, cross: KVCache | None
    ) -> tuple[Float[Array, "B T D"], KVCache | None]:
        """Run a block of steps: a whole sequence (cache None) or over the ring cache."""
        update, cache = self.self_attn(self.norm1(x), timeline, cache)
        return self._rest(x + self._scaled("layer_scale_1", update), cross, 0), cache

    def steps(self, xs: Sequence[Float[Array, "B 1 D"]], timeline: Timeline) -> list[Float[Array, "B 1 D"]]:
        """Run a whole short sequence; see `SelfAttention.steps`."""
        updates = self.self_attn.steps([self.norm1(x) for x in xs], timeline)
        both = zip(xs, updates, strict=True)
        return [self._rest(x + self._scaled("layer_scale_1", update), None, t) for t, (x, update) in enumerate(both)]

    def step(
        self, x: Float[Array, "B 1 D"], timeline: Timeline, past: KVCache | None, step: int
    ) -> tuple[Float[Array, "B 1 D"], KVCache]:
        """Run one step of a short sequence; see `SelfAttention.step`."""
        update, past = self.self_attn.step(self.norm1(x), timeline, past, step)
        return self._rest(x + self._scaled("layer_scale_1", update), None, step), past

    def cross_cache(self, source: Float[Array, "B S D"]) -> KVCache:
        return self.cross_attention.cache(source)

    def _rest(self, x: Float[Array, "B T D"], cross: KVCache | None, step: int) -> Float[Array, "B T D"]:
        if self.config.cross_attention:
            if cross is None:
                raise ValueError("this transformer has cross attention and needs a conditioning sequence, got none")
            x = x + self._scaled("layer_scale_cross", self.cross_attention(self.norm_cross(x), cross))
        return x + self._scaled("layer_scale_2", self._feed_forward(self.norm2(x), step))

    def _feed_forward(self, x: Float[Array, "B T D"], step: int) -> Float[Array, "B T D"]:
        sets = self.config.step_weights
        if self.config.gating == "none":
            return self.linear2(ACTIVATIONS["gelu"](self.linear1(x)))
        return self.gating[sets[step]](x) if sets else self.gating(x)

    def _scaled(self, name: str, update: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return update if self.config.layer_scale is None else getattr(self, name)(update)


class Transformer(nn.Module):
    """A stack of layers, called on a whole sequence or on blocks of a stream."""

    config: TransformerConfig
    lora: LoRA | None = None
    remat: bool = False  # keep only the layers' inputs for the backward pass, and recompute the rest

    def setup(self) -> None:
        layer = nn.remat(TransformerLayer) if self.remat else TransformerLayer
        self.layers = [layer(self.config, self.lora) for _ in range(self.config.num_layers)]

    def __call__(
        self,
        x: Float[Array, "B T D"],
        state: TransformerState | None = None,
        active: Bool[Array, "B"] | None = None,
        cross: tuple[KVCache, ...] | None = None,
    ) -> tuple[Float[Array, "B T D"], TransformerState | None]:
        """Run T steps.

        Args:
          x: the whole sequence (state None) or its next block.
          state: from `init_state`; T may not be larger than its `block`.
          active: rows whose state advances; None: all.
          cross: from `cross_caches`, where the config has cross attention.

        Returns:
          The output of each step, and the state after them.
        """
        T = x.shape[1]
        if self.config.step_weights:
            if state is not None or active is not None:
                raise ValueError("a transformer with weights per step takes whole sequences, or one `step` at a time")
            return jnp.concatenate(self.steps(jnp.split(x, T, 1)), 1), None
        if state is None:
            positions = jnp.arange(T)[None]
            timeline = Timeline(self._angles(positions))
        else:
            positions = state.offset[:, None] + jnp.arange(T)
            timeline = self._ring_timeline(state, positions, active)
        x = self._with_positions(x, positions)
        caches: list[Any] = []
        for i, layer in enumerate(self.layers):
            before = None if state is None else state.layers[i]
            x, cache = layer(x, timeline, before, None if cross is None else cross[i])
            caches.append(cache)
        if state is None:
            return x, None
        advanced = state.offset + T
        offset = advanced if active is None else jnp.where(active, advanced, state.offset)
        return x, TransformerState(offset, tuple(caches))

    def steps(self, xs: Sequence[Float[Array, "B 1 D"]]) -> list[Float[Array, "B 1 D"]]:
        """Run a whole short sequence, given as one array per step.

        With weights per step, the inputs and outputs of each step are contiguous in memory.
        """
        positions = jnp.arange(len(xs))[None]
        timeline = Timeline(self._angles(positions))
        ys = [self._with_positions(x, positions[:, t : t + 1]) for t, x in enumerate(xs)]
        for layer in self.layers:
            ys = layer.steps(ys, timeline)
        return ys

    def step(
        self, x: Float[Array, "B 1 D"], past: tuple[KVCache, ...] | None, step: int
    ) -> tuple[Float[Array, "B 1 D"], tuple[KVCache, ...]]:
        """Run step `step` of a short sequence (the depth transformer's codebooks). `past` grows by one each step."""
        positions = jnp.full((1, 1), step)
        timeline = Timeline(self._angles(positions))
        x = self._with_positions(x, positions)
        caches = []
        for i, layer in enumerate(self.layers):
            x, cache = layer.step(x, timeline, None if past is None else past[i], step)
            caches.append(cache)
        return x, tuple(caches)

    def init_state(self, batch: int, dtype: Any = jnp.float32, block: int = 1, ring: str = "exact") -> TransformerState:
        """Return the state before the first step.

        Args:
          batch: rows, B.
          dtype: of the cache.
          block: largest number of steps a call will be given.
          ring: "exact" keeps streaming equal to the whole for any block; "kyutai" keeps PyTorch moshi's ring of
            exactly `context` steps, in which a block's later steps displace keys of its earlier ones.

        Raises:
          ValueError: the config has no `context`, or `ring` is unknown.
        """
        c = self.config
        if c.context is None:
            raise ValueError("a transformer without 'context' cannot stream: set it to the steps a query may see")
        if ring not in ("exact", "kyutai"):
            raise ValueError(f"ring must be 'exact' or 'kyutai', got {ring!r}")
        capacity = c.context + (block - 1 if ring == "exact" else 0)
        shape = (batch, c.num_kv_heads, max(capacity, block), c.head_dim)
        layers = tuple(KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)) for _ in range(c.num_layers))
        return TransformerState(jnp.zeros((batch,), jnp.int32), layers)

    def cross_caches(self, source: Float[Array, "B S D"]) -> tuple[KVCache, ...]:
        """Return the keys and values of a conditioning sequence, layer by layer."""
        return tuple(layer.cross_cache(source) for layer in self.layers)

    def _ring_timeline(self, state: TransformerState, positions: Array, active: Array | None) -> Timeline:
        c = self.config
        capacity = state.layers[0].keys.shape[2]
        T = positions.shape[1]
        assert c.context is not None
        if T > capacity:
            raise ValueError(f"a block of {T} steps does not fit a ring of {capacity}: make the state with block={T}")
        write_at, mask = ring_timeline(state.offset, T, capacity, c.context, active)
        return Timeline(self._angles(positions), write_at, mask)

    def _angles(self, positions: Int[Array, "B T"]) -> tuple[Array, Array] | None:
        if "rope" not in self.config.positional_embedding:
            return None
        return rotary_angles(positions, self.config.head_dim, self.config.max_period)

    def _with_positions(self, x: Float[Array, "B T D"], positions: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        c = self.config
        if "sin" not in c.positional_embedding:
            return x
        return x + (c.positional_scale * sinusoidal(positions, c.dim, c.max_period)).astype(x.dtype)
