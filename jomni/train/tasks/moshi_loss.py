"""Loss of the language model, as in Moshi's paper (arXiv:2410.00037, 3.4.5) and moshi-finetune (finetune/loss.py).

The sum of the cross entropy of the text, with a lower weight on padding tokens, and the cross entropy of the agent's
audio, with a higher weight on the semantic codebook. Each is a weighted mean over the existing tokens.

Axes: B rows, T frames, S chosen frames, K streams, Q agent's codebooks, V vocabulary.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num, Shaped

from jomni.errors import ConfigError
from jomni.models.moshi.config import MoshiConfig
from jomni.models.moshi.model import ZERO, DelayedLogits


@dataclasses.dataclass(frozen=True)
class LMLossConfig:
    """Weights of the tokens."""

    text_padding_weight: float = 0.5  # weight of padding text tokens (PAD and EPAD); others have 1
    first_codebook_weight_multiplier: float = 100.0  # weight of the semantic codebook; others have 1
    text_weight: float = 1.0  # weight of the text's loss in the sum; the audio's has 1
    heard_weight: float = 0.0  # weight of the user ASR head's loss, the first extra head; 0: it is not trained

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) >= 0:
                raise ConfigError(f"loss option '{field.name}' must not be negative, got {getattr(self, field.name)!r}")


def token_masks(
    config: MoshiConfig, delayed: Int[Array, "B K T"], read: Bool[Array, "B"] | None = None
) -> Bool[Array, "B K T"]:
    """Return a mask of the tokens with a loss: existing tokens of the text (stream 0) and the agent (1 to Q).

    Args:
      config: configuration of the model.
      delayed: from `MoshiLM.delay`. The first frames hold the initial token; -1 means no token.
      read: rows whose text has no loss, because the agent reads aloud text that it cannot predict.
    """
    streams = config.dep_q + 1
    begun = jnp.arange(delayed.shape[-1]) >= jnp.asarray(config.delays[:streams])[:, None]
    mask = (delayed[:, :streams] != ZERO) & begun
    return mask if read is None else mask.at[:, 0].set(mask[:, 0] & ~read[:, None])


def token_weights(
    config: MoshiConfig,
    loss: LMLossConfig,
    delayed: Int[Array, "B K T"],
    frames: Int[Array, "B S"] | None = None,
    read: Bool[Array, "B"] | None = None,
) -> tuple[Float[Array, "B T"], Float[Array, "B S Q"]]:
    """Return the weights of the text tokens, and of the agent's audio tokens in `frames` (None: in all frames)."""
    mask = token_masks(config, delayed, read)
    text = mask[:, 0] * jnp.where(is_padding(config, delayed[:, 0]), loss.text_padding_weight, 1.0)
    codebooks = jnp.ones(config.dep_q).at[:1].set(loss.first_codebook_weight_multiplier)
    return text, at_frames(mask[:, 1:], frames).swapaxes(1, 2) * codebooks


def at_frames(tokens: Shaped[Array, "B K T"], frames: Int[Array, "B S"] | None) -> Shaped[Array, "B K S"]:
    """Return the tokens of the chosen frames of each row, or of all frames if `frames` is None."""
    return tokens if frames is None else jnp.take_along_axis(tokens, frames[:, None], 2)


def is_padding(config: MoshiConfig, text: Int[Array, "..."]) -> Bool[Array, "..."]:
    """Return whether text tokens are padding: PAD or EPAD."""
    return (text == config.existing_text_padding_id) | (text == config.existing_text_end_padding_id)


def cross_entropy(logits: Float[Array, "... V"], target: Int[Array, "..."]) -> Float[Array, "..."]:
    """Return the cross entropy in float32. Targets outside the vocabulary give meaningless values; weight them 0."""
    logits = logits.astype(jnp.float32)
    # A comparison instead of a gather: its gradient needs no scatter, and it fuses with the softmax.
    hit = jnp.arange(logits.shape[-1]) == target[..., None]
    return jax.nn.logsumexp(logits, -1) - jnp.where(hit, logits, 0).sum(-1)


_TINY = 1e-6
"""Lower bound for denominators."""


def denominator(count: Num[Array, "..."]) -> Float[Array, "..."]:
    """Return a count as a denominator, float32. Counts of zero become `_TINY`, which `or_nan` recognises."""
    return jnp.maximum(count.astype(jnp.float32), _TINY)


