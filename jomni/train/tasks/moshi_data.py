"""Training data of the language model: configurations with a method `dataset`, and a check against the model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from jomni.errors import ConfigError, DataError
from jomni.models.moshi.config import MoshiConfig
from jomni.train.config import mutable_on_resume

if TYPE_CHECKING:
    from jomni.data import Alignment


class LMData(Protocol):
    """A frozen dataclass that makes batches for the language model.

    Batches are {"codes": int32 [B, K, T]}: text, agent codes and user codes, not delayed, -1 without a token. Optional
    entries are {"heard": int32 [B, T]}, the user's words as text tokens; {"own": int32 [B, Q, T]}, input codes that
    replace the agent's; and {"read": bool [B]}, true for rows whose text has no loss because the agent reads it aloud.
    """

    @property
    def frames(self) -> int:
        """Return T, the number of frames of an example."""
        ...

    def dataset(self, model: MoshiConfig, tokenizer: bytes | None, batch: int, seed: int) -> Any:
        """Return an endless, checkpointable `grain.IterDataset` of batches of `batch` examples.

        Args:
          model: the model to train.
          tokenizer: content of the text tokenizer's file, for data with words.
          batch: examples in each batch.
          seed: seed of the order.

        Raises:
          ConfigError, DataError: the data is missing or does not fit the model.
        """
        ...


@dataclasses.dataclass(frozen=True)
class ConversationData:
    """Conversations tokenised by `jomni tokenize`."""

    folders: tuple[str, ...]  # folders of codes, all made by one codec
    frames: int = 250  # frames of an example
    from_start: float = 0.1  # share of the examples that start at the first frame of their conversation
    audio_delay: float = 0.0  # seconds by which the text is ahead of the audio
    text_lead: int = 0  # words by which the agent's text is ahead of its audio; above 0 needs keep_and_shift
    heard: bool = False  # include the user's words, for `LMLossConfig.heard_weight`
    keep_and_shift: bool = False  # delay a word's tokens until those of the word before it end, instead of cutting them
    own_share: float = 0.0  # share of the examples of self-rollout data whose input has the agent's sampled codes
    text: str = ""  # file of sentences for text-only examples, one per line
    text_share: float = 0.0  # share of the examples that are text only
    workers: int = mutable_on_resume(0)  # processes that read the data; 0: a thread

    def dataset(self, model: MoshiConfig, tokenizer: bytes | None, batch: int, seed: int) -> Any:
        from jomni.data import lm_dataset, read_header

        if tokenizer is None:
            raise ConfigError("conversations contain words: give the model's 'tokenizer', a sentencepiece file")
        for folder in self.folders:
            header = read_header(folder)
            if header.bins != model.card:
                raise DataError(
                    f"{folder}: its codebooks have {header.bins} entries, the model's 'card' is {model.card}. "
                    "Tokenize with the model's own codec."
                )
        return lm_dataset(
            self.folders, tokenizer=tokenizer, agent_codebooks=model.dep_q, user_codebooks=model.user_q,
            frames=self.frames, batch=batch, seed=seed, alignment=self.alignment(model), from_start=self.from_start,
            heard=self.heard, own_share=self.own_share, text=_lines(self.text),
            text_share=self.text_share, workers=self.workers,
        )  # fmt: skip

    def alignment(self, model: MoshiConfig) -> Alignment:
        """Return the rules for turning words into the model's text tokens.

        Raises:
          ConfigError: options contradict each other.
          DataError: a folder does not contain codes.
        """
        from jomni.data import Alignment, read_header

        return Alignment(
            read_header(self.folders[0]).frame_rate if self.folders else 12.5,
            text_padding=model.existing_text_padding_id,
            end_of_text_padding=model.existing_text_end_padding_id,
            keep_and_shift=self.keep_and_shift,
            audio_delay=self.audio_delay,
            lead=self.text_lead,
        )


def _lines(path: str) -> list[str]:
    """Return the lines of a text file that are not blank."""
    if not path:
        return []
    try:
        return [line for line in Path(path).expanduser().read_text(encoding="utf-8").splitlines() if line.split()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'text' {path}: cannot be read ({error}). Give a file with one sentence per line.") from None


@dataclasses.dataclass(frozen=True)
class SyntheticData:
    """A small task for tests, which a tiny model learns in a minute.

    The user says one of several words at a random moment. The agent writes the number of the word a little later, and
    answers with a pattern of codes that belongs to it.
    """

    frames: int = 24  # frames of an example
    words: int = 8  # number of words that the user may say
    examples: int = 512  # number of examples

    def dataset(self, model: MoshiConfig, tokenizer: bytes | None, batch: int, seed: int) -> Any:
        import grain

        if model.text_card < 4 + self.words or model.card < 2 * self.words:
            raise ConfigError(f"{self.words} words need text_card >= {4 + self.words} and card >= {2 * self.words}")
        if self.frames < 13:
            raise ConfigError(f"'frames' must be at least 13 for a question and its answer, got {self.frames}")
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


def check_batch(batch: dict[str, np.ndarray], model: MoshiConfig, heard: bool = False) -> None:
    """Check that the codes of a batch fit the model.

    Args:
      batch: a batch of the data.
      model: the model to train.
      heard: whether the user's words are needed too.

    Raises:
      DataError: the number of streams differs, a code is outside its vocabulary, or the user's words are missing.
    """
    codes = batch["codes"]
    if heard and "heard" not in batch:
        raise DataError("loss.heard_weight needs the user's words: set the data's 'heard', and label them in its JSON.")
    streams = model.n_q + 1
    if codes.ndim != 3 or codes.shape[1] != streams:
        raise DataError(
            f"the data has {codes.shape[1] if codes.ndim == 3 else 'no'} streams, the model takes {streams}: text, "
            f"{model.dep_q} codebooks of the agent, {model.user_q} of the user. Use data with these codebooks, or set "
            "the model's n_q, dep_q and delays."
        )
    for what, card, part in (("text token", model.text_card, codes[:, :1]), ("audio code", model.card, codes[:, 1:])):
        low, high = int(part.min()), int(part.max())
        if low < -1 or high >= card:
            raise DataError(
                f"the data has {what} {low if low < -1 else high}, the model's are 0 to {card - 1} (-1: none). "
                "Use data made with the model's own tokenizer and codec, or set its text_card and card."
            )
