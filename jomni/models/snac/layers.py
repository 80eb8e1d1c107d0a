"""The convolutional encoder and decoder of SNAC and its residual quantiser of several rates (snac/layers.py,
snac/attention.py, snac/vq.py). Module and parameter names are those of the published weights.

Axes: B batch, T samples or latent steps, C channels, N heads, H head width, Q and S steps of a window, K codebooks,
V codebook entries, E codebook width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jomni.models.snac.config import DILATIONS, HEAD_WIDTH, KERNEL, SnacConfig
from jomni.nn.layers import LayerNorm, Linear, contract_last, rotate
from jomni.nn.lookahead import Block, LookaheadConv, LookaheadConvTranspose, Past, pasts
from jomni.nn.streaming import precision

NoiseOf = Callable[[int, Block], Float[Array, "B T"] | None]
"""(stage, block) -> noise of the block's steps, or None for none."""


class Snake(nn.Module):
    """x + sin^2(alpha x) / alpha, a periodic activation (arXiv:2006.08195). Parameter: `alpha` [C]."""

    @nn.compact
    def __call__(self, x: Float[Array, "B T C"]) -> Float[Array, "B T C"]:
        alpha = self.param("alpha", nn.initializers.ones, (x.shape[-1],))
        return x + squared_sine(alpha * x) / (alpha + 1e-9)


