"""Mini-Omni's parallel streams: questions and answers as tokens and targets, for each of its tasks.

Axes: A audio streams (text is the last stream, A + 1 in all), T and S steps, F frames of SNAC. In an answer, audio
stream i is i + 1 steps behind the text (`reconscruct_snac` of utils/snac_utils.py). Prompts: inference.py, answers:
litgpt/generate/base.py. Tokens are numbered in each stream's own vocabulary; the model adds the embedding's offsets.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Int

from jomni.errors import DataError
from jomni.printing import short_repr

IGNORE = -1
"""Target of steps without a prediction."""


FRAME = 320
"""Samples at 16 kHz of one of the speech encoder's frames: 20 ms."""


class Task(enum.Enum):
    """Input and output of a task: A audio, T text, 1 the question, 2 the answer."""

    A1_A2 = "A1-A2"
    A1_T2 = "A1-T2"
    A1_T1 = "A1-T1"
    T1_A2 = "T1-A2"
    T1_T2 = "T1-T2"

    @property
    def listens(self) -> bool:
        """Return whether the question is audio."""
        return self.value.startswith("A1")

    @property
    def speaks(self) -> bool:
        """Return whether the answer has audio beside its text."""
        return self.value.endswith("A2")


class Numbers(Protocol):
    """Special tokens, numbered in each stream's own vocabulary; the model's `Vocabulary` follows it."""

    @property
    def streams(self) -> int: ...
    @property
    def end_of_text(self) -> int: ...
    @property
    def pad_text(self) -> int: ...
    @property
    def input_text(self) -> int: ...
    @property
    def answer_text(self) -> int: ...
    @property
    def asr(self) -> int: ...
    @property
    def end_of_audio(self) -> int: ...
    @property
    def pad_audio(self) -> int: ...
    @property
    def input_audio(self) -> int: ...
    @property
    def answer_audio(self) -> int: ...


class Example(NamedTuple):
    """Tokens and targets. Speech features, where there are any, are at steps 1 to `features`."""

    tokens: Int[np.ndarray, "A+1 T"]  # int32, text last
    targets: Int[np.ndarray, "A+1 T"]  # int32, IGNORE at steps without a prediction
    features: int  # frames of the speech encoder

    def __repr__(self) -> str:
        return short_repr(self)


def build_example(
    task: Task, numbers: Numbers, question: Sequence[int] | int, answer: Sequence[int],
    codes: Int[np.ndarray, "A F"] | None = None,
) -> Example:  # fmt: skip
    """Return the tokens and targets of one task's example.

    Text padding after the end of text is no target, because generation inserts it. Audio padding is a target from the
    first step to the end of the last stream, because generation samples it.

    Args:
      task: one of the five.
      numbers: special tokens.
      question: text tokens, or for audio input the number of the speech encoder's frames.
      answer: text tokens of the output: the answer, or the question for A1-T1.
      codes: the answer's SNAC codes [A, F], for audio output.

    Raises:
      DataError: the question or the codes are not what the task needs.
    """
    if task.listens != isinstance(question, int) or task.speaks != (codes is not None):
        raise DataError(
            f"task {task.value} takes {'a number of frames' if task.listens else 'text tokens'} as question and "
            f"{'SNAC codes' if task.speaks else 'no codes'}, got {type(question).__name__} and "
            f"{'no codes' if codes is None else 'codes'}."
        )
    if codes is not None and (codes.ndim != 2 or codes.shape[0] != numbers.streams or codes.shape[1] == 0):
        raise DataError(f"codes must be [{numbers.streams}, frames], at least one frame, got {codes.shape}.")
    prompt = np.concatenate([question_streams(numbers, question), opening_streams(task, numbers)], 1)
    reply, targets = _reply(numbers, answer, codes)
    ignored = np.full((len(prompt), prompt.shape[1] - 1), IGNORE, np.int32)
    return Example(
        np.concatenate([prompt, reply[:, :-1]], 1),
        np.concatenate([ignored, targets], 1),
        question if isinstance(question, int) else 0,
    )


