"""The dummy model."""

from __future__ import annotations

from flax import linen as nn
from jaxtyping import Array, Float

from jomni.nn.layers import Linear
from tests.dummy_model.config import DummyConfig


class Dummy(nn.Module):
    """A linear map."""

    config: DummyConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B D"]) -> Float[Array, "B O"]:
        return Linear(self.config.outputs, name="head")(x)
