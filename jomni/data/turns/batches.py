"""Spoken turns as batches of Mini-Omni's tasks, mixed with shares: endless, checkpointable, the same for a seed.

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
from jomni.models.mini_omni.streams import IGNORE, Example, Numbers, Task, build_example, slip, speech_frames

if TYPE_CHECKING:
    import grain

SAMPLE_RATE = 16_000  # Hz, what the speech encoder hears


@dataclasses.dataclass(frozen=True)
class TaskShares:
    """How often each task is drawn, in any unit: A audio, T text, 1 the question, 2 the answer."""

    a1_a2: float = 1.0  # hear, then write and speak the answer
    a1_t2: float = 1.0  # hear, then write it
    a1_t1: float = 1.0  # hear, then write what was heard
    t1_a2: float = 1.0  # read, then write and speak the answer
    t1_t2: float = 1.0  # read, then write it

    def __post_init__(self) -> None:
        shares = dataclasses.asdict(self)
        wrong = [f"{name} = {share}" for name, share in shares.items() if not 0 <= share < math.inf]
        if wrong or not any(shares.values()):
            raise ConfigError(f"shares of tasks must not be negative, and not all zero: {', '.join(wrong) or shares}")

    def tasks(self) -> dict[Task, float]:
        """Return the tasks that are drawn, and their probabilities."""
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
    """Endless batches of turns, each turn as one of the tasks, drawn anew every time it comes by.

    Args:
      files: parquet files in VoiceAssistant-400K's schema, or folders of them.
      numbers: special tokens, the model's `Vocabulary`.
      audio_size: entries of a codebook that the model knows.
      tokenizer: the backbone's tokenizer.json.
      shares: of the tasks.
      lengths: steps that a batch is completed to: the least that holds its longest example. Each is compiled for once.
      seconds: that the speech encoder hears; questions are completed with silence.
      batch: turns in each batch.
      seed: of order and tasks.
      context_corruption: share of the spoken answers whose past holds a stretch from elsewhere in the answer, while
        the targets stay right.
      skip_bad: leave rows out that cannot be used or are longer than all this, with a warning that lists and counts
        them, instead of refusing the file.
      workers: processes that prepare batches; 0: a thread of this process. Batches are the same.
      prefetch: batches kept ready.

    Returns:
      Batches of "tokens" and "targets", int32 [B, A+1, T] (see `build_example`; `IGNORE` behind an example's end),
      "pcm", float32 [B, S], the question at 16 kHz or zeros, and "frames", int32 [B], what of it stands in the prompt.

    Raises:
      ConfigError: options without sense.
      DataError: files without sense, or with rows that cannot be used.
    """
    if not lengths or min(lengths) < 1 or not seconds > 0:
        raise ConfigError(f"lengths {tuple(lengths)} and seconds {seconds} must be positive, one length at least")
    if not 0 <= context_corruption <= 1:
        raise ConfigError(f"'context_corruption' is a share, from 0 to 1, got {context_corruption}")
    try:
        text = tokenizers.Tokenizer.from_str(tokenizer.decode())
    except Exception as error:  # the library knows no other
        raise DataError(f"the backbone's tokenizer.json is damaged ({error}). Fetch it anew.") from None
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
    """Draws a turn's task and makes its example."""

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
            slipped = dataclasses.replace(turn, answer_codes=slip(turn.answer_codes, rng))
            example = example._replace(tokens=self.example(slipped, task, len(pcm)).tokens)
        return {
            "tokens": example.tokens, "targets": example.targets, "pcm": pcm,
            "frames": np.asarray(example.features, np.int32),
        }  # fmt: skip

    def example(self, turn: Turn, task: Task, samples: int) -> Example:
        """Return the turn as one task's example; its question has so many samples."""
        heard = speech_frames(samples, self.window) if task.listens else self.encode(turn.question)
        answer = turn.question if task is Task.A1_T1 else turn.answer
        return build_example(task, self.numbers, heard, self.encode(answer), turn.answer_codes if task.speaks else None)

    def encode(self, text: str) -> list[int]:
        return self.text.encode(text, add_special_tokens=False).ids

    def faults(self, turn: Turn) -> Iterator[tuple[RowKind, str]]:
        """Why a turn that can be read cannot be learnt from."""
        listens, speaks = (any(getattr(task, what) for task in self.tasks) for what in ("listens", "speaks"))
        yield from misfits(turn, self.window if listens else None, self.audio_size if speaks else None)
        samples = turn.samples_at(SAMPLE_RATE) if listens else 0
        steps, task = max((self.example(turn, task, samples).tokens.shape[1], task.value) for task in self.tasks)
        if steps > self.longest:
            yield RowKind.NOT_TAKEN, f"as {task} it takes {steps} steps, the longest length is {self.longest}"


def misfits(turn: Turn, window: int | None, entries: int | None) -> Iterator[tuple[RowKind, str]]:
    """Why a turn that can be read is not for this model, for `jomni.data.turns.parquet.check_turns`.

    Args:
      turn: the turn.
      window: samples at 16 kHz that the model hears; None: nothing is heard.
      entries: of a codebook that it speaks with; None: nothing is said.
    """
    if window is not None and (samples := turn.samples_at(SAMPLE_RATE)) > window:
        told = f"{samples / SAMPLE_RATE:.1f} s, longer than the {window / SAMPLE_RATE:g} s that are heard"
        yield RowKind.NOT_TAKEN, f"the question is {told}"
    if entries is not None and (code := turn.answer_codes.max()) >= entries:
        yield RowKind.NOT_TAKEN, f"code {code} of a codebook with {entries} entries"


@dataclasses.dataclass(frozen=True)
class _Collate:
    """Completes the examples of a batch to one length."""

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
    """Return the files, those of folders in the order of their names."""
    found: list[Path] = []
    for path in (Path(file).expanduser() for file in files):
        held = sorted(path.glob("*.parquet")) if path.is_dir() else [path] if path.is_file() else []
        if not held:
            raise DataError(f"{path}: is no parquet file, and no folder that holds one. Name such a file.")
        found += held
    if not found:
        raise ConfigError("no parquet file is given. Give at least one.")
    return found
