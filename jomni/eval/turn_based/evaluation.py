"""The evaluation of a turn-based model on spoken turns: what is run, and the figures that come of it.

Every question is asked by itself, in every way that the model takes: written or spoken, answered in text or aloud, or
only written down (`Task`). All answers are greedy.
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
    """What is run."""

    replies: int = 300  # spoken replies of each task that the recogniser hears; 0: none
    sentences: Sequence[str] = ()  # for the recogniser's language model, beside the set's own answers
    pronunciations: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)  # see `Recogniser`
    processes: int | None = None  # of the recogniser
    examples: int = 4  # replies of each task that are kept
    tasks: Collection[Task] = tuple(Task)  # that are asked, of those that the model does


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model gave to one question."""

    turn: int  # number in the set
    task: Task
    question: str
    expected: str  # the answer, or the question where it was to be written down
    said: str  # the model's text
    errors: int  # words, against what was expected
    words: int  # of what was expected
    steps: int  # of the answer
    ended: bool  # it came to its own end, and was not cut off
    first_text: int | None  # steps to the first text, from 1 on
    first_sound: int | None  # steps to the first samples

    @property
    def exact(self) -> bool:
        """Whether it is the same words, letter case and punctuation aside."""
        return normalise(self.said) == normalise(self.expected)


@dataclasses.dataclass
class Result:
    """What was found."""

    answers: list[Answer]
    left_out: dict[Task, str]  # tasks that the model does not do, and why
    replies: dict[Task, ReplyErrors]
    codec: Estimate  # WER on the codec's decoding of the set's own answer codes, the same turns
    examples: list[tuple[Answer, Float[np.ndarray, "S"]]]
    sample_rate: int  # Hz, of the replies; 0 without a codec
    seconds: float  # that the evaluation took


def evaluate(
    adapter: Adapter,
    turns: Sequence[Turn],
    plan: Plan,
    codec: tuple[SnacConfig, Any] | None = None,
    synthesise: Synthesise | None = None,
    progress: Progress = lambda *_: None,
) -> Result:
    """Run an evaluation.

    Args:
      adapter: the model.
      turns: the set.
      plan: what is run.
      codec: configuration and parameters of the SNAC of the set's answer codes, None: they are not listened to.
      synthesise: says a text as a reference; see `jomni.eval.full_duplex.replies.measure_replies`.
      progress: see `jomni.progress.Progress`.

    Raises:
      ConfigError: there is nothing to ask, or the model does nothing of what is to be asked.
      PromptError, AudioError: a question is not what the model takes.
      JomniError: the recogniser is not installed, or does not know a word.
    """
    if not turns:
        raise ConfigError("the set has no turns, so there is nothing to ask")
    started = time.perf_counter()
    left_out = {task: "it was not asked" for task in Task if task not in plan.tasks} | dict(adapter.left_out)
    tasks = [task for task in Task if task not in left_out]
    if not tasks:
        why = "; ".join(f"{task.value}: {left_out[task]}" for task in plan.tasks)
        raise ConfigError(f"the model does none of the tasks that are to be asked ({why}). Ask others.")
    recogniser = None
    # Made first: a word that it does not know should be said before hours of work, not after.
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
        for number, given in _asked(adapter, task, turns, adapter.slots, progress):
            answer = _judged(number, task, turns[number], given)
            answers.append(answer)
            if task.speaks and number in chosen:
                spoken.append(Reply(given.text, given.pcm, None, task.value, answer.expected))
                if number in kept:
                    examples.append((answer, given.pcm))
        if recogniser is not None and spoken:
            done = _counted(progress, f"hearing {task.value}", 3 * len(spoken))
            replies[task] = measure_replies(spoken, adapter.sample_rate, recogniser, synthesise, done)
    heard = NO_DATA
    if recogniser is not None and codec is not None:
        heard = codec_errors([turns[n] for n in chosen], *codec, recogniser, progress)
    answers.sort(key=lambda answer: (tasks.index(answer.task), answer.turn))
    seconds = time.perf_counter() - started
    return Result(answers, left_out, replies, heard, examples, adapter.sample_rate, seconds)


def _asked(
    adapter: Adapter, task: Task, turns: Sequence[Turn], slots: int, progress: Progress
) -> Iterator[tuple[int, Response]]:
    """Every turn's number and what was answered, in the order of how long the answers should be: those that are asked
    together then end together."""
    order = sorted(range(len(turns)), key=lambda n: (turns[n].answer_codes.shape[1], n))
    progress(f"asking {task.value}", 0, len(turns), "questions")
    for first in range(0, len(order), slots):
        numbers = order[first : first + slots]
        yield from zip(numbers, adapter.ask(task, [turns[n] for n in numbers]), strict=True)
        progress(f"asking {task.value}", first + len(numbers), len(turns), "questions")


def _counted(progress: Progress, what: str, size: int) -> Callable[[int], Any]:
    return lambda number: progress(what, number, size, "recordings")


def _judged(number: int, task: Task, turn: Turn, given: Response) -> Answer:
    expected = turn.question if task is Task.A1_T1 else turn.answer
    found = word_errors(expected, given.text)
    return Answer(
        number, task, turn.question, expected, given.text, found.errors, found.words, given.steps, given.ended,
        given.first_text, given.first_sound,
    )  # fmt: skip


def codec_errors(
    turns: Sequence[Turn], config: SnacConfig, params: Any, recogniser: Recogniser, progress: Progress = lambda *_: None
) -> Estimate:
    """The recogniser's word error rate on what the codec makes of the set's own answer codes, against their texts.

    It bounds what a model that says exactly these codes can reach. The noise that the codec adds is left out.
    """
    waves = decoded(turns, config, params)
    heard = recogniser.transcribe(waves, config.sampling_rate, _counted(progress, "hearing the codec", len(waves)))
    found = [word_errors(turn.answer, said) for turn, said in zip(turns, heard, strict=True)]
    return statistics.ratio([e.errors for e in found], [e.words for e in found])


def decoded(turns: Sequence[Turn], config: SnacConfig, params: Any, slots: int = 16) -> list[Float[np.ndarray, "S"]]:
    """Return the sound of the turns' answer codes, float32 at the codec's rate: its whole decode without noise."""
    order = tree_order(config.tokens_per_frame)
    codes = [tuple(turn.answer_codes[list(places)].T.reshape(-1) for places in order) for turn in turns]
    return Coder(SnacCodec(Snac(config)), params).decode(codes, slots)


def exact(answers: Sequence[Answer], task: Task) -> Estimate:
    """Return the share of a task's answers that are right to the word, with Wilson's interval."""
    hits = [answer.exact for answer in answers if answer.task is task]
    return statistics.share(hits)


def relation(answers: Sequence[Answer], task: Task, base: Task) -> Estimate:
    """Right answers of one task over those of another to the same turns; the bootstrap draws turns."""
    first, second = ({a.turn: a.exact for a in answers if a.task is each} for each in (task, base))
    both = sorted(first.keys() & second.keys())
    return statistics.ratio([first[n] for n in both], [second[n] for n in both])


def figures(answers: Sequence[Answer], task: Task) -> dict[str, Estimate]:
    """Return what is told of a task: exact answers, word errors of the text, answers that ended, and steps."""
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
