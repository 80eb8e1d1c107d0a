"""How a full-duplex agent behaves in time: pure functions of who sounds when.

After Full-Duplex-Bench (Lin et al. 2025, arXiv 2503.04721; DanielLin94144/Full-Duplex-Bench, v1_v1.5/evaluation): its
take-over rate, and its latency, which counts a negative one as 0. It recognises words by a large recogniser and
finds speech by a neural detector; here sound is what exceeds a level (an agent's channel holds nothing else), and words
are those of the model's own text.

**Time.** Seconds since the conversation began, as a live listener hears it: user frame f lasts from f to f + 1 frames,
and what the agent says in call f is heard from f + 1 frames on (`jomni.models.moshi.conversation.live_audio`). Delays
between the model's streams are in the audio and so in every figure; the time that computing takes is not.

An interval is (start, end); lists of them are sorted and do not overlap.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

Interval = tuple[float, float]

TURN_SECONDS, TURN_WORDS = 1.0, 3
"""Full-Duplex-Bench: the agent takes the turn by speaking a second or more, or more than three words; what is less is a
back-channel. (The answers of a small world, such as "seven", are shorter: `takes_over` counts any sound.)"""

STOP_SECONDS = 1.0
"""An agent that is interrupted has this long to stop."""

STOP_GAP = 0.5
"""Seconds of silence that end what the agent says (Full-Duplex-Bench v1.5's merge of the model's segments): a pause
between two words is no stop."""

ANSWER_GAP = 0.2
"""Seconds of silence after which a sound that begins when the interrupting user has ended is the answer to that, and
not what was being said before: longer than what lies between two words."""

OVERLAP = 0.08
"""Seconds of overlap from which on the agent speaks over the user: one of Mimi's frames; less is words that touch."""


@dataclasses.dataclass(frozen=True)
class SoundRule:
    """What counts as the agent's sound."""

    threshold_db: float = -40.0  # level of a window (RMS) from which on it sounds, dB of full scale 1
    window: float = 0.01  # seconds
    gap: float = 0.1  # seconds: shorter silences are bridged
    shortest: float = 0.03  # seconds: shorter sounds are clicks, and left out

    def __str__(self) -> str:
        return (
            f"RMS of {self.window * 1e3:g} ms windows above {self.threshold_db:g} dB of full scale, silences under "
            f"{self.gap * 1e3:g} ms bridged, sounds under {self.shortest * 1e3:g} ms left out"
        )


def loud(wave: np.ndarray, sample_rate: int, rule: SoundRule) -> np.ndarray:
    """Return whether each window of the audio [T] sounds, bool [ceil(T / window)]."""
    size = max(1, round(rule.window * sample_rate))
    wave = np.asarray(wave, np.float32)
    power = np.square(np.pad(wave, (0, -len(wave) % size))).reshape(-1, size).mean(axis=1)
    return power > 10 ** (rule.threshold_db / 10)


def sounds(wave: np.ndarray, sample_rate: int, rule: SoundRule | None = None) -> list[Interval]:
    """When the audio [T] sounds, seconds from its first sample."""
    rule = rule or SoundRule()
    size = max(1, round(rule.window * sample_rate))
    flags = np.concatenate([[False], loud(wave, sample_rate, rule), [False]])
    edges = np.flatnonzero(flags[1:] != flags[:-1]).reshape(-1, 2)
    found = [(float(a * size / sample_rate), float(b * size / sample_rate)) for a, b in edges]
    return [(a, b) for a, b in merged(found, rule.gap) if b - a >= rule.shortest - 1e-9]


def merged(intervals: Iterable[Interval], gap: float) -> list[Interval]:
    """Intervals with those less than `gap` apart joined."""
    result: list[Interval] = []
    for start, end in sorted(intervals):
        if result and start - result[-1][1] < gap - 1e-9:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        else:
            result.append((start, end))
    return result


def within(intervals: Iterable[Interval], start: float, end: float) -> list[Interval]:
    """Return what of the intervals lies between two times."""
    cut = [(max(a, start), min(b, end)) for a, b in intervals]
    return [(a, b) for a, b in cut if b > a]


def overlap(one: Sequence[Interval], other: Sequence[Interval]) -> float:
    """Seconds in which both sound."""
    return sum(b - a for start, end in one for a, b in within(other, start, end))


def latency(agent: Sequence[Interval], user_end: float, until: float) -> float | None:
    """From the end of the user's speech to the agent's first sound, seconds.

    0 where the agent sounds already when the user ends (as Full-Duplex-Bench does with negative latencies), None where
    it does not sound before `until`.
    """
    later = within(agent, user_end, until)
    return later[0][0] - user_end if later else None


def takes_over(agent: Sequence[Interval], start: float, end: float) -> bool:
    """Return whether the agent makes any sound between two times."""
    return bool(within(agent, start, end))


def takes_turn(agent: Sequence[Interval], start: float, end: float, words: int) -> bool:
    """Full-Duplex-Bench's take-over between two times: a second or more from first to last sound, or more than 3 words.

    Args:
      agent: when it sounds.
      start: seconds.
      end: seconds.
      words: that it says between these times.
    """
    said = within(agent, start, end)
    return bool(said) and (said[-1][1] - said[0][0] >= TURN_SECONDS or words > TURN_WORDS)


def speaks_over(agent: Sequence[Interval], user: Sequence[Interval]) -> bool:
    """Return whether the agent sounds, for `OVERLAP` seconds or more in all, while the user speaks."""
    return overlap(agent, user) >= OVERLAP - 1e-9


def waits(agent: Sequence[Interval], pause_start: float, user_end: float) -> bool:
    """Return whether the agent stays silent from the beginning of a pause to the question's real end.

    Not only through the pause itself: what was decided in it is heard a little later. Full-Duplex-Bench asks the same
    with `takes_turn` for its take-over rate in pauses.
    """
    return not takes_over(agent, pause_start, user_end)


def speaks_at(agent: Sequence[Interval], time: float) -> bool:
    """Return whether the agent is speaking at a time: pauses shorter than `STOP_GAP` belong to speech."""
    return any(start <= time < end for start, end in merged(agent, STOP_GAP))


def stop_time(agent: Sequence[Interval], interrupted: float, user_end: float | None = None) -> float | None:
    """From the beginning of an interruption to the end of what the agent was saying, seconds; None: it was silent.

    What it was saying ends with a silence of `STOP_GAP`, or of `ANSWER_GAP` where the next sound begins after the
    user's end: that is its answer to the interruption.

    Args:
      agent: when it sounds.
      interrupted: when the user began, seconds.
      user_end: when the user ended; None: every sound counts as going on.
    """
    for start, end in merged(agent, STOP_GAP):
        if start <= interrupted < end:
            for before, after in itertools.pairwise(within(agent, start, end)):
                if user_end is not None and after[0] >= user_end and after[0] - before[1] >= ANSWER_GAP:
                    return max(before[1] - interrupted, 0.0)
            return end - interrupted
    return None


def continues(agent: Sequence[Interval], start: float, end: float) -> bool:
    """Whether an agent that is speaking when the user's back-channel starts goes on to the back-channel's end."""
    stop = stop_time(agent, start)
    return stop is not None and start + stop >= end
