"""Short printed forms for tuples of arrays, so that a state fits a screen."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def short_repr(value: Any) -> str:
    """Return the printed form of a NamedTuple of arrays: dtypes and shapes, not numbers.

    A NamedTuple returns it from its `__repr__`.
    """
    fields = ", ".join(f"{name}={_short(getattr(value, name))}" for name in value._fields)
    return f"{type(value).__name__}({fields})"


def _short(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}".replace(" ", "")
    leaves = [leaf for leaf in jax.tree.leaves(value) if hasattr(leaf, "dtype") and hasattr(leaf, "shape")]
    if not leaves:
        return repr(value)
    size = sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in leaves if _is_plain(leaf))
    return f"{type(value).__name__}({len(leaves)} arrays, {size / 1e6:.3g} MB)"


def _is_plain(leaf: Any) -> bool:
    return not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)
