"""Evaluation of a turn-based model on spoken turns: asking the questions, and the figures.

Each question is asked in a conversation of its own, once for each task of the model (`Task`): as text or speech,
answered in text or in speech, or transcribed. Answers are decoded greedily.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from jomni.data.turns.parquet import Turn
from jomni.errors import ConfigError
from jomni.eval import intervals as statistics
from jomni.eval.codec.coders import Coder
from jomni.eval.full_duplex.replies import Reply, ReplyErrors, Synthesise, measure_replies
from jomni.eval.intervals import NO_DATA, Estimate
from jomni.eval.recogniser import Recogniser, normalise, word_errors
from jomni.eval.turn_based.adapters import Adapter, Response
from jomni.models.mini_omni.streams import Task, tree_order
from jomni.models.snac.codec import SnacCodec
from jomni.models.snac.config import SnacConfig
from jomni.models.snac.model import Snac
from jomni.progress import Progress


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings of an evaluation."""

    replies: int = 300  # spoken replies of each task that the recogniser transcribes; 0: none
    sentences: Sequence[str] = ()  # for the recogniser's language model, in addition to the set's answers
    pronunciations: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)  # see `Recogniser`
    processes: int | None = None  # of the recogniser
    examples: int = 4  # replies of each task whose audio is kept
    tasks: Collection[Task] = tuple(Task)  # tasks to measure; those that the model cannot do are left out


@dataclasses.dataclass(frozen=True)
class Answer:
    """A model's answer to one question."""

    turn: int  # number in the set
    task: Task
    question: str
    expected: str  # the right answer; of the transcription task the question
    said: str  # the model's text
    errors: int  # word errors of `said` against `expected`
    words: int  # of `expected`
    steps: int  # of the answer
    ended: bool  # the model ended the answer; False: it was cut off
    first_text: int | None  # number of the step with the first text, from 1 on
    first_sound: int | None  # number of the step with the first samples

    @property
    def exact(self) -> bool:
        """Whether `said` has the words of `expected`; case and punctuation are ignored."""
        return normalise(self.said) == normalise(self.expected)


@dataclasses.dataclass
class Result:
    """Results of an evaluation."""

    answers: list[Answer]
    left_out: dict[Task, str]  # task that was not measured -> the reason
    replies: dict[Task, ReplyErrors]
    codec: Estimate  # word error rate of the codec's decoding of the set's answer codes, for the same turns
    examples: list[tuple[Answer, Float[np.ndarray, "S"]]]
    sample_rate: int  # Hz, of the replies; 0 without a codec
    seconds: float  # duration of the evaluation


def evaluate(
    adapter: Adapter,
    turns: Sequence[Turn],
    plan: Plan,
    codec: tuple[SnacConfig, Any] | None = None,
    synthesise: Synthesise | None = None,
    progress: Progress = lambda *_: None,
) -> Result:
    """Ask a model the questions of a set and return the results.

    Args:
      adapter: the model.
      turns: the set.
      plan: settings.
      codec: configuration and parameters of the SNAC of the set's answer codes; None: they are not transcribed.
      synthesise: see `jomni.eval.full_duplex.replies.measure_replies`.
      progress: see `jomni.progress.Progress`.

    Raises:
      ConfigError: the set has no turns, or the model can do none of the tasks.
      PromptError, AudioError: the model cannot take a question.
      JomniError: the recogniser is not installed, or has no pronunciation of a word.
    """
    if not turns:
        raise ConfigError("the set has no turns. Give a file with turns.")
    started = time.perf_counter()
    left_out = {task: "not chosen" for task in Task if task not in plan.tasks} | dict(adapter.left_out)
    tasks = [task for task in Task if task not in left_out]
    if not tasks:
        why = "; ".join(f"{task.value}: {left_out[task]}" for task in plan.tasks)
        raise ConfigError(f"the model can do none of the chosen tasks ({why}). Choose others.")
    recogniser = None  # made first, so that a word without pronunciation is reported before hours of work
    if plan.replies and any(task.speaks for task in tasks):
        recogniser = Recogniser(
            [*plan.sentences, *(turn.answer for turn in turns)], pronunciations=plan.pronunciations,
            processes=plan.processes,
        )  # fmt: skip
    chosen = statistics.subsample(range(len(turns)), plan.replies)
    kept = statistics.subsample(chosen, plan.examples)
    answers, examples, replies = list[Answer](), list[tuple[Answer, np.ndarray]](), dict[Task, ReplyErrors]()
    for task in tasks:
        spoken: list[Reply] = []
        for number, response in _responses(adapter, task, turns, adapter.slots, progress):
            answer = _score(number, task, turns[number], response)
            answers.append(answer)
            if task.speaks and number in chosen:
                spoken.append(Reply(response.text, response.pcm, None, task.value, answer.expected))
                if number in kept:
                    examples.append((answer, response.pcm))
        if recogniser is not None and spoken:
            done = _counted(progress, f"transcribing {task.value}", 3 * len(spoken))
            replies[task] = measure_replies(spoken, adapter.sample_rate, recogniser, synthesise, done)
    codec_rate = NO_DATA
    if recogniser is not None and codec is not None:
        codec_rate = codec_errors([turns[n] for n in chosen], *codec, recogniser, progress)
    answers.sort(key=lambda answer: (tasks.index(answer.task), answer.turn))
    seconds = time.perf_counter() - started
    return Result(answers, left_out, replies, codec_rate, examples, adapter.sample_rate, seconds)


