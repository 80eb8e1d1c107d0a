"""Mini-Omni's parallel streams: a question and its answer as tokens in, and targets out, for each of its tasks.

A audio streams, then text, T steps, F frames of SNAC. The answer's text comes first: audio stream i is i + 1 steps
behind it (`reconscruct_snac` of utils/snac_utils.py). Prompts: inference.py, answers: litgpt/generate/base.py.
Numbers are those of each stream's own vocabulary; the model shifts them to its embedding's rows.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Int

from jomni.errors import DataError

IGNORE = -1
"""Target where nothing is to be predicted."""


FRAME = 320
"""Samples at 16 kHz of one of the speech encoder's frames: 20 ms."""


class Task(enum.Enum):
    """What goes in, and what comes out: A audio, T text, 1 the question, 2 the answer."""

    A1_A2 = "A1-A2"
    A1_T2 = "A1-T2"
    A1_T1 = "A1-T1"
    T1_A2 = "T1-A2"
    T1_T2 = "T1-T2"

    @property
    def listens(self) -> bool:
        """Whether the question is heard."""
        return self.value.startswith("A1")

    @property
    def speaks(self) -> bool:
        """Whether the answer is spoken, beside its text."""
        return self.value.endswith("A2")


class Numbers(Protocol):
    """The special tokens, each in its stream's own vocabulary; the model's `Vocabulary` is one."""

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
    """Tokens and what follows each; speech features, where there are any, stand at steps 1 to `features`."""

    tokens: Int[np.ndarray, "A+1 T"]  # int32, text last
    targets: Int[np.ndarray, "A+1 T"]  # int32, IGNORE where nothing is to be predicted
    features: int  # frames of the speech encoder


def build_example(
    task: Task, numbers: Numbers, question: Sequence[int] | int, answer: Sequence[int],
    codes: Int[np.ndarray, "A F"] | None = None,
) -> Example:  # fmt: skip
    """Return the tokens and targets of one task's example.

    The padding of text after its end is no target, for generation puts it there by itself; that of audio is one, from
    the first step to the last stream's end, for there generation takes what the model says.

    Args:
      task: one of the five.
      numbers: special tokens.
      question: its text tokens; the number of the speech encoder's frames where the task listens.
      answer: text tokens of what is to be written: the answer, or the question itself for A1-T1.
      codes: the answer's SNAC codes [A, F], where the task speaks.

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


def slip(codes: Int[np.ndarray, "A F"], rng: np.random.Generator) -> Int[np.ndarray, "A F"]:
    """Return an answer's codes with a random stretch replaced by codes from elsewhere in it (context corruption)."""
    frames = codes.shape[1]
    if frames < 2:
        return codes
    begin = int(rng.integers(frames))
    stretch = slice(begin, int(rng.integers(begin, frames)) + 1)
    slipped = codes.copy()
    slipped[:, stretch] = np.roll(codes, int(rng.integers(1, frames)), 1)[:, stretch]
    return slipped


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
    """For each codebook the audio streams that hold its tokens of a frame: coarse before fine, each token followed by
    those that refine it (`reconstruct_tensors` of utils/snac_utils.py)."""
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
      window: samples that the encoder hears, the recording completed with silence.
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
