"""Sources of tensors: one protocol over safetensors files, sharded or not, and dictionaries in memory.

Opening a source reads names, shapes and dtypes only. Data is read by tensor or by rows, so the caller decides how much
of a model is in memory. Pickled torch files are read by `jomni.tensors.unpickle`; `jomni.tensors.files` chooses the
reader.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from jomni.errors import WeightsError

SAFETENSORS_SUFFIXES = (".safetensors", ".sft", ".sfts")
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".th")
INDEX_SUFFIX = ".index.json"

DTYPES: dict[str, np.dtype] = {
    name: np.dtype(dtype)
    for name, dtype in {
        "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
        "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
        "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
    }.items()
}  # fmt: skip
"""safetensors' names of the supported dtypes."""


class TensorSpec(NamedTuple):
    """Shape and dtype of a tensor in its file."""

    shape: tuple[int, ...]
    dtype: np.dtype


class TensorSource(Protocol):
    """Named tensors that can be read one at a time."""

    @property
    def name(self) -> str:
        """Return the name of the source for error messages, usually a path."""
        ...

    @property
    def specs(self) -> Mapping[str, TensorSpec]:
        """Return the shape and dtype of every tensor, without reading data."""
        ...

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """Return the tensor, or `rows` of its first axis (step 1). The result may be a view; do not write to it."""
        ...


class MemorySource:
    """Tensors in a dictionary."""

    def __init__(self, tensors: Mapping[str, np.ndarray], name: str = "tensors in memory") -> None:
        self.name = name
        self._tensors = dict(tensors)
        self.specs = {k: TensorSpec(tuple(v.shape), np.dtype(v.dtype)) for k, v in self._tensors.items()}

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        tensor = np.asarray(self._tensors[name])
        return tensor if rows is None else tensor[rows]


class SafetensorsSource:
    """One safetensors file, memory-mapped. `read` copies only the rows that it returns.

    Raises:
      WeightsError: the file is missing, empty, truncated, or not safetensors.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = str(path)
        size = file_size(self.path)
        try:
            self._file = safe_open(self.path, framework="np")
            self.specs = {k: self._spec(k) for k in self._file.keys()}  # noqa: SIM118  (not a dict)
        except SafetensorError as error:
            raise WeightsError(f"{path}: {_explain(self.path, size, str(error))}") from None
        except OSError as error:
            raise WeightsError(f"{path}: cannot be read ({error.strerror or error}). Check its permissions.") from None

    def _spec(self, name: str) -> TensorSpec:
        view = self._file.get_slice(name)
        kind = view.get_dtype()
        if kind not in DTYPES:
            raise WeightsError(
                f"{self.path}: tensor '{name}' has dtype {kind}, which is not supported. "
                f"Convert the file to one of {', '.join(DTYPES)}."
            )
        return TensorSpec(tuple(view.get_shape()), DTYPES[kind])

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        try:
            if rows is None:
                return self._file.get_tensor(name)
            return self._file.get_slice(name)[rows]
        except SafetensorError as error:
            raise WeightsError(f"{self.path}: tensor '{name}' cannot be read ({error}). Download it again.") from None


class ShardedSource:
    """Several safetensors files listed by a `*.safetensors.index.json`.

    Raises:
      WeightsError: the index is malformed, names missing files, or does not match its files.
    """

    def __init__(self, index: str | Path) -> None:
        self.path = Path(index)
        self.name = str(index)
        shards = shard_names(self.path)
        files = sorted(set(shards.values()))
        missing = [f for f in files if not (self.path.parent / f).is_file()]
        if missing:
            raise WeightsError(
                f"{index}: {len(missing)} of its {len(files)} files are missing from {self.path.parent}: "
                f"{listing(missing)}. Download them, or download the checkpoint again."
            )
        sources = {f: SafetensorsSource(self.path.parent / f) for f in files}
        absent = [n for n, f in shards.items() if n not in sources[f].specs]
        unlisted = [n for f, s in sources.items() for n in s.specs if shards.get(n) != f]
        if absent or unlisted:
            told = [f"lists tensors that its files lack: {listing(absent)}"] if absent else []
            told += [f"does not list tensors that its files hold: {listing(unlisted)}"] if unlisted else []
            raise WeightsError(f"{index}: {'; '.join(told)}. Download the index and its files again, together.")
        self._sources = {n: sources[f] for n, f in shards.items()}
        self.specs = {n: s.specs[n] for n, s in self._sources.items()}

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        return self._sources[name].read(name, rows)


class _Without:
    """A source with one of its tensors hidden."""

    def __init__(self, source: TensorSource, name: str) -> None:
        self.name = source.name
        self.specs = {key: spec for key, spec in source.specs.items() if key != name}
        self.read = source.read


def without_copy(source: TensorSource, head: str, embedding: str, cure: str) -> TensorSource:
    """Hide a head that repeats the embedding, which some files of tied models contain.

    Raises:
      WeightsError: the head differs from the embedding, so the original would not use it. `cure` says what to do.
    """
    if head not in source.specs:
        return source
    specs = source.specs
    same = specs.get(embedding) == specs[head]
    rows = specs[head].shape[0] if same else 0
    for start in range(0, rows, 4096):
        piece = slice(start, min(start + 4096, rows))
        same = same and source.read(embedding, piece).tobytes() == source.read(head, piece).tobytes()
    if not same:
        raise WeightsError(f"{source.name}: '{head}' is not '{embedding}', but the configuration ties them. {cure}")
    return _Without(source, head)


def shard_names(index: Path) -> dict[str, str]:
    """Return the file name of each tensor, by tensor name, from a safetensors index."""
    file_size(index)
    raw = read_json(index)
    shards = raw.get("weight_map") if isinstance(raw, dict) else None
    if not isinstance(shards, dict) or not shards or not all(isinstance(f, str) for f in shards.values()):
        raise WeightsError(f"{index}: has no 'weight_map' of tensor names to files. Download the index again.")
    outside = sorted({f for f in shards.values() if Path(f).name != f or f in ("", ".", "..")})
    if outside:
        raise WeightsError(
            f"{index}: names files outside its own folder: {listing(outside)}. "
            "An index may only name files beside it; do not use this checkpoint."
        )
    return shards


def read_json(path: Path) -> Any:
    """Read a JSON file. Raise `WeightsError` if it is missing or not valid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from None
    except ValueError as error:
        raise WeightsError(f"{path}: is not valid JSON ({error}). Correct it or download it again.") from None


def file_size(path: Path) -> int:
    """Return the size of a file in bytes. Raise `WeightsError` if it is missing or empty."""
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder, not a weight file. Name a file in it.")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise WeightsError(f"{path}: no such weight file ({error.strerror or error}). Check the path.") from None
    if not size:
        raise WeightsError(f"{path}: is empty. Download it again.")
    return size


def listing(names: list[str], most: int = 8) -> str:
    """Format names for a message: the first `most` names, and the number of the others."""
    told = ", ".join(names[:most])
    return told if len(names) <= most else f"{told} and {len(names) - most} more"


def _explain(path: Path, size: int, error: str) -> str:
    """Return what is wrong with a file that the safetensors library rejects, and what to do."""
    if size < 8:
        return f"is only {size} bytes long, too short for a safetensors file. Download it again."
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > size - 8:
        return (
            f"claims a header of {length} bytes but is only {size} bytes long: it is truncated, damaged or not a "
            "safetensors file. Download it again."
        )
    if "not fully covered" in error or "InvalidOffset" in error:
        return f"its header does not fit its {size} bytes of data ({error}): truncated or damaged. Download it again."
    return f"is damaged or not a safetensors file ({error}). Download it again."