def corrupt_context(codes: Int[np.ndarray, "A F"], rng: np.random.Generator) -> Int[np.ndarray, "A F"]:
    """Return an answer's codes with a random stretch replaced by codes from elsewhere in it (context corruption)."""
    frames = codes.shape[1]
    if frames < 2:
        return codes
    begin = int(rng.integers(frames))
    stretch = slice(begin, int(rng.integers(begin, frames)) + 1)
    corrupted = codes.copy()
    corrupted[:, stretch] = np.roll(codes, int(rng.integers(1, frames)), 1)[:, stretch]
    return corrupted


def undelay(audio: Int[np.ndarray, "A S"], end_of_audio: int) -> Int[np.ndarray, "A F"]:
    """Return the SNAC codes in an answer's audio streams: without delays, up to the end of the last stream.

    Raises:
      DataError: the last stream has no end.
    """
    streams = len(audio)
    ends = np.flatnonzero(audio[-1] == end_of_audio)
    if not len(ends):
        raise DataError(f"the last audio stream does not end: no {end_of_audio} in its {audio.shape[1]} steps.")
    frames = max(int(ends[0]) - streams, 0)
    return np.stack([stream[i + 1 : i + 1 + frames] for i, stream in enumerate(audio)])


def tree_order(tokens_per_frame: Sequence[int]) -> list[list[int]]:
    """Return for each codebook the audio streams with its tokens of a frame: depth first, each token followed by those
    that refine it (`reconstruct_tensors` of utils/snac_utils.py)."""
    order: list[list[int]] = [[] for _ in tokens_per_frame]
    count = 0

    def visit(level: int) -> None:
        nonlocal count
        order[level].append(count)
        count += 1
        if level + 1 < len(tokens_per_frame):
            for _ in range(tokens_per_frame[level + 1] // tokens_per_frame[level]):
                visit(level + 1)

    for _ in range(tokens_per_frame[0]):
        visit(0)
    return order


def speech_frames(samples: int, window: int) -> int:
    """Return how many frames of the speech encoder a recording takes in a prompt (inference.py).

    Args:
      samples: of the recording.
      window: samples of the encoder's window, to which recordings are padded.
    """
    return min(samples // FRAME + 1, -(-window // FRAME))


def question_streams(numbers: Numbers, question: Sequence[int] | int) -> Int[np.ndarray, "A+1 T"]:
    """Return a question's steps: text tokens, or padding for that many frames of speech features, from step 1 on."""
    if isinstance(question, int):
        asked = [numbers.pad_text] * question
        first, end = numbers.input_audio, numbers.end_of_audio
    else:
        asked, first, end = list(question), numbers.pad_audio, numbers.pad_audio
    audio = [first, *[numbers.pad_audio] * len(asked), end]
    return np.array([audio] * numbers.streams + [[numbers.input_text, *asked, numbers.end_of_text]], np.int32)


def opening_streams(task: Task, numbers: Numbers) -> Int[np.ndarray, "A+1 1"]:
    """Return the step after the question, which selects speech or text alone, and an answer or a transcript."""
    audio = numbers.answer_audio if task.speaks else numbers.pad_audio
    text = numbers.asr if task is Task.A1_T1 else numbers.answer_text
    return np.array([[audio]] * numbers.streams + [[text]], np.int32)


def _reply(numbers: Numbers, answer: Sequence[int], codes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    streams, written = numbers.streams, len(answer) + 1
    spoken = 0 if codes is None else streams + codes.shape[1] + 1  # to the end of the last stream
    tokens = np.full((streams + 1, max(written, spoken)), numbers.pad_audio, np.int32)
    tokens[-1] = numbers.pad_text
    tokens[-1, :written] = [*answer, numbers.end_of_text]
    if codes is not None:
        for i, stream in enumerate(codes):
            tokens[i, i + 1 : i + 2 + len(stream)] = [*stream, numbers.end_of_audio]
    targets = tokens.copy()
    targets[:-1, spoken:] = IGNORE
    targets[-1, written:] = IGNORE
    return tokens, targets