def squared_sine(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return sin^2(x), to 1e-6 while |x| < 1000, by range reduction to half a turn and a polynomial.

    Two thirds of SNAC's time on a CPU was `jnp.sin`: XLA does not vectorise it there.
    """
    y = x.astype(jnp.float32)
    turns = jnp.round(y * (1 / math.pi))
    for part in _HALF_TURN:
        y = y - turns * part
    square = y * y
    sine = jnp.zeros_like(y)
    for n in range(13, 0, -2):  # Taylor's series: at a quarter of a turn the next term is 7e-10
        sine = sine * square + (-1) ** (n // 2) / math.factorial(n)
    return (square * sine * sine).astype(x.dtype)


_HALF_TURN = (3.140625, 9.6702575683593750e-4, 6.2783295730096264e-7)
"""pi as a sum of numbers with few bits, so that products of the first ones with integers are exact in float32."""


class ResidualUnit(nn.Module):
    """Snake, dilated convolution, snake, 1x1 convolution, beside an identity shortcut."""

    channels: int
    dilation: int
    depthwise: bool

    def setup(self) -> None:
        wide = LookaheadConv(self.channels, KERNEL, dilation=self.dilation, depthwise=self.depthwise)
        self.block: list[Any] = [Snake(), wide, Snake(), LookaheadConv(self.channels, 1)]

    def __call__(self, block: Block, past: Past) -> tuple[Block, Past]:
        wide_past, skip_past, _ = pasts(past, 3)
        before, wide, between, narrow = self.block
        y, wide_past = wide(block.map(before), wide_past)
        y, _ = narrow(y.map(between), None)
        skip, skip_past = block.later(skip_past, y.delay - block.delay)
        return y.map(lambda steps: steps + skip.steps).inside(), (wide_past, skip_past, ())


class NoiseBlock(nn.Module):
    """x + noise * (W x): one random number per step, scaled for each channel by a projection of x."""

    channels: int

    def setup(self) -> None:
        self.linear = LookaheadConv(self.channels, 1, use_bias=False)

    def __call__(self, block: Block, noise: Float[Array, "B T"] | None) -> Block:
        scale, _ = self.linear(block, None)
        if noise is None:
            return block
        added = noise[..., None] * scale.steps
        return block.map(lambda x: x + added)


class RotaryFrequencies(nn.Module):
    """Frequencies of the rotation, part of the published files. Parameter: `inv_freq` [H / 2], not trained."""

    @nn.compact
    def __call__(self, window: int) -> tuple[Float[Array, "1 T H2"], Float[Array, "1 T H2"]]:
        """Return cosines and sines for the steps of a window."""
        frequencies = self.param("inv_freq", _inverse_frequencies, (HEAD_WIDTH // 2,))
        angles = jnp.arange(window, dtype=jnp.float32)[:, None] * jax.lax.stop_gradient(frequencies)
        return jnp.cos(angles)[None], jnp.sin(angles)[None]


class LocalAttention(nn.Module):
    """Self-attention within consecutive windows of latent steps, with an identity shortcut.

    A stream is delayed so that its blocks begin at windows; T must be a multiple of the window.
    """

    window: int

    @nn.compact
    def __call__(self, block: Block, past: Past) -> tuple[Block, Past]:
        block, past = block.aligned(past, self.window)
        B, T, C = block.steps.shape
        x = LayerNorm(name="norm")(block.steps)
        heads = Linear(3 * C, name="to_qkv")(x).reshape(B * T // self.window, self.window, 3, C // HEAD_WIDTH, -1)
        q, k, v = heads.transpose(2, 0, 3, 1, 4)
        angles = RotaryFrequencies(name="rel_pos")(self.window)
        q, k = rotate(q, angles, interleaved=False), rotate(k, angles, interleaved=False)
        exact = precision(x.dtype)
        scores = jnp.einsum("bnqh,bnsh->bnqs", q, k, precision=exact) / HEAD_WIDTH**0.5
        y = jnp.einsum("bnqs,bnsh->bqnh", jax.nn.softmax(scores, -1), v, precision=exact)
        y = Linear(C, name="to_out")(y.reshape(B, T, C))
        return block.map(lambda x: x + y).inside(), past


class EncoderBlock(nn.Module):
    """Residual units, snake, strided convolution to twice the channels."""

    channels: int
    stride: int
    depthwise: bool

    def setup(self) -> None:
        units = [ResidualUnit(self.channels, d, self.depthwise) for d in DILATIONS]
        self.block: list[Any] = [*units, Snake(), LookaheadConv(2 * self.channels, 2 * self.stride, self.stride)]

    def __call__(self, block: Block, past: Past) -> tuple[Block, Past]:
        *units, snake, conv = self.block
        before = pasts(past, len(units) + 1)
        block, after = _run(units, block, before)
        block, last = conv(block.map(snake), before[-1])
        return block.inside(), (*after, last)


class DecoderBlock(nn.Module):
    """Snake, transposed convolution to half the channels, noise where configured, residual units."""

    channels: int  # of the input
    stride: int
    noise: bool
    depthwise: bool

    def setup(self) -> None:
        half = self.channels // 2
        noise = [NoiseBlock(half)] if self.noise else []
        units = [ResidualUnit(half, d, self.depthwise) for d in DILATIONS]
        self.block: list[Any] = [Snake(), LookaheadConvTranspose(half, self.stride), *noise, *units]

    def __call__(self, block: Block, past: Past, noise: Callable[[Block], Array | None]) -> tuple[Block, Past]:
        snake, conv, *rest = self.block
        before = pasts(past, 1 + len(DILATIONS))
        block, first = conv(block.map(snake), before[0])
        if self.noise:
            block = rest.pop(0)(block, noise(block))
        block, after = _run(rest, block.inside(), before[1:])
        return block, (first, *after)


class SnacEncoder(nn.Module):
    """Samples [B, T, 1] to latent [B, T / hop_length, C]; blocks of a stream are whole frames."""

    config: SnacConfig

    def setup(self) -> None:
        c = self.config
        width = c.encoder_dim
        layers: list[Any] = [LookaheadConv(width, KERNEL)]
        for stride in c.encoder_rates:
            layers.append(EncoderBlock(width, stride, c.depthwise))
            width *= 2
        if c.attn_window_size is not None:
            layers.append(LocalAttention(c.attn_window_size))
        self.block: list[Any] = [*layers, LookaheadConv(width, KERNEL, depthwise=c.depthwise)]

    def __call__(self, block: Block, past: Past = None) -> tuple[Block, Past]:
        before = pasts(past, len(self.block) + 1)
        block, after = _run(self.block, block, before)
        block, wait = block.aligned(before[-1], self.config.vq_strides[0])  # so that blocks hold complete tokens
        return block, (*after, wait)


class SnacDecoder(nn.Module):
    """Latent [B, T, C] to samples [B, T * hop_length, 1] in [-1, 1]."""

    config: SnacConfig

    def setup(self) -> None:
        c = self.config
        layers: list[Any] = []
        if c.depthwise:
            layers += [LookaheadConv(c.latent_width, KERNEL, depthwise=True), LookaheadConv(c.decoder_dim, 1)]
        else:
            layers.append(LookaheadConv(c.decoder_dim, KERNEL))
        if c.attn_window_size is not None:
            layers.append(LocalAttention(c.attn_window_size))
        stages = [DecoderBlock(c.decoder_dim >> i, s, c.noise, c.depthwise) for i, s in enumerate(c.decoder_rates)]
        self.model = [*layers, *stages, Snake(), LookaheadConv(1, KERNEL)]

    def __call__(self, block: Block, noise: NoiseOf, past: Past = None) -> tuple[Block, Past]:
        *layers, snake, last = self.model
        stages = len(self.config.decoder_rates)
        before = pasts(past, len(layers) + 1)
        after: list[Past] = []
        for i, layer in enumerate(layers):
            stage = i - len(layers) + stages
            if stage < 0:
                block, new = layer(block, before[i])
                block = block.inside()
            else:
                block, new = layer(block, before[i], lambda at, stage=stage: noise(stage, at))
            after.append(new)
        block, new = last(block.map(snake), before[-1])
        return block.map(jnp.tanh).inside(), (*after, new)


class VectorQuantizer(nn.Module):
    """One codebook of `codebook_dim` between two projections; one token per `stride` latent steps."""

    config: SnacConfig
    stride: int

    def setup(self) -> None:
        c = self.config
        self.in_proj = LookaheadConv(c.codebook_dim, 1)
        self.out_proj = LookaheadConv(c.latent_width, 1)
        self.codebook = self.param("codebook", nn.initializers.normal(1.0), (c.codebook_size, c.codebook_dim))

    def encode(self, x: Float[Array, "B T C"]) -> Int[Array, "B N"]:
        """Return the entries nearest in direction to the projected mean of each `stride` steps."""
        return self.nearest(self.project(x))

    def decode(self, codes: Int[Array, "B N"]) -> Float[Array, "B T C"]:
        """Return the entries of codes, projected and repeated."""
        return self.expand(self.entries(codes))

    def project(self, x: Float[Array, "B T C"]) -> Float[Array, "B N E"]:
        """Return the projected mean of each `stride` steps."""
        B, T, C = x.shape
        return self.in_proj(Block(x.reshape(B, T // self.stride, self.stride, C).mean(2)), None)[0].steps

    def nearest(self, y: Float[Array, "B N E"]) -> Int[Array, "B N"]:
        """Return the indices of the entries nearest in direction."""
        return jnp.argmax(contract_last(_unit(y), _unit(self.codebook)), -1).astype(jnp.int32)

    def entries(self, codes: Int[Array, "B N"]) -> Float[Array, "B N E"]:
        """Return the entries of codes."""
        return jnp.take(self.codebook, codes, axis=0, mode="clip")

    def expand(self, y: Float[Array, "B N E"]) -> Float[Array, "B T C"]:
        """Project entries and repeat them `stride` times."""
        return jnp.repeat(self.out_proj(Block(y), None)[0].steps, self.stride, axis=1)


class SnacQuantizer(nn.Module):
    """Residual quantiser: codebooks coarse to fine, each quantising the residual of those before."""

    config: SnacConfig

    def setup(self) -> None:
        self.quantizers = [VectorQuantizer(self.config, stride) for stride in self.config.vq_strides]

    def encode(self, x: Float[Array, "B T C"]) -> tuple[Int[Array, "B N"], ...]:
        codes = []
        for quantizer in self.quantizers:
            codes.append(quantizer.encode(x))
            x = x - quantizer.decode(codes[-1])
        return tuple(codes)

    def decode(self, codes: Sequence[Int[Array, "B N"]]) -> Float[Array, "B T C"]:
        parts = [quantizer.decode(c) for quantizer, c in zip(self.quantizers, codes, strict=True)]
        return sum(parts[1:], start=parts[0])


def _run(layers: Sequence[Any], block: Block, past: Past) -> tuple[Block, Past]:
    """Run layers one after another, with zeros outside of the sequence."""
    after: list[Past] = []
    for layer, before in zip(layers, pasts(past, len(layers)), strict=False):
        block, new = layer(block, before)
        block = block.inside()
        after.append(new)
    return block, tuple(after)


def _unit(x: Float[Array, "... E"]) -> Float[Array, "... E"]:
    """Normalise vectors to length 1 (nearly zero ones: shorter), as `torch.nn.functional.normalize` does."""
    return x / jnp.maximum(jnp.sqrt(jnp.square(x).sum(-1, keepdims=True)), 1e-12)


def _inverse_frequencies(key: Any, shape: tuple[int, ...]) -> Array:
    del key
    return 10_000.0 ** -(jnp.arange(shape[0], dtype=jnp.float32) / shape[0])
