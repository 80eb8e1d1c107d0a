"""Audio files: inspect, read, mix down and resample recordings, and write 16-bit PCM.

Axes: T samples, C channels. Audio inside jomni is float32 with full scale at 1. All changes are reported:
`AudioInfo.conversion` describes what reading changes, and `AudioWriter.clipped` counts samples beyond full scale.
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
"""Suffixes and formats of the audio files that jomni writes."""


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """Properties of a recording, as returned by `inspect`."""

    path: Path
    sample_rate: int  # Hz, of the file
    channels: int
    num_samples: int  # per channel, at the file's rate
    peak: float  # largest absolute sample; full scale is 1

    @property
    def seconds(self) -> float:
        """Return the duration in seconds."""
        return self.num_samples / self.sample_rate

    def samples_at(self, sample_rate: int) -> int:
        """Return the number of samples that `read` and `blocks` give at `sample_rate` Hz: rounded up, as in librosa."""
        return -(-self.num_samples * sample_rate // self.sample_rate)

    def conversion(self, sample_rate: int) -> str:
        """Return a description of what reading at `sample_rate` Hz changes. Empty if it changes nothing."""
        done = []
        if self.channels > 1:
            done.append(f"{self.channels} channels mixed down to one")
        if self.sample_rate != sample_rate:
            done.append(f"resampled from {self.sample_rate} to {sample_rate} Hz")
        if self.peak > 1:
            done.append(f"louder than full scale (peak {self.peak:.3g}), not clipped")
        return ", ".join(done)


def inspect(path: str | os.PathLike[str]) -> AudioInfo:
    """Read a whole recording once in constant memory, and check it.

    Raises:
      AudioError: the file is missing, empty, not audio or truncated, or it contains no samples, NaN or infinity.
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
                    f"{path}: sample {count + index} (at {at:.3f} s) is {value}, which cannot be played. "
                    "Export the recording again, or replace such samples by 0."
                )
            count += len(chunk)
            peak = max(peak, float(np.abs(chunk).max(initial=0)))
        cut = _cut_short(path, file, count)
        if cut:
            raise AudioError(f"{path}: the file is truncated ({cut}). Copy or download it again.")
        if count == 0:
            raise AudioError(f"{path}: the recording contains no samples. Give one with at least one sample.")
        return AudioInfo(path, file.samplerate, file.channels, count, peak)


def read(path: str | os.PathLike[str], sample_rate: int) -> np.ndarray:
    """Read a whole recording as float32 [T] at `sample_rate` Hz, mixed to one channel.

    Raises:
      AudioError: `inspect` rejects the file.
    """
    info = inspect(path)
    return np.concatenate(list(blocks(info, sample_rate, sample_rate)))


def blocks(info: AudioInfo, sample_rate: int, block: int) -> Iterator[np.ndarray]:
    """Read an inspected recording in blocks, in constant memory.

    Channels are averaged. Resampling is soxr's HQ, so the concatenated blocks equal `librosa.resample` of the whole.

    Args:
      info: from `inspect`.
      sample_rate: rate of the blocks, Hz.
      block: samples in each block.

    Yields:
      float32 [block] at `sample_rate`; the last block may be shorter. In total `info.samples_at(sample_rate)` samples.

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
        # The resampler may round the length down where librosa rounds up and appends a zero.
        yield np.pad(waiting, (0, due - len(waiting)))


def resample(wave: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """Resample [T] or [T, C] from `rate` to `sample_rate` Hz with soxr's HQ. Returns float32."""
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
    """Writes mono audio block by block as 16-bit PCM. A context manager.

    Args:
      path: the file to write.
      sample_rate: Hz.
      name: file name for messages; its suffix selects WAV or FLAC. None: `path`.

    Raises:
      OutputError: the suffix is not in `FORMATS`, or the file cannot be written.
    """

    clipped = 0
    """Number of samples beyond full scale, which were clipped."""

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
        """Append float samples [T], full scale 1.

        Raises:
          AudioError: a sample is NaN or infinite.
          OutputError: the disk is full.
        """
        if not np.isfinite(pcm).all():
            raise AudioError(
                f"{self.name}: the model's audio contains NaN or infinity, so nothing was written. "
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
                f"{self.name}: could not be written completely ({_reason(error)}): the disk is full, or does not "
                "support files of this size. Free some space, or choose another place."
            ) from error

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def write(path: str | os.PathLike[str], pcm: np.ndarray, sample_rate: int) -> int:
    """Write float samples [T] to a 16-bit WAV or FLAC file. Return the number of clipped samples.

    Raises:
      AudioError: a sample is NaN or infinite.
      OutputError: the suffix is not in `FORMATS`, or the file cannot be written.
    """
    with AudioWriter(path, sample_rate) as writer:
        writer.write(pcm)
    return writer.clipped


