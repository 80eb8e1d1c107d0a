"""SEANet: the convolutional encoder and decoder of Mimi (moshi/modules/seanet.py).

Axes: B batch, T samples or latent steps, C channels, D latent dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from jomni.models.mimi.config import SeanetConfig
from jomni.nn.conv import CausalConv, CausalConvTranspose
from jomni.nn.streaming import State


def _activation(config: SeanetConfig) -> Callable[[Array], Array]:
    return {
        "ELU": lambda x: jax.nn.elu(x, config.elu_alpha),
        "ReLU": jax.nn.relu,
        "LeakyReLU": jax.nn.leaky_relu,
        "GELU": lambda x: jax.nn.gelu(x, approximate=False),
        "SiLU": jax.nn.silu,
        "Tanh": jnp.tanh,
        "Identity": lambda x: x,
    }[config.activation]


def _conv(config: SeanetConfig, channels: int, features: int, kernel: int, **options: Any) -> CausalConv:
    return CausalConv(features, kernel, pad_mode=config.pad_mode, channels=channels, **options)


def _run(
    layers: Sequence[Any], x: Array, state: Sequence[State] | None, active: Array | None
) -> tuple[Array, tuple[State, ...] | None]:
    """Run streaming modules and plain functions one after another. The state of a function is the empty tuple."""
    states = []
    for i, layer in enumerate(layers):
        new: State = ()
        if isinstance(layer, nn.Module):
            x, new = layer(x, None if state is None else state[i], active)
        else:
            x = layer(x)
        states.append(new)
    return x, None if state is None else tuple(states)


def _initial_states(layers: Sequence[Any], batch: int, dtype: Any) -> tuple[State, ...]:
    return tuple(layer.init_state(batch, dtype) if isinstance(layer, nn.Module) else () for layer in layers)


class ResidualBlock(nn.Module):
    """Activation, dilated convolution, activation, 1x1 convolution, beside a shortcut."""

    config: SeanetConfig
    channels: int
    dilation: int

    def setup(self) -> None:
        c, hidden = self.config, self.channels // self.config.compress
        act = _activation(c)
        self.block = [
            act,
            _conv(c, self.channels, hidden, c.residual_kernel_size, dilation=self.dilation),
            act,
            _conv(c, hidden, self.channels, 1),
        ]
        if not c.true_skip:
            self.shortcut = _conv(c, self.channels, self.channels, 1)

    def __call__(
        self, x: Float[Array, "B T C"], state: State | None = None, active: Bool[Array, "B"] | None = None
    ) -> tuple[Float[Array, "B T C"], State | None]:
        y, block = _run(self.block, x, state and state[0], active)
        if self.config.true_skip:
            return x + y, state and (block, ())
        skip, shortcut = self.shortcut(x, state and state[1], active)
        return skip + y, state and (block, shortcut)

    def init_state(self, batch: int, dtype: Any = jnp.float32) -> State:
        shortcut = () if self.config.true_skip else self.shortcut.init_state(batch, dtype)
        return _initial_states(self.block, batch, dtype), shortcut


class _Stack(nn.Module):
    """Layers in the order, and under the numbers, of the published weights (`model.0`, `model.1`, ...)."""

    config: SeanetConfig

    def setup(self) -> None:
        self.model = self._layers()

    @nn.nowrap
    def _layers(self) -> list[Any]:
        raise NotImplementedError

    @nn.nowrap
    def _residual(self, channels: int) -> list[ResidualBlock]:
        c = self.config
        return [ResidualBlock(c, channels, c.dilation_base**j) for j in range(c.n_residual_layers)]

    def __call__(
        self, x: Float[Array, "B T C"], state: State | None = None, active: Bool[Array, "B"] | None = None
    ) -> tuple[Float[Array, "B T2 C2"], State | None]:
        return _run(self.model, x, state, active)

    def init_state(self, batch: int, dtype: Any = jnp.float32) -> State:
        return _initial_states(self.model, batch, dtype)


class SeanetEncoder(_Stack):
    """Samples [B, T, channels] to latent [B, T / hop_length, dimension]."""

    @nn.nowrap
    def _layers(self) -> list[Any]:
        c, act, width = self.config, _activation(self.config), self.config.n_filters
        layers: list[Any] = [_conv(c, c.channels, width, c.kernel_size)]
        for ratio in reversed(c.ratios):
            layers += self._residual(width)
            layers += [act, _conv(c, width, 2 * width, 2 * ratio, stride=ratio)]
            width *= 2
        return [*layers, act, _conv(c, width, c.dimension, c.last_kernel_size)]


class SeanetDecoder(_Stack):
    """Latent [B, T, dimension] to samples [B, T * hop_length, channels]."""

    @nn.nowrap
    def _layers(self) -> list[Any]:
        c, act = self.config, _activation(self.config)
        width = c.n_filters * 2 ** len(c.ratios)
        layers: list[Any] = [_conv(c, c.dimension, width, c.kernel_size)]
        for ratio in c.ratios:
            layers += [act, CausalConvTranspose(width // 2, 2 * ratio, ratio)]
            width //= 2
            layers += self._residual(width)
        return [*layers, act, _conv(c, width, c.channels, c.last_kernel_size)]
