"""The one linear layer: published layout, optional bias, optional low-rank adapter kept beside the weight.

Axes: I input width, O output width (`features`), r rank of the adapter.
"""

from __future__ import annotations

from typing import NamedTuple

from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jomni.nn.streaming import precision

_init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=1, out_axis=0)


def contract_last(x: Float[Array, "... I"], weight: Float[Array, "O I"]) -> Float[Array, "... O"]:
    """Return x @ weight.T without a transpose. x is cast to the weight's dtype."""
    x = x.astype(weight.dtype)
    return lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())), precision=precision(x.dtype))


class LoRA(NamedTuple):
    """Low-rank adapters beside linear layers (arXiv:2106.09685, moshi/modules/lora.py)."""

    rank: int
    scaling: float


class Linear(nn.Module):
    """y = x W^T (+ b) (+ lora.scaling * x A^T B^T).

    Parameters: `weight` [features, I] (the published layout: no copy on import), `bias` [features], and with
    an adapter of rank r `lora_A` [r, I] and `lora_B` [features, r].
    """

    features: int
    use_bias: bool = False
    lora: LoRA | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "... I"]) -> Float[Array, "... O"]:
        weight = self.param("weight", _init, (self.features, x.shape[-1]))
        y = contract_last(x, weight)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,))
        if self.lora is not None:
            down = self.param("lora_A", _init, (self.lora.rank, x.shape[-1]))
            up = self.param("lora_B", nn.initializers.zeros, (self.features, self.lora.rank))
            y = y + self.lora.scaling * contract_last(contract_last(x, down), up)
        return y
