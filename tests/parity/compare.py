"""What counts as equal to the original."""

from __future__ import annotations

import numpy as np


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
    return int(differ.sum())


def audio_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference over the RMS of `theirs`."""
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.sqrt(np.mean(np.square(theirs))))


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest absolute difference; NaN must stand at the same places."""
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    return float(np.nanmax(np.abs(ours - theirs)))
