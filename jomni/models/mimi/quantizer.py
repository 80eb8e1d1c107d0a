"""Split residual vector quantisation (moshi/quantization): a semantic and an acoustic quantiser.

Axes: B batch, T frames, K codebooks, V codebook entries, D latent dimension, E codebook width.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from jomni.models.mimi.config import QuantizerConfig
from jomni.nn.layers import Linear, contract_last

_EPSILON = 1e-5  # lower bound of the usage in the denominator, as in the original


class Codebook(nn.Module):
    """Nearest-entry quantiser.

    Parameters: `embedding_sum` [V, E], `cluster_usage` [V], `initialized` [1] (the published, trainable form: entries
    are sum / usage), or `centroids` [V, E] and `half_norms` [V] (see `fold_codebooks`).
    """

    bins: int
    dim: int

    def setup(self) -> None:
        if self.has_variable("params", "centroids"):
            self.centroids = self.param("centroids", nn.initializers.zeros, (self.bins, self.dim))
            self.half_norms = self.param("half_norms", nn.initializers.zeros, (self.bins,))
            return
        total = self.param("embedding_sum", nn.initializers.normal(1.0), (self.bins, self.dim))
        usage = self.param("cluster_usage", nn.initializers.ones, (self.bins,))
        self.param("initialized", nn.initializers.ones, (1,))
        self.centroids, self.half_norms = fold(total, usage)

    def encode(self, x: Float[Array, "B T E"]) -> Int[Array, "B T"]:
        return nearest(x, self.centroids, self.half_norms)

    def decode(self, codes: Int[Array, "B T"]) -> Float[Array, "B T E"]:
        return jnp.take(self.centroids, codes, axis=0, mode="clip")


class ResidualQuantizer(nn.Module):
    """Residual quantiser between two projections: each codebook quantises the residual of those before."""

    config: QuantizerConfig
    codebooks: int  # held by the weights
    dimension: int  # D

    def setup(self) -> None:
        c = self.config
        self.input_proj = Linear(c.dimension)
        self.output_proj = Linear(self.dimension)
        self.layers = [Codebook(c.bins, c.dimension) for _ in range(self.codebooks)]

    def encode(self, x: Float[Array, "B T D"], codebooks: int) -> Int[Array, "B K T"]:
        residual = self.input_proj(x)
        codes = []
        for layer in self.layers[:codebooks]:
            codes.append(layer.encode(residual))
            residual = residual - layer.decode(codes[-1])
        return jnp.stack(codes, 1)

    def decode(self, codes: Int[Array, "B K T"]) -> Float[Array, "B T D"]:
        entries = [layer.decode(codes[:, k]) for k, layer in enumerate(self.layers[: codes.shape[1]])]
        return self.output_proj(sum(entries[1:], start=entries[0]))


class SplitQuantizer(nn.Module):
    """A semantic and an acoustic quantiser of the same latent; their decodings are added."""

    config: QuantizerConfig
    dimension: int  # D

    def setup(self) -> None:
        c = self.config
        self.rvq_first = ResidualQuantizer(c, c.n_q_semantic, self.dimension)
        self.rvq_rest = ResidualQuantizer(c, c.n_q - c.n_q_semantic, self.dimension)

    def encode(self, x: Float[Array, "B T D"], codebooks: int) -> Int[Array, "B K T"]:
        semantic = self.config.n_q_semantic
        codes = self.rvq_first.encode(x, semantic)
        if codebooks == semantic:
            return codes
        return jnp.concatenate([codes, self.rvq_rest.encode(x, codebooks - semantic)], 1)

    def decode(self, codes: Int[Array, "B K T"]) -> Float[Array, "B T D"]:
        semantic = self.config.n_q_semantic
        y = self.rvq_first.decode(codes[:, :semantic])
        return y + self.rvq_rest.decode(codes[:, semantic:]) if codes.shape[1] > semantic else y


def nearest(
    x: Float[Array, "... E"], centroids: Float[Array, "V E"], half_norms: Float[Array, "V"]
) -> Int[Array, "..."]:
    """Return the index of the nearest entry: |x - c|^2 is least where x.c - |c|^2 / 2 is greatest."""
    return jnp.argmax(contract_last(x, centroids) - half_norms, -1).astype(jnp.int32)


def fold(total: Float[Array, "V E"], usage: Float[Array, "V"]) -> tuple[Float[Array, "V E"], Float[Array, "V"]]:
    """Return centroids and half of their squared norms, from the published sums and usage."""
    centroids = total / jnp.maximum(usage, _EPSILON)[:, None]
    return centroids, 0.5 * jnp.square(centroids).sum(-1)


def fold_codebooks(params: Any) -> Any:
    """Divide every codebook's sums by its usage once, instead of at every step.

    Takes and returns the parameters of a `Mimi`. The result computes the same numbers but does not hold the published
    tensors: keep the original for export and training.
    """
    if not isinstance(params, dict):
        return params
    if "embedding_sum" in params:
        centroids, half_norms = fold(params["embedding_sum"], params["cluster_usage"])
        return {"centroids": centroids, "half_norms": half_norms}
    return {name: fold_codebooks(value) for name, value in params.items()}
