"""Reading parameters out of a file one at a time, so that a model is held in memory once and not twice.

Each parameter gets one host buffer of its final dtype, filled some rows at a time, and is placed on its devices before
the next one is begun. On the CPU backend that buffer *is* the parameter (it is aligned so that JAX need not copy it).
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
CHUNK_BYTES = 16 << 20  # most of a tensor that is read at a time
_ALIGNMENT = 64  # bytes; what the CPU backend asks of a buffer that it takes over

Placement = Callable[[str, tuple[int, ...]], Any]
"""(path, shape) -> the sharding or device of a parameter; None: JAX's default device."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """A parameter's tensor in a file, and low-rank factors to be added to it."""

    source: TensorSource
    place: Place
    lora: tuple[tuple[TensorSource, Place], tuple[TensorSource, Place]] | None = None  # A [r, in], B [out, r]
    scaling: float = 0.0  # factor on B @ A

    @property
    def dtype(self) -> np.dtype:
        """As the file holds it."""
        return self.source.specs[self.place.name].dtype


def read_tree(
    prefix: str, origins: Mapping[str, Origin], dtype: Callable[[str, np.dtype], np.dtype], placement: Placement
) -> dict[str, Any]:
    """Read every parameter, one after another.

    Args:
      prefix: put before each path where `dtype` and `placement` see it: "lm/".
      origins: by path.
      dtype: (path, dtype in the file) -> the dtype wanted.
      placement: (path, shape) -> where to put it.
    """
    leaves: dict[str, jax.Array] = {}
    for path, origin in origins.items():
        host = read_leaf(origin, dtype(prefix + path, origin.dtype))
        # Waiting here keeps host buffers of unfinished transfers from piling up.
        leaves[path] = jax.block_until_ready(jax.device_put(host, placement(prefix + path, host.shape)))
    return unflatten(leaves)


def read_leaf(origin: Origin, dtype: np.dtype) -> np.ndarray:
    """One parameter in a buffer of its own."""
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
    """Return the dtype asked for, by name or as a type; None stays None.

    Raises:
      WeightsError: it is not one that parameters are held or stored in.
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
    """Return where parameters go: one sharding or device for all, a function of (path, shape), or a tree of them.

    A tree is a nested dictionary in the form of the parameters ({"lm": {...}, "mimi": {...}}) and may stop early: what
    stands for a whole branch holds for all of it, and None or an absent branch means JAX's default device.
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
    """Return an empty array that the CPU backend can take over without a copy."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
