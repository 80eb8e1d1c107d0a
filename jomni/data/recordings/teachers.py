"""What the semantic codebook is distilled from: for each code frame of a segment, features of the same moments.

Axis letters: N code frames, F features of one of them, W windows, M spans of time, P phones.
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
"""The phone of moments that no other phone fills; `SILENT` names mean it too."""

SILENT = frozenset({SILENCE, "", "sil", "SIL", "sp", "_", "_:", "#", "h#", "silence"})

HALVES = 2
"""Windows in each code frame of the phone teacher: 40 ms each at 12.5 Hz, half of most phones."""


class Teacher(Protocol):
    """Features of the items of a data set."""

    @property
    def size(self) -> int:
        """F, features of one code frame."""
        ...

    def __call__(self, item: int, start: float, frames: int, frame_rate: float) -> Float[np.ndarray, "N F"]:
        """Return the features of `frames` code frames from `start` seconds on, float32."""
        ...


def phone_inventory(items: Iterable[Item]) -> tuple[str, ...]:
    """Return the phones that items use: silence first, then the others by name."""
    names = {name for item in items for name, _, _ in times(item.read_sidecar(), "phones")}
    return (SILENCE, *sorted(names - SILENT))


@dataclasses.dataclass(frozen=True)
class PhoneTeacher:
    """The share of time that each phone has in each half of each code frame: F = 2 P, each P of which sum to 1."""

    phones: tuple[str, ...]
    spans: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]  # of each item: starts, ends (s), phones' numbers
    lookahead: float  # seconds by which the windows lie before the frames, which so hear beyond them

    @classmethod
    def of(cls, items: Sequence[Item], phones: Sequence[str] | None = None, lookahead: float = 0.0) -> PhoneTeacher:
        """Read the phones of items.

        Args:
          items: with the list "phones" in their json.
          phones: the inventory, silence first; None: that of the items.
          lookahead: seconds by which the windows lie before the frames, which so hear beyond them.

        Raises:
          DataError: an item has a phone that is not in the inventory, or the inventory does not begin with silence.
        """
        phones = phone_inventory(items) if phones is None else tuple(phones)
        if not phones or phones[0] != SILENCE or len(set(phones)) != len(phones):
            raise DataError(f"the phones must be different names, {SILENCE!r} first, but they are {phones}.")
        number = {name: index for index, name in enumerate(phones)} | dict.fromkeys(SILENT, 0)
        spans = []
        said = [times(item.read_sidecar(), "phones") for item in items]
        unknown = [(i, sorted({name for name, _, _ in e} - set(number))) for i, e in zip(items, said, strict=True)]
        if problems := [f"{item.sidecar}: {', '.join(names)}" for item, names in unknown if names]:
            raise DataError(
                f"phones that are not among those given are in {len(problems)} recordings:\n{listed(problems)}\n"
                "Give the inventory of all the data, or none."
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
        # Phones of one utterance do not overlap; were they to, a window's shares would still sum to 1.
        held = np.zeros((windows, len(self.phones)))
        np.add.at(held.T, numbers, shares.T)
        total = held.sum(1, keepdims=True)
        held /= np.maximum(total, 1)
        held[:, 0] += np.maximum(1 - total[:, 0], 0)
        return held.reshape(frames, -1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class FeatureTeacher:
    """Features kept beside the recordings, such as WavLM's: the mean of those within each code frame.

    For x.wav and the suffix ".wavlm.npy" they are the array [M, F] of x.wavlm.npy, one row every 1 / `rate` seconds.
    Frames outside the recording take its nearest row.
    """

    paths: tuple[Path, ...]
    rate: float  # rows a second
    lookahead: float
    size: int

    @classmethod
    def of(cls, items: Sequence[Item], suffix: str, rate: float, lookahead: float = 0.0) -> FeatureTeacher:
        """Find the features of items.

        Raises:
          DataError: a file is missing, no array [M, F] of floats, of another F, or of another length than its item.
        """
        paths, size, problems = [], 0, []
        for item in items:
            path = item.path.with_name(item.path.stem + suffix)
            paths.append(path)
            try:
                held = np.load(path, mmap_mode="r", allow_pickle=False)
                if held.ndim != 2 or held.dtype.kind != "f" or 0 in held.shape:
                    raise ValueError(f"it holds {held.dtype} {list(held.shape)}, wanted floats [rows, features]")
                if size and held.shape[1] != size:
                    raise ValueError(f"it has {held.shape[1]} features, files before it {size}")
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
    """Return how long each span lies within each window of `width`, in the unit of all of them."""
    inside = np.minimum(ends, begins[:, None] + width) - np.maximum(starts, begins[:, None])
    return np.maximum(inside, 0)


def make_teacher(
    items: Sequence[Item], teacher: str, *, phones: Sequence[str] | None, rate: float, lookahead: float
) -> Teacher:
    """Return the teacher by its name: "phones", or the ending of files of features, such as ".wavlm.npy"."""
    if teacher == "phones":
        return PhoneTeacher.of(items, phones, lookahead)
    if not teacher.endswith(".npy") or os.sep in teacher:
        raise DataError(
            f'there is no teacher {teacher!r}. Give "phones", or the ending of files, such as ".wavlm.npy".'
        )
    return FeatureTeacher.of(items, teacher, rate, lookahead)
