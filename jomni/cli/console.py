"""Output of the commands: results on stdout, progress on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import ProgressColumn as Column
from rich.text import Text

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
    """Counts processed seconds of audio and elapsed seconds."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self._advance = advance
        self._begin = time.perf_counter()
        self.audio = 0.0
        self.taken = 0.0

    def done(self, seconds: float) -> None:
        """Add processed seconds of audio."""
        self.audio += seconds
        self.taken = time.perf_counter() - self._begin
        self._advance(seconds)

    def __str__(self) -> str:
        return f"{self.audio:.2f} s of audio in {self.taken:.2f} s (real-time factor {factor(self.taken, self.audio)})"


def factor(taken: float, audio: float) -> str:
    """Return the real-time factor: elapsed time over duration of the audio. Below 1 is faster than real time."""
    return f"{taken / audio:.3g}" if audio > 0 else "unknown"


@contextlib.contextmanager
def meter(what: str, seconds: float) -> Iterator[Meter]:
    """Show a progress bar over `seconds` of audio with its real-time factor; only on a terminal."""
    with _bars(TextColumn("{task.completed:.1f}/{task.total:.1f} s"), _Factor()) as progress:
        task = progress.add_task(what, total=seconds)
        yield Meter(lambda more: progress.update(task, advance=more))


@contextlib.contextmanager
def stages() -> Iterator[Callable[[str, float, float, str], None]]:
    """Show one progress bar per stage of the work; only on a terminal.

    Yields:
      A function (name of the stage, amount done, total amount, unit) that adds or updates a bar.
    """
    with _bars(TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}")) as shown:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: float, total: float, unit: str) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total, unit=unit)
            shown.update(tasks[what], completed=done, total=total)

        yield tell


def _bars(*columns: Column) -> Progress:
    console = Console(stderr=True)
    shown = TextColumn("{task.description}", markup=False), BarColumn(), *columns, TimeRemainingColumn()
    return Progress(*shown, console=console, disable=not console.is_terminal, transient=True)


class _Factor(Column):
    def render(self, task: Task) -> Text:
        return Text(f"real-time factor {factor(task.elapsed or 0, task.completed)}")
