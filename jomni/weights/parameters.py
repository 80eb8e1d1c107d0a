"""The parameters of a checkpoint seen as the tensors of published files: where every export begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from jomni.weights.checkpoint import Checkpoint
from jomni.weights.hf_decoder import decoder_table
from jomni.weights.kyutai import lm_table, mimi_table
from jomni.weights.snac import snac_table
from jomni.weights.source import TensorSpec
from jomni.weights.table import Table, Tensor, bind
from jomni.weights.trees import decoder_tree, lm_tree, mimi_tree, snac_tree, whisper_tree
from jomni.weights.whisper import whisper_table


class ParameterSource:
    """The parameters of one part of a checkpoint ("lm", "mimi", ...) as the tensors of published files.

    `table` names them; None: as Kyutai (the speech encoder: OpenAI) publishes them.
    """

    def __init__(
        self, checkpoint: Checkpoint, part: str, dtype: np.dtype | None = None, table: Table | None = None
    ) -> None:
        self.name = checkpoint.source or "checkpoint"
        self._params = checkpoint.params[part]
        self._tensors: dict[str, Tensor] = {t.name: t for t in (table or _table(checkpoint, part)).expect(self._params)}
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
        for leaf in tensor.leaves:
            low, high = max(first - start, 0), min(last - start, leaf.file_shape[0])
            start += leaf.file_shape[0]
            if low < high:
                value: Any = self._params
                for key in leaf.path.split("/"):
                    value = value[key]
                yield leaf.transform.to_file(np.asarray(value))[low:high].astype(dtype, copy=False)


def check_parameters(checkpoint: Checkpoint) -> None:
    """Raises `WeightsError` unless the parameters are those of the checkpoint's configurations."""
    for part, params in checkpoint.params.items():
        table = _table(checkpoint, part)
        tree = _tree(checkpoint, part)
        held = {t.name: TensorSpec(t.shape, np.dtype(np.float32)) for t in table.expect(params)}
        bind(table, table.expect(tree), held, f"parameters '{part}' of {checkpoint.source or 'the checkpoint'}")


def _table(checkpoint: Checkpoint, part: str) -> Table:
    """The weight map of a part."""
    if part == "whisper":
        return whisper_table("openai")
    if part == "decoder":
        return decoder_table(checkpoint.decoder)  # type: ignore[arg-type]
    if part == "snac":
        return snac_table()
    return mimi_table(checkpoint.mimi) if part == "mimi" else lm_table(checkpoint.lm)  # type: ignore[arg-type]


def _tree(checkpoint: Checkpoint, part: str) -> dict[str, Any]:
    """The shapes of a part's parameters."""
    if part == "whisper":
        return whisper_tree(checkpoint.whisper)  # type: ignore[arg-type]
    if part == "decoder":
        return decoder_tree(checkpoint.decoder)  # type: ignore[arg-type]
    if part == "snac":
        return snac_tree(checkpoint.snac)  # type: ignore[arg-type]
    return mimi_tree(checkpoint.mimi) if part == "mimi" else lm_tree(checkpoint.lm)  # type: ignore[arg-type]
