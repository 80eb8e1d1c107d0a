"""A user simulator: it plays the utterances of a recording when they are due, depending on what the agent does.

A question is played after the agent has answered the previous one, an interruption or a back-channel while the agent
speaks. Until an utterance is due, the background that precedes it in the recording is repeated, so that a noisy room
stays noisy. If it is due early, the rest of the background is skipped.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jomni.eval.full_duplex.metrics import STOP_GAP, SoundRule, loud
from jomni.eval.full_duplex.test_set import Item

LEAD = 0.1  # seconds of background that always precede an utterance
SPEAKING = 0.2  # seconds: the agent counts as speaking this long after its latest sound


@dataclasses.dataclass(frozen=True)
class Patience:
    """Times after which the user continues, seconds."""

    answer: float = 4.0  # without a sound of the agent: the user expects no answer any more
    limit: float = 15.0  # in all: the user continues although the answer has not ended
    quiet: float = STOP_GAP + 0.1  # of silence, at least, that end an answer
    tail: float = 1.0  # of silence after the last answer that end the recording


@dataclasses.dataclass(frozen=True)
class Utterance:
    """Something the user says. `start` and `end` are samples of the recording."""

    start: int
    end: int
    turn: int  # number of the turn that it asks, or whose answer it talks into
    role: str  # "question", "interruption", "backchannel"
    opening: bool = False  # the question interrupts the answer of the previous turn
    wait: float = 0.0  # seconds: of the agent's silence before a question, of its speech before the others


def utterances_of(item: Item, sample_rate: int) -> list[Utterance]:
    """Return what the user says in an item, sorted by time."""
    found: list[Utterance] = []

    def add(start: float, end: float, turn: int, role: str, opening: bool, wait: float) -> None:
        first, last = round(start * sample_rate), round(end * sample_rate)
        found.append(Utterance(first, last, turn, role, opening, max(wait, 0.0)))

    for number, turn in enumerate(item.turns):
        for event in turn.events:
            if event.event != "pause":
                wait = event.start - (turn.agent[0] if turn.agent else turn.end)
                add(event.start, event.end, number, event.event, False, wait)
        if number == 0:
            add(turn.start, turn.end, number, "question", False, 0.0)
            continue
        before = item.turns[number - 1]
        answer = before.agent or (before.end, before.end)
        add(turn.start, turn.end, number, "question", turn.interrupts, turn.start - answer[0 if turn.interrupts else 1])
    return sorted(found, key=lambda utterance: utterance.start)


class AgentActivity:
    """Voice activity of the agent since the last `reset`, by `SoundRule`. Times are seconds of audio pushed so far."""

    def __init__(self, sample_rate: int, rule: SoundRule) -> None:
        self._rate, self._rule = sample_rate, rule
        self.time = 0.0
        self.first: float | None = None  # start of the first sound since `reset`
        self.last: float | None = None  # end of the latest sound since `reset`

    def reset(self) -> None:
        """Forget the sounds so far. The simulator calls it at the end of a question."""
        self.first = self.last = None

    def push(self, pcm: np.ndarray) -> None:
        """Append the agent's next samples, float [T]."""
        flags = np.flatnonzero(loud(pcm, self._rate, self._rule))
        if len(flags) * self._rule.window >= self._rule.shortest:
            if self.first is None:
                self.first = self.time + float(flags[0]) * self._rule.window
            self.last = self.time + float(flags[-1] + 1) * self._rule.window
        self.time += len(pcm) / self._rate

    @property
    def silence(self) -> float:
        """Seconds since the latest sound; infinite if there was none."""
        return np.inf if self.last is None else self.time - self.last


