"""Test sets of conversations: the format of a folder, and reading it with all checks.

    TESTS/MANIFEST.jsonl       a line {"path": "data/x.wav"} for each item; or TESTS/SET/MANIFEST.jsonl for several sets
    TESTS/data/x.wav           stereo: left the reference agent, right the user
    TESTS/data/x.json          {"cell": ..., "turns": [...]}; other fields, such as "alignments", are ignored
    TESTS/sentences.txt        optional: sentences of the agent, one a line, for the recogniser's language model
    TESTS/pronunciations.dict  optional: words that the recogniser's dictionary lacks, in the format of CMU's dictionary

A turn is a question of the user and the answer that the agent should give. Times are seconds in the recording:

    {"kind": "add", "question": "what is three plus four", "answer": "three plus four is seven", "voice": "flite:rms",
     "user_start": 1.2, "user_end": 2.9,           the question, in the right channel
     "agent_start": 3.1, "agent_end": 4.8,         the reference answer, in the left channel; null: there is none
     "pause": [1.9, 2.7],                          a pause inside the question: the agent should wait
     "backchannel": ["uh huh", 4.1, 4.4],          the user says this during the answer: the agent should continue
     "halted_by": ["stop", 4.1, 4.5],              the user says this during the answer: the agent should stop
     "interrupted_at": 4.1}                        the question begins during the previous answer, which should stop

The last four are optional. "cell" names the subset in whose accuracy a turn counts, for example "unseen_voices". It is
a field of the turn, the item or the manifest's line; the default is the name of the folder SET.

What the user says during the answer to the last turn may be a file of its own, x.next.wav (mono, without the
recording's background, which continues below it). The item describes it as

    "next": {"after": 0.7, "word": "uh huh"}                  a back-channel, seconds after the answer's first sound
    "next": {"after": 0.7, "kind": "add", "question": ..., "answer": ...}   a question that interrupts

`jomni.eval.full_duplex.user_simulator` plays the user's utterances to a model when they are due.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from jomni import audio
from jomni.errors import AudioError, JomniError
from jomni.eval.recogniser import normalise

EVENTS = {"pause": "pause", "backchannel": "backchannel", "halted_by": "interruption"}
"""Field of a turn -> name of the event that it describes."""


class ItemError(JomniError):
    """Error: a test set, or an item of it, does not have the required format."""


@dataclasses.dataclass(frozen=True)
class Event:
    """A pause, interruption or back-channel of the user in a turn."""

    event: str  # "pause", "interruption", "backchannel"
    start: float  # seconds in the recording
    end: float


@dataclasses.dataclass(frozen=True)
class Turn:
    """A question and its answer. Times are seconds in the recording."""

    kind: str
    question: str
    answers: tuple[str, ...]  # accepted texts; the first is what the reference says
    cell: str  # name of the subset
    start: float  # of the user's speech
    end: float
    agent: tuple[float, float] | None  # of the reference answer
    voice: str = ""
    events: tuple[Event, ...] = ()
    interrupts: bool = False  # the question begins during the previous answer
    cut: bool = False  # the reference answer was interrupted, so its audio is incomplete

    def accepts(self, text: str) -> bool:
        """Return whether a text has the words of an answer; case and punctuation are ignored."""
        return normalise(text) in map(normalise, self.answers)


@dataclasses.dataclass(frozen=True)
class Item:
    """A recording and its turns, in order."""

    name: str
    path: Path
    turns: tuple[Turn, ...]
    sample_rate: int  # Hz, of the file
    seconds: float
    added: tuple[float, Path] | None = None  # user audio to mix into the recording: its start, s, and its file

    @property
    def plain(self) -> bool:
        """Whether no turn has a pause, a back-channel or an interruption."""
        return not any(turn.events or turn.interrupts for turn in self.turns)

    def read(self, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the channels of the reference agent and the user, float32 [T] each, at `sample_rate` Hz.

        Raises:
          AudioError: the file cannot be read.
        """
        both = _read(self.path, sample_rate)
        if self.added is not None:
            at, path = self.added
            more, first = _read(path, sample_rate)[:, 0], round(at * sample_rate)
            missing = max(first + len(more) - len(both), 0)
            both = np.pad(both, ((0, missing), (0, 0)))
            both[first : first + len(more), 1] += more
        return np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])


def _read(path: Path, sample_rate: int) -> np.ndarray:
    try:
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: cannot be read ({error}). Make the test set again.") from error
    return audio.resample(wave, rate, sample_rate)


