"""Segments of recordings, to train a codec: waveforms, and beside them what its semantic codebook is to learn.

Axis letters: B batch, T samples of a segment, N code frames of it, F features of the teacher.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from jomni.data.manifest import Item, Needs, read_manifest
from jomni.data.pipeline import Batch, endless, fingerprint
from jomni.data.recordings.teachers import Teacher, make_teacher
from jomni.errors import ConfigError

if TYPE_CHECKING:
    import grain

Channels = Literal["mono", "left", "right", "both"]
_PICKED = {"mono": (0,), "left": (0,), "right": (1,), "both": (0, 1)}

SMALL = 1 << 30
"""Bytes of samples up to which a data set is held in memory by default."""

QUIET = 10 ** (-50 / 20)
"""A segment whose loudest sample is below this (-50 dB of full scale) counts as silent."""

TRIES = 4
"""Places that are tried before a silent segment is taken after all."""


def audio_dataset(
    manifest: str | os.PathLike[str],
    *,
    sample_rate: int,
    segment_seconds: float,
    batch: int,
    seed: int,
    frame_rate: float = 12.5,
    channels: Channels = "mono",
    teacher: str | None = None,
    phones: Sequence[str] | None = None,
    teacher_rate: float = 50.0,
    lookahead: float = 0.0,
    gain_db: tuple[float, float] | None = None,
    on_frames: bool = False,
    skip_silence: float = 0.9,
    in_memory: bool | None = None,
    skip_bad: bool = False,
    workers: int = 0,
    prefetch: int = 8,
) -> grain.IterDataset:
    """Endless batches of segments of recordings, each beginning at any sample of its recording, or code frame.

    An epoch takes as many segments of a recording as fit into it (at least one), in random order. What is shorter
    than a segment is placed at random within it, zeros around it.

    Args:
      manifest: of the recordings (see `jomni.data.manifest`).
      sample_rate: Hz; recordings at another rate are refused.
      segment_seconds: length of a segment; a whole number of code frames.
      batch: segments in each batch.
      seed: of order, places and gains.
      frame_rate: code frames a second.
      channels: "mono": the recordings have one channel; "left", "right" or "both": they have two, and segments come
        from the one, the other, or either.
      teacher: None, "phones" (in the json beside each recording), or the ending of files of features beside the
        recordings, such as ".wavlm.npy" (see `jomni.data.recordings.teachers`).
      phones: the phones, silence first, so that several data sets agree; None: those of this one.
      teacher_rate: rows a second in files of features.
      lookahead: seconds by which the teacher's windows lie before the code frames, so that a causal encoder hears
        beyond what it is asked about.
      gain_db: lowest and highest random gain; one that would exceed full scale is lowered to reach it.
      on_frames: let segments begin at whole code frames of their recording only, for a voice that always does.
      skip_silence: probability of trying another place when a segment is silent (up to `TRIES` times).
      in_memory: hold all samples in memory (as 16 bits where the files are); None: if they take at most `SMALL` bytes.
      skip_bad: leave bad recordings out, with a warning that lists and counts them, instead of refusing the manifest;
        features that are missing, and phones that are not among `phones`, are refused all the same.
      workers: processes that prepare batches; 0: a thread of this process. Batches are the same.
      prefetch: batches kept ready.

    Returns:
      Batches {"pcm": float32 [B, 1, T]} with full scale at 1, and with a teacher {"teacher": float32 [B, N, F]}: for
      "phones" F = 2 P, the phones' shares of the first and the second half of each frame.

    Raises:
      ConfigError: options without sense.
      DataError: recordings or features that cannot be used, listed.
    """
    frame = sample_rate / frame_rate
    frames = round(segment_seconds * frame_rate)
    if frame != int(frame) or frames < 1 or abs(segment_seconds * frame_rate - frames) > 1e-6:
        raise ConfigError(
            f"a segment of {segment_seconds:g} s is {segment_seconds * frame_rate:g} frames of {frame:g} samples at "
            f"{frame_rate:g} Hz. Choose a whole number of frames of whole samples."
        )
    if channels not in _PICKED:
        raise ConfigError(f"channels {channels!r} is not one of {', '.join(_PICKED)}.")
    if teacher is not None and channels == "both":
        raise ConfigError('the teacher of a recording knows one voice: choose channels "mono", "left" or "right".')
    needs = Needs(sample_rate, 1 if channels == "mono" else 2, ("phones",) if teacher == "phones" else ())
    report = read_manifest(manifest, needs, skip_bad=skip_bad)
    if report.problems:
        logging.getLogger(__name__).warning("%s: %s\n%s", manifest, report.summary(), report.listing())
    items = report.items
    size = frames * int(frame)
    return endless(
        _places(items, _PICKED[channels], size),
        _Cutter(
            store=_store(items, in_memory),
            size=size,
            sample_rate=sample_rate,
            frame_rate=frame_rate,
            teacher=make_teacher(items, teacher, phones=phones, rate=teacher_rate, lookahead=lookahead)
            if teacher is not None
            else None,
            gain_db=gain_db,
            grid=int(frame) if on_frames else 1,
            skip_silence=skip_silence,
        ),
        batch=batch,
        seed=seed,
        data=_told_by(items, _PICKED[channels]),
        workers=workers,
        prefetch=prefetch,
    )


def _told_by(items: Sequence[Item], channels: Sequence[int]) -> str:
    """Return which data it is. Not by `item.name`: a manifest may name whole paths, and data may be moved."""
    return fingerprint([(item.path.name, item.num_samples, item.path.stat().st_size) for item in items], channels)


def _places(items: Sequence[Item], channels: Sequence[int], size: int) -> np.ndarray:
    """Return an epoch's (item, channel) pairs, each as often as its segments fit in. [places, 2]"""
    times = [max(1, round(item.num_samples / size)) for item in items]
    item = np.repeat(np.arange(len(items)), times)
    return np.stack([np.tile(item, len(channels)), np.repeat(channels, len(item))], axis=1)


