"""The evaluation of a full-duplex model on a test set: what is run, and the figures that come of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jomni.errors import ConfigError
from jomni.eval import intervals as statistics
from jomni.eval.full_duplex.metrics import STOP_SECONDS, SoundRule
from jomni.eval.full_duplex.replies import Reply, ReplyErrors, Synthesise, measure
from jomni.eval.full_duplex.session import Conversation, Outcome, hold, single
from jomni.eval.full_duplex.test_set import Item, ItemError, answers
from jomni.eval.full_duplex.user_simulator import Patience
from jomni.eval.intervals import Estimate
from jomni.eval.measure import TurnResult, turns_of
from jomni.eval.recogniser import Recogniser
from jomni.models.moshi.duplex import Duplex
from jomni.progress import Progress

LONGEST = 300.0
"""Seconds. Longer recordings are left out: long conversations are put together from short ones, so that the same
questions can be asked at their start and again."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is run.

    The defaults are those of the figures in the documentation.
    """

    seeds: int = 3  # every item is talked through with seeds 0 to seeds - 1
    slots: int = 32  # conversations at once
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)  # of the sampling, else the model's own
    replies: int = 300  # spoken replies that the recogniser hears; 0: none
    minutes: float = 30.0  # around which the long conversations are asked again; 0: none are held
    probes: int = 100  # questions asked at the start of the long conversations, and again around `minutes`
    long_slots: int = 4  # long conversations, among which the probes are shared
    frames: int = 1000  # that are timed, in a single conversation; 0: none
    sentences: Sequence[str] = ()  # for the recogniser's language model; beside the test set's own answers
    pronunciations: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)  # see `Recogniser`
    processes: int | None = None  # of the recogniser
    examples: int = 8  # conversations kept whole
    rule: SoundRule = dataclasses.field(default_factory=SoundRule)
    patience: Patience = dataclasses.field(default_factory=Patience)


@dataclasses.dataclass
class Result:
    """What was found."""

    turns: list[TurnResult]
    long: list[tuple[TurnResult, TurnResult]]  # each probe at the start, and again
    replies: ReplyErrors | None
    frames: list[float]  # seconds that each timed frame took
    examples: list[Outcome]
    seconds: float  # that the evaluation took


def evaluate(
    duplex: Duplex,
    params: Any,
    tokenizer: Any,
    items: Sequence[Item],
    plan: Plan,
    synthesise: Synthesise | None = None,
    progress: Progress = lambda *_: None,
) -> Result:
    """Run an evaluation.

    Args:
      duplex: the model.
      params: its parameters, from `Duplex.prepare`.
      tokenizer: of its text (`Checkpoint.text_tokenizer()`).
      items: the test set.
      plan: what is run.
      synthesise: see `jomni.eval.full_duplex.replies.measure`.
      progress: see `jomni.progress.Progress`.

    Raises:
      ConfigError: the model has no voice or no text tokenizer.
      ItemError: the test set has too few items for the long conversations.
      JomniError: the recogniser is not installed, or does not know a word.
    """
    if not duplex.generator.lm.config.dep_q:
        raise ConfigError("the model has no depth transformer, so it does not speak: there is nothing to evaluate")
    if tokenizer is None:
        raise ConfigError("the model brings no text tokenizer, so its answers cannot be read")
    started = time.perf_counter()
    items = [item for item in items if item.seconds <= LONGEST]
    if not items:
        raise ItemError(f"the test set has no recording of {LONGEST:g} s or less")
    # Made first: a word that it does not know should be said before hours of work, not after.
    recogniser = None
    if plan.replies:
        recogniser = Recogniser(
            [*plan.sentences, *answers(items)], pronunciations=plan.pronunciations, processes=plan.processes
        )
    rate = duplex.mimi.config.sample_rate
    chosen_items = set(statistics.some(sorted({item.name for item in items}), plan.replies))
    turns: list[TurnResult] = []
    replies: list[Reply] = []
    examples: list[Outcome] = []
    count = len(items) * plan.seeds
    talks = (single(item, seed) for seed in range(plan.seeds) for item in items)
    for outcome in _run(duplex, params, tokenizer, talks, plan.slots, plan, "talking", count, progress):
        found = turns_of(outcome)
        turns += found
        if outcome.seed == 0 and outcome.item.name in chosen_items:
            replies += [reply for turn in found if (reply := _reply(outcome, turn)) is not None][:1]
        if outcome.seed == 0 and len(examples) < plan.examples:
            examples.append(outcome)
    turns.sort(key=lambda turn: (turn.seed, turn.item, turn.number))
    replies.sort(key=lambda reply: (reply.cell, reply.text))
    heard = None
    if recogniser is not None:
        size = 3 * len(replies)
        heard = measure(replies, rate, recogniser, synthesise, lambda n: progress("hearing", n, size, "recordings"))
    long = _long(duplex, params, tokenizer, items, plan, progress) if plan.minutes else []
    frames = frame_times(duplex, params, items[0].read(rate)[1], plan.frames, plan.settings) if plan.frames else []
    return Result(turns, long, heard, frames, examples, time.perf_counter() - started)


def _run(
    duplex: Duplex, params: Any, tokenizer: Any, talks: Iterable[Conversation], slots: int, plan: Plan, what: str,
    count: int, progress: Progress,
) -> Iterator[Outcome]:  # fmt: skip
    outcomes = hold(
        duplex, params, tokenizer, talks, min(slots, count), settings=plan.settings, rule=plan.rule,
        patience=plan.patience,
    )  # fmt: skip
    progress(what, 0, count, "conversations")
    for done, outcome in enumerate(outcomes, 1):
        yield outcome
        progress(what, done, count, "conversations")


def _reply(outcome: Outcome, turn: TurnResult) -> Reply | None:
    """Return the spoken answer to a turn, if it was not talked into."""
    if turn.interrupted or turn.continued is not None or not (turn.said or turn.takes_over):
        return None
    voice = outcome.clip(turn.user[1], turn.until)
    times = outcome.item.turns[turn.number].agent
    reference = None
    if turn.correct and times is not None and not outcome.item.turns[turn.number].cut:
        agent, _ = outcome.item.read(outcome.sample_rate)
        first, last = (round(t * outcome.sample_rate) for t in (times[0] - 0.02, times[1] + 0.02))
        reference = agent[max(first, 0) : last]
    return Reply(turn.said, voice, reference, turn.cell, turn.expected)


class _Long:
    """The recordings of one long conversation: probes, others until it is time, the same probes again."""

    def __init__(self, probes: Sequence[Item], others: Sequence[Item], again_at: float, seed: int) -> None:
        self._first, self._again, self._others, self._at = list(probes), list(probes), others, again_at
        self._rng = np.random.default_rng(seed)
        self.phases: list[str] = []  # of each recording given

    def __call__(self, now: float) -> Item | None:
        for phase, rest in (("start", self._first), ("again", self._again)):
            if rest and (phase == "start" or now >= self._at):
                self.phases.append(phase)
                return rest.pop(0)
        if not self._again:
            return None
        self.phases.append("between")
        return self._others[int(self._rng.integers(len(self._others)))]


def _long(
    duplex: Duplex, params: Any, tokenizer: Any, items: Sequence[Item], plan: Plan, progress: Progress
) -> list[tuple[TurnResult, TurnResult]]:
    """Return the same questions at the start of long conversations and around a later minute of them."""
    plain = [item for item in items if item.plain]
    needed: list[Item] = []
    for n in np.random.default_rng(0).permutation(len(plain)):
        if sum(len(item.turns) for item in needed) < plan.probes:
            needed.append(plain[n])
    if not needed:
        raise ItemError(
            "the test set has no plain items (questions without pauses, back-channels and interruptions) to make long "
            "conversations of. Add some, or leave the long conversations out."
        )
    slots = min(plan.long_slots, len(needed))
    shares = [needed[n::slots] for n in range(slots)]
    # Half of the second asking before the minute, half after it.
    seconds = max(sum(item.seconds for item in share) for share in shares)
    at = max(plan.minutes * 60 - seconds / 2, 0.0)
    scripts = [_Long(share, plain, at, seed) for seed, share in enumerate(shares)]
    talks = [Conversation(f"long {n}", n, script) for n, script in enumerate(scripts)]
    total = plan.minutes + seconds / 120
    seen = dict.fromkeys((talk.label for talk in talks), 0)
    found: dict[tuple[str, str, str, int], TurnResult] = {}
    outcomes = hold(
        duplex, params, tokenizer, talks, slots, settings=plan.settings, rule=plan.rule, patience=plan.patience
    )
    for outcome in outcomes:
        script = scripts[outcome.seed]
        phase = script.phases[seen[outcome.label]]
        seen[outcome.label] += 1
        for turn in turns_of(outcome):
            found[(outcome.label, phase, turn.item, turn.number)] = turn
        progress("talking long", min(outcome.end / 60, total), total, "minutes")
    pairs = [
        (turn, found[label, "again", item, number])
        for (label, phase, item, number), turn in found.items()
        if phase == "start" and (label, "again", item, number) in found
    ]
    return pairs[: plan.probes]


def frame_times(
    duplex: Duplex, params: Any, wave: np.ndarray, count: int, settings: Mapping[str, float] | None = None
) -> list[float]:
    """Seconds of each whole duplex step of a single conversation: audio in host memory to audio and text there.

    Args:
      duplex: the model.
      params: its parameters, from `Duplex.prepare`.
      wave: the user, float32 [T]; repeated as often as needed.
      count: frames that are timed, after 50 that are not.
      settings: of the sampling.
    """
    size = duplex.frame_size
    frames = np.resize(wave, (max(len(wave) // size, 1), 1, 1, size)).astype(np.float32)
    params = jax.device_put(params)
    state, controls = duplex.init_state(1, params=params), duplex.controls(1, **(settings or {}))
    taken = []
    for n in range(count + 50):
        begin = time.perf_counter()
        state, out = duplex.step(params, state, jnp.asarray(frames[n % len(frames)]), controls)
        jax.device_get((out.pcm, out.text))
        taken.append(time.perf_counter() - begin)
    return taken[50:]


def long_gain(result: Result) -> Estimate:
    """Return the accuracy late in the long conversations minus that at their start, over the same questions."""
    return statistics.mean([float(bool(later.correct)) - float(bool(first.correct)) for first, later in result.long])


def slowest_frames(result: Result) -> Estimate:
    """Return the 99th percentile of the times of a frame, seconds."""
    return statistics.quantile(result.frames, 0.99)


def accuracy(turns: Iterable[TurnResult], **where: str) -> Estimate:
    """Return the share of right answers among the turns with the given fields.

    The interval is over answers: a model that cannot say one cannot say it to the next voice either.
    """
    asked = (turn for turn in turns if all(getattr(turn, k) == v for k, v in where.items()))
    return _among(asked, lambda turn: turn.correct, lambda turn: turn.expected)


def _question(turn: TurnResult) -> Hashable:
    """Return which of the test's questions it is, whatever the seed."""
    return turn.item, turn.number


