"""Causal convolutions over time, whole or streaming. Their state holds the past that a step needs.

Axes: B batch, T time, I input channels, O output channels, W kernel width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jomni.nn.streaming import broadcast_rows, keep_paused, precision
from jomni.printing import short_repr

_init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=(0, 1), out_axis=2)
_init_transposed = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=0, out_axis=(1, 2))


class ConvState(NamedTuple):
    """Streaming state of a convolution."""

    offset: Int[Array, "B"]  # input steps taken since the last reset; at 0 the buffer counts as empty
    buffer: Float[Array, "B P C"]  # past inputs (convolution) or unfinished outputs (transposed convolution)

    def __repr__(self) -> str:
        return short_repr(self)


def _initial_state(batch: int, length: int, channels: int, dtype: Any) -> ConvState:
    return ConvState(jnp.zeros((batch,), jnp.int32), jnp.zeros((batch, length, channels), dtype))


class CausalConv(nn.Module):
    """Causal convolution. `pad_mode` sets the padding before the first step.

    T input steps give T / stride output steps. Parameters: `kernel` [W, I, O], `bias` [O]
    (moshi/modules/conv.py::StreamingConv1d).
    """

    features: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    use_bias: bool = True
    pad_mode: str = "constant"  # "constant": zeros; "replicate": the first input step
    channels: int | None = None  # input channels; needed by `init_state` alone

    @property
    def history(self) -> int:
        """Return the number of past input steps that the next output needs."""
        return (self.kernel_size - 1) * self.dilation + 1 - self.stride

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T I"], state: ConvState | None = None, active: Bool[Array, "B"] | None = None
    ) -> tuple[Float[Array, "B T2 O"], ConvState | None]:
        """Convolve a whole sequence (state None) or its next block. T must be a multiple of the stride.

        Raises:
          ValueError: T is not a multiple of the stride.
        """
        if x.shape[1] % self.stride:
            raise ValueError(f"{x.shape[1]} steps are not a multiple of the convolution's stride {self.stride}")
        kernel = self.param("kernel", _init, (self.kernel_size, x.shape[-1], self.features))
        before = jnp.zeros((x.shape[0], self.history, x.shape[-1]), x.dtype)
        if self.pad_mode == "replicate":
            before = before + x[:, :1]
        if state is not None:
            before = jnp.where(broadcast_rows(state.offset == 0, before), before, state.buffer)
        joined = jnp.concatenate([before, x], 1) if self.history else x
        y = convolve(joined, kernel, self.stride, self.dilation)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,))
        if state is None:
            return y, None
        new = ConvState(state.offset + x.shape[1], joined[:, joined.shape[1] - self.history :])
        return y, keep_paused(active, new, state)

    def init_state(self, batch: int, dtype: Any = jnp.float32) -> ConvState:
        assert self.channels is not None
        return _initial_state(batch, self.history, self.channels, dtype)


class CausalConvTranspose(nn.Module):
    """Transposed convolution whose last W - stride outputs wait for the steps that complete them.

    T input steps give T * stride output steps. Parameters: `kernel` [I, W, O] (depthwise: [O, W, 1]), so that the
    product with it needs no transpose, and `bias` [O] (moshi/modules/conv.py::StreamingConvTranspose1d).
    """

    features: int
    kernel_size: int
    stride: int
    use_bias: bool = True
    depthwise: bool = False

    @property
    def overlap(self) -> int:
        """Return the number of output steps of a block to which the next block still adds."""
        return self.kernel_size - self.stride

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T I"], state: ConvState | None = None, active: Bool[Array, "B"] | None = None
    ) -> tuple[Float[Array, "B T2 O"], ConvState | None]:
        """Expand a whole sequence (state None) or its next block."""
        _, T, I = x.shape  # noqa: E741
        if self.depthwise:
            kernel = self.param("kernel", _init_transposed, (self.features, self.kernel_size, 1))
            spread = x[:, :, None] * kernel[..., 0].T
        else:
            kernel = self.param("kernel", _init_transposed, (I, self.kernel_size, self.features))
            spread = jnp.einsum("bti,iwo->btwo", x, kernel, precision=precision(x.dtype))
        y = overlap_add(spread, self.stride)
        if state is not None:
            waiting = jnp.where(broadcast_rows(state.offset == 0, state.buffer), 0, state.buffer)
            y = y.at[:, : self.overlap].add(waiting)
        done, rest = y[:, : T * self.stride], y[:, T * self.stride :]
        if self.use_bias:
            done = done + self.param("bias", nn.initializers.zeros, (self.features,))
        if state is None:
            return done, None
        return done, keep_paused(active, ConvState(state.offset + T, rest), state)

    def init_state(self, batch: int, dtype: Any = jnp.float32) -> ConvState:
        return _initial_state(batch, self.overlap, self.features, dtype)


def convolve(x: Float[Array, "B T I"], kernel: Float[Array, "W I O"], stride: int, dilation: int) -> Array:
    """Convolve without padding, in full float32 for float32."""
    return lax.conv_general_dilated(
        x, kernel, (stride,), "VALID", rhs_dilation=(dilation,), dimension_numbers=("NWC", "WIO", "NWC"),
        precision=precision(x.dtype),
    )  # fmt: skip


def overlap_add(spread: Float[Array, "B T W O"], stride: int) -> Float[Array, "B T3 O"]:
    """Add up windows of W steps that start every `stride` steps."""
    B, T, W, O = spread.shape  # noqa: E741
    parts = -(-W // stride)
    spread = jnp.pad(spread, ((0, 0), (0, 0), (0, parts * stride - W), (0, 0)))
    pieces = spread.reshape(B, T, parts, stride, O)
    total = jnp.zeros((B, T + parts - 1, stride, O), spread.dtype)
    for p in range(parts):
        total = total.at[:, p : p + T].add(pieces[:, :, p])
    return total.reshape(B, -1, O)[:, : T * stride + W - stride]
