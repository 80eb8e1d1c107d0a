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
    """A figure with its 95 % interval; value and bounds are NaN without data."""

    value: float
    low: float
    high: float
    count: int  # number of things measured: turns, replies, frames

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with None for NaN."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in dataclasses.asdict(self).items()
        }


NO_DATA = Estimate(math.nan, math.nan, math.nan, 0)


def subsample(things: Sequence[T], count: int | None) -> list[T]:
    """Return `count` of the things (None: all) in their order. Repeated calls return the same ones."""
    if count is None or count >= len(things):
        return list(things)
    return [things[n] for n in sorted(np.random.default_rng(0).permutation(len(things))[:count])]


def share(hits: Sequence[bool], groups: Sequence[Hashable] | None = None) -> Estimate:
    """Return a share with Wilson's score interval (Wilson 1927), which is accurate near 0 and 1 and for small counts.

    Args:
      hits: whether each thing is a hit.
      groups: the group of each thing; None: all are independent. Things of one group may be correlated (one question
        with different seeds, for example), so the interval is that of the effective number of independent things: the
        number for which the share would have the variance between groups, or the number of groups if all or none hit.

    Raises:
      ValueError: `groups` is not as long as `hits`.
    """
    count = len(hits)
    if groups is not None and len(groups) != count:
        raise ValueError(f"{len(groups)} groups for {count} things: give one group for each")
    if count == 0:
        return NO_DATA
    p, z2 = sum(map(bool, hits)) / count, Z95 * Z95
    n = float(count) if groups is None else _effective(np.asarray(hits, bool), groups)
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # Exact at 0 and 1, where rounding could move the bound past the share.
    return Estimate(p, 0.0 if p == 0 else middle - half, 1.0 if p == 1 else middle + half, count)


def _effective(hits: np.ndarray, groups: Sequence[Hashable]) -> float:
    """Return the number of independent things for which the share has the variance between groups."""
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
      rows: one or more numbers for each thing measured, [N] or [N, D].
      statistic: [draws, N] or [draws, N, D] -> [draws]; it reduces axis 1.
      draws: number of resamples.
      seed: of the resampling.
    """
    data = np.asarray(rows, np.float64)
    if not len(data):
        return NO_DATA
    rng = np.random.default_rng(seed)
    # In parts, because 1000 resamples of 10,000 rows at once would take hundreds of megabytes.
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
      q: the quantile, 0 to 1.
      groups: the group of each thing; the bootstrap draws whole groups. None: all are independent.
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
    """Return the sum of errors over the sum of sizes (a pooled word error rate); the bootstrap draws utterances."""
    rows = np.stack([np.asarray(errors, np.float64), np.asarray(sizes, np.float64)], axis=-1).reshape(-1, 2)
    if not rows[:, 1].sum():
        return NO_DATA
    return bootstrap(rows, _pooled)


def ratio_difference(errors: Sequence[float], sizes: Sequence[float], others: Sequence[float]) -> Estimate:
    """Return the difference of two pooled rates on the same utterances, with a paired bootstrap.

    Args:
      errors: of the first rate, for each utterance.
      sizes: words of each utterance, the same for both rates.
      others: errors of the second rate, which is subtracted.
    """
    return ratio([a - b for a, b in zip(errors, others, strict=True)], sizes)


def _pooled(rows: np.ndarray) -> np.ndarray:
    sums = rows.sum(axis=1)
    return sums[:, 0] / np.maximum(sums[:, 1], 1)
