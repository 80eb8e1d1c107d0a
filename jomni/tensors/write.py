"""Writer of safetensors files, one tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from jomni.tensors.source import DTYPES, TensorSpec

_KINDS = {dtype: kind for kind, dtype in DTYPES.items()}


def write_safetensors(
    path: Path,
    specs: Mapping[str, TensorSpec],
    produce: Callable[[str], np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file without holding more than one tensor.

    Args:
      path: of the new file.
      specs: every tensor's shape and dtype.
      produce: called once for each name, in the file's order.
      metadata: texts for the file's header.
    """
    # Wide dtypes first keeps every tensor aligned to its own width, which the format's readers rely on.
    order = sorted(specs, key=lambda name: (-specs[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        spec = specs[name]
        start, end = end, end + int(np.prod(spec.shape, dtype=np.int64)) * spec.dtype.itemsize
        header[name] = {"dtype": _KINDS[spec.dtype], "shape": list(spec.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            data = np.ascontiguousarray(produce(name))
            assert (data.shape, data.dtype) == specs[name], f"{name}: {data.dtype}{data.shape} for {specs[name]}"
            file.write(data.reshape(-1).view(np.uint8).data)
