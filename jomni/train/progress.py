"""The progress line of a run: steps, loss, rate, time left. On a terminal a bar, elsewhere a line for each log step."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """Shows how far a run is, on stderr."""

    def __init__(self, name: str, first: int, steps: int, unit: str, units_per_step: float) -> None:
        self._steps, self._unit, self._units = steps, unit, units_per_step
        console = Console(stderr=True)
        self._terminal = console.is_terminal
        columns = (
            TextColumn("{task.description}", markup=False), BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[said]}", markup=False), TimeRemainingColumn(),
        )  # fmt: skip
        self._bar = Bar(*columns, console=console, disable=not self._terminal, transient=True)
        self._task = self._bar.add_task(name, total=steps, completed=first, said="compiling")
        self._last = (first, time.perf_counter())

    def step(self, step: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=step)

    def log(self, step: int, values: Mapping[str, float]) -> float:
        """Show the loss and the rate since the last time; return steps per second."""
        before, then = self._last
        self._last = (step, time.perf_counter())
        rate = (step - before) / max(self._last[1] - then, 1e-9)
        said = f"loss {values.get('loss', float('nan')):.4f}, {rate * self._units:,.0f} {self._unit}/s"
        if values.get("skipped"):
            said += f", {values['skipped']:.0f} steps skipped"
        self._bar.update(self._task, said=said)
        if not self._terminal:
            left = _duration((self._steps - step) / rate)
            print(f"step {step}/{self._steps}: {said}, {left} left", file=sys.stderr, flush=True)
        return rate

    def __enter__(self) -> Progress:
        self._bar.start()
        self._last = (self._last[0], time.perf_counter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
