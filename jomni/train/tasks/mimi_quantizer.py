"""The training form of the split residual quantiser: straight-through, dropout, moving-average codebooks.

What it computes with everything switched off is `SplitQuantizer`'s encode and decode. Follows
moshi/quantization/{core_vq,vq}.py. Axes: B example, N frames, D latent dimension, E codebook width, V entries, K
codebooks.
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
    """How the quantiser is trained."""

    quantize: float = 0.5  # share of the examples that are quantised; the others reach the decoder as they are
    all_codebooks: float = 0.75  # share of the quantised examples that use every codebook; the others a random number
    commitment: float = 0.25  # weight of the distance between the latent and its entries
    decay: float = 0.99  # of the moving averages that the codebooks are
    restart_below: float = 0.1  # entries used less than this share of the mean are put where a random latent is


class CodebookUpdate(NamedTuple):
    """What one batch says about one codebook: vectors assigned to each entry, their sum, and candidates to restart."""

    usage: Float[Array, "V"]
    total: Float[Array, "V E"]
    candidates: Float[Array, "V E"]


class CodebookAverage(NamedTuple):
    """Moving averages of how often an entry is used and of the sum of what it stands for; their ratio is the entry."""

    usage: Float[Array, "V"]
    total: Float[Array, "V E"]

    @property
    def entries(self) -> Float[Array, "V E"]:
        return self.total / jnp.maximum(self.usage, 1e-5)[:, None]


class Quantized(NamedTuple):
    """What the quantiser made of a batch of latents."""

    latent: Float[Array, "B N D"]  # for the decoder
    semantic: Float[Array, "B N D"]  # the semantic codebooks' part of it, always quantised
    codes: Int[Array, "B K N"]  # of the codebooks that ran
    commitment: Float[Array, ""]  # mean squared distance to the entries, over all examples and codebooks
    updates: dict[str, dict[int, CodebookUpdate]]  # per residual quantiser, per codebook


def quantize(
    config: QuantizerConfig,
    training: QuantizerTraining,
    params: Params,
    latent: Float[Array, "B N D"],
    key: Array,
    acoustic: bool = True,
) -> Quantized:
    """Quantises with gradients straight through.

    Args:
      config: of the quantiser.
      training: dropout and the rest.
      params: of the `SplitQuantizer`; gradients reach the projections, not the codebooks.
      latent: from the encoder.
      key: of the random choices.
      acoustic: whether there are losses on the audio. Without, the acoustic codebooks are left out: nothing but the
        commitment would move their projection, towards a constant.
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
    """One residual quantiser: example b uses its first `used[b]` codebooks, and none of them unless `quantized[b]`."""
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
    # An example that uses none of the codebooks adds nothing, as a decoder given fewer codebooks does.
    chosen = jnp.where((used > 0)[:, None, None] | ~quantized[:, None, None], chosen, 0)
    output = contract_last(chosen, params["output_proj"]["weight"])
    return _Residual(output, projected, jnp.stack(codes, 1), distance, updates)


def assign(vectors: Float[Array, "B N E"], codes: Int[Array, "B N"], entries: int, key: Array) -> CodebookUpdate:
    """Return what a batch says about a codebook of so many entries; `key` draws the candidates."""
    flat = vectors.reshape(-1, vectors.shape[-1])
    one_hot = jax.nn.one_hot(codes.reshape(-1), entries, dtype=flat.dtype)
    candidates = jax.random.randint(key, (entries,), 0, flat.shape[0])
    return CodebookUpdate(one_hot.sum(0), one_hot.T @ flat, flat[candidates])


def follow(
    held: CodebookAverage, update: CodebookUpdate, decay: float, restart_below: float, started: bool | Array = True
) -> tuple[CodebookAverage, Float[Array, ""]]:
    """Return a codebook moved towards what was assigned to it, its unused entries put where a candidate is.

    Args:
      held: its averages so far.
      update: from `assign`.
      decay: of the averages.
      restart_below: share of the mean usage below which an entry counts as unused.
      started: False: all of its entries are put where candidates are.

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
    """As many entries, all equally frequent, would have the entropy of this usage."""
    share = usage / usage.sum()
    return jnp.exp(-(share * jnp.log(jnp.maximum(share, 1e-10))).sum())


def update_codebooks(
    training: QuantizerTraining, params: Params, updates: Mapping[str, Mapping[int, CodebookUpdate]]
) -> tuple[Params, dict[str, Array]]:
    """Move codebooks towards what was assigned to them, and restart the entries that nothing uses.

    Args:
      training: decay and threshold.
      params: of the `SplitQuantizer`.
      updates: from `quantize`, of the codebooks that are to move, by their numbers.

    Returns:
      The new parameters, and the mean perplexity of the moving usage, of the semantic and the acoustic codebooks that
      move.
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
