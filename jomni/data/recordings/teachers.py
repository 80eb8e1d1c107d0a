"""Targets for the distillation of the semantic codebook: teacher features for each code frame of a segment.

Axes: N code frames, F features of a frame, W windows, M time spans or rows of features, P phones.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float

from jomni.data.manifest import Item, times
from jomni.data.report import listed
from jomni.errors import DataError

SILENCE = "pau"
"""Phone of moments without another phone. The names in `SILENT` are mapped to it."""

SILENT = frozenset({SILENCE, "", "sil", "SIL", "sp", "_", "_:", "#", "h#", "silence"})

HALVES = 2
"""Windows per code frame of the phone teacher: 40 ms each at 12.5 Hz, shorter than most phones."""


class Teacher(Protocol):
    """Features of the recordings of a data set."""

    @property
    def size(self) -> int:
        """Return F, the number of features of a code frame."""
        ...

    def __call__(self, item: int, start: float, frames: int, frame_rate: float) -> Float[np.ndarray, "N F"]:
        """Return the features of `frames` code frames from `start` seconds on, as float32."""
        ...


def phone_inventory(items: Iterable[Item]) -> tuple[str, ...]:
    """Return the phones that the items use: silence first, then the others in alphabetical order."""
    names = {name for item in items for name, _, _ in times(item.read_sidecar(), "phones")}
    return (SILENCE, *sorted(names - SILENT))


@dataclasses.dataclass(frozen=True)
class PhoneTeacher:
    """Time share of each phone in each half of each code frame. F = 2 P; each group of P sums to 1."""

    phones: tuple[str, ...]
    spans: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]  # per item: starts and ends (s), phone indices
    lookahead: float  # seconds by which the windows precede the frames

    @classmethod
    def of(cls, items: Sequence[Item], phones: Sequence[str] | None = None, lookahead: float = 0.0) -> PhoneTeacher:
        """Read the phones of the items.

        Args:
          items: recordings with the list "phones" in their JSON.
          phones: the inventory, silence first. None: the phones of the items.
          lookahead: seconds by which the windows precede the frames.

        Raises:
          DataError: an item has a phone outside the inventory, the inventory does not start with silence, or a name
            occurs twice in it.
        """
        phones = phone_inventory(items) if phones is None else tuple(phones)
        if not phones or phones[0] != SILENCE or len(set(phones)) != len(phones):
            raise DataError(f"the phones must be distinct names with {SILENCE!r} first, but they are {phones}.")
        number = {name: index for index, name in enumerate(phones)} | dict.fromkeys(SILENT, 0)
        spans = []
        said = [times(item.read_sidecar(), "phones") for item in items]
        unknown = [(i, sorted({name for name, _, _ in e} - set(number))) for i, e in zip(items, said, strict=True)]
        if problems := [f"{item.sidecar}: {', '.join(names)}" for item, names in unknown if names]:
            raise DataError(
                f"{len(problems)} recordings have phones that are not in the given inventory:\n{listed(problems)}\n"
                "Give the inventory of all data sets, or leave it out."
            )
        for entries in said:
            starts, ends = (np.array([entry[i] for entry in entries], np.float64) for i in (1, 2))
            spans.append((starts, ends, np.array([number[entry[0]] for entry in entries], np.int64)))
        return cls(phones, tuple(spans), lookahead)

    @property
    def size(self) -> int:
        return HALVES * len(self.phones)

    def __call__(self, item: int, start: float, frames: int, frame_rate: float) -> Float[np.ndarray, "N F"]:
        starts, ends, numbers = self.spans[item]
        windows = HALVES * frames
        width = 1 / (HALVES * frame_rate)
        begins = start - self.lookahead + width * np.arange(windows)
        shares = overlaps(starts, ends, begins, width) / width
        # The phones of an utterance do not overlap. If they did, the shares of a window would still sum to 1.
        held = np.zeros((windows, len(self.phones)))
        np.add.at(held.T, numbers, shares.T)
        total = held.sum(1, keepdims=True)
        held /= np.maximum(total, 1)
        held[:, 0] += np.maximum(1 - total[:, 0], 0)
        return held.reshape(frames, -1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class FeatureTeacher:
    """Features stored beside the recordings, such as WavLM's: the mean of the rows within each code frame.

    For x.wav and the suffix ".wavlm.npy", x.wavlm.npy holds an array [M, F] with one row every 1 / `rate` seconds.
    Frames outside the recording take the nearest row.
    """

    paths: tuple[Path, ...]
    rate: float  # rows per second
    lookahead: float
    size: int

    @classmethod
    def of(cls, items: Sequence[Item], suffix: str, rate: float, lookahead: float = 0.0) -> FeatureTeacher:
        """Find the feature files of the items, and check their shapes.

        Raises:
          DataError: a file is missing, is not a float array [M, F], has another F than the files before it, or its
            length differs from the recording's by more than two rows.
        """
        paths, size, problems = [], 0, []
        for item in items:
            path = item.path.with_name(item.path.stem + suffix)
            paths.append(path)
            try:
                held = np.load(path, mmap_mode="r", allow_pickle=False)
                if held.ndim != 2 or held.dtype.kind != "f" or 0 in held.shape:
                    raise ValueError(f"it holds {held.dtype} {list(held.shape)}, expected floats [rows, features]")
                if size and held.shape[1] != size:
                    raise ValueError(f"it has {held.shape[1]} features, the files before it have {size}")
                if abs(held.shape[0] - item.seconds * rate) > 2:
                    raise ValueError(f"it has {held.shape[0]} rows, at {rate:g} Hz it should have "
                                     f"{item.seconds * rate:.0f}")  # fmt: skip
                size = held.shape[1]
            except (OSError, ValueError) as error:
                problems.append(f"{path}: {error}")
        if problems:
            raise DataError(f"the teacher's features of {len(problems)} recordings cannot be used:\n{listed(problems)}")
        return cls(tuple(paths), rate, lookahead, size)

    def __call__(self, item: int, start: float, frames: int, frame_rate: float) -> Float[np.ndarray, "N F"]:
        held = np.load(self.paths[item], mmap_mode="r")
        begins = start - self.lookahead + np.arange(frames) / frame_rate
        centres = begins + 0.5 / frame_rate
        first = int(np.clip(begins[0] * self.rate, 0, len(held) - 1))
        last = int(np.clip(np.ceil((begins[-1] + 1 / frame_rate) * self.rate), first + 1, len(held)))
        rows = np.asarray(held[first:last], np.float32)
        at = (first + np.arange(len(rows))) / self.rate
        shares = overlaps(at, at + 1 / self.rate, begins, 1 / frame_rate)
        outside = shares.sum(1) <= 0
        nearest = np.clip((centres[outside] * self.rate).astype(int) - first, 0, len(rows) - 1)
        shares[outside, nearest] = 1
        return (shares / shares.sum(1, keepdims=True)).astype(np.float32) @ rows


def overlaps(
    starts: Float[np.ndarray, "M"], ends: Float[np.ndarray, "M"], begins: Float[np.ndarray, "W"], width: float
) -> Float[np.ndarray, "W M"]:
    """Return the overlap [W, M] of each span with each window, in the unit of the arguments.

    Windows start at `begins` and are `width` long.
    """
    inside = np.minimum(ends, begins[:, None] + width) - np.maximum(starts, begins[:, None])
    return np.maximum(inside, 0)


def make_teacher(
    items: Sequence[Item], teacher: str, *, phones: Sequence[str] | None, rate: float, lookahead: float
) -> Teacher:
    """Return the teacher with this name: "phones", or the suffix of feature files, such as ".wavlm.npy".

    Raises:
      DataError: there is no such teacher, or the labels or features of the items cannot be used.
    """
    if teacher == "phones":
        return PhoneTeacher.of(items, phones, lookahead)
    if not teacher.endswith(".npy") or os.sep in teacher:
        raise DataError(f'there is no teacher {teacher!r}. Give "phones", or a file suffix such as ".wavlm.npy".')
    return FeatureTeacher.of(items, teacher, rate, lookahead)
