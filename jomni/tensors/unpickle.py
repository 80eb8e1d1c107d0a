"""Reader of pickled torch checkpoints (.pt, .pth, .bin, .th) without torch. It executes no code from the file.

A pickle is a program. This reader replaces the few names that a checkpoint of tensors needs (storages, the function
that makes a tensor of a storage, ordered dictionaries, dtypes) by harmless equivalents. Any other name is rejected
before it is looked up. Tensor data stays in the memory-mapped file until it is read.
"""

from __future__ import annotations

import collections
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jomni.errors import WeightsError
from jomni.tensors.source import TensorSpec, file_size, listing

_STORAGE_DTYPES = {
    "DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32, "ShortStorage": np.int16,
    "CharStorage": np.int8, "ByteStorage": np.uint8, "BoolStorage": np.bool_,
}  # fmt: skip
_TORCH_DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_CURE = "Ask its author for a safetensors file, or convert it with torch if you trust it."


class _StorageType(NamedTuple):
    dtype: np.dtype


class _Storage(NamedTuple):
    """A range of numbers in the archive."""

    record: str
    dtype: np.dtype
    numel: int


class _Tensor(NamedTuple):
    """A strided view of a storage. Offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Inert:
    """Placeholder for a name without data, such as a dtype."""

    __slots__ = ()


class _Call:
    """Wraps a function of this module, anew for each use: a pickle cannot set attributes on the function."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class _Refused(Exception):
    """Raised for content that a file of tensors does not have."""


class TorchSource:
    """The tensors of a file written by `torch.save`, in the zip format of torch 1.6 and later.

    The state dict may be the whole content, or under "model" or "fsdp_best_state" -> "model" as in the files that
    moshi/models/loaders.py reads, or under "model_state_dict" as in OpenAI's Whisper. `dims` is the value of "dims"
    beside it, or None.

    Raises:
      WeightsError: the file is damaged or of the old format, or contains anything but tensors and plain containers.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = str(path)
        size = file_size(self.path)
        if not zipfile.is_zipfile(self.path):
            raise WeightsError(
                f"{path}: is not a zip archive, so not a torch checkpoint of version 1.6 or later: it is truncated, "
                f"damaged, or a plain pickle, which is never opened. {_CURE}"
            )
        try:
            with zipfile.ZipFile(self.path) as archive:
                self._records = _records(archive, self.path, size)
                prefix = _prefix(self._records)
                if f"{prefix}byteorder" in self._records and archive.read(f"{prefix}byteorder") != b"little":
                    raise _Refused("its numbers are big-endian")
                with archive.open(f"{prefix}data.pkl") as file:
                    content = _Unpickler(file, f"{prefix}data/").load()
        except _Refused as refusal:
            raise WeightsError(f"{path}: rejected, and nothing in it was executed: {refusal}. {_CURE}") from None
        except Exception as error:  # unpickling damaged data raises many kinds of exceptions
            raise WeightsError(f"{path}: is damaged or not a torch checkpoint ({error}). Download it again.") from None
        self.dims = content.get("dims") if isinstance(content, Mapping) else None
        self._tensors = self._state_dict(content)
        self.specs = {k: TensorSpec(t.shape, t.storage.dtype) for k, t in self._tensors.items()}

    def _state_dict(self, content: Any) -> dict[str, _Tensor]:
        for key in ("fsdp_best_state", "model", "model_state_dict"):
            if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
                content = content[key]
        if not isinstance(content, Mapping):
            raise WeightsError(f"{self.path}: holds no dictionary of tensors. {_CURE}")
        others = [str(k) for k, v in content.items() if not isinstance(k, str) or not isinstance(v, _Tensor)]
        if others or not content:
            raise WeightsError(
                f"{self.path}: expected a dictionary of tensors, alone or under 'model', 'fsdp_best_state.model' or "
                f"'model_state_dict', but these are not tensors: {listing(others) or '(it is empty)'}. {_CURE}"
            )
        for name, tensor in content.items():
            self._check(name, tensor)
        return dict(content)

    def _check(self, name: str, tensor: _Tensor) -> None:
        """Check that a tensor lies within its storage, and the storage within the file."""
        record = self._records.get(tensor.storage.record)
        held = 0 if record is None else record[1] // tensor.storage.dtype.itemsize
        last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
        sound = min((0, tensor.offset, *tensor.shape, *tensor.strides)) >= 0
        if not sound or (0 not in tensor.shape and last >= min(tensor.storage.numel, held)):
            raise WeightsError(f"{self.path}: damaged: tensor '{name}' lies beyond its data. Download it again.")

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        tensor = self._tensors[name]
        storage = tensor.storage
        if 0 in tensor.shape:
            data = np.empty(tensor.shape, storage.dtype)
        else:
            start, length = self._records[storage.record]
            width = storage.dtype.itemsize
            flat = np.memmap(self.path, np.uint8, "r", start, (length // width * width,))
            strides = [s * width for s in tensor.strides]
            window = flat.view(np.ndarray).view(storage.dtype)[tensor.offset :]
            data = np.lib.stride_tricks.as_strided(window, tensor.shape, strides, writeable=False)
        return data if rows is None else data[rows]


class _Unpickler(pickle.Unpickler):
    """An unpickler that can call only the functions of this module."""

    def __init__(self, file: Any, data: str) -> None:
        super().__init__(file)
        self._data = data

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) in _FUNCTIONS:
            return _Call(_FUNCTIONS[module, name])
        if module == "torch" and name in _TORCH_DTYPES:
            return _Inert()
        if module in ("torch", "torch.storage") and name in _STORAGE_DTYPES:
            return _StorageType(np.dtype(_STORAGE_DTYPES[name]))
        raise _Refused(f"it asks for '{module}.{name}', which a file of tensors does not need")

    def persistent_load(self, pid: Any) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[1], _StorageType)):
            raise _Refused(f"it holds a storage of an unknown kind {pid!r:.80}")
        _, kind, key, _, numel = pid
        return _Storage(f"{self._data}{key}", kind.dtype, int(numel))


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        raise _Refused("it holds a tensor of an unknown kind")
    return _Tensor(storage, int(offset), tuple(int(n) for n in shape), tuple(int(s) for s in strides))


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _size(values: Any = ()) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): _size,
}


def _records(archive: zipfile.ZipFile, path: Path, size: int) -> dict[str, tuple[int, int]]:
    """Return (first byte of its data in the file, length in bytes) of each record, by name."""
    records = {}
    with open(path, "rb") as file:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED:
                raise _Refused(f"its record '{info.filename}' is compressed, which torch.save never does")
            file.seek(info.header_offset)
            header = file.read(30)
            name_length, extra_length = struct.unpack("<HH", header[26:30])
            start = info.header_offset + 30 + name_length + extra_length
            if header[:4] != b"PK\x03\x04" or start + info.file_size > size:
                raise _Refused(f"its record '{info.filename}' reaches beyond the end of the file")
            records[info.filename] = (start, info.file_size)
    return records


def _prefix(records: Mapping[str, Any]) -> str:
    """Return the name of the archive's top folder, which torch derives from the file name."""
    found = [name for name in records if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(found) != 1:
        raise _Refused(f"it has {len(found)} records 'data.pkl' where a torch checkpoint has one")
    return found[0].removesuffix("data.pkl")
