"""Synthetic test sets and a rule-based agent for the tests of the evaluation."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import soundfile

RATE, SIZE = 16_000, 1280
FRAME = SIZE / RATE


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    return level * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)


def write_item(
    folder: Path, name: str, turns: list[dict[str, Any]], seconds: float, *, user: Any = (), cell: str = "seen",
    background: float = 0.0, following: tuple[dict[str, Any], float] | None = None,
) -> Path:  # fmt: skip
    """Write an item: the user is noise during questions and the intervals in `user`, the agent is a tone.

    `background` is the level of noise throughout; `following` the item's "next" and how long its audio is.
    """
    both = np.zeros((round(seconds * RATE), 2), np.float32)
    both[:, 1] += noise(seconds, background, 9)[: len(both)] if background else 0
    for turn in turns:
        pause = turn.get("pause") or [turn["user_end"], turn["user_end"]]
        for start, end in ((turn["user_start"], pause[0]), (pause[1], turn["user_end"]), *user):
            first, last = round(start * RATE), round(end * RATE)
            both[first:last, 1] += noise(end - start, 0.1, first)[: last - first]
        if turn.get("agent_start") is not None:
            first, last = (round(turn[key] * RATE) for key in ("agent_start", "agent_end"))
            both[first:last, 0] = 0.2 * np.sin(np.arange(last - first) / 6)
    path = folder / "data" / f"{name}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, both, RATE, subtype="PCM_16")
    about: dict[str, Any] = {"turns": turns, "cell": cell}
    if following is not None:
        about["next"], length = following
        soundfile.write(path.with_suffix(".next.wav"), noise(length, 0.1, 77), RATE, subtype="PCM_16")
    path.with_suffix(".json").write_text(json.dumps(about))
    with (folder / "MANIFEST.jsonl").open("a") as file:
        file.write(json.dumps({"path": f"data/{name}.wav", "duration": seconds}) + "\n")
    return path


def turn(start: float, end: float, agent: tuple[float, float] | None, **more: Any) -> dict[str, Any]:
    begin, stop = agent or (None, None)
    return {
        "kind": "greeting", "question": "who are you", "answer": "i am well", "user_start": start, "user_end": end,
        "agent_start": begin, "agent_end": stop,
    } | more  # fmt: skip


class Steering(NamedTuple):
    reset: Any
    active: Any
    seed: Any
    temperature: Any


@dataclasses.dataclass
class Manners:
    """Behaviour of the agent; times in frames."""

    delay: int = 3  # silent frames of the user after which it answers
    length: int = 12  # frames of an answer
    stops: int | None = 4  # frames of the user's speech that stop it; None: nothing does
    patient: int = 0  # frames of the user's silence, more than `delay`, that it waits for the first answer
    words: tuple[int, ...] = ()  # text tokens of an answer, one a frame


class Agent:
    """Replaces `jomni.Duplex`: detects speech by its level and answers with a tone."""

    frame_size = SIZE
    mimi = SimpleNamespace(config=SimpleNamespace(sample_rate=RATE, frame_rate=RATE / SIZE))
    generator = SimpleNamespace(lm=SimpleNamespace(config=SimpleNamespace(silent_tokens=(3, 0), dep_q=4)))

    def __init__(self, manners: Manners) -> None:
        self.manners = manners
        self.seeds: list[int] = []
        self.calls = 0

    def controls(self, slots: int, **settings: Any) -> Steering:
        zero = np.zeros(slots)
        return Steering(zero, zero, zero, zero + settings.get("temperature", 0.8))

    def init_state(self, slots: int, seed: int = 0, params: Any = None) -> list[dict[str, Any]]:
        return [{} for _ in range(slots)]

    def step(self, params: Any, state: Any, pcm: Any, controls: Steering) -> tuple[Any, Any]:
        self.calls += 1
        voice, text = np.zeros((len(state), 1, SIZE), np.float32), np.full(len(state), 3)
        for b, row in enumerate(state):
            if not controls.active[b]:
                continue
            if controls.reset[b] or not row:
                row.clear()
                row.update(spoken=False, silent=0, loud=0, left=0, at=0)
                self.seeds.append(int(controls.seed[b]))
            voice[b, 0], text[b] = self._frame(row, np.asarray(pcm[b, 0]))
        return state, SimpleNamespace(pcm=voice, text=text, valid=np.asarray(controls.active, bool))

    def _frame(self, row: dict[str, Any], pcm: np.ndarray) -> tuple[np.ndarray, int]:
        manners = self.manners
        if np.square(pcm).mean() > 0.03**2:
            row["loud"], row["silent"], row["spoken"] = row["loud"] + 1, 0, True
            if manners.stops is not None and row["loud"] >= manners.stops:
                row["left"] = 0
        else:
            row["loud"], row["silent"] = 0, row["silent"] + 1
            if row["spoken"] and row["silent"] == manners.delay + manners.patient:
                row["spoken"], row["left"], row["at"] = False, manners.length, 0
        if row["left"] <= 0:
            return np.zeros(SIZE, np.float32), 3
        row["left"] -= 1
        row["at"] += 1
        token = manners.words[row["at"] - 1] if row["at"] <= len(manners.words) else 3
        return (0.2 * np.sin(np.arange(SIZE) / 5)).astype(np.float32), token