def _responses(
    adapter: Adapter, task: Task, turns: Sequence[Turn], slots: int, progress: Progress
) -> Iterator[tuple[int, Response]]:
    """Yield each turn's number and the response, sorted by the length of the right answers.

    Answers of one batch then have similar lengths, and slots are rarely idle.
    """
    order = sorted(range(len(turns)), key=lambda n: (turns[n].answer_codes.shape[1], n))
    progress(f"asking {task.value}", 0, len(turns), "questions")
    for first in range(0, len(order), slots):
        numbers = order[first : first + slots]
        yield from zip(numbers, adapter.ask(task, [turns[n] for n in numbers]), strict=True)
        progress(f"asking {task.value}", first + len(numbers), len(turns), "questions")


def _counted(progress: Progress, what: str, size: int) -> Callable[[int], Any]:
    return lambda number: progress(what, number, size, "recordings")


def _score(number: int, task: Task, turn: Turn, response: Response) -> Answer:
    expected = turn.question if task is Task.A1_T1 else turn.answer
    found = word_errors(expected, response.text)
    return Answer(
        number, task, turn.question, expected, response.text, found.errors, found.words, response.steps, response.ended,
        response.first_text, response.first_sound,
    )  # fmt: skip


def codec_errors(
    turns: Sequence[Turn], config: SnacConfig, params: Any, recogniser: Recogniser, progress: Progress = lambda *_: None
) -> Estimate:
    """Return the word error rate of the codec's decoding, without added noise, of the answer codes of a set.

    It is a lower bound for the replies of a model that generates exactly these codes.
    """
    waves = decode_answers(turns, config, params)
    codec_rate = recogniser.transcribe(
        waves, config.sampling_rate, _counted(progress, "transcribing the codec", len(waves))
    )
    found = [word_errors(turn.answer, said) for turn, said in zip(turns, codec_rate, strict=True)]
    return statistics.ratio([e.errors for e in found], [e.words for e in found])


def decode_answers(
    turns: Sequence[Turn], config: SnacConfig, params: Any, slots: int = 16
) -> list[Float[np.ndarray, "S"]]:
    """Return the audio of the turns' answer codes, float32 at the codec's rate, decoded without added noise."""
    order = tree_order(config.tokens_per_frame)
    codes = [tuple(turn.answer_codes[list(places)].T.reshape(-1) for places in order) for turn in turns]
    return Coder(SnacCodec(Snac(config)), params).decode(codes, slots)


def exact(answers: Sequence[Answer], task: Task) -> Estimate:
    """Return the share of a task's answers that are exact, with a Wilson interval."""
    hits = [answer.exact for answer in answers if answer.task is task]
    return statistics.share(hits)


def relation(answers: Sequence[Answer], task: Task, base: Task) -> Estimate:
    """Return the right answers of one task over those of another, for the same turns; the bootstrap draws turns."""
    first, second = ({a.turn: a.exact for a in answers if a.task is each} for each in (task, base))
    both = sorted(first.keys() & second.keys())
    return statistics.ratio([first[n] for n in both], [second[n] for n in both])


def figures(answers: Sequence[Answer], task: Task) -> dict[str, Estimate]:
    """Return the figures of a task: exact answers, word errors of the text, answers that ended, and steps."""
    own = [answer for answer in answers if answer.task is task]
    texts, sounds = ([n for answer in own if (n := getattr(answer, name)) is not None]
                     for name in ("first_text", "first_sound"))  # fmt: skip
    return {
        "exact": exact(own, task),
        "wer": statistics.ratio([answer.errors for answer in own], [answer.words for answer in own]),
        "ended": statistics.share([answer.ended for answer in own]),
        "steps": statistics.median([answer.steps for answer in own]),
        "first_text": statistics.median(texts),
        "first_sound": statistics.median(sounds),
    }