@dataclasses.dataclass(frozen=True)
class _Cutter:
    """Draws a segment of a recording. Called with a pair of `_places`."""

    store: _Memory | _Files
    size: int
    sample_rate: int
    frame_rate: float
    teacher: Teacher | None
    gain_db: tuple[float, float] | None
    grid: int  # samples; segments begin at multiples of it
    skip_silence: float

    def __call__(self, place: np.ndarray, rng: np.random.Generator) -> Batch:
        item, channel = map(int, place)
        spare = self.store.num_samples(item) - self.size
        for _ in range(TRIES):
            first, last = -(max(-spare, 0) // self.grid), max(spare, 0) // self.grid
            start = int(rng.integers(first, last + 1)) * self.grid
            pcm = self._cut(item, channel, start)
            peak = float(np.abs(pcm).max())
            if peak >= QUIET or spare <= 0 or rng.random() >= self.skip_silence:
                break
        if self.gain_db is not None:
            gain = 10 ** (rng.uniform(*self.gain_db) / 20)
            pcm = pcm * np.float32(min(gain, max(1 / peak, 1)) if peak > 0 else 1)
        found = {"pcm": pcm[None]}
        if self.teacher is not None:
            frames = round(self.size * self.frame_rate / self.sample_rate)
            found["teacher"] = self.teacher(item, start / self.sample_rate, frames, self.frame_rate)
        return found

    def _cut(self, item: int, channel: int, start: int) -> np.ndarray:
        """Samples [T] from `start` on, zeros where there are none."""
        held = self.store.num_samples(item)
        low, high = max(start, 0), min(start + self.size, held)
        pcm = self.store.read(item, channel, low, high)
        return pcm if len(pcm) == self.size else np.pad(pcm, (low - start, start + self.size - high))


def _store(items: Sequence[Item], in_memory: bool | None) -> _Memory | _Files:
    total = sum(item.num_samples * item.channels * (2 if item.exact_int16 else 4) for item in items)
    if in_memory is None:
        in_memory = total <= SMALL
    return _Memory(tuple(items)) if in_memory else _Files(tuple(items))


class _Files:
    """Reads each segment from its file."""

    def __init__(self, items: tuple[Item, ...]) -> None:
        self._items = items

    def num_samples(self, item: int) -> int:
        return self._items[item].num_samples

    def read(self, item: int, channel: int, low: int, high: int) -> np.ndarray:
        return self._items[item].read(low, high - low)[channel]


class _Memory:
    """Holds all samples. A worker process that gets it reads the files itself, rather than have them sent over."""

    def __init__(self, items: tuple[Item, ...]) -> None:
        self._items = items
        self._pcm = [item.read(dtype="int16" if item.exact_int16 else "float32") for item in items]

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Memory, (self._items,))

    def num_samples(self, item: int) -> int:
        return self._pcm[item].shape[1]

    def read(self, item: int, channel: int, low: int, high: int) -> np.ndarray:
        pcm = self._pcm[item][channel, low:high]
        return pcm * np.float32(2**-15) if pcm.dtype == np.int16 else pcm.copy()