def _among(turns: Iterable[TurnResult], what: Callable[[TurnResult], bool | None],
           group: Callable[[TurnResult], Hashable] = _question) -> Estimate:  # fmt: skip
    """Return the share of the turns of which something is so, where it can be said (None: it cannot)."""
    known = [(value, group(turn)) for turn in turns if (value := what(turn)) is not None]
    return statistics.share([value for value, _ in known], [group for _, group in known])


def _quantile(turns: Iterable[TurnResult], what: Callable[[TurnResult], float | None], q: float = 0.5) -> Estimate:
    """Return a quantile of what the turns have, where they have it."""
    known = [(value, _question(turn)) for turn in turns if (value := what(turn)) is not None]
    return statistics.quantile([value for value, _ in known], q, [group for _, group in known])


def behaviours(turns: Sequence[TurnResult]) -> dict[str, Estimate]:
    """Return the duplex figures over all turns. Shares are with Wilson's, latencies with bootstrap intervals."""
    asked = [turn for turn in turns if not turn.interrupted and not turn.interruption_missed]
    interrupted = [turn for turn in turns if turn.interrupted]
    return {
        "take_over": _among(asked, lambda turn: turn.takes_over),
        "take_over_fdb": _among(asked, lambda turn: turn.takes_turn),
        "latency": _quantile(asked, lambda turn: turn.latency),
        "latency_p90": _quantile(asked, lambda turn: turn.latency, 0.9),
        "speaks_over": _among(turns, lambda turn: turn.speaks_over),
        "waits": _among(turns, lambda turn: turn.waits),
        "pause_take_over_fdb": _among(turns, lambda turn: turn.pause_takes_turn),
        "stops": _among(interrupted, lambda turn: turn.stop is not None and turn.stop <= STOP_SECONDS),
        "stop_time": _quantile(interrupted, lambda turn: turn.stop),
        "interruptions_missed": _among(
            (turn for turn in turns if turn.interrupted or turn.interruption_missed),
            lambda turn: turn.interruption_missed,
        ),
        "continues": _among(turns, lambda turn: turn.continued),
        "endless": _among(turns, lambda turn: turn.endless),
    }