def check_format(path: Path) -> None:
    """Check that jomni can write audio to a file of this name. Raise `OutputError` if not."""
    if path.suffix.lower() not in FORMATS:
        raise OutputError(f"{path}: audio is written as {' or '.join(FORMATS)}. Give the output such a suffix.")


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
            f"{path}: not an audio file that libsndfile can read, or truncated ({_reason(error)}). "
            "Give WAV, FLAC, OGG, MP3 or similar; ffmpeg converts other formats: ffmpeg -i IN OUT.wav"
        ) from error


def _chunks(path: Path, file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Yield the file's samples, float32 [T, channels], in chunks of about one second."""
    while True:
        try:
            chunk = file.read(max(file.samplerate, 1), dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, OSError) as error:
            raise AudioError(
                f"{path}: the file is truncated or damaged ({_reason(error)}). Copy or download it again."
            ) from error
        if not len(chunk):
            return
        yield chunk


def _reason(error: Exception) -> str:
    """Return the message of libsndfile or the operating system, without the file's name."""
    text = error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
    return str(text).rstrip(".")


# Lines in libsndfile's log for a file that is shorter than its header says. (A wrong "RIFF" size alone is harmless.)
_SIZES = re.compile(r"^ *(?:data|SSND|Data Size|riff|Riff size) *: *(\d+) \(should be (\d+)\)", re.MULTILINE)
_MARKS = ("Seems to be a truncated file", "Last page lacks an end-of-stream bit")
_UNKNOWN_LENGTH = 0x7FFFF000  # lengths from here on mean "unknown": programs that write to a pipe set them


def _cut_short(path: Path, file: soundfile.SoundFile, count: int) -> str:
    """Return why the file seems to be truncated, or "" if it is not. libsndfile reads such files without an error."""
    for declared, actual in _SIZES.findall(file.extra_info):
        if int(actual) < int(declared) < _UNKNOWN_LENGTH:
            return f"its header promises {declared} bytes, but it has {actual}"
    if any(mark in file.extra_info for mark in _MARKS) or (file.format == "OGG" and _last_page_cut(path)):
        return "its end is missing"
    if count < file.frames and not math.isclose(count, file.frames, rel_tol=1e-3):
        # libsndfile estimates the length of an MP3 without a Xing, Info or VBRI header.
        with path.open("rb") as raw:
            head = raw.read(1 << 16)
        if file.format != "MP3" or any(tag in head for tag in (b"Xing", b"Info", b"VBRI")):
            declared = file.frames / file.samplerate
            return f"it promises {declared:.2f} s, but {count / file.samplerate:.2f} s can be read"
    return ""


def _last_page_cut(path: Path) -> bool:
    """Return whether an Ogg file ends within a page (RFC 3533: 27 bytes, a table of lengths, the data)."""
    with path.open("rb") as file:
        file.seek(max(0, os.path.getsize(path) - (1 << 17)))  # a page has at most 65307 bytes
        data = file.read()
    page = data[data.rfind(b"OggS") :]
    return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])
