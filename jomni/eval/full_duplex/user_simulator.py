"""The user's side of a conversation, in a closed loop: each piece of a recording is played when it is due.

A recorded user would talk on whatever the agent does. Here a question waits until the agent has answered the one
before, and an interruption comes while the agent really speaks. Until a piece is due, the recording's own background
from before it is repeated, so that a noisy room stays noisy; when it is due early, the rest of it is skipped.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jomni.eval.full_duplex.metrics import STOP_GAP, SoundRule, loud
from jomni.eval.full_duplex.test_set import Item

LEAD = 0.1  # seconds of background that always precede a piece
SPEAKING = 0.2  # seconds: an agent that sounded so recently is speaking


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long the user waits, seconds."""

    answer: float = 4.0  # for an answer to begin, before talking on
    limit: float = 15.0  # for an answer to end, before talking on all the same
    quiet: float = STOP_GAP + 0.1  # of silence, at least, by which the user knows that an answer has ended
    tail: float = 1.0  # of silence after the last answer that end the recording


@dataclasses.dataclass(frozen=True)
class Piece:
    """Something the user says, in samples of the recording."""

    start: int
    end: int
    turn: int  # whose question this is, or whose answer it talks into
    role: str  # "question", "interruption", "backchannel"
    opening: bool = False  # the question is an interruption too (of the turn before)
    wait: float = 0.0  # seconds: of the agent's silence before a question, of its speech before the others


def pieces_of(item: Item, sample_rate: int) -> list[Piece]:
    """Return what the user says in an item, in order of time."""
    found: list[Piece] = []

    def add(start: float, end: float, turn: int, role: str, opening: bool, wait: float) -> None:
        first, last = round(start * sample_rate), round(end * sample_rate)
        found.append(Piece(first, last, turn, role, opening, max(wait, 0.0)))

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
    return sorted(found, key=lambda piece: piece.start)


class Ear:
    """What the user hears of the agent: when it began to sound since the user last spoke, and when it last did."""

    def __init__(self, sample_rate: int, rule: SoundRule) -> None:
        self._rate, self._rule = sample_rate, rule
        self.now = 0.0  # seconds heard so far
        self.first: float | None = None  # first sound since `forget`
        self.last: float | None = None  # end of the latest sound since then

    def forget(self) -> None:
        """The user has just spoken: what counts from here on is the answer to that."""
        self.first = self.last = None

    def hear(self, pcm: np.ndarray) -> None:
        """Take the agent's next samples [T]."""
        flags = np.flatnonzero(loud(pcm, self._rate, self._rule))
        if len(flags) * self._rule.window >= self._rule.shortest:
            if self.first is None:
                self.first = self.now + float(flags[0]) * self._rule.window
            self.last = self.now + float(flags[-1] + 1) * self._rule.window
        self.now += len(pcm) / self._rate

    @property
    def quiet(self) -> float:
        """Seconds since the latest sound; infinite where there was none."""
        return np.inf if self.last is None else self.now - self.last


class Player:
    """Plays one recording to an agent.

    Args:
      wave: the user, float32 [T].
      pieces: from `pieces_of`.
      sample_rate: Hz.
      ear: what is heard of the agent. The caller feeds it: before a frame is played, it has heard all that sounds until
        that frame's end (what the agent says in the call before).
      patience: how long the user waits.
    """

    def __init__(
        self, wave: np.ndarray, pieces: list[Piece], sample_rate: int, ear: Ear, patience: Patience | None = None
    ) -> None:
        self._wave, self._rate, self._ear = wave, sample_rate, ear
        self._pieces = [dataclasses.replace(piece, end=min(piece.end, len(wave))) for piece in pieces]
        self._patience = patience or Patience()
        self._at = 0  # next sample of the recording
        self._next = 0  # piece that comes next, or is being played
        self._open = bool(pieces)  # it may begin; the first comes with the recording
        self._spoke = ear.now  # when the user last spoke, on the ear's clock
        self.played: list[float] = []  # when each piece began, on the ear's clock
        self.missed: set[int] = set()  # pieces meant for the agent's speech that found none
        self.endless = False  # the user lost patience with an answer that did not end

    @property
    def over(self) -> bool:
        """All was said, and the agent has answered or is not going to."""
        if self._next < len(self._pieces):
            return False
        waited = self._ear.now - self._spoke
        if waited >= self._patience.limit:
            self.endless = True
            return True
        if self._ear.first is None:
            return waited >= self._patience.answer
        return min(self._ear.quiet, waited) >= self._patience.tail

    def next(self, size: int) -> np.ndarray:
        """Return the user's next samples, float32 [size]."""
        frame = np.zeros(size, np.float32)
        begin, filled = self._ear.now - size / self._rate, 0
        self._open = self._open or self._due()
        while filled < size:
            piece = self._pieces[self._next] if self._next < len(self._pieces) else None
            low, high = self._background(piece)
            if piece is not None and self._open:
                if self._next > 0 and self._at < high:
                    self._at = high  # the rest of the background is skipped
                filled += self._say(frame[filled:], begin + filled / self._rate, piece)
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

    def _background(self, piece: Piece | None) -> tuple[int, int]:
        """Return the part of the recording between the piece before and the given one."""
        before = self._pieces[self._next - 1].end if self._next else 0
        high = len(self._wave) if piece is None else max(piece.start - round(LEAD * self._rate), before)
        return min(before + round(0.05 * self._rate), high), high

    def _say(self, frame: np.ndarray, begin: float, piece: Piece) -> int:
        """Play on in a piece, or in what leads to it; return the number of samples."""
        count = min(len(frame), piece.end - self._at)
        frame[:count] = self._wave[self._at : self._at + count]
        if len(self.played) == self._next and self._at + count > piece.start:
            self.played.append(begin + (piece.start - self._at) / self._rate)
        self._at += count
        if self._at >= piece.end:
            self._next += 1
            self._open = False
            self._spoke = begin + count / self._rate
            if piece.role == "question":
                self._ear.forget()
        return count

    def _due(self) -> bool:
        """Return whether the next piece may begin."""
        if self._next >= len(self._pieces):
            return False
        piece, ear, patience = self._pieces[self._next], self._ear, self._patience
        into_speech = piece.role != "question" or piece.opening
        waited = ear.now - self._spoke
        if waited >= patience.limit:
            self.endless = True
            given_up = True
        elif ear.first is None:
            given_up = waited >= patience.answer
        elif not into_speech:
            return ear.quiet >= max(piece.wait - LEAD, patience.quiet)
        elif ear.now - ear.first >= piece.wait - LEAD and ear.quiet < SPEAKING:
            return True
        else:
            given_up = ear.quiet >= patience.tail
        if given_up and into_speech:
            self.missed.add(self._next)
        return given_up
