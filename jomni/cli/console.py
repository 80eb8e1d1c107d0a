"""What the commands print: facts on stdout, progress on stderr."""

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
    """Print one line of facts. Where nobody reads on (as in `jomni info M | head -1`), the work goes on unheard."""
    tell(message + "\n")


def tell(text: str) -> None:
    """Print a piece of text as it is, at once; otherwise as `say`."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_recording(info: AudioInfo, sample_rate: int) -> None:
    """Report how long a recording is, and what reading it at `sample_rate` Hz does to it."""
    changes = info.conversion(sample_rate)
    say(f"{info.path}: {info.seconds:.2f} s" + (f", {changes}" if changes else ""))


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Show what is going on, on a terminal, while it takes its time."""
    console = Console(stderr=True)
    with console.status(Text(what)) if console.is_terminal else contextlib.nullcontext():
        yield


class Meter:
    """Counts seconds of audio against seconds of the clock."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self._advance = advance
        self._begin = time.perf_counter()
        self.audio = 0.0
        self.taken = 0.0

    def done(self, seconds: float) -> None:
        """Note that so many more seconds of audio are done."""
        self.audio += seconds
        self.taken = time.perf_counter() - self._begin
        self._advance(seconds)

    def __str__(self) -> str:
        return f"{self.audio:.2f} s of audio in {self.taken:.2f} s (real-time factor {factor(self.taken, self.audio)})"


def factor(taken: float, audio: float) -> str:
    """Return the real-time factor: time taken over time of audio; below 1 is faster than live."""
    return f"{taken / audio:.3g}" if audio > 0 else "unknown"


@contextlib.contextmanager
def meter(what: str, seconds: float) -> Iterator[Meter]:
    """Show a progress bar over `seconds` of audio with its real-time factor; only on a terminal."""
    with _bars(TextColumn("{task.completed:.1f}/{task.total:.1f} s"), _Factor()) as progress:
        task = progress.add_task(what, total=seconds)
        yield Meter(lambda more: progress.update(task, advance=more))


@contextlib.contextmanager
def stages() -> Iterator[Callable[[str, float, float, str], None]]:
    """Show a progress bar for each piece of work that is told of: its name, how much is done, of how much, the unit;
    only on a terminal."""
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
