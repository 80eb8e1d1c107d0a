"""Shares, means and rates with their 95 % intervals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

Z95 = 1.959963984540054
"""The normal distribution's quantile of a two-sided 95 % interval."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval. `value` and the bounds are NaN where there was nothing to measure."""

    value: float
    low: float
    high: float
    count: int  # what it was measured on: turns, replies, frames

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: None where there is no number."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in dataclasses.asdict(self).items()
        }


NO_DATA = Estimate(math.nan, math.nan, math.nan, 0)


def subsample(things: Sequence[T], count: int | None) -> list[T]:
    """`count` of the things (None: all), always the same ones, in their order."""
    if count is None or count >= len(things):
        return list(things)
    return [things[n] for n in sorted(np.random.default_rng(0).permutation(len(things))[:count])]


def share(hits: Sequence[bool], groups: Sequence[Hashable] | None = None) -> Estimate:
    """A share with Wilson's score interval (Wilson 1927), which keeps its promise near 0 and 1 and for small counts.

    Args:
      hits: of each thing that was counted, whether it is one.
      groups: what each belongs to. Those of a group may be alike (one question with other seeds, say), so the interval
        is that of as many things as would vary as the groups do; where all hit or none, of as many as there are groups.
        None: each stands for itself.

    Raises:
      ValueError: `groups` is not as long as `hits`.
    """
    count = len(hits)
    if groups is not None and len(groups) != count:
        raise ValueError(f"{len(groups)} groups of {count} things")
    if count == 0:
        return NO_DATA
    p, z2 = sum(map(bool, hits)) / count, Z95 * Z95
    n = float(count) if groups is None else _effective(np.asarray(hits, bool), groups)
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At the ends the bound is exact; rounding must not move it past the share itself.
    return Estimate(p, 0.0 if p == 0 else middle - half, 1.0 if p == 1 else middle + half, count)


def _effective(hits: np.ndarray, groups: Sequence[Hashable]) -> float:
    """Return how many independent things would have the variance that the share has when whole groups are drawn."""
    numbers = {group: n for n, group in enumerate(dict.fromkeys(groups))}
    p, found = hits.mean(), np.zeros(len(numbers))
    np.add.at(found, [numbers[group] for group in groups], hits - p)
    k = len(numbers)
    if k == 1 or p in (0, 1):
        return float(k)
    variance = k / (k - 1) * np.square(found).sum() / len(hits) ** 2
    return float(np.clip(p * (1 - p) / max(variance, 1e-12), 1, len(hits)))


def bootstrap(
    rows: Sequence[Any] | np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], draws: int = 1000, seed: int = 0
) -> Estimate:
    """Return a statistic with its percentile bootstrap interval.

    Args:
      rows: one row (a number, or several) for each thing measured; [N] or [N, D].
      statistic: [draws, N] or [draws, N, D] -> [draws]; the axis 1 is what is averaged over.
      draws: resamples.
      seed: of the resampling, so that a report can be made again.
    """
    data = np.asarray(rows, np.float64)
    if not len(data):
        return NO_DATA
    rng = np.random.default_rng(seed)
    # Piece by piece: 1000 resamples of 10,000 rows at once would take hundreds of megabytes.
    size = max(1, 2_000_000 // data.size)
    found = [
        statistic(data[rng.integers(len(data), size=(min(size, draws - first), len(data)))])
        for first in range(0, draws, size)
    ]
    low, high = np.quantile(np.concatenate(found), (0.025, 0.975))
    return Estimate(float(statistic(data[None])[0]), float(low), float(high), len(data))


def mean(values: Sequence[float] | np.ndarray) -> Estimate:
    """Return the mean with a bootstrap interval."""
    return bootstrap(values, lambda x: x.mean(axis=1))


def median(values: Sequence[float] | np.ndarray) -> Estimate:
    """Return the median with a bootstrap interval."""
    return quantile(values, 0.5)


def quantile(values: Sequence[float] | np.ndarray, q: float, groups: Sequence[Hashable] | None = None) -> Estimate:
    """Return a quantile with a bootstrap interval.

    Args:
      values: of the things measured.
      q: which, 0 to 1.
      groups: what each belongs to: whole groups are drawn. None: each stands for itself.
    """
    held: dict[Hashable, list[float]] = {}
    for n, value in enumerate(values):
        held.setdefault(n if groups is None else groups[n], []).append(float(value))
    rows = np.full((len(held), max(map(len, held.values()), default=0)), np.nan)
    for row, some in zip(rows, held.values(), strict=True):
        row[: len(some)] = some
    found = bootstrap(rows, lambda x: np.nanquantile(x.reshape(len(x), -1), q, axis=1))
    return dataclasses.replace(found, count=len(values))


def ratio(errors: Sequence[float], sizes: Sequence[float]) -> Estimate:
    """Return all errors over all sizes, as word error rates are pooled; the bootstrap draws whole utterances."""
    rows = np.stack([np.asarray(errors, np.float64), np.asarray(sizes, np.float64)], axis=-1).reshape(-1, 2)
    if not rows[:, 1].sum():
        return NO_DATA
    return bootstrap(rows, _pooled)


def ratio_difference(errors: Sequence[float], sizes: Sequence[float], others: Sequence[float]) -> Estimate:
    """Return how much larger one pooled rate is than another on the same utterances: a paired bootstrap.

    Args:
      errors: of the first, one for each utterance.
      sizes: words of each utterance, the same for both.
      others: errors of the second.
    """
    return ratio([a - b for a, b in zip(errors, others, strict=True)], sizes)


def _pooled(rows: np.ndarray) -> np.ndarray:
    sums = rows.sum(axis=1)
    return sums[:, 0] / np.maximum(sums[:, 1], 1)
