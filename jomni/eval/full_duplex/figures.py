"""Figures of a full-duplex evaluation, computed from the results of its turns."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

from jomni.eval import intervals as statistics
from jomni.eval.full_duplex.metrics import STOP_SECONDS
from jomni.eval.full_duplex.turns import TurnResult
from jomni.eval.intervals import Estimate


def accuracy(turns: Iterable[TurnResult], **fields: str) -> Estimate:
    """Return the share of right answers among the turns whose fields have the given values.

    The interval treats different answers as independent, not repetitions of one: a model that cannot give an answer to
    one voice cannot give it to another either.
    """
    asked = (turn for turn in turns if all(getattr(turn, name) == value for name, value in fields.items()))
    return _share(asked, lambda turn: turn.correct, lambda turn: turn.expected)


def behaviours(turns: Sequence[TurnResult]) -> dict[str, Estimate]:
    """Return the figures of turn-taking: shares with Wilson intervals, times with bootstrap intervals."""
    asked = [turn for turn in turns if not turn.interrupted and not turn.interruption_missed]
    interrupted = [turn for turn in turns if turn.interrupted]
    return {
        "take_over": _share(asked, lambda turn: turn.takes_over),
        "take_over_fdb": _share(asked, lambda turn: turn.takes_turn),
        "latency": _quantile(asked, lambda turn: turn.latency),
        "latency_p90": _quantile(asked, lambda turn: turn.latency, 0.9),
        "speaks_over": _share(turns, lambda turn: turn.speaks_over),
        "waits": _share(turns, lambda turn: turn.waits),
        "pause_take_over_fdb": _share(turns, lambda turn: turn.pause_takes_turn),
        "stops": _share(interrupted, lambda turn: turn.stop is not None and turn.stop <= STOP_SECONDS),
        "stop_time": _quantile(interrupted, lambda turn: turn.stop),
        "interruptions_missed": _share(
            (turn for turn in turns if turn.interrupted or turn.interruption_missed),
            lambda turn: turn.interruption_missed,
        ),
        "continues": _share(turns, lambda turn: turn.continued),
        "endless": _share(turns, lambda turn: turn.endless),
    }


def long_gain(pairs: Sequence[tuple[TurnResult, TurnResult]]) -> Estimate:
    """Return the accuracy of the second turns of pairs minus that of the first ones."""
    return statistics.mean([float(bool(later.correct)) - float(bool(first.correct)) for first, later in pairs])


def slowest_frames(seconds: Sequence[float]) -> Estimate:
    """Return the 99th percentile of the times of a frame."""
    return statistics.quantile(seconds, 0.99)


def _question(turn: TurnResult) -> Hashable:
    """Return an identifier of the turn's question, the same for all seeds."""
    return turn.item, turn.number


def _share(turns: Iterable[TurnResult], what: Callable[[TurnResult], bool | None],
           group: Callable[[TurnResult], Hashable] = _question) -> Estimate:  # fmt: skip
    """Return the share of turns for which `what` is true, among those for which it is not None."""
    known = [(value, group(turn)) for turn in turns if (value := what(turn)) is not None]
    return statistics.share([value for value, _ in known], [group for _, group in known])


def _quantile(turns: Iterable[TurnResult], what: Callable[[TurnResult], float | None], q: float = 0.5) -> Estimate:
    """Return a quantile of `what` over the turns for which it is not None."""
    known = [(value, _question(turn)) for turn in turns if (value := what(turn)) is not None]
    return statistics.quantile([value for value, _ in known], q, [group for _, group in known])
