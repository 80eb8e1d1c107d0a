"""The progress of a run: steps, loss, rate, time left. On a terminal a bar, elsewhere a line for each log step."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Mapping

from jomni.progress import Progress, on_terminal


class RunProgress:
    """Shows the progress of a run on stderr.

    Args:
      show: shows a bar, from `jomni.progress.stages`.
      name: name of the run.
      first: steps done by earlier runs.
      steps: total number of steps.
      unit: unit of `units_per_step`.
    """

    def __init__(self, show: Progress, name: str, first: int, steps: int, unit: str, units_per_step: float) -> None:
        self._show, self._name, self._steps, self._unit, self._units = show, name, steps, unit, units_per_step
        self._said = "compiling"
        self._last = (first, time.perf_counter())
        self.step(first)

    def step(self, step: int) -> None:
        """Update the bar."""
        self._show(self._name, step, self._steps, "steps", self._said)

    def log(self, step: int, values: Mapping[str, float]) -> float:
        """Show the loss and the rate since the last call. Return the rate in steps per second."""
        before, then = self._last
        self._last = (step, time.perf_counter())
        rate = (step - before) / max(self._last[1] - then, 1e-9)
        self._said = f"loss {values.get('loss', float('nan')):.4f}, {rate * self._units:,.0f} {self._unit}/s"
        if values.get("skipped"):
            self._said += f", {values['skipped']:.0f} steps skipped"
        if on_terminal():
            self.step(step)
        else:
            left = datetime.timedelta(seconds=int((self._steps - step) / rate))
            print(f"step {step}/{self._steps}: {self._said}, {left} left", file=sys.stderr, flush=True)
        return rate
