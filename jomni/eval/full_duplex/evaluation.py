"""Evaluation of a full-duplex model on a test set: running the conversations, and the figures."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jomni.errors import ConfigError
from jomni.eval import intervals as statistics
from jomni.eval.full_duplex.metrics import SoundRule
from jomni.eval.full_duplex.replies import Reply, ReplyErrors, Synthesise, measure_replies
from jomni.eval.full_duplex.session import Conversation, Outcome, run_conversations, single
from jomni.eval.full_duplex.test_set import Item, ItemError, answers
from jomni.eval.full_duplex.turns import TurnResult, turns_of
from jomni.eval.full_duplex.user_simulator import Patience
from jomni.eval.recogniser import Recogniser
from jomni.models.moshi.duplex import Duplex
from jomni.progress import Progress

LONGEST = 300.0
"""Seconds. Longer recordings are left out. Long conversations are composed of short recordings, so that the same
questions can be asked at their start and again later."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings of an evaluation.

    The figures in the documentation were measured with the defaults.
    """

    seeds: int = 3  # each item is run with seeds 0 to seeds - 1
    slots: int = 32  # conversations at once
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)  # of the sampling; default: the model's
    replies: int = 300  # spoken replies that the recogniser transcribes; 0: none
    minutes: float = 30.0  # of a long conversation, around which its questions are asked again; 0: no long ones
    probes: int = 100  # questions asked at the start of the long conversations, and again around `minutes`
    long_slots: int = 4  # long conversations, among which the probes are divided
    frames: int = 1000  # timed frames of one conversation; 0: none
    sentences: Sequence[str] = ()  # for the recogniser's language model, in addition to the test set's answers
    pronunciations: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)  # see `Recogniser`
    processes: int | None = None  # of the recogniser
    examples: int = 8  # conversations whose audio is kept
    rule: SoundRule = dataclasses.field(default_factory=SoundRule)
    patience: Patience = dataclasses.field(default_factory=Patience)


@dataclasses.dataclass
class Result:
    """Results of an evaluation."""

    turns: list[TurnResult]
    long: list[tuple[TurnResult, TurnResult]]  # each probe at the start, and later
    replies: ReplyErrors | None
    frames: list[float]  # seconds that each timed frame took
    examples: list[Outcome]
    seconds: float  # duration of the evaluation


def evaluate(
    duplex: Duplex,
    params: Any,
    tokenizer: Any,
    items: Sequence[Item],
    plan: Plan,
    synthesise: Synthesise | None = None,
    progress: Progress = lambda *_: None,
) -> Result:
    """Run the conversations of a test set and return the results.

    Args:
      duplex: the model.
      params: its parameters, from `Duplex.prepare`.
      tokenizer: of its text (`Checkpoint.text_tokenizer()`).
      items: the test set.
      plan: settings.
      synthesise: see `jomni.eval.full_duplex.replies.measure_replies`.
      progress: see `jomni.progress.Progress`.

    Raises:
      ConfigError: the model has no depth transformer or no text tokenizer.
      ItemError: the test set has too few items for the long conversations.
      JomniError: the recogniser is not installed, or has no pronunciation of a word.
    """
    if not duplex.generator.lm.config.dep_q:
        raise ConfigError("the model has no depth transformer, so it does not speak. Give a model that does.")
    if tokenizer is None:
        raise ConfigError("the model has no text tokenizer, so its answers cannot be read. Add one to its folder.")
    started = time.perf_counter()
    items = [item for item in items if item.seconds <= LONGEST]
    if not items:
        raise ItemError(f"the test set has no recording of {LONGEST:g} s or less. Add shorter ones.")
    recogniser = None  # made first, so that a word without pronunciation is reported before hours of work
    if plan.replies:
        recogniser = Recogniser(
            [*plan.sentences, *answers(items)], pronunciations=plan.pronunciations, processes=plan.processes
        )
    rate = duplex.mimi.config.sample_rate
    chosen_items = set(statistics.subsample(sorted({item.name for item in items}), plan.replies))
    turns: list[TurnResult] = []
    replies: list[Reply] = []
    examples: list[Outcome] = []
    count = len(items) * plan.seeds
    conversations = (single(item, seed) for seed in range(plan.seeds) for item in items)
    for outcome in _run(duplex, params, tokenizer, conversations, plan, count, progress):
        found = turns_of(outcome)
        turns += found
        if outcome.seed == 0 and outcome.item.name in chosen_items:
            replies += [reply for turn in found if (reply := _reply(outcome, turn)) is not None][:1]
        if outcome.seed == 0 and len(examples) < plan.examples:
            examples.append(outcome)
    turns.sort(key=lambda turn: (turn.seed, turn.item, turn.number))
    replies.sort(key=lambda reply: (reply.cell, reply.text))
    errors = None
    if recogniser is not None:
        size = 3 * len(replies)
        errors = measure_replies(
            replies, rate, recogniser, synthesise, lambda n: progress("transcribing", n, size, "recordings")
        )
    long = _long_conversations(duplex, params, tokenizer, items, plan, progress) if plan.minutes else []
    frames = frame_times(duplex, params, items[0].read(rate)[1], plan.frames, plan.settings) if plan.frames else []
    return Result(turns, long, errors, frames, examples, time.perf_counter() - started)


def _run(
    duplex: Duplex, params: Any, tokenizer: Any, conversations: Iterable[Conversation], plan: Plan, count: int,
    progress: Progress,
) -> Iterator[Outcome]:  # fmt: skip
    """Run `count` conversations of one recording each, and report the progress."""
    outcomes = run_conversations(
        duplex, params, tokenizer, conversations, min(plan.slots, count), settings=plan.settings, rule=plan.rule,
        patience=plan.patience,
    )  # fmt: skip
    progress("conversing", 0, count, "conversations")
    for done, outcome in enumerate(outcomes, 1):
        yield outcome
        progress("conversing", done, count, "conversations")


def _reply(outcome: Outcome, turn: TurnResult) -> Reply | None:
    """Return the spoken answer to a turn; None if the user talked into it or there is none."""
    if turn.interrupted or turn.continued is not None or not (turn.said or turn.takes_over):
        return None
    times = outcome.item.turns[turn.number].agent
    reference = None
    if turn.correct and times is not None and not outcome.item.turns[turn.number].cut:
        agent, _ = outcome.item.read(outcome.sample_rate)
        first, last = (round(t * outcome.sample_rate) for t in (times[0] - 0.02, times[1] + 0.02))
        reference = agent[max(first, 0) : last]
    return Reply(turn.said, outcome.clip(turn.user[1], turn.until), reference, turn.cell, turn.expected)


class _LongScript:
    """The recordings of a long conversation: the probes, others until a given time, and the probes again.

    Args:
      probes: asked twice.
      others: drawn at random in between.
      again_at: seconds after which the probes are asked again.
      seed: of the draws.
    """

    def __init__(self, probes: Sequence[Item], others: Sequence[Item], again_at: float, seed: int) -> None:
        self._first, self._again, self._others, self._at = list(probes), list(probes), others, again_at
        self._rng = np.random.default_rng(seed)
        self.phases: list[str] = []  # of each recording returned so far: "start", "between" or "again"

    def __call__(self, now: float) -> Item | None:
        for phase, rest in (("start", self._first), ("again", self._again)):
            if rest and (phase == "start" or now >= self._at):
                self.phases.append(phase)
                return rest.pop(0)
        if not self._again:
            return None
        self.phases.append("between")
        return self._others[int(self._rng.integers(len(self._others)))]


def _long_conversations(
    duplex: Duplex, params: Any, tokenizer: Any, items: Sequence[Item], plan: Plan, progress: Progress
) -> list[tuple[TurnResult, TurnResult]]:
    """Return the results of the same questions at the start of long conversations and around a later minute."""
    plain = [item for item in items if item.plain]
    probes: list[Item] = []
    for n in np.random.default_rng(0).permutation(len(plain)):
        if sum(len(item.turns) for item in probes) < plan.probes:
            probes.append(plain[n])
    if not probes:
        raise ItemError(
            "the test set has no items without pauses, back-channels and interruptions, which long conversations are "
            "composed of. Add some, or leave the long conversations out (--minutes 0)."
        )
    slots = min(plan.long_slots, len(probes))
    shares = [probes[n::slots] for n in range(slots)]
    # The second time, half of the probes come before the given minute and half after it.
    seconds = max(sum(item.seconds for item in share) for share in shares)
    at = max(plan.minutes * 60 - seconds / 2, 0.0)
    scripts = [_LongScript(share, plain, at, seed) for seed, share in enumerate(shares)]
    conversations = [Conversation(f"long {n}", n, script) for n, script in enumerate(scripts)]
    total = plan.minutes + seconds / 120
    finished = dict.fromkeys((conversation.label for conversation in conversations), 0)  # recordings
    found: dict[tuple[str, str, str, int], TurnResult] = {}
    outcomes = run_conversations(
        duplex, params, tokenizer, conversations, slots, settings=plan.settings, rule=plan.rule, patience=plan.patience
    )
    for outcome in outcomes:
        phase = scripts[outcome.seed].phases[finished[outcome.label]]
        finished[outcome.label] += 1
        for turn in turns_of(outcome):
            found[(outcome.label, phase, turn.item, turn.number)] = turn
        progress("conversing at length", min(outcome.end / 60, total), total, "minutes")
    pairs = [
        (turn, found[label, "again", item, number])
        for (label, phase, item, number), turn in found.items()
        if phase == "start" and (label, "again", item, number) in found
    ]
    return pairs[: plan.probes]


def frame_times(
    duplex: Duplex, params: Any, wave: np.ndarray, count: int, settings: Mapping[str, float] | None = None
) -> list[float]:
    """Return the seconds of each duplex step of one conversation, from user audio in host memory to output there.

    Args:
      duplex: the model.
      params: its parameters, from `Duplex.prepare`.
      wave: the user's audio, float32 [T]; repeated as often as needed.
      count: timed frames; 50 frames before them are not timed.
      settings: of the sampling.
    """
    size = duplex.frame_size
    frames = np.resize(wave, (max(len(wave) // size, 1), 1, 1, size)).astype(np.float32)
    params = jax.device_put(params)
    state, controls = duplex.init_state(1, params=params), duplex.controls(1, **(settings or {}))
    seconds = []
    for n in range(count + 50):
        begin = time.perf_counter()
        state, out = duplex.step(params, state, jnp.asarray(frames[n % len(frames)]), controls)
        jax.device_get((out.pcm, out.text))
        seconds.append(time.perf_counter() - begin)
    return seconds[50:]
