"""Batches of spoken turns for Mini-Omni: endless, checkpointable, and the same for the same seed.

Axes: B batch, A audio streams, T steps, S samples.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tokenizers

from jomni.data.pipeline import Batch, endless
from jomni.data.turns.parquet import RowKind, Turn, TurnSource, check_turns
from jomni.errors import ConfigError, DataError
from jomni.models.mini_omni.streams import IGNORE, Example, Numbers, Task, build_example, corrupt_context, speech_frames

if TYPE_CHECKING:
    import grain

SAMPLE_RATE = 16_000  # Hz, input of the speech encoder


@dataclasses.dataclass(frozen=True)
class TaskShares:
    """Relative frequency of each task, in any unit: A audio, T text, 1 the question, 2 the answer."""

    a1_a2: float = 1.0  # spoken question -> text and audio of the answer
    a1_t2: float = 1.0  # spoken question -> text of the answer
    a1_t1: float = 1.0  # spoken question -> text of the question
    t1_a2: float = 1.0  # written question -> text and audio of the answer
    t1_t2: float = 1.0  # written question -> text of the answer

    def __post_init__(self) -> None:
        shares = dataclasses.asdict(self)
        wrong = [f"{name} = {share}" for name, share in shares.items() if not 0 <= share < math.inf]
        if wrong or not any(shares.values()):
            raise ConfigError(f"task shares must not be negative, and not all zero: {', '.join(wrong) or shares}")

    def tasks(self) -> dict[Task, float]:
        """Return the probability of each task whose share is not zero."""
        given = {Task(name.upper().replace("_", "-")): share for name, share in dataclasses.asdict(self).items()}
        return {task: share / sum(given.values()) for task, share in given.items() if share}


def omni_dataset(
    files: Sequence[str | os.PathLike[str]],
    *,
    numbers: Numbers,
    audio_size: int,
    tokenizer: bytes,
    shares: TaskShares,
    lengths: Sequence[int],
    seconds: float,
    batch: int,
    seed: int,
    context_corruption: float = 0.0,
    skip_bad: bool = False,
    workers: int = 0,
    prefetch: int = 8,
) -> grain.IterDataset:
    """Return endless batches of turns. Each time a turn occurs, its task is drawn anew.

    Args:
      files: parquet files in the schema of VoiceAssistant-400K, or folders of them.
      numbers: special tokens, the model's `Vocabulary`.
      audio_size: entries of each codebook of the model.
      tokenizer: content of the backbone's tokenizer.json.
      shares: relative frequencies of the tasks.
      lengths: allowed numbers of steps. A batch is padded to the shortest that holds its longest example; each length
        is compiled once.
      seconds: input length of the speech encoder. Questions are padded with silence.
      batch: turns in each batch.
      seed: seed of the order and the tasks.
      context_corruption: share of the spoken answers whose input holds a stretch from elsewhere in the answer, while
        the targets stay correct.
      skip_bad: leave out rows that cannot be used or are too long, with a warning that lists and counts them, instead
        of rejecting the file.
      workers: processes that prepare batches. 0: a thread of this process. The batches do not depend on it.
      prefetch: batches prepared ahead.

    Returns:
      Batches of "tokens" and "targets", int32 [B, A+1, T] (see `build_example`; targets are `IGNORE` after the end of
      an example), "pcm", float32 [B, S], the question at 16 kHz or zeros, and "frames", int32 [B], the number of
      speech frames in the prompt.

    Raises:
      ConfigError: an option is out of range.
      DataError: a file cannot be read, has rows that cannot be used, or the tokenizer is damaged.
    """
    if not lengths or min(lengths) < 1 or not seconds > 0:
        raise ConfigError(f"lengths {tuple(lengths)} and seconds {seconds} must be positive, with at least one length")
    if not 0 <= context_corruption <= 1:
        raise ConfigError(f"'context_corruption' must be from 0 to 1, got {context_corruption}")
    try:
        text = tokenizers.Tokenizer.from_str(tokenizer.decode())
    except Exception as error:  # the library raises no narrower class
        raise DataError(f"the backbone's tokenizer.json is damaged ({error}). Download it again.") from None
    window = round(seconds * SAMPLE_RATE)
    drawer = _Drawer(text, numbers, audio_size, shares.tasks(), max(lengths), window, context_corruption)
    reports = [check_turns(path, drawer.faults).accepted(skip_bad) for path in _parquet(files)]
    for report in reports:
        if report.problems:
            logging.getLogger(__name__).warning("%s: %s\n%s", report.path, report.summary(), report.listing())
    collate = _Collate(tuple(sorted(lengths)), numbers, window)
    turns = TurnSource(reports)
    return endless(
        turns, drawer, batch=batch, seed=seed, data=turns.fingerprint, workers=workers, prefetch=prefetch,
        collate=collate,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Drawer:
    """Draws a task for a turn, and makes the example."""

    text: tokenizers.Tokenizer
    numbers: Numbers
    audio_size: int
    tasks: Mapping[Task, float]
    longest: int
    window: int
    context_corruption: float

    def __call__(self, turn: Turn, rng: np.random.Generator) -> Batch:
        tasks = list(self.tasks)
        task = tasks[int(rng.choice(len(tasks), p=list(self.tasks.values())))]
        pcm = turn.question_at(SAMPLE_RATE) if task.listens else np.zeros(0, np.float32)
        example = self.example(turn, task, len(pcm))
        if task.speaks and self.context_corruption and rng.random() < self.context_corruption:
            corrupted = dataclasses.replace(turn, answer_codes=corrupt_context(turn.answer_codes, rng))
            example = example._replace(tokens=self.example(corrupted, task, len(pcm)).tokens)
        return {
            "tokens": example.tokens, "targets": example.targets, "pcm": pcm,
            "frames": np.asarray(example.features, np.int32),
        }  # fmt: skip

    def example(self, turn: Turn, task: Task, samples: int) -> Example:
        """Return the example of a turn for one task. `samples` is the length of its question at 16 kHz."""
        heard = speech_frames(samples, self.window) if task.listens else self.encode(turn.question)
        answer = turn.question if task is Task.A1_T1 else turn.answer
        return build_example(task, self.numbers, heard, self.encode(answer), turn.answer_codes if task.speaks else None)

    def encode(self, text: str) -> list[int]:
        return self.text.encode(text, add_special_tokens=False).ids

    def faults(self, turn: Turn) -> Iterator[tuple[RowKind, str]]:
        """Yield the reasons why a readable turn cannot be used for training."""
        listens, speaks = (any(getattr(task, what) for task in self.tasks) for what in ("listens", "speaks"))
        yield from misfits(turn, self.window if listens else None, self.audio_size if speaks else None)
        samples = turn.samples_at(SAMPLE_RATE) if listens else 0
        steps, task = max((self.example(turn, task, samples).tokens.shape[1], task.value) for task in self.tasks)
        if steps > self.longest:
            yield RowKind.NOT_TAKEN, f"as {task} it needs {steps} steps, the longest length is {self.longest}"


def misfits(turn: Turn, window: int | None, entries: int | None) -> Iterator[tuple[RowKind, str]]:
    """Yield the reasons why a readable turn does not fit a model, for `jomni.data.turns.parquet.check_turns`.

    Args:
      turn: the turn.
      window: samples at 16 kHz that the speech encoder takes. None: the question's audio is not used.
      entries: entries of each codebook of the model. None: the answer's audio is not used.
    """
    if window is not None and (samples := turn.samples_at(SAMPLE_RATE)) > window:
        told = f"{samples / SAMPLE_RATE:.1f} s, longer than the {window / SAMPLE_RATE:g} s of the speech encoder"
        yield RowKind.NOT_TAKEN, f"the question is {told}"
    if entries is not None and (code := turn.answer_codes.max()) >= entries:
        yield RowKind.NOT_TAKEN, f"code {code} of a codebook with {entries} entries"


@dataclasses.dataclass(frozen=True)
class _Collate:
    """Pads the examples of a batch to one length, and stacks them."""

    lengths: tuple[int, ...]
    numbers: Numbers
    window: int

    def __call__(self, examples: Sequence[Batch]) -> Batch:
        longest = max(example["tokens"].shape[1] for example in examples)
        steps = next(length for length in self.lengths if length >= longest)
        shape = len(examples), self.numbers.streams + 1, steps
        tokens, targets = np.full(shape, self.numbers.pad_audio, np.int32), np.full(shape, IGNORE, np.int32)
        tokens[:, -1] = self.numbers.pad_text
        pcm = np.zeros((len(examples), self.window), np.float32)
        for row, example in enumerate(examples):
            tokens[row, :, : example["tokens"].shape[1]] = example["tokens"]
            targets[row, :, : example["targets"].shape[1]] = example["targets"]
            pcm[row, : len(example["pcm"])] = example["pcm"]
        return {"tokens": tokens, "targets": targets, "pcm": pcm, "frames": np.stack([e["frames"] for e in examples])}


def _parquet(files: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the files, and those in folders in alphabetical order."""
    found: list[Path] = []
    for path in (Path(file).expanduser() for file in files):
        held = sorted(path.glob("*.parquet")) if path.is_dir() else [path] if path.is_file() else []
        if not held:
            raise DataError(f"{path}: is neither a parquet file nor a folder that contains one.")
        found += held
    if not found:
        raise ConfigError("no parquet file is given. Give at least one.")
    return found
