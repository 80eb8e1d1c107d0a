"""Reading of parameters from a file one at a time, so that a model is in memory only once.

Each parameter has one host buffer of its final dtype, which is filled some rows at a time and placed on its devices
before the next parameter is read. On the CPU backend JAX uses this buffer without a copy, because it is aligned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jomni.errors import WeightsError
from jomni.tensors.source import TensorSource
from jomni.tensors.weight_map import Place, unflatten

DTYPE_NAMES = ("float32", "bfloat16", "float16")
CHUNK_BYTES = 16 << 20  # largest part of a tensor that is read at once
_ALIGNMENT = 64  # bytes; required by the CPU backend to use a buffer without a copy

Placement = Callable[[str, tuple[int, ...]], Any]
"""Maps (path, shape) to the sharding or device of a parameter, or None for JAX's default device."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """The tensor of a parameter in a file, with low-rank factors to add to it."""

    source: TensorSource
    place: Place
    lora: tuple[tuple[TensorSource, Place], tuple[TensorSource, Place]] | None = None  # A [r, in], B [out, r]
    scaling: float = 0.0  # factor on B @ A

    @property
    def dtype(self) -> np.dtype:
        """Return the dtype in the file."""
        return self.source.specs[self.place.name].dtype


def read_tree(
    prefix: str, origins: Mapping[str, Origin], dtype: Callable[[str, np.dtype], np.dtype], placement: Placement
) -> dict[str, Any]:
    """Read parameters one after another, and return them as a nested dictionary.

    Args:
      prefix: prefix of the paths given to `dtype` and `placement`, such as "lm/".
      origins: source of each parameter, by path.
      dtype: maps (path, dtype in the file) to the dtype in memory.
      placement: maps (path, shape) to a sharding or device.
    """
    leaves: dict[str, jax.Array] = {}
    for path, origin in origins.items():
        host = read_leaf(origin, dtype(prefix + path, origin.dtype))
        # Wait for each transfer, so that host buffers do not accumulate.
        leaves[path] = jax.block_until_ready(jax.device_put(host, placement(prefix + path, host.shape)))
    return unflatten(leaves)


def read_leaf(origin: Origin, dtype: np.dtype) -> np.ndarray:
    """Read one parameter into its own buffer."""
    source, place = origin.source, origin.place
    transform, shape = place.leaf.transform, place.leaf.shape
    out = _buffer(shape, dtype)
    if not transform.keeps_rows or not shape or not out.size:
        out[...] = transform.to_leaf(source.read(place.name, place.rows))
        return out
    factor = None
    if origin.lora is not None:
        (a_source, a), (b_source, b) = origin.lora
        factor = a_source.read(a.name, a.rows).astype(np.float32)
    step = max(1, CHUNK_BYTES // max(1, out.nbytes // shape[0]))
    for start, count, row in place.runs(step):
        rows = transform.to_leaf(source.read(place.name, slice(row, row + count)))
        if factor is not None:
            offset = b.rows.start if b.rows else 0
            left = b_source.read(b.name, slice(offset + start, offset + start + count)).astype(np.float32)
            rows = rows.astype(np.float32) + np.float32(origin.scaling) * (left @ factor)
        out[start : start + count] = rows
    return out


def parse_dtype(dtype: Any) -> np.dtype | None:
    """Return a dtype given by name or type. None stays None.

    Raises:
      WeightsError: weights cannot have this dtype.
    """
    if dtype is None:
        return None
    try:
        parsed = np.dtype(dtype)
    except TypeError:
        parsed = None
    if parsed is None or parsed.name not in DTYPE_NAMES:
        raise WeightsError(f"dtype {dtype!r} is not supported for weights. Choose one of {', '.join(DTYPE_NAMES)}.")
    return parsed


def placements(sharding: Any) -> Placement:
    """Return a function to the placement of each parameter.

    Args:
      sharding: one sharding or device for all parameters; a function of (path, shape); or a nested dictionary in the
        form of the parameters ({"lm": {...}, "mimi": {...}}). A value in place of a branch applies to the whole branch.
        None or a missing branch means JAX's default device.
    """
    if callable(sharding):
        return sharding
    if not isinstance(sharding, Mapping):
        return lambda path, shape: sharding

    def look_up(path: str, shape: tuple[int, ...]) -> Any:
        node: Any = sharding
        for part in path.split("/"):
            if not isinstance(node, Mapping):
                break
            node = node.get(part)
        return node

    return look_up


def _buffer(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an uninitialised array that the CPU backend can use without a copy."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
