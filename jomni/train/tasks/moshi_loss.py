"""The loss of the language model, as in Moshi's paper (arXiv:2410.00037, 3.4.5) and moshi-finetune (finetune/loss.py).

Cross entropy of the text, where tokens that only pad count less, plus cross entropy of the agent's audio, where the
semantic codebook counts more; each is a weighted mean over the tokens that there are.

Axes: B rows, T frames, K streams, Q agent's codebooks, V vocabulary.
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

    text_padding_weight: float = 0.5  # of text tokens that only pad (PAD and EPAD); the others have 1
    first_codebook_weight_multiplier: float = 100.0  # of the semantic codebook; the others have 1
    text_weight: float = 1.0  # of the text's loss in the sum; the audio's has 1
    heard_weight: float = 0.0  # of the first extra head's, which says the user's words; 0: it is not trained

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) >= 0:
                raise ConfigError(f"loss option '{field.name}' must not be negative, got {getattr(self, field.name)!r}")


def token_masks(
    config: MoshiConfig, delayed: Int[Array, "B K T"], read: Bool[Array, "B"] | None = None
) -> Bool[Array, "B K T"]:
    """Return which tokens of the text (stream 0) and the agent (1 to Q) are to be predicted: those that there are.

    Args:
      config: of the model.
      delayed: from `MoshiLM.delay`; its first frames hold the initial token, -1 stands where there is none.
      read: rows whose text the agent only reads aloud; it cannot be foretold, and is not to be predicted.
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
    """Return what each text token and each of the agent's audio tokens counts; the latter in some frames, or in all."""
    mask = token_masks(config, delayed, read)
    text = mask[:, 0] * jnp.where(is_padding(config, delayed[:, 0]), loss.text_padding_weight, 1.0)
    codebooks = jnp.ones(config.dep_q).at[:1].set(loss.first_codebook_weight_multiplier)
    return text, at_frames(mask[:, 1:], frames).swapaxes(1, 2) * codebooks


def at_frames(tokens: Shaped[Array, "B K T"], frames: Int[Array, "B S"] | None) -> Shaped[Array, "B K S"]:
    """Return the chosen frames of each row; None: all of them."""
    return tokens if frames is None else jnp.take_along_axis(tokens, frames[:, None], 2)


def is_padding(config: MoshiConfig, text: Int[Array, "..."]) -> Bool[Array, "..."]:
    """Return whether text tokens are PAD or EPAD, which say nothing."""
    return (text == config.existing_text_padding_id) | (text == config.existing_text_end_padding_id)


def cross_entropy(logits: Float[Array, "... V"], target: Int[Array, "..."]) -> Float[Array, "..."]:
    """Cross entropy in float32; targets outside the vocabulary give a number without meaning, to be weighted 0."""
    logits = logits.astype(jnp.float32)
    # A comparison instead of a look-up: its gradient is no scatter, and fuses with the softmax.
    hit = jnp.arange(logits.shape[-1]) == target[..., None]
    return jax.nn.logsumexp(logits, -1) - jnp.where(hit, logits, 0).sum(-1)


_NOTHING = 1e-6
"""In place of a count of zero, which divides."""


def divisor(count: Num[Array, "..."]) -> Float[Array, "..."]:
    """Return a count of a batch to divide by, which `of_any` still knows from none. float32."""
    return jnp.maximum(count.astype(jnp.float32), _NOTHING)


def of_any(metric: Float[Array, "..."], count: Float[Array, "..."]) -> Float[Array, "..."]:
    """A metric over its `divisor`, NaN where the batch has nothing of what it counts: no 0 is taken for a result."""
    return jnp.where(count > _NOTHING, metric, jnp.nan)


@dataclasses.dataclass(frozen=True)
class Counts:
    """Sums of weights and numbers of tokens over the whole batch, what the shares of microbatches are divided by."""

    text: Float[Array, ""]
    audio: Float[Array, ""]
    heard: Float[Array, ""]
    words: Float[Array, ""]  # text tokens that do not pad
    heard_words: Float[Array, ""]  # of the user
    codebooks: Float[Array, "Q"]


def heard_weights(
    config: MoshiConfig, loss: LMLossConfig, heard: Int[Array, "B T"]
) -> tuple[Float[Array, "B T"], Bool[Array, "B T"]]:
    """Return what each token of the user's words counts, and which of them do not pad."""
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
    """Return the counts of a whole batch; arguments as for `lm_loss`."""
    text, audio = token_weights(config, loss, delayed, frames, read)
    heard_weight, heard_words = (jnp.zeros(()),) * 2 if heard is None else heard_weights(config, loss, heard)
    mask = token_masks(config, delayed, read)
    words = mask[:, 0] & ~is_padding(config, delayed[:, 0])
    sums = text, audio, heard_weight, words, heard_words
    numbers = *(x.sum() for x in sums), at_frames(mask[:, 1:], frames).sum((0, 2))
    return Counts(*map(divisor, numbers))


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
    """The share of these rows in the batch's loss and metrics: shares of all its microbatches add up to the batch's.

    Args:
      config: of the model.
      loss: the weights.
      logits: from `MoshiLM.delayed_logits`.
      delayed: the tokens they predict, from `MoshiLM.delay`.
      total: from `counts` of the whole batch.
      heard: tokens of the user's words, for the first extra head; -1 where there is none.
      frames: those that the audio's logits are of; None: all.
      read: rows whose text is not to be predicted; None: none of them.

    Returns:
      The loss, and "loss", "text_loss", "word_accuracy" (of text tokens that do not pad), "audio_loss",
      "audio_loss_k" (plain mean of codebook k), "heard_loss" and "heard_accuracy" (of the user's words); NaN what the
      whole batch has nothing of.
    """
    mask = token_masks(config, delayed, read)
    text_weight, audio_weight = token_weights(config, loss, delayed, frames, read)
    text = jnp.vdot(text_weight, cross_entropy(logits.text, delayed[:, 0])) / total.text
    words = mask[:, 0] & ~is_padding(config, delayed[:, 0])
    right = (logits.text.argmax(-1) == delayed[:, 0]) & words
    metrics = {
        "text_loss": of_any(text, total.text), "word_accuracy": of_any(right.sum() / total.words, total.words)
    }  # fmt: skip
    whole = loss.text_weight * text
    if logits.audio is not None:
        codes = at_frames(delayed[:, 1 : config.dep_q + 1], frames)
        each = jnp.stack([cross_entropy(x, codes[:, k]) for k, x in enumerate(logits.audio)], -1)
        audio = jnp.vdot(audio_weight, each) / total.audio
        whole = whole + audio
        by_codebook = (each * at_frames(mask[:, 1:], frames).swapaxes(1, 2)).sum((0, 1)) / total.codebooks
        by_codebook = of_any(by_codebook, total.codebooks)
        metrics |= {"audio_loss": of_any(audio, total.audio)}
        metrics |= {f"audio_loss_{k}": by_codebook[k] for k in range(config.dep_q)}
    if heard is not None:
        weight, words = heard_weights(config, loss, heard)
        said = jnp.vdot(weight, cross_entropy(logits.heads[0], heard)) / total.heard
        whole = whole + loss.heard_weight * said
        right = (logits.heads[0].argmax(-1) == heard) & words
        metrics |= {"heard_loss": of_any(said, total.heard)}
        metrics |= {"heard_accuracy": of_any(right.sum() / total.heard_words, total.heard_words)}
    return whole, {"loss": whole} | metrics
