"""What counts as equal to the original. Each comparison is noted for the line at the end of the run."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

NOTED: list[tuple[str, float]] = []
"""Comparisons of this process: what was compared, and the number or distance that was found."""


def summary(noted: Iterable[tuple[str, float]]) -> str:
    """Return one line: how many comparisons were made, and the largest distance of each kind."""
    kinds: dict[str, list[float]] = {}
    for kind, distance in noted:
        kinds.setdefault(kind, []).append(distance)
    told = [f"{sum(map(len, kinds.values()))} comparisons"]
    if "codes" in kinds:
        told.append(f"{sum(kinds['codes']):.0f} codes differ (near ties)")
    if "audio" in kinds:
        told.append(f"audio within {max(kinds['audio']):.1e} of its RMS")
    if "values" in kinds:
        told.append(f"other values within {max(kinds['values']):.1e}")
    return ", ".join(told)


def differing_codes(ours: np.ndarray, theirs: np.ndarray, ties: np.ndarray, semantic: int) -> int:
    """Number of codes [B, K, T] that differ, all of them excused.

    Excused is a codebook where the original was at a near tie (`ties`, bool), and after a difference there the later
    codebooks of the same frame and the same quantiser, which then quantise another residual.

    Raises:
      AssertionError: a code differs without such an excuse.
    """
    assert ours.shape == theirs.shape
    differ = ours != theirs
    for part in (slice(None, semantic), slice(semantic, None)):
        here, tied = differ[:, part], ties[:, part]
        first = here & (np.cumsum(here, 1) == 1)  # the first codebook to differ, in each frame
        wrong = np.argwhere(first & ~tied)
        assert not len(wrong), f"no near tie in {len(wrong)} frames, first {wrong[0]} (slot, codebook, frame)"
    NOTED.append(("codes", float(differ.sum())))
    return int(differ.sum())


def audio_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference over the RMS of `theirs`."""
    error = audio_distance(ours, theirs)
    NOTED.append(("audio", error))
    return error


def audio_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference over the RMS of the second, of sounds that are to differ: it is not noted."""
    assert one.shape == other.shape
    return float(np.abs(one - other).max() / np.sqrt(np.mean(np.square(other))))


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest absolute difference; NaN must stand at the same places."""
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    difference = float(np.nanmax(np.abs(ours - theirs)))
    NOTED.append(("values", difference))
    return difference
