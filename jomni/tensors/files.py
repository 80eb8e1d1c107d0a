"""Open a weight file with the reader for its format."""

from __future__ import annotations

from pathlib import Path

from jomni.errors import WeightsError
from jomni.tensors.source import (
    INDEX_SUFFIX,
    PICKLE_SUFFIXES,
    SAFETENSORS_SUFFIXES,
    SafetensorsSource,
    ShardedSource,
    TensorSource,
    file_size,
)
from jomni.tensors.unpickle import TorchSource


def open_source(path: str | Path) -> TensorSource:
    """Open a weight file by its suffix: safetensors, an index of shards, or a pickled torch checkpoint.

    If `path` does not exist but `path.index.json` does, the shards that it lists are opened.

    Raises:
      WeightsError: the file is missing, damaged, unsafe, or of another kind.
    """
    path = Path(path)
    index = path.with_name(path.name + INDEX_SUFFIX)
    if not path.exists() and index.is_file():
        path = index
    if path.name.endswith(INDEX_SUFFIX):
        return ShardedSource(path)
    if path.suffix in SAFETENSORS_SUFFIXES:
        return SafetensorsSource(path)
    if path.suffix in PICKLE_SUFFIXES:
        return TorchSource(path)
    file_size(path)
    raise WeightsError(
        f"{path}: not a weight file by its suffix. "
        f"Supported: {', '.join((*SAFETENSORS_SUFFIXES, *PICKLE_SUFFIXES))} and *.safetensors{INDEX_SUFFIX}."
    )
