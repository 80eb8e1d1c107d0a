"""Causal attention over a whole sequence, over a ring cache of keys and values, or over another sequence.

Axes: B batch, N query heads, K key/value heads, G query heads per key/value head, T queries (time), S keys, H head
width, D model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from jomni.nn.config import TransformerConfig
from jomni.nn.layers import Linear, LoRA, rotate
from jomni.nn.streaming import precision
from jomni.printing import short_repr


class KVCache(NamedTuple):
    """Keys (already rotated) and values, in ring order: step p is at index p modulo S."""

    keys: Float[Array, "B K S H"]
    values: Float[Array, "B K S H"]

    def __repr__(self) -> str:
        return short_repr(self)


class Timeline(NamedTuple):
    """Positions of a block of T steps in time, computed once for all layers of a stack.

    With `write_at` the block goes into the ring first and queries then read the ring through `mask`; without, queries
    read the block itself.
    """

    angles: tuple[Float[Array, "B T H2"], Float[Array, "B T H2"]] | None
    write_at: Int[Array, "B T"] | None = None
    mask: Bool[Array, "B T S"] | None = None

    def __repr__(self) -> str:
        return short_repr(self)


def ring_timeline(
    offset: Int[Array, "B"],
    steps: int,
    capacity: int,
    context: int,
    active: Bool[Array, "B"] | None,
    lengths: Int[Array, "B"] | None = None,
) -> tuple[Int[Array, "B T"], Bool[Array, "B T S"]]:
    """Return where to write `steps` new entries, and which entries each new query may then read.

    A ring of `capacity` = context + steps - 1 loses nothing that a query of the block still needs. A ring of exactly
    `context` (PyTorch moshi's convention) has by then overwritten the oldest keys of the block's earlier queries.
    With `lengths`, only the first `lengths[b]` steps of row b's block count; the rest is padding and is not written.
    """
    positions = offset[:, None] + jnp.arange(steps)
    write_at = positions % capacity
    if active is not None:
        write_at = jnp.where(active[:, None], write_at, capacity)  # out of bounds: the write is dropped
    last = positions[:, -1:]
    if lengths is not None:
        write_at = jnp.where(jnp.arange(steps) < lengths[:, None], write_at, capacity)
        last = (offset + lengths - 1)[:, None]
    held = last - (last - jnp.arange(capacity)) % capacity  # step held at each place of the ring; negative: none
    age = positions[:, :, None] - held[:, None]
    return write_at, (held[:, None] >= 0) & (age >= 0) & (age < context)


def write(cache: KVCache, keys: Array, values: Array, write_at: Int[Array, "B T"]) -> KVCache:
    """Scatter [B, K, T, H] into the ring in place; places beyond the ring are dropped (paused rows)."""
    if write_at.size == 1:
        # XLA turns a scatter of one update into a slice update, fuses that into each of its readers, and copies the
        # ring for each. A second update, which is dropped, keeps it a scatter.
        write_at = jnp.concatenate([write_at, jnp.full_like(write_at, cache.keys.shape[2])], 1)
        keys, values = (jnp.repeat(x, 2, 2) for x in (keys, values))
    rows = jnp.arange(write_at.shape[0])[:, None]

    def put(ring: Array, new: Array) -> Array:
        return ring.at[rows, :, write_at].set(new.swapaxes(1, 2).astype(ring.dtype), mode="drop")

    return KVCache(put(cache.keys, keys), put(cache.values, values))


def attend(
    queries: Float[Array, "B N T H"],
    keys: Float[Array, "B K S H"],
    values: Float[Array, "B K S H"],
    mask: Bool[Array, "*B T S"] | None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Array, "B N T H"]:
    """Compute softmax attention with grouped heads; scores and softmax in float32. `mask` broadcasts over B.

    Scores are multiplied by `scale` (None: H ** -0.5), and with `softcap` c they become c * tanh(scores / c).
    """
    B, N, T, H = queries.shape
    K = keys.shape[1]
    G = N // K
    rows = queries.reshape(B, K, G * T, H)  # the heads of a group side by side in time: one plain product (row R)
    exact = precision(queries.dtype)
    scores = jnp.einsum("bkrh,bksh->bkrs", rows, keys, precision=exact, preferred_element_type=jnp.float32)
    scores = scores * (H**-0.5 if scale is None else scale)
    if softcap is not None:
        scores = softcap * jnp.tanh(scores / softcap)
    if mask is not None:
        visible = jnp.concatenate([mask] * G, -2)
        scores = jnp.where(visible[..., None, :, :], scores, -jnp.inf)
    weights = jax.nn.softmax(scores, -1).astype(values.dtype)
    return jnp.einsum("bkrs,bksh->bkrh", weights, values, precision=exact).reshape(B, N, T, H)


def attend_causally(
    queries: Float[Array, "B N T H"],
    keys: Float[Array, "B K T H"],
    values: Float[Array, "B K T H"],
    context: int | None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Array, "B N T H"]:
    """Compute causal attention over a whole sequence. A query sees the last `context` steps; otherwise as `attend`.

    Long sequences are cut into bands of `context` queries that read two bands of keys, so that memory grows with
    T * context and not with T squared.
    """
    T = queries.shape[2]
    if context is None or 2 * context >= T:
        age = jnp.arange(T)[:, None] - jnp.arange(T)
        visible = age >= 0 if context is None else (age >= 0) & (age < context)
        return attend(queries, keys, values, visible, scale, softcap)
    W = context
    bands = -(-T // W)
    padded = [jnp.pad(x, ((0, 0), (0, 0), (0, bands * W - T), (0, 0))) for x in (queries, keys, values)]
    q, k, v = (x.reshape(*x.shape[:2], bands, W, x.shape[-1]).transpose(2, 0, 1, 3, 4) for x in padded)

    def band(index: Array, q_band: Array, k_now: Array, k_before: Array, v_now: Array, v_before: Array) -> Array:
        age = W + jnp.arange(W)[:, None] - jnp.arange(2 * W)
        visible = (age >= 0) & (age < W) & ((index > 0) | (jnp.arange(2 * W) >= W))
        both = jnp.concatenate([k_before, k_now], 2), jnp.concatenate([v_before, v_now], 2)
        return attend(q_band, *both, visible, scale, softcap)

    before = [jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]) for x in (k, v)]
    out = jax.lax.map(lambda args: band(*args), (jnp.arange(bands), q, k, before[0], v, before[1]))
    return out.transpose(1, 2, 0, 3, 4).reshape(*queries.shape[:2], bands * W, -1)[:, :, :T]


class SelfAttention(nn.Module):
    """Causal self-attention (moshi/modules/transformer.py::StreamingMultiheadAttention).

    Parameters: `in_proj/weight` [(N + 2 K) H, D] and `out_proj/weight` [D, D]; with weights per step one of each per
    weight set: `in_projs_{s}`, `out_projs_{s}`.
    """

    config: TransformerConfig
    lora: LoRA | None = None

    def setup(self) -> None:
        c = self.config
        width = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim
        if c.step_weights:
            self.in_projs = [Linear(width, lora=self.lora) for _ in range(c.num_weight_sets)]
            self.out_projs = [Linear(c.dim, lora=self.lora) for _ in range(c.num_weight_sets)]
        else:
            self.in_proj = Linear(width, lora=self.lora)
            self.out_proj = Linear(c.dim, lora=self.lora)

    def __call__(
        self, x: Float[Array, "B T D"], timeline: Timeline, cache: KVCache | None
    ) -> tuple[Float[Array, "B T D"], KVCache | None]:
        """Attend within x (cache None: a whole sequence) or over the ring `cache`, returned with x added."""
        queries, keys, values = self.project(x, 0)
        if timeline.angles is not None:
            queries, keys = (self._rotate(y, timeline) for y in (queries, keys))
        if cache is None:
            y = attend_causally(queries, keys, values, self.config.context)
        else:
            assert timeline.write_at is not None
            cache = write(cache, keys, values, timeline.write_at)
            y = attend(queries, cache.keys, cache.values, timeline.mask)
        return self.merge(y, 0), cache

    def steps(self, xs: Sequence[Float[Array, "B 1 D"]], timeline: Timeline) -> list[Float[Array, "B 1 D"]]:
        """Run a whole short sequence with weights per step, one array per step; only attention joins them."""
        projected = zip(*(self.project(x, t) for t, x in enumerate(xs)), strict=True)
        queries, keys, values = (jnp.concatenate(parts, 2) for parts in projected)
        if timeline.angles is not None:
            queries, keys = (self._rotate(y, timeline) for y in (queries, keys))
        y = attend_causally(queries, keys, values, self.config.context)
        return [self.merge(y[:, :, t : t + 1], t) for t in range(len(xs))]

    def step(
        self, x: Float[Array, "B 1 D"], timeline: Timeline, past: KVCache | None, step: int
    ) -> tuple[Float[Array, "B 1 D"], KVCache]:
        """Run one step of a short sequence of known length. `past` holds the steps before, and grows by one."""
        queries, keys, values = self.project(x, step)
        if timeline.angles is not None:
            queries, keys = (self._rotate(y, timeline) for y in (queries, keys))
        if past is not None:
            keys = jnp.concatenate([past.keys, keys], 2)
            values = jnp.concatenate([past.values, values], 2)
        return self.merge(attend(queries, keys, values, None), step), KVCache(keys, values)

    def project(self, x: Float[Array, "B T D"], step: int) -> tuple[Array, Array, Array]:
        """Return queries [B, N, T, H], keys and values [B, K, T, H]; with weights per step those of `step`."""
        c = self.config
        y = self._weights("in_proj", step)(x)
        y = y.reshape(*y.shape[:2], -1, c.head_dim).swapaxes(1, 2)
        return y[:, : c.num_heads], y[:, c.num_heads : -c.num_kv_heads], y[:, -c.num_kv_heads :]

    def merge(self, y: Float[Array, "B N T H"], step: int) -> Float[Array, "B T D"]:
        """Join the heads and project them to D."""
        return self._weights("out_proj", step)(y.swapaxes(1, 2).reshape(y.shape[0], y.shape[2], -1))

    def _weights(self, name: str, step: int) -> Linear:
        sets = self.config.step_weights
        return getattr(self, name + "s")[sets[step]] if sets else getattr(self, name)

    def _rotate(self, x: Array, timeline: Timeline) -> Array:
        assert timeline.angles is not None
        return rotate(x, timeline.angles, interleaved=self.config.positional_embedding != "rope_concat")


class CrossAttention(nn.Module):
    """Attention over a conditioning sequence, every position of it visible. Parameters: `in_proj`, `out_proj`."""

    config: TransformerConfig
    lora: LoRA | None = None

    def setup(self) -> None:
        self.in_proj = Linear(3 * self.config.dim, lora=self.lora)
        self.out_proj = Linear(self.config.dim, lora=self.lora)

    def cache(self, source: Float[Array, "B S D"]) -> KVCache:
        """Return the keys and values of the source, which do not change during a conversation."""
        projected = self.in_proj(source)[..., self.config.dim :]
        keys, values = (self._heads(y) for y in jnp.split(projected, 2, -1))
        return KVCache(keys, values)

    def __call__(self, x: Float[Array, "B T D"], cache: KVCache) -> Float[Array, "B T D"]:
        queries = self._heads(self.in_proj(x)[..., : self.config.dim])
        y = attend(queries, cache.keys, cache.values, None)
        return self.out_proj(y.swapaxes(1, 2).reshape(x.shape))

    def _heads(self, y: Float[Array, "B T D"]) -> Float[Array, "B N T H"]:
        return y.reshape(*y.shape[:2], self.config.num_heads, -1).swapaxes(1, 2)
