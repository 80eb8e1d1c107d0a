"""Training data of Mini-Omni: spoken turns in parquet files, as examples of its tasks."""

from __future__ import annotations

import dataclasses
from typing import Any

from jomni.data.turns.batches import SAMPLE_RATE, TaskShares
from jomni.errors import ConfigError
from jomni.models.mini_omni import MiniOmniConfig
from jomni.models.whisper import WhisperConfig
from jomni.models.whisper.mel import HOP, N_FFT
from jomni.train.config import mutable_on_resume


@dataclasses.dataclass(frozen=True)
class OmniData:
    """Spoken turns in the schema of VoiceAssistant-400K, and how examples are made of them."""

    files: tuple[str, ...]  # parquet files, or folders of them
    shares: TaskShares = TaskShares()  # noqa: RUF009  (frozen): relative frequency of each task
    lengths: tuple[int, ...] = (512,)  # numbers of steps to pad batches to; each batch takes the shortest that fits
    seconds: float = 30.0  # input length of the speech encoder; questions are padded with silence
    context_corruption: float = 0.0  # share of spoken answers whose input holds a wrong stretch
    skip_bad: bool = False  # leave out rows that cannot be used, instead of rejecting the file
    workers: int = mutable_on_resume(0)  # processes that read the data; 0: a thread

    @property
    def samples(self) -> int:
        """Return the number of samples of a padded question at 16 kHz."""
        return round(self.seconds * SAMPLE_RATE)

    def dataset(self, model: MiniOmniConfig, encoder: WhisperConfig, tokenizer: bytes, batch: int, seed: int) -> Any:
        """Return batches for this model; see `jomni.data.turns.batches.omni_dataset`.

        Raises:
          ConfigError, DataError: the data is missing or does not fit the model.
        """
        from jomni.data.turns.batches import omni_dataset

        if self.samples % HOP or not N_FFT <= self.samples <= encoder.mel_frames * HOP:
            raise ConfigError(
                f"'seconds' = {self.seconds} must be a multiple of 0.01, at least 0.03 and at most the "
                f"{encoder.mel_frames / 100:g} s that the speech encoder takes"
            )
        return omni_dataset(
            self.files, numbers=model.vocabulary, audio_size=model.vocabulary.audio_size, tokenizer=tokenizer,
            shares=self.shares, lengths=self.lengths, seconds=self.seconds, batch=batch, seed=seed,
            context_corruption=self.context_corruption, skip_bad=self.skip_bad, workers=self.workers,
        )  # fmt: skip
