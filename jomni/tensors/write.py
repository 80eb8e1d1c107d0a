"""Writing weight files: safetensors one tensor at a time, in folders of checkpoints."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from jomni.errors import OutputError
from jomni.folders import new_folder
from jomni.tensors.source import DTYPES, TensorSpec, listing

_KINDS = {dtype: kind for kind, dtype in DTYPES.items()}
# Files that a checkpoint folder may hold: only a folder of such files is ever replaced.
_REPLACEABLE = (
    "config.json", "jomni.json", "generation_config.json", "mimi_config.json", "preprocessor_config.json",
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "model_config.yaml",
)  # fmt: skip
_REPLACEABLE_SUFFIXES = (".safetensors", ".safetensors.index.json", ".model")


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


@contextlib.contextmanager
def checkpoint_folder(folder: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """As `jomni.folders.new_folder`; what it replaces, if that is asked for, is a checkpoint and nothing else.

    Raises:
      OutputError: `folder` exists and is not to be replaced, holds other files than a checkpoint's, or cannot be
        written.
    """

    def check(target: Path, held: Sequence[str]) -> None:
        if not overwrite:
            raise OutputError(f"{target}: exists already. Choose another folder, or ask for it to be overwritten.")
        foreign = [name for name in held if not _replaceable(target, name)]
        if foreign:
            raise OutputError(
                f"{target}: holds files that are no part of a checkpoint and would be lost: {listing(foreign)}. "
                "Choose another folder, or move them away."
            )

    with new_folder(folder, check) as made:
        yield made


def _replaceable(folder: Path, name: str) -> bool:
    if name == "params":  # the project's own form
        return (folder / "jomni.json").is_file()
    if name in ("whisper", "snac"):  # of Mini-Omni
        held = folder / name
        return held.is_dir() and not held.is_symlink() and all(_replaceable(held, path.name) for path in held.iterdir())
    return name in _REPLACEABLE or name.endswith(_REPLACEABLE_SUFFIXES)
