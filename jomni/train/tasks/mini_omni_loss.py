"""Loss of Mini-Omni (arXiv:2408.16725, 3.2): each step predicts the text and all audio streams at once.

Axes: B rows, T steps, A audio streams, V text tokens, U tokens of an audio stream. The text is the last stream.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jomni.errors import ConfigError
from jomni.models.mini_omni.streams import IGNORE
from jomni.train.tasks.moshi_loss import cross_entropy, denominator, or_nan


@dataclasses.dataclass(frozen=True)
class OmniLossConfig:
    """Weights of the streams."""

    text_weight: float = 1.0  # weight of the text's loss in the sum
    audio_weight: float = 1.0  # weight of the audio's loss, which is the weighted mean over its streams
    stream_weights: tuple[float, ...] = ()  # weights of the audio streams in that mean; empty: equal

    def __post_init__(self) -> None:
        for name in ("text_weight", "audio_weight"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"loss option '{name}' must not be negative, got {getattr(self, name)!r}")
        if self.stream_weights and not (min(self.stream_weights) >= 0 and sum(self.stream_weights) > 0):
            raise ConfigError(f"loss option 'stream_weights' must not be negative nor all 0, got {self.stream_weights}")


def omni_counts(targets: Int[Array, "B A+1 T"]) -> Float[Array, "A+1"]:
    """Return the number of targets of each stream of a whole batch, as denominators (`denominator`)."""
    return denominator((targets != IGNORE).sum((0, 2)))


def omni_loss(
    loss: OmniLossConfig,
    text: Float[Array, "B T V"],
    audio: Float[Array, "B T A U"] | None,
    targets: Int[Array, "B A+1 T"],
    counts: Float[Array, "A+1"],
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Return the contribution of these rows to the batch's loss and metrics.

    The contributions of all microbatches add up to the values of the batch. The loss of a stream is the mean over its
    targets, without padding (`IGNORE`).

    Args:
      loss: the weights.
      text: logits of the text from `MiniOmni`.
      audio: logits of the audio, or None if no task has spoken answers.
      targets: from `omni_dataset`.
      counts: from `omni_counts` of the whole batch.

    Returns:
      The loss, and the metrics "loss", "text_loss" and "text_accuracy"; with audio also "audio_loss", "audio_loss_i"
      and "audio_accuracy" (mean over the streams). Metrics without any target in the batch are NaN.
    """
    spoken, written = targets[:, :-1], targets[:, -1]
    there = written != IGNORE
    text_loss = jnp.where(there, cross_entropy(text, written), 0).sum() / counts[-1]
    accuracy = ((text.argmax(-1) == written) & there).sum() / counts[-1]
    whole = loss.text_weight * text_loss
    metrics = {"text_loss": or_nan(text_loss, counts[-1]), "text_accuracy": or_nan(accuracy, counts[-1])}
    if audio is not None:
        there = spoken != IGNORE
        each = jnp.where(there, cross_entropy(audio.swapaxes(1, 2), spoken), 0).sum((0, 2)) / counts[:-1]
        right = ((audio.argmax(-1).swapaxes(1, 2) == spoken) & there).sum((0, 2)) / counts[:-1]
        weights = jnp.asarray(loss.stream_weights or (1.0,) * spoken.shape[1])
        audio_loss = jnp.vdot(weights, each) / weights.sum()
        whole += loss.audio_weight * audio_loss
        any_audio = counts[:-1].max()
        metrics |= {"audio_loss": or_nan(audio_loss, any_audio), "audio_accuracy": or_nan(right.mean(), any_audio)}
        metrics |= {f"audio_loss_{i}": or_nan(each[i], counts[i]) for i in range(spoken.shape[1])}
    return whole, metrics | {"loss": whole}
