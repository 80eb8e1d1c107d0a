"""Conversations on two channels: planned as text, then spoken.

A plan is a random sequence of questions and events; `perform` synthesises it. So the split can be checked over
thousands of conversations in seconds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from . import kinds, room, world
from .agent import agent_says
from .kinds import Turn
from .speak import Speech, agent_level, plain, speak
from .utterances import babble_pool
from .voices import GRID, RATE, Manner, Voice, draw_manner, draw_voice

Rng = np.random.Generator

GAP = (0.14, 0.22)
"""Least and largest time from the user's last sound to the agent's answer, seconds, before rounding up to GRID."""
REACTION = (0.35, 0.6)
"""Seconds from the start of an interruption to the end of the agent's speech."""
FADE = 0.02
LONG_ANSWER = 1.2
"""Seconds; shorter answers have no interruptions and back-channels."""
_SILENCES, _SILENCE_SHARES = ((0.3, 1.5), (1.5, 3.5), (3.5, 6.0)), (0.75, 0.18, 0.07)
"""Ranges of the silence before a question, seconds, and their probabilities. Most are short, to keep silence rare."""
_PAUSES, _INTERRUPTIONS, _BACKCHANNELS, _HALTS = 0.3, 0.28, 0.12, 0.15


@dataclasses.dataclass(frozen=True)
class Step:
    """The user's next action.

    Args:
      turn: the question; None: the user says only `halt`, and the agent does not answer.
      silence: seconds since the end of the last speech.
      gap: seconds until the agent answers.
      halt: "", "wait" or "stop", said before the question.
      pause: (number of the `|` in the question, seconds, whether the halves are two phrases); None: no pause.
      interrupts: position in the interruptible part of the last answer, 0 to 1; None: after the answer.
      reaction: seconds until an interrupted agent stops.
      backchannel: (word, position in the answer, 0 to 1), said during the answer to this turn; None: none.
    """

    turn: Turn | None
    silence: float
    gap: float
    halt: str = ""
    pause: tuple[int, float, bool] | None = None
    interrupts: float | None = None
    reaction: float = 0.45
    backchannel: tuple[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """Plan of a conversation.

    Args:
      voice, manner: of the user.
      lead: seconds of silence at the start.
      length: seconds after which no further step begins.
      steps: more steps than fit.
    """

    voice: Voice
    manner: Manner
    lead: float
    length: float
    steps: tuple[Step, ...]


def pause_marks(question: str) -> int:
    """Return the number of places in a question where the speaker may pause."""
    return question.split().count("|")


def plan(rng: Rng, voice_split: str = "train", unseen: bool = False, more: Mapping[str, float] | None = None,
         far: float = 0.0) -> Plan:  # fmt: skip
    """Return a random plan of a conversation.

    Args:
      rng: of the draws.
      voice_split: `train` or `heldout`.
      unseen: use held-out contents (only kinds that combine) instead of trained ones.
      more: kind -> factor of its frequency, for trained contents.
      far: fraction of counts, for trained contents, that go beyond those of the test sets.
    """
    voice = draw_voice(rng, voice_split)
    length = float(rng.uniform(20, 56))
    lead = float(rng.uniform(0, 3) if rng.random() < 0.5 else rng.uniform(0.2, 0.8))
    if rng.random() < 0.04:
        lead = float(rng.uniform(8, 12))
    steps: list[Step] = []
    last: Turn | None = None
    name: str | None = None
    since_name, spoken = 99.0, 0.0
    for _ in range(24):
        interrupts = last is not None and len(plain(last.answer)) >= 4 and rng.random() < _INTERRUPTIONS
        if interrupts and rng.random() < _HALTS:
            steps.append(
                Step(None, 0.0, 0.0, _one(rng, world.HALTS), None, float(rng.random()), _between(rng, REACTION))
            )
            last, since_name = None, since_name + 3
            continue
        silence = float(rng.uniform(*_SILENCES[int(rng.choice(3, p=_SILENCE_SHARES))]))
        if steps and steps[-1].turn is None:
            silence = max(silence, 1.2)
        follows = None if interrupts or last is None or silence > 3.5 or rng.random() > 0.4 else last
        turn = None
        if follows is not None:
            known = name if since_name + silence < 8 else None
            turn = kinds.draw_follow_up(rng, follows, known, unseen)
            if turn is not None and turn.kind == "answer again" and rng.random() < 0.7:  # it fits after every turn
                turn = None
        if turn is None:
            kind = kinds.COMBINING[int(rng.integers(len(kinds.COMBINING)))] if unseen else kinds.draw_kind(rng, more)
            if kind == "count" and far and not unseen and rng.random() < far:
                kind = "far count"
            turn = kinds.draw(rng, kind, unseen)
        marks = pause_marks(turn.question)
        pause = None
        if marks and rng.random() < _PAUSES:
            pause = int(rng.integers(marks)), float(rng.uniform(0.5, 1.2)), bool(rng.random() < 0.6)
        halt = _one(rng, world.HALTS) if interrupts and rng.random() < 0.5 else ""
        accompanied = len(plain(turn.answer)) >= 4 and rng.random() < _BACKCHANNELS
        steps.append(
            Step(turn, silence, _between(rng, GAP), halt, pause, float(rng.random()) if interrupts else None,
                 _between(rng, REACTION), (_one(rng, world.BACKCHANNELS), float(rng.random())) if accompanied else None)
        )  # fmt: skip
        last = turn
        spoken = silence + (len(plain(turn.question)) + len(plain(turn.answer))) * 0.4 + (pause[1] if pause else 0)
        since_name += spoken
        if turn.kind == "greeting" and turn.result is not None:
            name, since_name = str(turn.result[1]), 0.0
    return Plan(voice, draw_manner(rng, voice), lead, length, tuple(steps))


def _one(rng: Rng, items: tuple[str, ...]) -> str:
    return items[int(rng.integers(len(items)))]


def _between(rng: Rng, bounds: tuple[float, float]) -> float:
    return float(rng.uniform(*bounds))


@dataclasses.dataclass(frozen=True)
class Question:
    """A spoken question: samples, words, and the pause inside it (start, end), if any."""

    pcm: np.ndarray
    words: tuple[tuple[str, float, float], ...]
    pause: tuple[float, float] | None

    @property
    def duration(self) -> float:
        return len(self.pcm) / RATE


def say_question(text: str, voice: Voice, manner: Manner, pause: tuple[int, float, bool] | None) -> Question:
    """Synthesise a question with a pause at one of its `|`, either as two phrases or cut between words."""
    if pause is None:
        speech = speak(text, voice, manner)
        return Question(speech.pcm, speech.words, None)
    index, seconds, phrases = pause
    tokens = text.split()
    at = [i for i, t in enumerate(tokens) if t == "|"][index]
    left = " ".join(t for t in tokens[:at] if t != "|")
    right = " ".join(t for t in tokens[at:] if t != "|")
    if phrases:
        first = speak(left.rstrip(",.?:") + ",", voice, manner)
        second = speak(right, voice, manner)
        one, other, before, after = first.pcm, second.pcm, first.words, second.words
    else:
        whole, count = speak(text, voice, manner), len(plain(left))
        end, begin = whole.words[count - 1][2], whole.words[count][1]
        cut = round((end if begin - end > 0.04 else (begin + end) / 2) * RATE)
        one, other = (
            _faded(whole.pcm[:cut], 0.01),
            whole.pcm[round(begin * RATE) if begin - end > 0.04 else cut :].copy(),
        )
        ramp = min(len(other), RATE // 200)
        other[:ramp] *= np.linspace(0, 1, ramp, dtype=np.float32)
        before = tuple((w, s, min(e, cut / RATE)) for w, s, e in whole.words[:count])
        offset = (len(whole.pcm) - len(other)) / RATE
        after = tuple((w, max(s - offset, 0.0), e - offset) for w, s, e in whole.words[count:])
    silence = np.zeros(round(seconds * RATE), np.float32)
    start, end = len(one) / RATE, (len(one) + len(silence)) / RATE
    words = (*before, *((w, s + end, e + end) for w, s, e in after))
    return Question(np.concatenate((one, silence, other)), words, (start, end))


def _faded(pcm: np.ndarray, seconds: float) -> np.ndarray:
    """Return the samples with a fade-out at the end."""
    pcm, ramp = pcm.copy(), min(len(pcm), round(seconds * RATE))
    pcm[len(pcm) - ramp :] *= np.linspace(1, 0, ramp, dtype=np.float32)
    return pcm


def cut_answer(speech: Speech, seconds: float) -> Speech:
    """Return an answer cut after some seconds, with a fade-out of 20 ms. Words heard by more than half are kept."""
    if seconds >= speech.duration:
        return speech
    words = tuple((w, s, min(e, seconds)) for w, s, e in speech.words if seconds - s > (e - s) / 2)
    phones = tuple((p, s, min(e, seconds)) for p, s, e in speech.phones if s < seconds)
    return Speech(_faded(speech.pcm[: round(seconds * RATE)], FADE), words, phones)


class Stage:
    """Builder of the two channels: the agent's, with digital silence between answers, and the user's, without a room.

    Args:
      voice, manner: of the user.
      user_db: level of the user's speech, dB below full scale.
    """

    def __init__(self, voice: Voice, manner: Manner, user_db: float) -> None:
        self.voice, self.manner, self.user_db = voice, manner, user_db
        self.agent: list[tuple[float, np.ndarray]] = []
        self.user: list[tuple[float, np.ndarray]] = []
        self.words: list[tuple[str, tuple[float, float], str]] = []
        self.turns: list[dict[str, Any]] = []
        self.now = 0.0
        self.answer: tuple[float, Speech] | None = None
        """Start and speech of the last answer, which is not on the channel yet because it may be cut."""

    def user_says(self, at: float, question: Question | Speech) -> tuple[float, float]:
        """Add the user's speech at a time; return its start and end."""
        at = round(at * RATE) / RATE
        self.user.append((at, room.level(question.pcm, self.user_db)))
        self.words += [(w, (round(at + s, 3), round(at + e, 3)), "SPEAKER_USER") for w, s, e in question.words]
        return at, at + question.duration

    def finish_answer(self, cut: float | None = None) -> None:
        """Add the last answer to the agent's channel, whole or cut at a time."""
        if self.answer is None:
            return
        at, speech = self.answer
        turn = self.turns[-1]
        if cut is not None and cut < at + speech.duration:
            whole, speech = speech, cut_answer(speech, cut - at)
            turn["cut"] = round(cut, 3)
            unsaid = (round(cut, 3), round(cut + 0.01, 3))
            self.words += [(w, unsaid, "SPEAKER_MAIN_UNSAID") for w, _, _ in whole.words[len(speech.words) :]]
        self.agent.append((at, agent_level(speech.pcm)))
        self.words += [(w, (round(at + s, 3), round(at + e, 3)), "SPEAKER_MAIN") for w, s, e in speech.words]
        turn["said"] = " ".join(w for w, _, _ in speech.words)
        turn["agent_end"] = round(at + speech.duration, 3)
        self.now, self.answer = max(self.now, at + speech.duration), None

    def ask(self, turn: Turn, question: Question, at: float, gap: float, **events: Any) -> None:
        """Add a question, and prepare the agent's answer at `gap` seconds after its end."""
        begin, end = self.user_says(at, question)
        answer = agent_says(turn.answer)
        start = math.ceil(max(end + gap, events.pop("not_before", 0.0)) / GRID) * GRID
        self.finish_answer()
        self.answer = start, answer
        self.turns.append({
            "kind": turn.kind, "question": " ".join(plain(turn.question)), "answer": " ".join(plain(turn.answer)),
            "content": turn.content, "unseen": turn.unseen, "voice": self.voice.id, "user_start": round(begin, 3),
            "user_end": round(end, 3), "agent_start": round(start, 3), "agent_end": round(start + answer.duration, 3),
            "pause": None if question.pause is None else [round(begin + t, 3) for t in question.pause], **events,
        })  # fmt: skip
        self.now = start + answer.duration

    def perform(self, step: Step) -> None:
        """Carry out one step of a plan."""
        cut, at = None, self.now + step.silence
        if step.interrupts is not None and self.answer is not None:
            start, speech = self.answer
            latest = speech.duration - step.reaction - 0.25
            if speech.duration > LONG_ANSWER and latest > 0.2:
                at = start + 0.2 + step.interrupts * (latest - 0.2)
                cut = at + step.reaction
        if step.turn is None and cut is None:
            return
        self.finish_answer(cut)
        events: dict[str, Any] = {"interrupted_at": round(at, 3), "not_before": cut + 0.1} if cut is not None else {}
        if step.turn is None:
            begin, end = self.user_says(at, speak(f"{step.halt}.", self.voice, self.manner))
            self.turns[-1]["halted_by"] = [step.halt, round(begin, 3), round(end, 3)]
            self.now = max(end, self.now)
            return
        text = f"{step.halt}, {step.turn.question}" if step.halt and cut is not None else step.turn.question
        self.ask(step.turn, say_question(text, self.voice, self.manner, step.pause), at, step.gap, **events)
        if step.backchannel is not None:
            self.accompany(*step.backchannel)

    def accompany(self, word: str, share: float) -> None:
        """Add a back-channel during the answer, if the answer is long enough."""
        if self.answer is None:
            return
        start, answer = self.answer
        speech = speak(f"{word}.", self.voice, self.manner)
        latest = answer.duration - speech.duration - 0.1
        if answer.duration <= LONG_ANSWER or latest < 0.3:
            return
        begin, end = self.user_says(start + 0.3 + share * (latest - 0.3), speech)
        self.turns[-1]["backchannel"] = [word, round(begin, 3), round(end, 3)]

    def channels(self, length: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the channels of agent and user, float32 [n] each."""
        self.finish_answer()
        sides = []
        for pieces in (self.agent, self.user):
            side = np.zeros(round(length * RATE), np.float32)
            for at, pcm in pieces:
                begin = round(at * RATE)
                side[begin : begin + len(pcm)] += pcm[: len(side) - begin]
            sides.append(side)
        return sides[0], sides[1]

    def finished(self, rng: Rng, length: float, babble: np.ndarray | None,
                 clean: bool = False) -> tuple[np.ndarray, dict[str, Any]]:  # fmt: skip
        """Return the recording, int16 [n, 2] (agent left, user right), and its json.

        Reverberation, noise and echo are added to the user's channel.
        """
        agent, user = self.channels(length)
        if not clean:
            if rng.random() < 0.4:
                user = room.reverberate(rng, user)
            if rng.random() < 0.1:
                user = user + np.roll(agent, round(0.02 * RATE)) * np.float32(10 ** (-rng.uniform(35, 45) / 20))
            if rng.random() < 0.6:
                user = room.add_noise(rng, user, self.user_db, babble)
        self.words.sort(key=lambda w: w[1][0])
        about = {"alignments": [[w, list(t), s] for w, t, s in self.words], "turns": self.turns, "voice": self.voice.id}
        return np.stack((room.to_int16(agent), room.to_int16(user)), 1), about


def perform(rng: Rng, planned: Plan, babble: np.ndarray | None) -> tuple[np.ndarray, dict[str, Any]]:
    """Synthesise a plan: return the recording, int16 [n, 2], and its json."""
    stage = Stage(planned.voice, planned.manner, -25.0 + float(rng.uniform(-6, 3)))
    stage.now = planned.lead
    for step in planned.steps:
        if stage.now + step.silence > planned.length - 2 and stage.turns:
            break
        stage.perform(step)
    if rng.random() < 0.03:
        stage.now += float(rng.uniform(8, 12))
    return stage.finished(rng, stage.now + float(rng.uniform(0.5, 2.0)), babble)


def conversations(
    rng: Rng, count: int, more: Mapping[str, float] | None = None, far: float = 0.0
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Yield training conversations (int16 [n, 2], json); `more` and `far` as in `plan`."""
    babble = babble_pool()
    for _ in range(count):
        yield perform(rng, plan(rng, more=more, far=far), babble)
