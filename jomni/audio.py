"""Recordings in and out: read, checked, mixed down, resampled; written as 16-bit PCM.

Axis letters: T samples. Audio inside jomni is float32 with full scale at 1. Nothing is changed silently:
`AudioInfo.conversion` says what reading does to a recording, `AudioWriter.clipped` how many samples were too loud.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile
import soxr

from jomni.errors import AudioError, OutputError

FORMATS = {".wav": "WAV", ".flac": "FLAC"}
"""Endings of the audio files that jomni writes."""


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """What `inspect` found out about a recording."""

    path: Path
    sample_rate: int  # Hz, of the file
    channels: int
    num_samples: int  # per channel, at the file's rate
    peak: float  # largest absolute sample; full scale is 1

    @property
    def seconds(self) -> float:
        """Duration, seconds."""
        return self.num_samples / self.sample_rate

    def samples_at(self, sample_rate: int) -> int:
        """Samples that `read` and `blocks` give at `sample_rate` Hz (rounded up, as librosa does)."""
        return -(-self.num_samples * sample_rate // self.sample_rate)

    def conversion(self, sample_rate: int) -> str:
        """Return what reading at `sample_rate` Hz does to the recording, in words; empty where it is taken as it is."""
        done = []
        if self.channels > 1:
            done.append(f"{self.channels} channels mixed down to one")
        if self.sample_rate != sample_rate:
            done.append(f"resampled from {self.sample_rate} to {sample_rate} Hz")
        if self.peak > 1:
            done.append(f"louder than full scale (peak {self.peak:.3g}), left so")
        return ", ".join(done)


def inspect(path: str | os.PathLike[str]) -> AudioInfo:
    """Read a whole recording once, in constant memory, and makes sure that it is sound.

    Raises:
      AudioError: a file that is missing, empty, no audio or cut short, or that holds no samples, NaN or infinity.
    """
    path = Path(path)
    with _open(path) as file:
        count, peak = 0, 0.0
        for chunk in _chunks(path, file):
            if not np.isfinite(chunk).all():
                index = int(np.argmin(np.isfinite(chunk).all(axis=1)))
                value = chunk[index][~np.isfinite(chunk[index])][0]
                at = (count + index) / file.samplerate
                raise AudioError(
                    f"{path}: sample {count + index} (at {at:.3f} s) is {value}, not a number that can be played. "
                    "Export the recording again, or replace such samples by 0."
                )
            count += len(chunk)
            peak = max(peak, float(np.abs(chunk).max(initial=0)))
        cut = _cut_short(path, file, count)
        if cut:
            raise AudioError(f"{path}: the file is cut short ({cut}). Copy or download it again.")
        if count == 0:
            raise AudioError(f"{path}: the recording holds no samples. Give one with at least one sample of audio.")
        return AudioInfo(path, file.samplerate, file.channels, count, peak)


def read(path: str | os.PathLike[str], sample_rate: int) -> np.ndarray:
    """Read a recording whole: mixed down to one channel, at `sample_rate` Hz, float32 [T].

    Raises:
      AudioError: as `inspect`, which goes first.
    """
    info = inspect(path)
    return np.concatenate(list(blocks(info, sample_rate, sample_rate)))


def blocks(info: AudioInfo, sample_rate: int, block: int) -> Iterator[np.ndarray]:
    """Read an inspected recording piece by piece, in constant memory.

    Channels are averaged. Resampling is soxr's HQ, so the pieces joined equal `librosa.resample` of the whole.

    Args:
      info: from `inspect`.
      sample_rate: of the pieces, Hz.
      block: samples in each piece.

    Yields:
      float32 [block] at `sample_rate`, the last one shorter; `info.samples_at(sample_rate)` samples in all.

    Raises:
      AudioError: the file has changed since it was inspected.
    """
    due = info.samples_at(sample_rate)
    waiting = np.zeros(0, np.float32)
    for piece in _resampled(info, sample_rate):
        waiting = np.concatenate([waiting, piece])[:due]
        while len(waiting) >= block:
            yield waiting[:block]
            waiting, due = waiting[block:], due - block
    if due > 0:
        # The resampler may round the length down where librosa rounds up: the last sample is then 0, as there.
        yield np.pad(waiting, (0, due - len(waiting)))


def resample(wave: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """Samples [T] or [T, C] at `rate` Hz, at `sample_rate` Hz: float32, by soxr's HQ."""
    wave = np.asarray(wave, np.float32)
    return soxr.resample(wave, rate, sample_rate, quality="HQ") if rate != sample_rate and len(wave) else wave


def _resampled(info: AudioInfo, sample_rate: int) -> Iterator[np.ndarray]:
    stream = None
    if info.sample_rate != sample_rate:
        stream = soxr.ResampleStream(info.sample_rate, sample_rate, 1, dtype="float32", quality="HQ")
    with _open(info.path) as file:
        if (file.samplerate, file.channels) != (info.sample_rate, info.channels):
            raise AudioError(f"{info.path}: the file changed while it was being read. Try again when it is complete.")
        count = 0
        for chunk in _chunks(info.path, file):
            mono = chunk[:, 0] if info.channels == 1 else chunk.mean(axis=1)
            count += len(chunk)
            yield mono if stream is None else stream.resample_chunk(np.ascontiguousarray(mono))
        if count != info.num_samples:
            raise AudioError(f"{info.path}: the file changed while it was being read. Try again when it is complete.")
        if stream is not None:
            yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


