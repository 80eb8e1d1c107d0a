"""Results of the turns of a recording, derived from its outcome."""

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
    """Result of one turn. Times are seconds since the conversation began, as a live listener hears it."""

    item: str
    label: str  # of the conversation
    seed: int
    number: int  # of the turn in its recording
    kind: str
    cell: str
    plain: bool  # the recording has no pauses, back-channels and interruptions
    voice: str
    question: str
    expected: str
    said: str  # the model's text
    correct: bool | None  # None: the answer was interrupted
    user: Interval  # the question
    until: float  # start of the user's next utterance, or the recording's end
    latency: float | None  # seconds; None: no sound
    takes_over: bool  # any sound after the question
    takes_turn: bool  # Full-Duplex-Bench's take-over: at least a second of speech, or more than three words
    speaks_over: bool | None  # speaks during the question; None: the question is an interruption
    waits: bool | None  # is silent during the pauses inside the question; None: there are none
    pause_takes_turn: bool | None  # Full-Duplex-Bench's take-over in a pause
    interrupted: bool  # the user talked into the answer while the agent was speaking
    stop: float | None  # seconds from the interruption to the end of the agent's speech
    interruption_missed: bool  # the agent was silent when the interruption was due
    continued: bool | None  # continues through back-channels; None: there was none while it spoke
    endless: bool  # the user continued although an answer of the recording had not ended

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


def turns_of(outcome: Outcome) -> list[TurnResult]:
    """Return the results of the turns of a recording whose questions were played."""
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
    said_from = end if piece.opening else start  # an interrupted answer's last words are not part of this answer
    said = outcome.text(said_from, until)
    words = len(normalise(outcome.text(end, until)).split())
    # The user's next utterance, if it interrupts the answer.
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
    """Return when the user speaks in a question that begins at `start`: the question without its pauses."""
    edges = [turn.start]
    for event in sorted((e for e in turn.events if e.event == "pause"), key=lambda e: e.start):
        edges += [event.start, event.end]
    edges.append(turn.end)
    return [(a - turn.start + start, b - turn.start + start) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _continued(outcome: Outcome, index: int, turn: Turn) -> bool | None:
    """Return whether the agent continued through the back-channels during this answer; None if there was none.

    It continued if it spoke until their end, or completed the answer: a short answer may end during the back-channel.
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
