"""Output of the commands: results on stdout, progress on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from jomni.progress import Progress, stages

if TYPE_CHECKING:
    from jomni.audio import AudioInfo


def say(message: str) -> None:
    """Print one line to stdout. A closed pipe (as in `jomni info M | head -1`) does not stop the work."""
    tell(message + "\n")


def tell(text: str) -> None:
    """Print text without a line break, and flush; otherwise like `say`."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_recording(info: AudioInfo, sample_rate: int) -> None:
    """Print the length of a recording and how it is converted to `sample_rate` Hz."""
    changes = info.conversion(sample_rate)
    say(f"{info.path}: {info.seconds:.2f} s" + (f", {changes}" if changes else ""))


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Show a status line while the block runs; only on a terminal."""
    console = Console(stderr=True)
    with console.status(Text(what)) if console.is_terminal else contextlib.nullcontext():
        yield


class Meter:
    """Counts processed seconds of audio and elapsed seconds, and shows them as the progress of one stage."""

    def __init__(self, progress: Progress, stage: str, seconds: float) -> None:
        self._progress, self._stage, self._seconds = progress, stage, seconds
        self._begin = time.perf_counter()
        self.audio = 0.0
        self.taken = 0.0
        self.done(0.0)

    def done(self, seconds: float) -> None:
        """Add processed seconds of audio."""
        self.audio += seconds
        self.taken = time.perf_counter() - self._begin
        self._progress(self._stage, self.audio, self._seconds, "s", f"(real-time factor {self.factor})")

    @property
    def factor(self) -> str:
        """Real-time factor: elapsed time over duration of the audio. Below 1 is faster than real time."""
        return f"{self.taken / self.audio:.3g}" if self.audio > 0 else "unknown"

    def __str__(self) -> str:
        return f"{self.audio:.2f} s of audio in {self.taken:.2f} s (real-time factor {self.factor})"


@contextlib.contextmanager
def meter(stage: str, seconds: float) -> Iterator[Meter]:
    """Show a progress bar over `seconds` of audio with its real-time factor; only on a terminal."""
    with stages() as progress:
        yield Meter(progress, stage, seconds)
