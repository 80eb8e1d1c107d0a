"""Export of a checkpoint's parameters as the tensors of published files."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jomni.checkpoints.checkpoint import Checkpoint
from jomni.checkpoints.registry import COMPONENTS
from jomni.tensors.source import TensorSpec
from jomni.tensors.weight_map import Tensor, WeightMap, bind
from jomni.tensors.write import write_safetensors


class ParameterSource:
    """A `TensorSource` of one component's parameters.

    Args:
      checkpoint: the checkpoint.
      name: name of the component ("lm", "mimi", ...).
      dtype: see `jomni.save`.
      names: published names. None: those of the component's authors.
    """

    def __init__(
        self, checkpoint: Checkpoint, name: str, dtype: np.dtype | None = None, names: WeightMap | None = None
    ) -> None:
        self.name = checkpoint.source or "checkpoint"
        self._params = checkpoint.params[name]
        names = names or COMPONENTS[name].weight_map(checkpoint.configs[name])
        self._tensors: dict[str, Tensor] = {t.name: t for t in names.expect(self._params)}
        self.specs = {
            file_name: TensorSpec(tensor.shape, checkpoint.file_dtype(f"{name}/{tensor.leaves[0].path}", dtype))
            for file_name, tensor in self._tensors.items()
        }

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """Return the tensor, or `rows` of its first axis. Only parameters with these rows are copied to host."""
        spec = self.specs[name]
        first, last, _ = (rows or slice(None)).indices(spec.shape[0])
        parts = list(self._parts(self._tensors[name], first, last, spec.dtype))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _parts(self, tensor: Tensor, first: int, last: int, dtype: np.dtype) -> Iterator[np.ndarray]:
        start = 0
        for group in range(tensor.groups):
            for leaf in tensor.leaves:
                height = leaf.file_shape[0] // tensor.groups
                low, high = max(first - start, 0), min(last - start, height)
                start += height
                if low < high:
                    value: Any = self._params
                    for key in leaf.path.split("/"):
                        value = value[key]
                    rows = slice(group * height + low, group * height + high)
                    yield leaf.transform.to_file(np.asarray(value))[rows].astype(dtype, copy=False)


def check_parameters(checkpoint: Checkpoint) -> None:
    """Check that the parameters fit the checkpoint's configurations. Raise `WeightsError` if they do not."""
    for name, config in checkpoint.configs.items():
        component = COMPONENTS[name]
        names = component.weight_map(config)
        held = {t.name: TensorSpec(t.shape, np.dtype(np.float32)) for t in names.expect(checkpoint.params[name])}
        where = f"parameters '{name}' of {checkpoint.source or 'the checkpoint'}"
        bind(names, names.expect(component.abstract_params(config)), held, where)


def write_tensors(path: Path, source: ParameterSource, names: Collection[str] | None = None) -> None:
    """Write tensors of a source to a safetensors file; by default all."""
    names = source.specs.keys() if names is None else names
    # Other readers treat a file as torch's only if "format" says so.
    write_safetensors(path, {name: source.specs[name] for name in names}, source.read, {"format": "pt"})


def write_json(path: Path, value: Any, sort_keys: bool = False) -> None:
    """Write a JSON file, indented by two."""
    path.write_text(json.dumps(value, indent=2, sort_keys=sort_keys) + "\n", encoding="utf-8")


def write_text_files(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the checkpoint's tokenizer and generation files."""
    for name, content in checkpoint.files.items():
        (folder / name).write_bytes(content)
