"""Test sets. The user's channel is the input of the model under test; the agent's channel is the reference answer.

`contents-C_voices-V`, with C and V `seen` or `unseen`: single questions, and some of two turns. `pauses`: a pause of
0.8 s inside the question. `interruptions`, `backchannels`: the user's next utterance is a file of its own, x.next.wav,
to be added to the user's channel `next.after` seconds after the agent's first sound. The evaluation composes long
conversations of the single questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from . import kinds, room, world
from .agent import agent_says
from .conversation import LONG_ANSWER, Stage, pause_marks, say_question
from .corpus import Item, Maker
from .kinds import Turn
from .speak import plain, speak
from .utterances import babble_pool
from .voices import Manner, Voice, draw_manner, draw_voice

Rng = np.random.Generator
LEAD, TAIL, GAP = 1.5, 8.0, 0.22
"""Seconds of silence before a question, after it, and before the reference answer."""
_BETWEEN = 1.2

CELLS = {
    (False, False): "seen",
    (True, False): "unseen_contents",
    (False, True): "unseen_voices",
    (True, True): "unseen_both",
}
"""(unseen content, unseen voice) -> the subset's name in reports of `jomni eval talk`."""


def draw_turn(rng: Rng, unseen: bool) -> Turn:
    """Return a random turn.

    Trained contents have the frequencies of training; held-out ones are of the kinds that combine, equally often.
    """
    kind = kinds.COMBINING[int(rng.integers(len(kinds.COMBINING)))] if unseen else kinds.draw_kind(rng)
    return kinds.draw(rng, kind, unseen)


def draw_long_turn(rng: Rng) -> Turn:
    """Return a random turn whose answer has at least five words."""
    while True:
        turn = draw_turn(rng, unseen=False)
        if len(plain(turn.answer)) >= 5:
            return turn


def _user(rng: Rng, unseen: bool) -> tuple[Voice, Manner]:
    voice = draw_voice(rng, "heldout" if unseen else "train")
    return voice, draw_manner(rng, voice)


def _stage(rng: Rng, unseen_voice: bool) -> Stage:
    stage = Stage(*_user(rng, unseen_voice), user_db=-25.0 + float(rng.uniform(-6, 3)))
    stage.now = LEAD
    return stage


def _ask(stage: Stage, turn: Turn, pause: tuple[int, float, bool] | None = None) -> float:
    """Add a question at the current time; return its end."""
    question = say_question(turn.question, stage.voice, stage.manner, pause)
    begin = stage.now
    stage.ask(turn, question, begin, GAP)
    return begin + question.duration


def questions(
    rng: Rng, count: int, unseen_content: bool, unseen_voice: bool, two_turns: int
) -> Iterator[tuple[np.ndarray, Item]]:
    """Yield single questions; the last `two_turns` have a follow-up after the reference answer."""
    babble = babble_pool()
    for i in range(count):
        stage = _stage(rng, unseen_voice)
        follow = None
        while follow is None:
            turn = draw_turn(rng, unseen_content)
            if i < count - two_turns:
                break
            name = str(turn.result[1]) if turn.kind == "greeting" and turn.result else None
            follow = kinds.draw_follow_up(rng, turn, name, unseen_content)
        end = _ask(stage, turn)
        if follow is not None:
            stage.now += _BETWEEN
            end = _ask(stage, follow)
        pcm, item = stage.finished(rng, end + TAIL, babble)
        yield pcm, item | {"cell": CELLS[unseen_content, unseen_voice]}


def pauses(rng: Rng, count: int, seconds: float) -> Iterator[tuple[np.ndarray, Item]]:
    """Yield questions with trained contents and a pause where they are incomplete; voices alternate between splits."""
    babble = babble_pool()
    for i in range(count):
        stage, turn = _stage(rng, bool(i % 2)), draw_turn(rng, unseen=False)
        while not pause_marks(turn.question):
            turn = draw_turn(rng, unseen=False)
        pause = int(rng.integers(pause_marks(turn.question))), seconds, bool(rng.random() < 0.6)
        end = _ask(stage, turn, pause)
        yield stage.finished(rng, end + TAIL, babble)


def during_answers(rng: Rng, count: int, backchannel: bool) -> Iterator[tuple[np.ndarray, Item]]:
    """Yield questions with a long answer, and the user's utterance during it: a new question or a back-channel."""
    babble = babble_pool()
    made = 0
    while made < count:
        stage, turn = _stage(rng, bool(made % 2)), draw_long_turn(rng)
        length = agent_says(turn.answer).duration
        if backchannel:
            word = world.BACKCHANNELS[int(rng.integers(len(world.BACKCHANNELS)))]
            said = speak(f"{word}.", stage.voice, stage.manner)
            about: Item = {"word": word}
            latest = length - said.duration - 0.2
        else:
            following = draw_turn(rng, unseen=False)
            halt = world.HALTS[int(rng.integers(2))] + ", " if rng.random() < 0.5 else ""
            said = speak(halt + following.question, stage.voice, stage.manner)
            about = {"kind": following.kind, "question": " ".join(plain(halt + following.question)),
                     "answer": " ".join(plain(following.answer))}  # fmt: skip
            latest = length - 0.8
        if length < LONG_ANSWER or latest < 0.3:
            continue
        about |= {"after": round(float(rng.uniform(0.3, latest)), 3), "duration": said.duration}
        end = _ask(stage, turn)
        pcm, item = stage.finished(rng, end + TAIL + 4, babble)
        item["next"] = about
        item["files"] = {".next.wav": room.to_int16(room.level(said.pcm, stage.user_db))}
        made += 1
        yield pcm, item


def all_sets(scale: float = 1.0) -> dict[str, tuple[Maker, int, dict[str, Any]]]:
    """Return name -> (maker, number of items, options). The numbers are multiplied by `scale`."""
    sets: dict[str, tuple[Maker, int, dict[str, Any]]] = {}
    singles, doubles = max(round(320 * scale), 1), max(round(60 * scale), 1)
    for content in ("unseen", "seen"):
        for voice in ("seen", "unseen"):
            options = {"unseen_content": content == "unseen", "unseen_voice": voice == "unseen", "two_turns": doubles}
            sets[f"contents-{content}_voices-{voice}"] = questions, singles + doubles, options
    sets["pauses"] = pauses, max(round(220 * scale), 1), {"seconds": 0.8}
    sets["interruptions"] = during_answers, max(round(220 * scale), 1), {"backchannel": False}
    sets["backchannels"] = during_answers, max(round(120 * scale), 1), {"backchannel": True}
    return sets
