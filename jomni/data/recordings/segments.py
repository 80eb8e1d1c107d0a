"""Segments of recordings for training codecs and speech encoders: waveforms, and teacher features for each frame.

Axes: B batch, T samples of a segment, N code frames of a segment, F teacher features, P phones.
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
"""Bytes of samples up to which a data set is held in memory by default (1 GiB)."""

QUIET = 10 ** (-50 / 20)
"""Peak amplitude below which a segment counts as silent: -50 dB of full scale."""

TRIES = 4
"""Positions tried before a silent segment is accepted."""


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
    """Return endless batches of random segments of recordings.

    An epoch takes as many segments from a recording as fit into it, at least one, in random order. A segment starts at
    a random sample (with `on_frames`, at a random code frame). A recording shorter than a segment is placed at a random
    position in it and surrounded by zeros.

    Args:
      manifest: manifest of the recordings (see `jomni.data.manifest`).
      sample_rate: Hz. Recordings at another rate are rejected.
      segment_seconds: length of a segment; a whole number of code frames.
      batch: segments in each batch.
      seed: seed of the order, the positions and the gains.
      frame_rate: code frames per second.
      channels: "mono": the recordings have one channel. "left", "right", "both": they have two, and segments come
        from the left, the right, or either of them.
      teacher: None, "phones" (from the JSON beside each recording), or the suffix of feature files beside the
        recordings, such as ".wavlm.npy" (see `jomni.data.recordings.teachers`).
      phones: the phone inventory, silence first, if several data sets share one. None: the phones of this data set.
      teacher_rate: rows per second in feature files.
      lookahead: seconds by which the teacher's windows precede the code frames, which gives a causal encoder audio
        beyond the window that it has to predict.
      gain_db: lowest and highest random gain in dB. A gain that would exceed full scale is reduced to reach it.
      on_frames: start segments only at multiples of a code frame.
      skip_silence: probability of trying another position when a segment is silent (up to `TRIES` times).
      in_memory: hold all samples in memory (16-bit files as int16). None: if they take at most `SMALL` bytes.
      skip_bad: leave out bad recordings, with a warning that lists and counts them, instead of rejecting the manifest.
        Missing features and phones outside `phones` are rejected in either case.
      workers: processes that prepare batches. 0: a thread of this process. The batches do not depend on it.
      prefetch: batches prepared ahead.

    Returns:
      Batches {"pcm": float32 [B, 1, T]} with full scale at 1; with a teacher also {"teacher": float32 [B, N, F]}. For
      "phones", F = 2 P: the time shares of the phones in the first and the second half of each frame.

    Raises:
      ConfigError: an option is out of range, or options contradict each other.
      DataError: recordings or features cannot be used. The message lists them.
    """
    frame = sample_rate / frame_rate
    frames = round(segment_seconds * frame_rate)
    if frame != int(frame) or frames < 1 or abs(segment_seconds * frame_rate - frames) > 1e-6:
        raise ConfigError(
            f"a segment of {segment_seconds:g} s is {segment_seconds * frame_rate:g} frames of {frame:g} samples at "
            f"{frame_rate:g} Hz. Choose a whole number of frames, and frames of a whole number of samples."
        )
    if channels not in _PICKED:
        raise ConfigError(f"channels {channels!r} is not one of {', '.join(_PICKED)}.")
    if teacher is not None and channels == "both":
        raise ConfigError('a teacher labels one channel: choose channels "mono", "left" or "right".')
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
        data=_fingerprint_of(items, _PICKED[channels]),
        workers=workers,
        prefetch=prefetch,
    )


def _fingerprint_of(items: Sequence[Item], channels: Sequence[int]) -> str:
    """Return a fingerprint of the data. It uses file names without folders, so that data can be moved."""
    return fingerprint([(item.path.name, item.num_samples, item.path.stat().st_size) for item in items], channels)


def _places(items: Sequence[Item], channels: Sequence[int], size: int) -> np.ndarray:
    """Return the (item, channel) pairs of an epoch, int [places, 2], each as often as segments fit into the item."""
    times = [max(1, round(item.num_samples / size)) for item in items]
    item = np.repeat(np.arange(len(items)), times)
    return np.stack([np.tile(item, len(channels)), np.repeat(channels, len(item))], axis=1)


@dataclasses.dataclass(frozen=True)
class _Cutter:
    """Draws a random segment of a recording. Called with a row of `_places`."""

    store: _Memory | _Files
    size: int
    sample_rate: int
    frame_rate: float
    teacher: Teacher | None
    gain_db: tuple[float, float] | None
    grid: int  # samples; segments start at multiples of it
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
        """Return the samples [T] from `start` on, with zeros outside the recording."""
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
    """Holds all samples in memory. A worker process that receives a pickled copy reads the files itself."""

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
