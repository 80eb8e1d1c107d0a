"""Where the language model's batches come from: a configuration with `dataset`, checked against the model."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

from jomni.errors import ConfigError, DataError
from jomni.models.moshi.config import MoshiConfig


class LMData(Protocol):
    """A frozen dataclass that makes batches {"codes": int32 [B, K, T]}: text, agent's and user's codes, not delayed,
    -1 where there is none."""

    @property
    def frames(self) -> int:
        """T, frames of each example."""
        ...

    def dataset(self, model: MoshiConfig, batch: int, seed: int) -> Any:
        """An endless, checkpointable `grain.IterDataset` of batches of `batch` examples.

        Raises:
          ConfigError, DataError: the data is missing, or is not what the model takes.
        """
        ...


@dataclasses.dataclass(frozen=True)
class SyntheticData:
    """A small game that a tiny model learns in a minute, for tests: the user says one of some words at a random moment,
    the agent writes its number a little later and answers with a pattern of codes that belongs to it."""

    frames: int = 24  # of each example
    words: int = 8  # that the user may say
    examples: int = 512  # in all

    def dataset(self, model: MoshiConfig, batch: int, seed: int) -> Any:
        import grain

        if model.text_card < 4 + self.words or model.card < 2 * self.words:
            raise ConfigError(f"{self.words} words need text_card >= {4 + self.words} and card >= {2 * self.words}")
        examples = [{"codes": self._example(model, number)} for number in range(self.examples)]
        return grain.MapDataset.source(examples).seed(seed).shuffle().repeat().batch(batch).to_iter_dataset()

    def _example(self, model: MoshiConfig, number: int) -> np.ndarray:
        rng = np.random.default_rng((7, number))
        word, start = int(rng.integers(self.words)), int(rng.integers(1, 5))
        codes = np.zeros((model.n_q + 1, self.frames), np.int32)
        codes[0] = model.existing_text_padding_id
        said, spoken = slice(start, start + 3), slice(start + 4, start + 9)
        agent, user = codes[1 : model.dep_q + 1], codes[model.dep_q + 1 :]
        user[:, said] = 1 + word
        codes[0, start + 3] = 4 + word
        agent[:, spoken] = (1 + 2 * word + np.arange(5) + np.arange(len(agent))[:, None]) % model.card
        return codes


def check_batch(codes: np.ndarray, model: MoshiConfig) -> None:
    """Refuses codes that are not the model's.

    Raises:
      DataError: the number of streams differs, or a code lies outside its vocabulary.
    """
    streams = model.n_q + 1
    if codes.ndim != 3 or codes.shape[1] != streams:
        raise DataError(
            f"the data has {codes.shape[1] if codes.ndim == 3 else 'no'} streams, the model takes {streams}: text, "
            f"{model.dep_q} codebooks of the agent, {model.user_q} of the user. Use data made with the same number of "
            "codebooks, or set the model's n_q, dep_q and delays."
        )
    for what, card, part in (("text token", model.text_card, codes[:, :1]), ("audio code", model.card, codes[:, 1:])):
        low, high = int(part.min()), int(part.max())
        if low < -1 or high >= card:
            raise DataError(
                f"the data has {what} {low if low < -1 else high}, the model's are 0 to {card - 1} (-1: none). "
                "Use data made with the model's own tokenizer and codec, or set its text_card and card."
            )