class UserSimulator:
    """Plays the user's channel of one recording.

    Args:
      wave: the user's channel, float32 [T].
      utterances: from `utterances_of`.
      sample_rate: Hz.
      activity: of the agent. The caller pushes the agent's audio: before a frame is played, `activity` has all audio
        that a live listener hears until the frame's end (what the model returned in the previous call).
      patience: how long the user waits.
    """

    def __init__(
        self,
        wave: np.ndarray,
        utterances: list[Utterance],
        sample_rate: int,
        activity: AgentActivity,
        patience: Patience | None = None,
    ) -> None:
        self._wave, self._rate, self._activity = wave, sample_rate, activity
        self._utterances = [dataclasses.replace(one, end=min(one.end, len(wave))) for one in utterances]
        self._patience = patience or Patience()
        self._at = 0  # next sample of the recording
        self._next = 0  # number of the utterance that is played or comes next
        self._open = bool(utterances)  # the next utterance may begin; the first begins with the recording
        self._spoke = activity.time  # when the latest utterance ended
        self.played: list[float] = []  # when each utterance began, in the time of `activity`
        self.missed: set[int] = set()  # interruptions and back-channels for which the agent was silent
        self.endless = False  # the user continued although an answer had not ended

    @property
    def over(self) -> bool:
        """Whether all utterances were played, and the last answer has ended or no answer is expected any more."""
        if self._next < len(self._utterances):
            return False
        waited = self._activity.time - self._spoke
        if waited >= self._patience.limit:
            self.endless = True
            return True
        if self._activity.first is None:
            return waited >= self._patience.answer
        return min(self._activity.silence, waited) >= self._patience.tail

    def next(self, size: int) -> np.ndarray:
        """Return the user's next samples, float32 [size]."""
        frame = np.zeros(size, np.float32)
        begin, filled = self._activity.time - size / self._rate, 0
        self._open = self._open or self._due()
        while filled < size:
            utterance = self._utterances[self._next] if self._next < len(self._utterances) else None
            low, high = self._background(utterance)
            if utterance is not None and self._open:
                if self._next > 0 and self._at < high:
                    self._at = high  # skip the rest of the background
                filled += self._say(frame[filled:], begin + filled / self._rate, utterance)
            elif self._at < high:
                count = min(size - filled, high - self._at)
                frame[filled : filled + count] = self._wave[self._at : self._at + count]
                self._at += count
                filled += count
            elif high - low >= size:
                self._at = low
            else:
                break  # no background to repeat: silence
        return frame

    def _background(self, utterance: Utterance | None) -> tuple[int, int]:
        """Return the first and last sample of the background before an utterance; None: of the recording's end."""
        before = self._utterances[self._next - 1].end if self._next else 0
        high = len(self._wave) if utterance is None else max(utterance.start - round(LEAD * self._rate), before)
        return min(before + round(0.05 * self._rate), high), high

    def _say(self, frame: np.ndarray, begin: float, utterance: Utterance) -> int:
        """Write the next samples of an utterance, or of its lead, into `frame`; return their number."""
        count = min(len(frame), utterance.end - self._at)
        frame[:count] = self._wave[self._at : self._at + count]
        if len(self.played) == self._next and self._at + count > utterance.start:
            self.played.append(begin + (utterance.start - self._at) / self._rate)
        self._at += count
        if self._at >= utterance.end:
            self._next += 1
            self._open = False
            self._spoke = begin + count / self._rate
            if utterance.role == "question":
                self._activity.reset()
        return count

    def _due(self) -> bool:
        """Return whether the next utterance may begin."""
        if self._next >= len(self._utterances):
            return False
        utterance, activity, patience = self._utterances[self._next], self._activity, self._patience
        into_speech = utterance.role != "question" or utterance.opening
        waited = activity.time - self._spoke
        if waited >= patience.limit:
            self.endless = True
            given_up = True
        elif activity.first is None:
            given_up = waited >= patience.answer
        elif not into_speech:
            return activity.silence >= max(utterance.wait - LEAD, patience.quiet)
        elif activity.time - activity.first >= utterance.wait - LEAD and activity.silence < SPEAKING:
            return True
        else:
            given_up = activity.silence >= patience.tail
        if given_up and into_speech:
            self.missed.add(self._next)
        return given_up