def load_test_set(folder: str | Path) -> list[Item]:
    """Read and check a test set. Of the audio only the headers are read.

    Raises:
      ItemError: the folder or its manifest is missing, or items do not have the format above; one message names all
        of them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ItemError(f"{folder}: there is no such folder. Give the folder of a test set.")
    sets = sorted(path.parent for path in [*folder.glob("MANIFEST.jsonl"), *folder.glob("*/MANIFEST.jsonl")])
    if not sets:
        raise ItemError(f"{folder}: holds no MANIFEST.jsonl. Give the folder of a test set.")
    items, problems = [], []
    for place in sets:
        prefix = "" if place == folder else f"{place.name}/"
        cell = "" if place == folder else place.name
        for number, line in enumerate(_text_of(place / "MANIFEST.jsonl").splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = _json(line)
                path = _text(row, "path")
                items.append(load_item(place / path, prefix + path, str(row.get("cell") or cell)))
            except (ItemError, AudioError) as error:
                problems.append(f"{place / 'MANIFEST.jsonl'}, line {number}: {error}")
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ItemError(f"{folder}: {len(problems)} items cannot be used. {'; '.join(problems[:5])}{more}")
    if not items:
        raise ItemError(f"{folder}: its manifest lists no items. Make the test set again.")
    return items


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ItemError(f"{path}: cannot be read as text in UTF-8 ({error})") from None


def load_item(path: Path, name: str, cell: str = "") -> Item:
    """Read and check one item.

    Args:
      path: the recording; x.json lies beside it.
      name: of the item in reports.
      cell: the subset of turns that name none.

    Raises:
      ItemError: the item does not have the format above.
      AudioError: the recording is not a stereo audio file.
    """
    beside = path.with_suffix(".json")
    if not path.is_file() or not beside.is_file():
        raise ItemError(f"{path if not path.is_file() else beside}: there is no such file")
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: not an audio file ({error})") from error
    if info.channels != 2:
        raise AudioError(f"{path}: must be stereo (agent left, user right), but has {info.channels} channels")
    seconds, text = info.frames / info.samplerate, _text_of(beside)
    try:
        held = _json(text)
        rows = held.get("turns")
        if not isinstance(rows, list) or not rows:
            raise ItemError("has no 'turns'")
        turns = tuple(_turn(row, {"cell": cell} | held, seconds) for row in rows)
        for before, after in itertools.pairwise(turns):
            if after.start < before.end:
                raise ItemError(f"its turns overlap: {after.question!r} begins before {before.question!r} has ended")
        added = None
        if held.get("next") is not None:
            turns, added = _next(held["next"], turns, path.with_suffix(".next.wav"))
    except ItemError as error:
        raise ItemError(f"{beside}: {error}") from None
    return Item(name, path, turns, info.samplerate, seconds, added)


def _next(row: Any, turns: tuple[Turn, ...], path: Path) -> tuple[tuple[Turn, ...], tuple[float, Path]]:
    """Return the turns with the user's utterance during the last answer added, and that utterance's start and file."""
    after, last = row.get("after") if isinstance(row, dict) else None, turns[-1]
    if not isinstance(after, (int, float)) or isinstance(after, bool) or after < 0 or last.agent is None:
        raise ItemError("'next' needs a number 'after', and a reference answer to come after")
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: not an audio file ({error})") from error
    start = last.agent[0] + float(after)
    end = start + info.frames / info.samplerate
    if row.get("question") is None:
        spoken = dataclasses.replace(last, events=(*last.events, Event("backchannel", start, end)))
        return (*turns[:-1], spoken), (start, path)
    times = {"user_start": start, "user_end": end, "interrupted_at": start}
    return (*turns, _turn(row | times, {"cell": last.cell, "voice": last.voice}, end)), (start, path)


def _turn(row: Any, item: Mapping[str, Any], seconds: float) -> Turn:
    if not isinstance(row, dict):
        raise ItemError(f"a turn must be an object, but one is {row!r}")
    question = _text(row, "question")
    answers = row.get("answers") or [row.get("answer")]
    if not isinstance(answers, list) or not all(isinstance(a, str) and normalise(a) for a in answers):
        raise ItemError(f"the turn {question!r} has no 'answer'")
    start, end = _times(row, question, "user_start", "user_end", seconds)
    agent = None
    if row.get("agent_start") is not None:
        agent = _times(row, question, "agent_start", "agent_end", seconds)
    events = tuple(
        _event(row[field], name, question, seconds) for field, name in EVENTS.items() if row.get(field) is not None
    )
    return Turn(
        str(row.get("kind") or "unknown"), question, tuple(answers), str(row.get("cell") or item.get("cell") or ""),
        start, end, agent, str(row.get("voice") or item.get("voice") or ""), events,
        row.get("interrupted_at") is not None, row.get("cut") is not None,
    )  # fmt: skip


def _event(row: Any, name: str, question: str, seconds: float) -> Event:
    times = row[-2:] if isinstance(row, list) and len(row) >= 2 else (None, None)
    return Event(name, *_times({"start": times[0], "end": times[1]}, f"{question} ({name})", "start", "end", seconds))


def _times(row: Mapping[str, Any], question: str, first: str, last: str, seconds: float) -> tuple[float, float]:
    start, end = row.get(first), row.get(last)
    if not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (start, end)):
        raise ItemError(f"the turn {question!r} needs numbers {first!r} and {last!r}")
    assert start is not None and end is not None
    if not 0 <= start < end <= seconds + 0.01:
        raise ItemError(
            f"the turn {question!r}: {first} {start:g} and {last} {end:g} are no interval within its {seconds:.2f} s"
        )
    return float(start), float(end)


def _text(row: Any, name: str) -> str:
    value = row.get(name) if isinstance(row, dict) else None
    if not isinstance(value, str) or not value.strip():
        raise ItemError(f"{name!r} is missing or not a text in {json.dumps(row)[:80]}")
    return value


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ItemError(f"not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ItemError(f"must hold an object, but holds {value!r:.60}")
    return value


def answers(items: Sequence[Item]) -> list[str]:
    """Return all answers of a test set, for the recogniser's language model."""
    return [text for item in items for turn in item.turns for text in turn.answers]
