"""The parameters of a checkpoint seen as the tensors of published files: where every export begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from jomni.checkpoints.checkpoint import Checkpoint
from jomni.checkpoints.registry import PARTS, present
from jomni.tensors.source import TensorSpec
from jomni.tensors.weight_map import Tensor, WeightMap, bind


class ParameterSource:
    """The parameters of one part of a checkpoint ("lm", "mimi", ...) as the tensors of published files.

    `table` names them; None: as its authors publish them.
    """

    def __init__(
        self, checkpoint: Checkpoint, part: str, dtype: np.dtype | None = None, table: WeightMap | None = None
    ) -> None:
        self.name = checkpoint.source or "checkpoint"
        self._params = checkpoint.params[part]
        table = table or PARTS[part].table(getattr(checkpoint, part))
        self._tensors: dict[str, Tensor] = {t.name: t for t in table.expect(self._params)}
        self.specs = {
            name: TensorSpec(tensor.shape, checkpoint.file_dtype(f"{part}/{tensor.leaves[0].path}", dtype))
            for name, tensor in self._tensors.items()
        }

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """The tensor, or `rows` of its first axis; only the parameters that hold these rows are fetched."""
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
    """Raises `WeightsError` unless the parameters are those of the checkpoint's configurations."""
    for part, config in present(checkpoint):
        table = part.table(config)
        held = {t.name: TensorSpec(t.shape, np.dtype(np.float32)) for t in table.expect(checkpoint.params[part.name])}
        where = f"parameters '{part.name}' of {checkpoint.source or 'the checkpoint'}"
        bind(table, table.expect(part.tree(config)), held, where)
