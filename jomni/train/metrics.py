"""Metrics of a run: a line of metrics.jsonl and TensorBoard events every `log_every` steps."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jomni.errors import JomniError
from jomni.folders import resumable


class MetricsWriter:
    """Appends to metrics.jsonl and to event files. On resume, entries after the checkpoint's step are dropped."""

    def __init__(self, folder: Path, step: int, tensorboard: bool = True) -> None:
        self._path = folder / "metrics.jsonl"
        self._board: Any = None
        with resumable(self._path):
            _truncate(self._path, step)
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115  (closed by `close`)
            if tensorboard:
                from tensorboardX import SummaryWriter

                self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append the line {"step": step, ...}. Values that are not finite are written as null.

        Raises:
          OutputError: the disk is full.
        """
        line = {"step": step} | {k: v if math.isfinite(v) else None for k, v in values.items()}
        with resumable(self._path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            if self._board is not None:
                for name, value in values.items():
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        with resumable(self._path):
            self._file.close()
            if self._board is not None:
                self._board.close()


def _truncate(path: Path, step: int) -> None:
    """Drop lines after `step`, and an incomplete line of a killed run."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError):
            continue
    scratch = path.with_suffix(".tmp")
    scratch.write_text("".join(kept), encoding="utf-8")
    os.replace(scratch, path)


class Window:
    """Collects the metrics of several steps on the device, and fetches them together."""

    def __init__(self) -> None:
        self._steps: list[dict[str, jax.Array]] = []
        self._skips = 0  # consecutive skipped steps

    def add(self, metrics: dict[str, jax.Array]) -> None:
        self._steps.append(metrics)

    def fetch(self, step: int, max_skips: int) -> dict[str, float]:
        """Return the `means` of the steps added since the last call.

        Skipped steps count in "skipped" only, which is their number.

        Raises:
          JomniError: `max_skips` consecutive steps were skipped.
        """
        steps = [{k: float(np.asarray(v)) for k, v in m.items()} for m in jax.device_get(self._steps)]
        self._steps = []
        for metrics in steps:
            self._skips = self._skips + 1 if metrics.get("skipped") else 0
            if self._skips >= max_skips:
                raise JomniError(
                    f"{self._skips} consecutive steps up to step {step} had a loss or gradient that is not finite, and "
                    "were skipped. Check the data, or lower 'optimizer.lr' or 'optimizer.clip', and run the same "
                    "command again: it continues from the last checkpoint, which is from before."
                )
        good = [m for m in steps if not m.get("skipped")]
        found = means(good) if good else dict.fromkeys(steps[0] if steps else (), math.nan)
        if "skipped" in found:
            found["skipped"] = sum(m["skipped"] for m in steps)
        return found


def means(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over batches. NaN values are left out; if all are NaN, the mean is NaN."""
    found = {}
    for name in each[0]:
        known = [float(metrics[name]) for metrics in each if not math.isnan(metrics[name])]
        found[name] = float(np.mean(known)) if known else math.nan
    return found
