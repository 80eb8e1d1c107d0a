"""From the outcome of a recording to what is known of each of its turns."""

from __future__ import annotations

import dataclasses
from typing import Any

from jomni.eval.full_duplex import metrics as duplex
from jomni.eval.full_duplex.metrics import Interval
from jomni.eval.full_duplex.session import Outcome
from jomni.eval.full_duplex.test_set import Turn
from jomni.eval.full_duplex.user_simulator import Utterance
from jomni.eval.recogniser import normalise


@dataclasses.dataclass(frozen=True)
class TurnResult:
    """One turn of one conversation. Times are seconds since the conversation began, as heard live."""

    item: str
    label: str  # of the conversation
    seed: int
    number: int  # of the turn in its recording
    kind: str
    cell: str
    plain: bool  # its recording has no pauses, back-channels and interruptions
    voice: str
    question: str
    expected: str
    said: str  # the model's own text
    correct: bool | None  # None: the answer was interrupted, so it cannot be judged
    user: Interval  # the question
    until: float  # the user's next piece, or the recording's end
    latency: float | None  # None: no sound
    takes_over: bool  # any sound after the question
    takes_turn: bool  # Full-Duplex-Bench's take-over: a second of speech or more, or more than three words
    speaks_over: bool | None  # while the user asks; None: the question interrupts, so the agent was speaking
    waits: bool | None  # through the pauses inside the question; None: there are none
    pause_takes_turn: bool | None  # Full-Duplex-Bench's take-over in the pause
    interrupted: bool  # the user talked into the answer while the agent was speaking
    stop: float | None  # seconds that it went on when interrupted
    interruption_missed: bool  # an interruption was due, but the agent was silent
    continued: bool | None  # went on through a back-channel; None: there was none while it spoke
    endless: bool  # the user lost patience with an answer that did not end

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


def turns_of(outcome: Outcome) -> list[TurnResult]:
    """Return what is known of each turn of a recording that was talked through."""
    asked = {piece.turn: n for n, piece in enumerate(outcome.utterances) if piece.role == "question"}
    return [
        _turn(outcome, number, asked[number])
        for number in range(len(outcome.item.turns))
        if asked[number] < len(outcome.played)
    ]


def _turn(outcome: Outcome, number: int, index: int) -> TurnResult:
    turn, piece, agent = outcome.item.turns[number], outcome.utterances[index], outcome.sounds
    start = outcome.played[index]
    end = start + (piece.end - piece.start) / outcome.sample_rate
    talks = [n for n in range(index + 1, len(outcome.played)) if outcome.utterances[n].role != "backchannel"]
    until = outcome.played[talks[0]] if talks else outcome.end
    said_from = end if piece.opening else start  # the end of the answer before is not part of this one
    said = outcome.text(said_from, until)
    words = len(normalise(outcome.text(end, until)).split())
    # The user's next word into the answer, where it found the agent speaking.
    cut = talks[0] if talks and _interrupts(outcome.utterances[talks[0]]) else None
    interrupted = cut is not None and cut not in outcome.missed and duplex.speaks_at(agent, until)
    pauses = [(e.start, e.end) for e in turn.events if e.event == "pause"]
    waits, pause_takes_turn = None, None
    if pauses:
        first = start + min(pauses)[0] - turn.start
        waits = duplex.waits(agent, first, end)
        spoken = len(normalise(outcome.text(first, end)).split())
        pause_takes_turn = duplex.takes_turn(agent, first, end, spoken)
    return TurnResult(
        item=outcome.item.name, label=outcome.label, seed=outcome.seed, number=number, kind=turn.kind, cell=turn.cell,
        plain=outcome.item.plain, voice=turn.voice, question=turn.question, expected=turn.answers[0], said=said,
        correct=None if interrupted else turn.accepts(said), user=(start, end), until=until,
        latency=duplex.latency(agent, end, until), takes_over=duplex.takes_over(agent, end, until),
        takes_turn=duplex.takes_turn(agent, end, until, words),
        speaks_over=None if piece.opening else duplex.speaks_over(agent, _speech(turn, start)),
        waits=waits, pause_takes_turn=pause_takes_turn, interrupted=interrupted,
        stop=_stop(outcome, cut) if interrupted and cut is not None else None,
        interruption_missed=cut is not None and not interrupted, continued=_continued(outcome, index, turn),
        endless=outcome.endless,
    )  # fmt: skip


def _stop(outcome: Outcome, index: int) -> float | None:
    piece, start = outcome.utterances[index], outcome.played[index]
    return duplex.stop_time(outcome.sounds, start, start + (piece.end - piece.start) / outcome.sample_rate)


def _interrupts(piece: Utterance) -> bool:
    return piece.role == "interruption" or piece.opening


def _speech(turn: Turn, start: float) -> list[Interval]:
    """When the user speaks in a question that begins at `start`: all of it but its pauses."""
    edges = [turn.start]
    for event in sorted((e for e in turn.events if e.event == "pause"), key=lambda e: e.start):
        edges += [event.start, event.end]
    edges.append(turn.end)
    return [(a - turn.start + start, b - turn.start + start) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _continued(outcome: Outcome, index: int, turn: Turn) -> bool | None:
    """Return whether the agent went on through the back-channels into this answer that found it speaking.

    It did if it sounded on to their end, or said the whole answer: a short one may end while the user says "uh huh".
    """
    later = range(index + 1, len(outcome.played))
    question = next((n for n in later if outcome.utterances[n].role == "question"), None)
    until = outcome.end if question is None else outcome.played[question]
    found = []
    for n in later[: None if question is None else question - index - 1]:
        piece, start = outcome.utterances[n], outcome.played[n]
        if piece.role == "backchannel" and n not in outcome.missed and duplex.speaks_at(outcome.sounds, start):
            length = (piece.end - piece.start) / outcome.sample_rate
            found.append(duplex.continues(outcome.sounds, start, start + length))
    if not found:
        return None
    return all(found) or turn.accepts(outcome.text(outcome.played[index], until))