class AudioWriter:
    """Writes mono audio piece by piece as 16-bit PCM (a context manager).

    Args:
      path: the file written.
      sample_rate: Hz.
      name: the file that the user knows this as; its ending chooses WAV or FLAC (default: `path`).

    Raises:
      OutputError: an ending other than those of `FORMATS`, or a file that cannot be written.
    """

    clipped = 0
    """Samples outside full scale that were limited to it."""

    def __init__(self, path: str | os.PathLike[str], sample_rate: int, name: str | os.PathLike[str] | None = None):
        self.name = Path(path if name is None else name)
        self.num_samples = 0
        check_format(self.name)
        try:
            self._file = soundfile.SoundFile(
                os.fspath(path), "w", sample_rate, 1, subtype="PCM_16", format=FORMATS[self.name.suffix.lower()]
            )
        except (soundfile.LibsndfileError, OSError) as error:
            raise OutputError(f"{self.name}: cannot be written ({_reason(error)}). Choose another place.") from error

    def write(self, pcm: np.ndarray) -> None:
        """Appends float samples [T], full scale 1.

        Raises:
          AudioError: NaN or infinity among them.
          OutputError: the disk took no more.
        """
        if not np.isfinite(pcm).all():
            raise AudioError(
                f"{self.name}: the model's audio holds NaN or infinity, so nothing was written. "
                "Try --dtype float32; if that does not help, the weights are damaged."
            )
        scaled = np.rint(np.asarray(pcm, np.float64) * 32768)
        self.clipped += int(((scaled < -32768) | (scaled > 32767)).sum())
        self.num_samples += len(scaled)
        if self.num_samples * 2 > 2**32 - 2**16:
            raise OutputError(f"{self.name}: longer than an audio file can be (4 GB). Split the input.")
        try:
            self._file.write(np.clip(scaled, -32768, 32767).astype(np.int16))
        except (soundfile.LibsndfileError, OSError) as error:
            raise OutputError(
                f"{self.name}: could not be written to its end ({_reason(error)}): the disk is full, or takes no file "
                "so large. Free some space, or choose another place."
            ) from error

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def write(path: str | os.PathLike[str], pcm: np.ndarray, sample_rate: int) -> int:
    """Write float samples [T] as a 16-bit WAV or FLAC file; return the number of samples limited to full scale.

    Raises:
      AudioError: NaN or infinity among the samples.
      OutputError: an ending other than those of `FORMATS`, or a file that cannot be written.
    """
    with AudioWriter(path, sample_rate) as writer:
        writer.write(pcm)
    return writer.clipped


def check_format(path: Path) -> None:
    """Raise `OutputError` unless jomni can write audio under such a name."""
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"{path}: audio is written as {' or '.join(FORMATS)}. Give the output such an ending.")


def _open(path: Path) -> soundfile.SoundFile:
    if not os.path.exists(path):
        raise AudioError(f"{path}: there is no such file. Check the name.")
    if os.path.isdir(path):
        raise AudioError(f"{path}: this is a folder. Give one audio file.")
    if not os.path.isfile(path):
        raise AudioError(f"{path}: this is a pipe or a device. Give a regular file.")
    try:
        if path.stat().st_size == 0:
            raise AudioError(f"{path}: the file is empty (0 bytes). Copy or record it again.")
        return soundfile.SoundFile(os.fspath(path))
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(
            f"{path}: not an audio file that libsndfile can read, or cut short ({_reason(error)}). "
            "Give WAV, FLAC, OGG, MP3 or the like; ffmpeg converts other formats: ffmpeg -i IN OUT.wav"
        ) from error


def _chunks(path: Path, file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Return the file's samples, float32 [T, channels], about a second at a time whatever the rate."""
    while True:
        try:
            chunk = file.read(max(file.samplerate, 1), dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise AudioError(
                f"{path}: the file is cut short or damaged ({_reason(error)}). Copy or download it again."
            ) from error
        if not len(chunk):
            return
        yield chunk


def _reason(error: Exception) -> str:
    """Return what libsndfile or the operating system says, without the file's name."""
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return str(text).rstrip(".")


# How libsndfile's log says that a file is shorter than its header. (A wrong "RIFF" size alone costs no audio.)
_SIZES = re.compile(r"^ *(?:data|SSND|Data Size|riff|Riff size) *: *(\d+) \(should be (\d+)\)", re.MULTILINE)
_MARKS = ("Seems to be a truncated file", "Last page lacks an end-of-stream bit")
_UNKNOWN_LENGTH = 0x7FFFF000  # and more: what programs that write to a pipe put for a length they do not know


def _cut_short(path: Path, file: soundfile.SoundFile, count: int) -> str:
    """Why the file seems to end early, empty where it does not: libsndfile reads such files without complaint."""
    for declared, actual in _SIZES.findall(file.extra_info):
        if int(actual) < int(declared) < _UNKNOWN_LENGTH:
            return f"its header promises {declared} bytes, {actual} are there"
    if any(mark in file.extra_info for mark in _MARKS) or (file.format == "OGG" and _last_page_cut(path)):
        return "its end is missing"
    if count < file.frames and not math.isclose(count, file.frames, rel_tol=1e-3):
        # An MP3 without a Xing, Info or VBRI header does not know its length: libsndfile estimates it.
        with path.open("rb") as raw:
            head = raw.read(1 << 16)
        if file.format != "MP3" or any(tag in head for tag in (b"Xing", b"Info", b"VBRI")):
            declared = file.frames / file.samplerate
            return f"it promises {declared:.2f} s, {count / file.samplerate:.2f} s can be read"
    return ""


def _last_page_cut(path: Path) -> bool:
    """Return whether an Ogg file ends within a page (RFC 3533: 27 bytes, a table of lengths, the data)."""
    with path.open("rb") as file:
        file.seek(max(0, os.path.getsize(path) - (1 << 17)))  # a page has at most 65307 bytes
        data = file.read()
    page = data[data.rfind(b"OggS") :]
    return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
