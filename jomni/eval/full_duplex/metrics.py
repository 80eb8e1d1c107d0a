"""Metrics of turn-taking: pure functions of the intervals in which agent and user speak.

Take-over rate and latency follow Full-Duplex-Bench (Lin et al. 2025, arXiv 2503.04721;
DanielLin94144/Full-Duplex-Bench, v1_v1.5/evaluation), where negative latencies count as 0. The benchmark takes words
from a large recogniser and speech from a neural detector. Here speech is sound above a level, because the agent's
channel holds only speech, and words are those of the model's text.

**Time.** Seconds since the conversation began, as a live listener hears it: user frame f lasts from f to f + 1 frames,
and what call f returns is heard from f + 1 frames on (`jomni.models.moshi.conversation.live_audio`). The delays between
the model's streams are part of the audio and of all figures; computing time is not.

An interval is (start, end); lists of them are sorted and do not overlap.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

Interval = tuple[float, float]

TURN_SECONDS, TURN_WORDS = 1.0, 3
"""Full-Duplex-Bench: the agent takes the turn by speaking for at least a second or more than three words; anything less
is a back-channel. `takes_over` counts any sound, for test sets with short answers such as "seven"."""

STOP_SECONDS = 1.0
"""Seconds within which an interrupted agent should stop."""

STOP_GAP = 0.5
"""Seconds of silence that end the agent's speech; shorter pauses lie between words (Full-Duplex-Bench v1.5 merges
segments by this value)."""

ANSWER_GAP = 0.2
"""Seconds of silence. A sound after at least this much silence that begins after the interruption's end belongs to the
answer to the interruption, not to the interrupted speech. Longer than the pauses between words."""

OVERLAP = 0.08
"""Least overlap, seconds, that counts as speaking over the user: one frame of Mimi."""


@dataclasses.dataclass(frozen=True)
class SoundRule:
    """Rule that decides what counts as sound."""

    threshold_db: float = -40.0  # least level (RMS) of a window with sound, dB of full scale 1
    window: float = 0.01  # seconds
    gap: float = 0.1  # seconds: shorter silences are bridged
    shortest: float = 0.03  # seconds: shorter sounds are ignored as clicks

    def __str__(self) -> str:
        return (
            f"RMS of {self.window * 1e3:g} ms windows above {self.threshold_db:g} dB of full scale, silences under "
            f"{self.gap * 1e3:g} ms bridged, sounds under {self.shortest * 1e3:g} ms ignored"
        )


def loud(wave: np.ndarray, sample_rate: int, rule: SoundRule) -> np.ndarray:
    """Return whether each window of the audio [T] has sound, bool [ceil(T / window)]."""
    size = max(1, round(rule.window * sample_rate))
    wave = np.asarray(wave, np.float32)
    power = np.square(np.pad(wave, (0, -len(wave) % size))).reshape(-1, size).mean(axis=1)
    return power > 10 ** (rule.threshold_db / 10)


def sounds(wave: np.ndarray, sample_rate: int, rule: SoundRule | None = None) -> list[Interval]:
    """Return the intervals with sound in the audio [T], seconds from its first sample."""
    rule = rule or SoundRule()
    size = max(1, round(rule.window * sample_rate))
    flags = np.concatenate([[False], loud(wave, sample_rate, rule), [False]])
    edges = np.flatnonzero(flags[1:] != flags[:-1]).reshape(-1, 2)
    found = [(float(a * size / sample_rate), float(b * size / sample_rate)) for a, b in edges]
    return [(a, b) for a, b in merged(found, rule.gap) if b - a >= rule.shortest - 1e-9]


def merged(intervals: Iterable[Interval], gap: float) -> list[Interval]:
    """Return the intervals, with those less than `gap` apart joined."""
    result: list[Interval] = []
    for start, end in sorted(intervals):
        if result and start - result[-1][1] < gap - 1e-9:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        else:
            result.append((start, end))
    return result


def within(intervals: Iterable[Interval], start: float, end: float) -> list[Interval]:
    """Return the parts of the intervals that lie between two times."""
    cut = [(max(a, start), min(b, end)) for a, b in intervals]
    return [(a, b) for a, b in cut if b > a]


def overlap(one: Sequence[Interval], other: Sequence[Interval]) -> float:
    """Return the seconds in which both have sound."""
    return sum(b - a for start, end in one for a, b in within(other, start, end))


def latency(agent: Sequence[Interval], user_end: float, until: float) -> float | None:
    """Return the seconds from the end of the user's speech to the agent's first sound.

    0 if the agent already speaks when the user ends (Full-Duplex-Bench counts negative latencies as 0), None if it has
    no sound before `until`.
    """
    later = within(agent, user_end, until)
    return later[0][0] - user_end if later else None


def takes_over(agent: Sequence[Interval], start: float, end: float) -> bool:
    """Return whether the agent makes any sound between two times."""
    return bool(within(agent, start, end))


def takes_turn(agent: Sequence[Interval], start: float, end: float, words: int) -> bool:
    """Return whether the agent takes over between two times, by `TURN_SECONDS` and `TURN_WORDS`.

    Args:
      agent: intervals with sound.
      start: seconds.
      end: seconds.
      words: number of the agent's words between these times.
    """
    said = within(agent, start, end)
    return bool(said) and (said[-1][1] - said[0][0] >= TURN_SECONDS or words > TURN_WORDS)


def speaks_over(agent: Sequence[Interval], user: Sequence[Interval]) -> bool:
    """Return whether the agent has sound for at least `OVERLAP` seconds in all while the user speaks."""
    return overlap(agent, user) >= OVERLAP - 1e-9


def waits(agent: Sequence[Interval], pause_start: float, user_end: float) -> bool:
    """Return whether the agent is silent from the beginning of a pause to the end of the question.

    The interval does not end with the pause, because speech that the model starts in it is heard a little later.
    Full-Duplex-Bench's take-over rate in pauses is `takes_turn` over the same interval.
    """
    return not takes_over(agent, pause_start, user_end)


def speaks_at(agent: Sequence[Interval], time: float) -> bool:
    """Return whether the agent is speaking at a time. Pauses shorter than `STOP_GAP` are part of speech."""
    return any(start <= time < end for start, end in merged(agent, STOP_GAP))


def stop_time(agent: Sequence[Interval], interrupted: float, user_end: float | None = None) -> float | None:
    """Return the seconds from the beginning of an interruption to the end of the agent's speech; None if it was silent.

    The speech ends with a silence of `STOP_GAP`, or of `ANSWER_GAP` if the next sound begins after the user's end: that
    sound is the answer to the interruption.

    Args:
      agent: intervals with sound.
      interrupted: when the user began, seconds.
      user_end: when the user ended, seconds; None: all later sounds continue the speech.
    """
    for start, end in merged(agent, STOP_GAP):
        if start <= interrupted < end:
            for before, after in itertools.pairwise(within(agent, start, end)):
                if user_end is not None and after[0] >= user_end and after[0] - before[1] >= ANSWER_GAP:
                    return max(before[1] - interrupted, 0.0)
            return end - interrupted
    return None


def continues(agent: Sequence[Interval], start: float, end: float) -> bool:
    """Return whether the agent speaks from the start to the end of a back-channel of the user."""
    stop = stop_time(agent, start)
    return stop is not None and start + stop >= end
