"""Training of a small text decoder from random weights, on questions and answers. Mini-Omni's stage 1 builds on it.

Axes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import tokenizers
from jaxtyping import Array, Float, PRNGKeyArray

import jomni
from jomni.checkpoints.checkpoint import Checkpoint
from jomni.checkpoints.hub import Folder
from jomni.checkpoints.place import Place
from jomni.data.text import ASSISTANT, END, USER, read_pairs
from jomni.errors import ConfigError, DataError
from jomni.generation.tokenizer import TextTokenizer
from jomni.models.decoder import Decoder, DecoderConfig
from jomni.models.decoder.weights import write_decoder_config
from jomni.train.config import mutable_on_resume
from jomni.train.freeze import Tree
from jomni.train.gradient_task import GradientConfig, GradientState, GradientTask
from jomni.train.task import Batch, Metrics
from jomni.train.tasks.moshi_loss import cross_entropy

IGNORE = -1  # target without a loss


@dataclasses.dataclass(frozen=True)
class TextData:
    """Pairs of question and answer in a text file."""

    file: str  # one pair per line, separated by a tab
    steps: int = 64  # tokens to which rows are padded
    workers: int = mutable_on_resume(0)  # processes that read the data; 0: a thread

    def dataset(self, tokenizer: bytes, batch: int, seed: int) -> Any:
        """Return endless batches of "tokens" and "targets", int32 [B, T]. Targets are the answer and its end token.

        Raises:
          DataError: the file cannot be read or has malformed lines, or a row is too long.
        """
        from jomni.data.pipeline import endless

        text = tokenizers.Tokenizer.from_str(tokenizer.decode())
        rows = [encode_chat(text, question, answer) for question, answer in read_pairs(self.file)]
        long = [number for number, (tokens, _) in enumerate(rows, 1) if len(tokens) > self.steps]
        if long:
            raise DataError(
                f"{self.file}: {len(long)} of {len(rows)} lines are longer than {self.steps} tokens, the first is line "
                f"{long[0]}. Increase 'steps', or shorten the lines."
            )
        return endless(rows, _Complete(self.steps), batch=batch, seed=seed, workers=self.workers)


@dataclasses.dataclass(frozen=True)
class _Complete:
    """Pads a row to `steps` tokens."""

    steps: int

    def __call__(self, row: tuple[list[int], list[int]], rng: np.random.Generator) -> Batch:
        tokens, targets = (np.pad(x, (0, self.steps - len(x)), constant_values=IGNORE) for x in row)
        return {"tokens": np.maximum(tokens, 0).astype(np.int32), "targets": targets.astype(np.int32)}


def encode_chat(text: tokenizers.Tokenizer, question: str, answer: str) -> tuple[list[int], list[int]]:
    """Return the tokens of a row and their targets, in the template of `jomni.data.text.chat_tokenizer`."""
    user, assistant, end = _special(text)
    asked = [user, *text.encode(question, add_special_tokens=False).ids, assistant]
    told = [*text.encode(answer, add_special_tokens=False).ids, end]
    return [*asked, *told[:-1]], [*[IGNORE] * (len(asked) - 1), *told]


def _special(text: tokenizers.Tokenizer) -> tuple[Any, ...]:
    return tuple(text.token_to_id(token) for token in (USER, ASSISTANT, END))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig(GradientConfig):
    """A text decoder, its data and its training options."""

    data: TextData  # training data
    valid: TextData | None = mutable_on_resume(None)  # held-out data
    model: DecoderConfig
    tokenizer: str  # folder of tokenizer files, such as those of `chat_tokenizer`; exported with the model
    family: Literal["qwen2", "qwen3", "llama"] = "qwen2"  # Hugging Face model type of the export

    def build(self, steps: int) -> TextTask:
        """Return the task. Reads the tokenizer.

        Raises:
          ConfigError, WeightsError: the tokenizer is missing or damaged, or does not fit the model.
        """
        return TextTask(self, steps)


class TextTask(GradientTask):
    """Training task of the text decoder."""

    unit = "tokens"

    def __init__(self, config: TextConfig, steps: int) -> None:
        super().__init__(config, steps)
        self.config = config
        self.units_per_step = float(config.batch * config.data.steps)
        self._decoder = Decoder(config.model, remat=config.remat)
        write_decoder_config(config.model, config.family)  # raises if the family cannot express the model
        self._files = _files(Path(config.tokenizer).expanduser(), config.model)

    def init_params(self, key: PRNGKeyArray) -> Tree:
        params: Tree = dict(self._decoder.init(key, jnp.zeros((1, 2), jnp.int32), method=Decoder.whole)["params"])
        # Embeddings of unit length, so that the first logits have unit size where the head is tied to them.
        weight = params["embed_tokens"]["weight"] * self.config.model.dim**-0.5
        return params | {"embed_tokens": {"weight": weight}}

    def counts(self, batch: Batch) -> tuple[Array, int]:
        return jnp.maximum((batch["targets"] != IGNORE).sum(), 1), len(batch["targets"])

    def loss(
        self, params: Tree, batch: Batch, counts: tuple[Array, int], key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Metrics]:
        targets, (tokens, rows) = batch["targets"], counts
        logits: Any = self._decoder.apply({"params": params}, batch["tokens"], method=Decoder.whole)
        there = targets != IGNORE
        loss = jnp.where(there, cross_entropy(logits, targets), 0).sum() / tokens
        right = (logits.argmax(-1) == targets) | ~there
        accuracy = (right & there).sum() / tokens
        return loss, {"loss": loss, "accuracy": accuracy, "exact": right.all(1).sum() / rows}

    def dataset(self, seed: int) -> Any:
        return self.config.data.dataset(self._files["tokenizer.json"], self.config.batch, seed)

    def valid_dataset(self) -> Any:
        c = self.config
        return None if c.valid is None else c.valid.dataset(self._files["tokenizer.json"], c.batch, 0)

    def export(self, state: GradientState, folder: Path) -> None:
        c = self.config
        params = {"decoder": self.exported(state)}
        made = Checkpoint("decoder", {"decoder": c.model}, params, model_type=c.family, files=self._files)
        jomni.save(made, folder, overwrite=True)


def _files(folder: Path, model: DecoderConfig) -> dict[str, bytes]:
    """Return the tokenizer's files, checked against the model's vocabulary."""
    files = Place(Folder(folder), str(folder)).text_files()
    if "tokenizer.json" not in files:
        raise ConfigError(f"'tokenizer' {folder}: holds no tokenizer.json. Name a folder that contains one.")
    TextTokenizer(files, f"'tokenizer' {folder}")  # raises if the files are damaged
    text = tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode())
    if None in _special(text):
        told = ", ".join((USER, ASSISTANT, END))
        raise ConfigError(f"'tokenizer' {folder}: lacks one of the tokens {told}. Make it with chat_tokenizer.")
    if text.get_vocab_size() > model.vocab_size:
        raise ConfigError(
            f"'tokenizer' {folder}: has {text.get_vocab_size()} tokens, the model's vocab_size is {model.vocab_size}"
        )
    return files
