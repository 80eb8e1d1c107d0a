"""Train Whisper's encoder from random weights to classify the phone of each frame, on speech with known phones.

A substitute for a published Whisper in Mini-Omni's training. Phone targets are aligned with the frames; an encoder
trained on answers alone, which begin a second after the question, learns much more slowly.

Axes: B example, S samples, T frames of 20 ms, P phones, M mel bands, N mel frames.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

import jomni
from jomni.checkpoints.checkpoint import Checkpoint
from jomni.data.recordings.teachers import HALVES
from jomni.errors import ConfigError
from jomni.models.whisper import WhisperConfig, WhisperEncoder, log_mel
from jomni.models.whisper.mel import HOP, SAMPLE_RATE
from jomni.nn.layers import Linear
from jomni.train.config import mutable_on_resume
from jomni.train.freeze import Tree
from jomni.train.gradient_task import GradientConfig, GradientState, GradientTask
from jomni.train.task import Batch, Metrics
from jomni.train.tasks.audio_losses import distillation_loss

FRAME_RATE = SAMPLE_RATE / (2 * HOP)  # Hz, of the encoder's frames


@dataclasses.dataclass(frozen=True)
class SpeechEncoderData:
    """Segments of recordings at 16 kHz, with phones in the JSON beside them (`jomni.data.recordings.segments`)."""

    manifest: str  # manifest of the recordings
    phones: tuple[str, ...]  # the inventory, silence first
    seconds: float = 4.0  # length of a segment; shorter recordings are padded with silence on both sides
    gain_db: tuple[float, float] | None = None  # lowest and highest random gain, dB
    skip_bad: bool = False  # leave out bad recordings instead of rejecting the manifest
    workers: int = mutable_on_resume(0)  # processes that read the data; 0: a thread

    def dataset(self, batch: int, seed: int) -> Any:
        """Return endless batches of "pcm", float32 [B, 1, S], and "teacher", float32 [B, T / 2, 2 P].

        Raises:
          ConfigError, DataError: see `jomni.data.recordings.segments.audio_dataset`.
        """
        from jomni.data.recordings.segments import audio_dataset

        return audio_dataset(
            self.manifest, sample_rate=SAMPLE_RATE, frame_rate=FRAME_RATE / HALVES, segment_seconds=self.seconds,
            batch=batch, seed=seed, teacher="phones", phones=self.phones, gain_db=self.gain_db,
            skip_bad=self.skip_bad, workers=self.workers,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechEncoderConfig(GradientConfig):
    """A speech encoder, its data and its training options."""

    model: WhisperConfig  # its decoder is not built
    data: SpeechEncoderData
    valid: SpeechEncoderData | None = mutable_on_resume(None)  # held-out data

    def __post_init__(self) -> None:
        super().__post_init__()
        frames = self.data.seconds * FRAME_RATE
        if not 0 < frames <= self.model.n_audio_ctx:
            raise ConfigError(
                f"data.seconds = {self.data.seconds:g} must be above 0 and at most the "
                f"{self.model.n_audio_ctx / FRAME_RATE:g} s that the encoder takes"
            )

    def build(self, steps: int) -> SpeechEncoderTask:
        """Return the task."""
        return SpeechEncoderTask(self, steps)


class _PhoneClassifier(nn.Module):
    """The encoder, with a head that classifies phones. The head is not exported."""

    config: WhisperConfig
    phones: int

    @nn.compact
    def __call__(self, mel: Float[Array, "B M N"]) -> Float[Array, "B T P"]:
        return Linear(self.phones, True, name="head")(WhisperEncoder(self.config, name="whisper")(mel))


class SpeechEncoderTask(GradientTask):
    """Training task of the speech encoder."""

    unit = "audio s"

    def __init__(self, config: SpeechEncoderConfig, steps: int) -> None:
        super().__init__(config, steps)
        self.config = config
        self.units_per_step = config.batch * config.data.seconds
        self._classifier = _PhoneClassifier(config.model, len(config.data.phones))

    def init_params(self, key: PRNGKeyArray) -> Tree:
        params: Any = self._classifier.init(key, jnp.zeros((1, self.config.model.n_mels, 2)))["params"]
        return params

    def counts(self, batch: Batch) -> int:
        return len(batch["pcm"])

    def loss(self, params: Tree, batch: Batch, counts: int, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
        pcm = batch["pcm"][:, 0]
        mel = log_mel(pcm, self.config.model.n_mels, pcm.shape[1])
        named: Any = self._classifier.apply({"params": params}, mel)
        wanted = batch["teacher"].reshape(named.shape)
        loss = distillation_loss(named, wanted, "cross_entropy")
        right = (named.argmax(-1) == wanted.argmax(-1)).mean()
        metrics = {"loss": loss, "accuracy": right}
        share = len(pcm) / counts
        return share * loss, {name: share * value for name, value in metrics.items()}

    def dataset(self, seed: int) -> Any:
        return self.config.data.dataset(self.config.batch, seed)

    def valid_dataset(self) -> Any:
        c = self.config
        return None if c.valid is None else c.valid.dataset(c.batch, 0)

    def export(self, state: GradientState, folder: Path) -> None:
        params = {"whisper": self.exported(state)["whisper"]}
        made = Checkpoint("whisper", {"whisper": self.config.model}, params)
        jomni.save(made, folder, overwrite=True)
