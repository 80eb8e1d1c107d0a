"""Short printed forms of tuples and dataclasses of arrays, so that a state fits a screen."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np


def short_repr(value: Any) -> str:
    """Return the printed form of a NamedTuple or dataclass of arrays: dtypes and shapes, not numbers.

    The class returns it from its `__repr__`.
    """
    names = [field.name for field in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else value._fields
    fields = ", ".join(f"{name}={_short(getattr(value, name))}" for name in names)
    return f"{type(value).__name__}({fields})"


def _short(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}".replace(" ", "")
    leaves = [leaf for leaf in jax.tree.leaves(value) if hasattr(leaf, "dtype") and hasattr(leaf, "shape")]
    if not leaves:
        return f"[{len(value)} {type(value[0]).__name__}]" if isinstance(value, list) and value else repr(value)
    size = sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in leaves if _is_plain(leaf))
    return f"{type(value).__name__}({len(leaves)} arrays, {size / 1e6:.3g} MB)"


def _is_plain(leaf: Any) -> bool:
    return not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended)


def human_bytes(count: float) -> str:
    """Format a number of bytes in powers of 1000, such as "1.2 GB"."""
    power, units = 0, ("bytes", "kB", "MB", "GB", "TB")
    while count >= 1000 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.4g} {units[power]}"
