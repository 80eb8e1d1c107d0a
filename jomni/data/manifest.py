"""Manifests of recordings in the layout of moshi-finetune: read completely, and checked file by file.

A manifest has one JSON object per line, {"path": "data/x.wav", "duration": 12.3}. Paths are relative to the manifest.
The file x.json beside x.wav holds the labels of the recording, with times in seconds:

    {"alignments": [["word", [start, end], "SPEAKER_MAIN"], ...]}      a conversation: agent left, user right
    {"phones": [["aa", start, end], ...], "words": [...], ...}         an utterance

Every recording is read once, to its end. Nothing is resampled, mixed or repaired. All problems are collected before
they are reported.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jomni.data.report import Findings, Problem
from jomni.errors import DataError

TOLERANCE = 0.1
"""Tolerance between a labelled time or duration and the recording, in seconds: one frame, plus rounding."""


class Kind(enum.Enum):
    """Kinds of problems of an item."""

    BAD_LINE = "malformed manifest line"
    MISSING_AUDIO = "missing recording"
    UNREADABLE_AUDIO = "unreadable recording"
    WRONG_CHANNELS = "wrong number of channels"
    WRONG_RATE = "wrong sample rate"
    WRONG_DURATION = "wrong duration"
    MISSING_JSON = "missing json"
    BROKEN_JSON = "broken json"
    BAD_TIMES = "impossible times"


@dataclasses.dataclass(frozen=True)
class Needs:
    """Requirements that every item of a manifest must meet."""

    sample_rate: int | None = None  # Hz; None: any
    channels: int | None = None  # None: any
    sidecar: tuple[str, ...] = ()  # lists that the JSON file must hold: "alignments", "phones", "words"


@dataclasses.dataclass(frozen=True)
class Item:
    """One recording of a manifest."""

    name: str  # its path as written in the manifest
    path: Path
    sample_rate: int  # Hz
    channels: int
    num_samples: int  # per channel
    exact_int16: bool  # whether 16 bits hold the file's samples without rounding

    @property
    def seconds(self) -> float:
        """Return the duration in seconds."""
        return self.num_samples / self.sample_rate

    @property
    def sidecar(self) -> Path:
        """Return the path of the JSON file beside the recording."""
        return self.path.with_suffix(".json")

    def read(self, start: int = 0, count: int | None = None, dtype: str = "float32") -> np.ndarray:
        """Read `count` samples from sample `start` on, or all that follow if `count` is None.

        Returns:
          Samples [channels, count] of the given dtype.

        Raises:
          DataError: the file cannot be read or is shorter than its header says, or a sample is not finite.
        """
        import soundfile

        count = self.num_samples - start if count is None else count
        try:
            pcm, _ = soundfile.read(self.path, count, start, dtype=dtype, always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise DataError(f"{self.path}: can no longer be read ({error}).") from error
        if pcm.shape != (count, self.channels):
            raise DataError(
                f"{self.path}: the header promises {start + count} samples, but only {start + len(pcm)} can be read. "
                "Copy the file again, or remove it from the manifest."
            )
        if not np.isfinite(pcm).all():
            raise DataError(f"{self.path}: contains NaN or infinite samples. Export it again.")
        return np.ascontiguousarray(pcm.T)

    def read_sidecar(self) -> dict[str, Any]:
        """Return the content of the JSON file beside the recording, or {} if there is none."""
        return json.loads(self.sidecar.read_text("utf-8")) if self.sidecar.exists() else {}


class Report(Findings[Item]):
    """The result of `check_manifest`."""

    PART, WHOLE, CURE = "item", "manifest", "files"

    @property
    def items(self) -> tuple[Item, ...]:
        """Return the items without a problem, in manifest order."""
        return self.good


def read_manifest(path: str | os.PathLike[str], needs: Needs = Needs(), *, skip_bad: bool = False) -> Report:
    """Read and check a manifest, and reject it if any item has a problem.

    Args:
      path: the manifest.
      needs: requirements for every item.
      skip_bad: leave out items with problems (the report counts them) instead of rejecting the manifest.

    Raises:
      DataError: items have problems (the message counts all and lists up to `SHOWN`), or no item is left.
    """
    return check_manifest(path, needs).accepted(skip_bad)


def check_manifest(path: str | os.PathLike[str], needs: Needs = Needs()) -> Report:
    """Check all items of a manifest, and return the usable ones and all problems.

    Raises:
      DataError: the manifest itself cannot be read.
    """
    path = Path(path)
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: the manifest cannot be read ({error}). Give a file of lines "
            '{"path": "data/x.wav", "duration": 12.3}.'
        ) from error
    items, problems, bad = [], [], 0
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    with ThreadPoolExecutor() as pool:  # threads: reading and decoding release the interpreter lock
        checked = list(pool.map(lambda pair: _check_line(path, pair[0], pair[1], needs), numbered))
    for item, found in checked:
        problems += found
        bad += bool(found)
        if item is not None and not found:
            items.append(item)
    return Report(path, tuple(items), tuple(problems), bad)


def _check_line(manifest: Path, number: int, line: str, needs: Needs) -> tuple[Item | None, list[Problem]]:
    where = f"{manifest}:{number}"
    try:
        entry = json.loads(line)
        name, duration = entry["path"], entry["duration"]
        if not isinstance(name, str) or not name or not _is_number(duration) or not duration > 0:
            raise ValueError(f"path {name!r}, duration {duration!r}")
    except (ValueError, KeyError, TypeError) as error:
        detail = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        return None, [Problem(where, Kind.BAD_LINE, f'{detail}; wanted {{"path": a name, "duration": seconds}}')]
    item, problems = _check_audio(name, manifest.parent / name, needs)
    if item is not None and abs(item.seconds - duration) > TOLERANCE:
        detail = f"the manifest says {duration:g} s, the recording has {item.seconds:.3f} s"
        problems.append(Problem(name, Kind.WRONG_DURATION, detail))
    problems += _check_sidecar(name, (manifest.parent / name).with_suffix(".json"), item, needs.sidecar)
    return item, problems


def _check_audio(name: str, path: Path, needs: Needs) -> tuple[Item | None, list[Problem]]:
    import soundfile

    from jomni import audio
    from jomni.errors import AudioError

    if not path.is_file():
        return None, [Problem(name, Kind.MISSING_AUDIO, f"there is no file {path}")]
    try:
        info = soundfile.info(os.fspath(path))
        frames = audio.inspect(path).num_samples
    except (soundfile.LibsndfileError, OSError, AudioError) as error:
        return None, [Problem(name, Kind.UNREADABLE_AUDIO, str(error).removeprefix(f"{path}: "))]
    exact = info.subtype in ("PCM_16", "PCM_S8", "PCM_U8")
    item = Item(name, path, info.samplerate, info.channels, frames, exact)
    problems = []
    if needs.channels is not None and info.channels != needs.channels:
        channels = {1: "1 channel (mono)", 2: "2 channels (stereo)"}
        wanted, held = (channels.get(n, f"{n} channels") for n in (needs.channels, info.channels))
        problems.append(Problem(name, Kind.WRONG_CHANNELS, f"it has {held}, required: {wanted}"))
    if needs.sample_rate is not None and info.samplerate != needs.sample_rate:
        detail = f"it is at {info.samplerate} Hz, required: {needs.sample_rate} Hz"
        problems.append(Problem(name, Kind.WRONG_RATE, detail))
    return item, problems


def _check_sidecar(name: str, path: Path, item: Item | None, keys: Sequence[str]) -> list[Problem]:
    if not keys:
        return []
    if not path.is_file():
        return [Problem(name, Kind.MISSING_JSON, f"there is no file {path}")]
    shown = os.path.splitext(name)[0] + ".json"
    try:
        content = json.loads(path.read_text("utf-8"))
        lists = {key: times(content, key) for key in keys}
    except (ValueError, OSError) as error:
        return [Problem(shown, Kind.BROKEN_JSON, str(error))]
    problems = []
    for key, entries in lists.items():
        faults = list(_faults(entries, item.seconds if item is not None else math.inf))
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            problems.append(Problem(shown, Kind.BAD_TIMES, f"{key}: {faults[0]}{more}"))
    return problems


def times(content: Any, key: str) -> list[tuple[str, float, float]]:
    """Return the timed entries (text, start, end) of a list in a recording's JSON, with times in seconds.

    Entries of "alignments" have the form [text, [start, end], speaker], those of other lists [text, start, end].

    Raises:
      ValueError: the content is not an object or lacks the list, or an entry has another form.
    """
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    if not isinstance(content.get(key), list):
        raise ValueError(f"it has no list {key!r}")
    found = []
    for index, entry in enumerate(content[key]):
        match entry:
            case [str(text), [start, end], str()] if key == "alignments" and _is_number(start) and _is_number(end):
                found.append((text, float(start), float(end)))
            case [str(text), start, end, *_] if key != "alignments" and _is_number(start) and _is_number(end):
                found.append((text, float(start), float(end)))
            case _:
                form = '["word", [start, end], "speaker"]' if key == "alignments" else '["name", start, end]'
                raise ValueError(f"entry {index} of {key!r} is {json.dumps(entry)[:60]}, expected {form}")
    return found


def _faults(entries: Iterable[tuple[str, float, float]], seconds: float) -> Iterable[str]:
    last = -math.inf
    for index, (text, start, end) in enumerate(entries):
        at = f"{text!r} (number {index}), {start:g} to {end:g} s"
        if not (math.isfinite(start) and math.isfinite(end)):
            yield f"{at}: not finite"
            continue
        if start < 0:
            yield f"{at}: starts before the recording"
        if end < start:
            yield f"{at}: ends before it starts"
        if start < last:
            yield f"{at}: starts before the previous entry, at {last:g} s"
        if end > seconds + TOLERANCE:
            yield f"{at}: ends after the recording, which has {seconds:.3f} s"
        last = start


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