def or_nan(metric: Float[Array, "..."], count: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return a metric that was divided by `count`, or NaN where the count was zero."""
    return jnp.where(count > _TINY, metric, jnp.nan)


@dataclasses.dataclass(frozen=True)
class Counts:
    """Denominators of the loss and the metrics: sums of weights and numbers of tokens over the whole batch."""

    text: Float[Array, ""]
    audio: Float[Array, ""]
    heard: Float[Array, ""]
    words: Float[Array, ""]  # text tokens that are not padding
    heard_words: Float[Array, ""]  # the same for the user's words
    codebooks: Float[Array, "Q"]


def heard_weights(
    config: MoshiConfig, loss: LMLossConfig, heard: Int[Array, "B T"]
) -> tuple[Float[Array, "B T"], Bool[Array, "B T"]]:
    """Return the weight of each token of the user's words, and which of them are not padding."""
    words = (heard != ZERO) & ~is_padding(config, heard)
    return (heard != ZERO) * jnp.where(words, 1.0, loss.text_padding_weight), words


def counts(
    config: MoshiConfig,
    loss: LMLossConfig,
    delayed: Int[Array, "B K T"],
    heard: Int[Array, "B T"] | None = None,
    frames: Int[Array, "B S"] | None = None,
    read: Bool[Array, "B"] | None = None,
) -> Counts:
    """Return the denominators for a whole batch. The arguments are those of `lm_loss`."""
    text, audio = token_weights(config, loss, delayed, frames, read)
    heard_weight, heard_words = (jnp.zeros(()),) * 2 if heard is None else heard_weights(config, loss, heard)
    mask = token_masks(config, delayed, read)
    words = mask[:, 0] & ~is_padding(config, delayed[:, 0])
    sums = text, audio, heard_weight, words, heard_words
    numbers = *(x.sum() for x in sums), at_frames(mask[:, 1:], frames).sum((0, 2))
    return Counts(*map(denominator, numbers))


def lm_loss(
    config: MoshiConfig,
    loss: LMLossConfig,
    logits: DelayedLogits,
    delayed: Int[Array, "B K T"],
    total: Counts,
    heard: Int[Array, "B T"] | None = None,
    frames: Int[Array, "B S"] | None = None,
    read: Bool[Array, "B"] | None = None,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Return the contribution of these rows to the batch's loss and metrics.

    The contributions of all microbatches add up to the values of the batch.

    Args:
      config: configuration of the model.
      loss: the weights.
      logits: from `MoshiLM.delayed_logits`.
      delayed: targets, from `MoshiLM.delay`.
      total: from `counts` of the whole batch.
      heard: text tokens of the user's words, for the first extra head; -1 means no token.
      frames: frames of the audio logits. None: all.
      read: rows whose text has no loss. None: no such rows.

    Returns:
      The loss, and the metrics "loss", "text_loss", "word_accuracy" (of text tokens that are not padding),
      "audio_loss", "audio_loss_k" (unweighted mean of codebook k), "heard_loss" and "heard_accuracy" (of the user's
      words). Metrics without any token in the batch are NaN.
    """
    mask = token_masks(config, delayed, read)
    text_weight, audio_weight = token_weights(config, loss, delayed, frames, read)
    text = jnp.vdot(text_weight, cross_entropy(logits.text, delayed[:, 0])) / total.text
    words = mask[:, 0] & ~is_padding(config, delayed[:, 0])
    right = (logits.text.argmax(-1) == delayed[:, 0]) & words
    metrics = {
        "text_loss": or_nan(text, total.text), "word_accuracy": or_nan(right.sum() / total.words, total.words)
    }  # fmt: skip
    whole = loss.text_weight * text
    if logits.audio is not None:
        codes = at_frames(delayed[:, 1 : config.dep_q + 1], frames)
        each = jnp.stack([cross_entropy(x, codes[:, k]) for k, x in enumerate(logits.audio)], -1)
        audio = jnp.vdot(audio_weight, each) / total.audio
        whole = whole + audio
        by_codebook = (each * at_frames(mask[:, 1:], frames).swapaxes(1, 2)).sum((0, 1)) / total.codebooks
        by_codebook = or_nan(by_codebook, total.codebooks)
        metrics |= {"audio_loss": or_nan(audio, total.audio)}
        metrics |= {f"audio_loss_{k}": by_codebook[k] for k in range(config.dep_q)}
    if heard is not None:
        weight, words = heard_weights(config, loss, heard)
        said = jnp.vdot(weight, cross_entropy(logits.heads[0], heard)) / total.heard
        whole = whole + loss.heard_weight * said
        right = (logits.heads[0].argmax(-1) == heard) & words
        metrics |= {"heard_loss": or_nan(said, total.heard)}
        metrics |= {"heard_accuracy": or_nan(right.sum() / total.heard_words, total.heard_words)}
    return whole, {"loss": whole} | metrics
