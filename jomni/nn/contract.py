"""`verify_contract`: a test that the joined steps of a streaming module equal its output for the whole sequence.

Axes: B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from jomni.nn.streaming import State, reset

Step = Callable[[Any, State, Any], tuple[Any, State]]


def verify_contract(
    run: Step,
    init_state: Callable[[int, int], State],
    x: Array | np.ndarray,
    *,
    unit: int = 1,
    axis: int = 1,
    out_axis: int = 1,
    blocks: Sequence[int] = (1, 3),
    tolerance: float = 1e-5,
    seed: int = 0,
) -> None:
    """Check the streaming contract of a module (`jomni.nn.streaming`). Raise `AssertionError` if it is violated.

    Checked are: steps equal the whole, for each block size, with rows that start at different times, pause (fed with
    garbage meanwhile) and are reset; a paused row's state does not change, bit for bit; structure, shapes and dtypes of
    the state never change; a row's output does not depend on its neighbours, bit for bit.

    Args:
      run: `(x, state, active) -> (y, state)`; with state None, x is a whole sequence.
      init_state: `(batch, block in units) -> state`.
      x: input, batch axis first; its length along `axis` is a multiple of `unit`. At least two rows.
      unit: least number of input steps that a call takes.
      axis: time axis of x.
      out_axis: time axis of y.
      blocks: block sizes to try, in units.
      tolerance: for floats, over the RMS of the whole; integers must be equal.
      seed: of the schedule of pauses and resets.
    """
    x = np.asarray(x)
    B, units = x.shape[0], x.shape[axis] // unit
    assert B >= 2, "the contract is about rows: pass at least two"
    whole = np.asarray(jax.jit(lambda x: run(x, None, None)[0])(x))
    per_unit = whole.shape[out_axis] // units
    step, restart = jax.jit(run), jax.jit(reset)

    def piece(start: Sequence[int], size: int, garbage: Sequence[bool]) -> np.ndarray:
        rows = [np.take(x[b], range(start[b] * unit, (start[b] + size) * unit), axis - 1) for b in range(B)]
        bad = np.nan if np.issubdtype(x.dtype, np.floating) else 0
        return np.stack([np.full_like(row, bad) if spoilt else row for row, spoilt in zip(rows, garbage, strict=True)])

    def check(got: np.ndarray, row: int, start: int, size: int, what: str) -> None:
        want = np.take(whole[row], range(start * per_unit, (start + size) * per_unit), out_axis - 1)
        got = got[row]
        if np.issubdtype(want.dtype, np.integer):
            wrong = int(np.sum(got != want))
            assert not wrong, f"{what}: {wrong} of {want.size} integers differ in row {row}"
        else:
            error = np.max(np.abs(got - want)) / np.sqrt(np.mean(np.square(whole)))
            assert error <= tolerance, f"{what}: row {row} is off by {error:.2e} of the RMS at unit {start}"

    for size in blocks:
        if size > units:
            continue
        rng = np.random.default_rng(seed + size)
        state = init_state(B, size)
        form = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
        done, resets = [0] * B, [1] * B
        for tick in range(4 * B * (units // size + 1)):
            over = [done[b] + size > units for b in range(B)]
            early = [resets[b] > 0 and done[b] > units // 2 and rng.random() < 0.2 for b in range(B)]
            again = np.asarray(over) | np.asarray(early)
            for b in range(B):
                if again[b]:
                    done[b], resets[b] = 0, resets[b] - 1
            state = jax.device_get(restart(state, again))
            active: Any = (rng.random(B) < 0.7) & ((tick > 0) | (np.arange(B) > 0))  # row 0 starts later
            y, new = jax.device_get(step(piece(done, size, list(~active)), state, active))
            assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), new) == form, "the state changed its form"
            for b in range(B):
                if active[b]:
                    check(y, b, done[b], size, f"blocks of {size}")
                    done[b] += size
                else:
                    _same_row(state, new, b)
            state = new
            if all(r <= 0 for r in resets) and min(done) > units // 2:
                break
        _check_independence(step, init_state(B, size), piece([0] * B, size, [False] * B))


def _same_row(old: State, new: State, row: int) -> None:
    for before, after in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
        assert _bits(before[row]) == _bits(after[row]), f"the state of paused row {row} moved"


def _check_independence(step: Step, state: State, x: np.ndarray) -> None:
    """Check that the output of row 0 has the same bits for any content of the other rows."""
    everyone = np.ones(len(x), bool)
    y, new = step(x, state, everyone)
    others = np.concatenate([x[:1], np.zeros_like(x[1:])])
    y2, new2 = step(others, state, everyone)
    assert _bits(y[0]) == _bits(y2[0]), "the output of row 0 depends on its neighbours"
    _same_row(new, new2, 0)


def _bits(value: Any) -> bytes:
    return np.asarray(value).tobytes()
