"""Training of the split residual quantiser: straight-through gradients, dropout and moving-average codebooks.

Without dropout it computes the same as `SplitQuantizer`'s encode and decode. Follows
moshi/quantization/{core_vq,vq}.py.

Axes: B example, N frames, D latent dimension, E codebook width, V entries, K codebooks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jomni.models.mimi.config import QuantizerConfig
from jomni.models.mimi.quantizer import fold, nearest
from jomni.nn.layers import contract_last

Params = Any


@dataclasses.dataclass(frozen=True)
class QuantizerTraining:
    """Training options of the quantiser."""

    quantize: float = 0.5  # share of the examples that are quantised; the latents of the others pass unchanged
    all_codebooks: float = 0.75  # share of the quantised examples that use all codebooks; others use a random number
    commitment: float = 0.25  # weight of the distance between a latent and its entries
    decay: float = 0.99  # decay of the codebooks' moving averages
    restart_below: float = 0.1  # entries used less than this share of the mean are replaced by a random latent


class CodebookUpdate(NamedTuple):
    """Statistics of one codebook in a batch: vectors assigned to each entry, their sum, and candidates for restarts."""

    usage: Float[Array, "V"]
    total: Float[Array, "V E"]
    candidates: Float[Array, "V E"]


class CodebookAverage(NamedTuple):
    """Moving averages of the usage of each entry and of the sum of its vectors. Their ratio is the entry."""

    usage: Float[Array, "V"]
    total: Float[Array, "V E"]

    @property
    def entries(self) -> Float[Array, "V E"]:
        return self.total / jnp.maximum(self.usage, 1e-5)[:, None]


class Quantized(NamedTuple):
    """Output of the quantiser for a batch of latents."""

    latent: Float[Array, "B N D"]  # input of the decoder
    semantic: Float[Array, "B N D"]  # contribution of the semantic codebooks, always quantised
    codes: Int[Array, "B K N"]  # of the codebooks that were used
    commitment: Float[Array, ""]  # mean squared distance to the entries, over all examples and codebooks
    updates: dict[str, dict[int, CodebookUpdate]]  # by residual quantiser and codebook


def quantize(
    config: QuantizerConfig,
    training: QuantizerTraining,
    params: Params,
    latent: Float[Array, "B N D"],
    key: Array,
    acoustic: bool = True,
) -> Quantized:
    """Quantise latents with straight-through gradients.

    Args:
      config: configuration of the quantiser.
      training: dropout and other training options.
      params: parameters of the `SplitQuantizer`. The projections get gradients, the codebooks do not.
      latent: output of the encoder.
      key: key of the random choices.
      acoustic: whether there are losses on the audio. If not, the acoustic codebooks are left out: their projection
        would be trained by the commitment alone, which moves it towards a constant.
    """
    B = latent.shape[0]
    keys = jax.random.split(key, 4)
    rest = config.n_q - config.n_q_semantic
    used = jnp.where(
        jax.random.bernoulli(keys[0], training.all_codebooks, (B,)), rest, jax.random.randint(keys[1], (B,), 0, rest)
    )
    quantized = jax.random.bernoulli(keys[2], training.quantize, (B,))
    candidates = jax.random.split(keys[3])
    everything = jnp.full((B,), config.n_q_semantic)
    first = _residual(params["rvq_first"], config.n_q_semantic, latent, everything, jnp.ones((B,), bool), candidates[0])
    plain = contract_last(first.projected, params["rvq_first"]["output_proj"]["weight"])
    semantic = first.output
    for_decoder = jnp.where(quantized[:, None, None], semantic, plain)
    if not acoustic:
        commitment = first.distance / config.n_q_semantic
        return Quantized(for_decoder, semantic, first.codes, commitment, {"rvq_first": first.updates})
    second = _residual(params["rvq_rest"], rest, latent, used, quantized, candidates[1])
    commitment = (first.distance + second.distance) / config.n_q
    return Quantized(
        for_decoder + second.output, semantic, jnp.concatenate([first.codes, second.codes], 1), commitment,
        {"rvq_first": first.updates, "rvq_rest": second.updates},
    )  # fmt: skip


class _Residual(NamedTuple):
    output: Float[Array, "B N D"]
    projected: Float[Array, "B N E"]
    codes: Int[Array, "B K N"]
    distance: Float[Array, ""]
    updates: dict[int, CodebookUpdate]


def _residual(
    params: Params,
    codebooks: int,
    latent: Float[Array, "B N D"],
    used: Int[Array, "B"],
    quantized: Bool[Array, "B"],
    key: Array,
) -> _Residual:
    """Apply one residual quantiser. Example b uses its first `used[b]` codebooks; `quantized[b]` False: none."""
    projected = contract_last(latent, params["input_proj"]["weight"])
    residual, total = projected, jnp.zeros_like(projected)
    codes, updates, distance = [], dict[int, CodebookUpdate](), jnp.zeros(())
    for k in range(codebooks):
        book = params[f"layers_{k}"]
        centroids, half_norms = jax.lax.stop_gradient(fold(book["embedding_sum"], book["cluster_usage"]))
        code = nearest(jax.lax.stop_gradient(residual), centroids, half_norms)
        entry = jnp.take(centroids, code, axis=0, mode="clip")
        distance += jnp.square(residual - entry).mean()
        updates[k] = assign(jax.lax.stop_gradient(residual), code, centroids.shape[0], jax.random.fold_in(key, k))
        residual = residual - entry
        total = total + jnp.where((k < used)[:, None, None], entry, 0)
        codes.append(code)
    through = projected + jax.lax.stop_gradient(total - projected)
    chosen = jnp.where(quantized[:, None, None], through, projected)
    # An example that uses no codebooks adds zero, like a decoder that is given fewer codebooks.
    chosen = jnp.where((used > 0)[:, None, None] | ~quantized[:, None, None], chosen, 0)
    output = contract_last(chosen, params["output_proj"]["weight"])
    return _Residual(output, projected, jnp.stack(codes, 1), distance, updates)


def assign(vectors: Float[Array, "B N E"], codes: Int[Array, "B N"], entries: int, key: Array) -> CodebookUpdate:
    """Return the statistics of a batch for a codebook with `entries` entries. `key` draws the candidates."""
    flat = vectors.reshape(-1, vectors.shape[-1])
    one_hot = jax.nn.one_hot(codes.reshape(-1), entries, dtype=flat.dtype)
    candidates = jax.random.randint(key, (entries,), 0, flat.shape[0])
    return CodebookUpdate(one_hot.sum(0), one_hot.T @ flat, flat[candidates])


def follow(
    held: CodebookAverage, update: CodebookUpdate, decay: float, restart_below: float, started: bool | Array = True
) -> tuple[CodebookAverage, Float[Array, ""]]:
    """Update the moving averages of a codebook with the vectors assigned to it, and restart unused entries.

    Args:
      held: the averages so far.
      update: from `assign`.
      decay: decay of the averages.
      restart_below: share of the mean usage below which an entry is replaced by a candidate.
      started: False: replace all entries by candidates.

    Returns:
      The new averages, and the perplexity of their usage.
    """
    usage = decay * held.usage + (1 - decay) * update.usage
    total = decay * held.total + (1 - decay) * update.total
    mean = usage.mean()
    restart = (usage < restart_below * mean) | ~jnp.asarray(started)
    usage = jnp.where(restart, mean, usage)
    total = jnp.where(restart[:, None], update.candidates * mean, total)
    return CodebookAverage(usage, total), perplexity(usage)


def perplexity(usage: Float[Array, "V"]) -> Float[Array, ""]:
    """Return the exponential of the entropy of a usage: the number of entries if all were used equally."""
    share = usage / usage.sum()
    return jnp.exp(-(share * jnp.log(jnp.maximum(share, 1e-10))).sum())


def update_codebooks(
    training: QuantizerTraining, params: Params, updates: Mapping[str, Mapping[int, CodebookUpdate]]
) -> tuple[Params, dict[str, Array]]:
    """Update codebooks with the vectors assigned to them, and restart unused entries.

    Args:
      training: decay and threshold.
      params: parameters of the `SplitQuantizer`.
      updates: from `quantize`, for the codebooks to update.

    Returns:
      The new parameters, and the mean perplexity of the updated semantic and acoustic codebooks.
    """
    new = {name: dict(part) for name, part in params.items()}
    perplexities: dict[str, list[Array]] = {name: [] for name in updates}
    for name, books in updates.items():
        for k, update in books.items():
            book = params[name][f"layers_{k}"]
            held = CodebookAverage(book["cluster_usage"], book["embedding_sum"])
            started = book["initialized"][0] > 0
            held, found = follow(held, update, training.decay, training.restart_below, started)
            new[name][f"layers_{k}"] = {
                "embedding_sum": held.total, "cluster_usage": held.usage,
                "initialized": jnp.ones_like(book["initialized"]),
            }  # fmt: skip
            perplexities[name].append(found)
    names = {"rvq_first": "perplexity_semantic", "rvq_rest": "perplexity_acoustic"}
    return new, {names[part]: jnp.stack(values).mean() for part, values in perplexities.items() if values}
