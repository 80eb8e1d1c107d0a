"""Layers with symmetric look-ahead, on whole sequences and on blocks of a stream.

A layer that needs r future steps returns, when it streams, the output of r steps ago. A stream is therefore late by the
sum of its layers' look-ahead. This number is known in advance, so shapes are static. Steps before the first and after
the last step of a sequence are zero at every layer, as for whole sequences; a stream passes through them because it is
late, and masks them (`Block.inside`).

    block, past = layer(block, past)

`Block` holds steps and their position in the stream. `past` is the layer's state; None, before the first block, counts
as zeros. The structure of the state is that which the first block returns, so layers do not declare it.

Axes: B batch, T time, C channels, I input channels, O output channels, W kernel width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jomni.nn.conv import convolve, overlap_add
from jomni.nn.streaming import precision

Past = Any
_init = nn.initializers.normal(0.02)  # as in the original; the norm of a direction determines how fast Adam changes it


@dataclasses.dataclass(frozen=True)
class Block:
    """A whole sequence (`start` None), or consecutive steps of a stream: step i has position start - delay + i."""

    steps: Float[Array, "B T C"]
    start: Int[Array, "B"] | None = None  # steps of the stream before this block, at this layer's rate
    delay: int = 0  # steps by which the block is late; at a strided layer a multiple of the stride
    end: Int[Array, "B"] | None = None  # length of the sequence, once known

    @property
    def positions(self) -> Int[Array, "B T"]:
        """Return the positions of the steps. They are negative before the start of the sequence."""
        numbers = jnp.arange(self.steps.shape[1])
        if self.start is None:
            return jnp.broadcast_to(numbers, self.steps.shape[:2])
        return (self.start - self.delay)[:, None] + numbers

    def map(self, function: Callable[[Array], Array]) -> Block:
        """Apply a pointwise function to the steps."""
        return dataclasses.replace(self, steps=function(self.steps))

    def inside(self) -> Block:
        """Set the steps outside of the sequence to zero."""
        if self.start is None:
            return self
        numbers = self.positions
        valid = numbers >= 0 if self.end is None else (numbers >= 0) & (numbers < self.end[:, None])
        return self.map(lambda x: jnp.where(valid[..., None], x, 0))

    def later(self, past: Past, steps: int) -> tuple[Block, Past]:
        """Delay the stream by more steps. A whole sequence is returned unchanged."""
        if self.start is None or not steps:
            return self, ()
        joined, past = joined_with(past, self.steps, steps)
        return dataclasses.replace(self, steps=joined[:, : self.steps.shape[1]], delay=self.delay + steps), past

    def aligned(self, past: Past, multiple: int) -> tuple[Block, Past]:
        """Delay the stream so that its blocks begin at multiples of `multiple` steps."""
        return self.later(past, -self.delay % multiple)

    def resampled(self, steps: Array, delay: int, up: int = 1, down: int = 1) -> Block:
        """Return a block of `steps` for the same part of the stream at `up / down` times the rate."""
        start, end = (None if n is None else n * up // down for n in (self.start, self.end))
        return Block(steps, start, delay, end)


def joined_with(past: Past, x: Float[Array, "B T C"], history: int) -> tuple[Float[Array, "B T2 C"], Past]:
    """Return the last `history` steps before x joined with x, and the history for the next block."""
    if not history:
        return x, ()
    before = jnp.zeros((x.shape[0], history, x.shape[2]), x.dtype) if past is None else past
    joined = jnp.concatenate([before, x], 1)
    return joined, joined[:, x.shape[1] :]


def pasts(past: Past, count: int) -> Sequence[Past]:
    """Return the state of each of several layers from their joint state."""
    return [None] * count if past is None else past


def weight_norm(direction: Array, magnitude: Array) -> Array:
    """Return direction / |direction| * magnitude, one norm per entry of `magnitude`, whose other axes have length 1."""
    axes = [i for i, n in enumerate(magnitude.shape) if n == 1]
    return direction * (magnitude / jnp.sqrt(jnp.square(direction).sum(axes, keepdims=True)))


def fold_weight_norm(params: Any) -> Any:
    """Compute every weight-normed kernel once, instead of at every step.

    Takes and returns the parameters of a model. The result computes the same numbers but does not hold the published
    tensors: keep the original for export and training.
    """
    if not isinstance(params, dict):
        return params
    if "direction" in params:
        rest = {k: v for k, v in params.items() if k not in ("direction", "magnitude")}
        return rest | {"kernel": weight_norm(params["direction"], params["magnitude"])}
    return {name: fold_weight_norm(value) for name, value in params.items()}


class _WeightNormed(nn.Module):
    """A module with a kernel.

    Parameters: `direction`, of the kernel's shape, and `magnitude`, which has its normed axis alone (the published
    form), or `kernel` (see `fold_weight_norm`).
    """

    def kernel(self, shape: tuple[int, int, int], axis: int) -> Array:
        if self.has_variable("params", "kernel"):
            return self.param("kernel", nn.initializers.zeros, shape)
        size = tuple(n if i == axis else 1 for i, n in enumerate(shape))
        magnitude = self.param("magnitude", nn.initializers.ones, size)
        return weight_norm(self.param("direction", _init, shape), magnitude)


class LookaheadConv(_WeightNormed):
    """Weight-normed convolution with zeros around its sequence: T steps give T / stride.

    Kernel: [W, I, O], or [W, 1, O] where `depthwise`; normed for each output channel. `bias` [O].
    """

    features: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    depthwise: bool = False
    use_bias: bool = True

    @nn.compact
    def __call__(self, block: Block, past: Past) -> tuple[Block, Past]:
        x, s = block.steps, self.stride
        T, width = x.shape[1], (self.kernel_size - 1) * self.dilation + 1
        kernel = self.kernel((self.kernel_size, 1 if self.depthwise else x.shape[-1], self.features), 2)
        # An output step reads `width` input steps, `back` of them before its own first one.
        back = width // 2 if s == 1 else -(-s // 2)
        late = block.delay + width - s - back
        wait = -late % s  # additional delay, so that output positions are integers
        if block.start is None:
            x, past = jnp.pad(x, ((0, 0), (back, width - s - back), (0, 0))), ()
        else:
            x, past = joined_with(past, x, width - s + wait)
            x = x[:, : T + width - s]
        y = _depthwise(x, kernel, self.dilation) if self.depthwise else convolve(x, kernel, s, self.dilation)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,))
        return block.resampled(y, (late + wait) // s, down=s), past


class LookaheadConvTranspose(_WeightNormed):
    """Weight-normed transposed convolution of width 2 * stride: T steps give T * stride.

    The first ceil(stride / 2) output steps are cut off. Kernel: [I, W, O], so that the product
    with it needs no transpose; normed for each input channel. `bias` [O].
    """

    features: int
    stride: int

    @nn.compact
    def __call__(self, block: Block, past: Past) -> tuple[Block, Past]:
        x, s = block.steps, self.stride
        T, cut = x.shape[1], -(-s // 2)
        kernel = self.kernel((x.shape[-1], 2 * s, self.features), 0)
        y = overlap_add(jnp.einsum("bti,iwo->btwo", x, kernel, precision=precision(x.dtype)), s)
        if block.start is None:
            y, past = y[:, cut : cut + T * s], ()
        else:
            y = y if past is None else y.at[:, :s].add(past)
            y, past = y[:, : T * s], y[:, T * s :]
        y = y + self.param("bias", nn.initializers.zeros, (self.features,))
        return block.resampled(y, block.delay * s + cut, up=s), past


def _depthwise(x: Float[Array, "B T I"], kernel: Float[Array, "W 1 I"], dilation: int) -> Float[Array, "B T2 I"]:
    """Convolve each channel with its own kernel, tap by tap: XLA fuses these, and has no fast grouped convolution."""
    steps = x.shape[1] - (kernel.shape[0] - 1) * dilation
    taps = [x[:, w * dilation : w * dilation + steps] * kernel[w] for w in range(kernel.shape[0])]
    return sum(taps[1:], start=taps[0])
