"""Correspondence of rows between tensors in the Hugging Face layout and in Kyutai's published layout.

Every tensor is treated as a matrix: a number of rows of consecutive values. A `Block` maps rows of a Kyutai tensor to
rows of a Hugging Face tensor. Renaming is one block, splitting in_proj into q, k and v is three, stacking one matrix
per codebook is one block per codebook. Values are moved, never computed, so the same table works in both directions
and each direction is the exact inverse of the other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from jomni.errors import WeightsError
from jomni.tensors.source import TensorSource, TensorSpec

Side = Literal["kyutai", "hf"]


@dataclasses.dataclass(frozen=True)
class Block:
    """`rows` consecutive rows that a Kyutai tensor and a Hugging Face tensor share."""

    kyutai: str
    hf: str
    rows: int
    kyutai_row: int = 0  # first row in Kyutai's tensor
    hf_row: int = 0  # first row in Hugging Face's tensor
    rope_heads: int = 0  # > 0: number of heads; rotary pairs are interleaved in Kyutai's, half-split in Hugging Face's

    def name(self, side: Side) -> str:
        return self.kyutai if side == "kyutai" else self.hf

    def row(self, side: Side) -> int:
        return self.kyutai_row if side == "kyutai" else self.hf_row


class Layout:
    """The shapes of both sides and the blocks between them, built by `add`, `join_qkv`, `stack` and `refold`."""

    def __init__(self) -> None:
        self.shapes: dict[Side, dict[str, tuple[int, ...]]] = {"kyutai": {}, "hf": {}}
        self.blocks: list[Block] = []

    def add(self, kyutai: str, hf: str, shape: tuple[int, ...], hf_shape: tuple[int, ...] | None = None) -> None:
        """Add a tensor with the same values under two names. `hf_shape`: its shape without axes of length 1."""
        self.shapes["kyutai"][kyutai] = shape
        self.shapes["hf"][hf] = shape if hf_shape is None else hf_shape
        self.blocks.append(Block(kyutai, hf, shape[0] if hf_shape is None else math.prod(shape)))

    def join_qkv(
        self, kyutai: str, hf: str, dim: int, heads: int, kv_heads: int, *, rope: bool, sets: int | None = None
    ) -> None:
        """Add Kyutai's in_proj, [(sets *) (D + 2 KV), D], made of q, k and v, each [(sets,) rows, D].

        Their names are `hf.format("q")` and so on. With `rope`, the rows of q and k are reordered between interleaved
        and half-split rotary pairs.
        """
        kv_dim = dim // heads * kv_heads
        total = dim + 2 * kv_dim
        self.shapes["kyutai"][kyutai] = ((sets or 1) * total, dim)
        start = 0
        for letter, rows, rope_heads in (("q", dim, heads), ("k", kv_dim, kv_heads), ("v", kv_dim, 0)):
            name = hf.format(letter)
            self.shapes["hf"][name] = (rows, dim) if sets is None else (sets, rows, dim)
            for s in range(sets or 1):
                self.blocks.append(Block(kyutai, name, rows, s * total + start, s * rows, rope_heads if rope else 0))
            start += rows

    def stack(self, kyutai: Sequence[str], hf: str, shape: tuple[int, int]) -> None:
        """Add Kyutai's matrices, one per codebook, which Hugging Face stacks on a leading axis."""
        self.shapes["hf"][hf] = (len(kyutai), *shape)
        for index, name in enumerate(kyutai):
            self.shapes["kyutai"][name] = shape
            self.blocks.append(Block(name, hf, shape[0], 0, index * shape[0]))

    def refold(self, kyutai: str, hf: str, sets: int, shape: tuple[int, int]) -> None:
        """Add Kyutai's matrices stacked on their rows, [sets * O, I], which Hugging Face stores as [sets, O, I]."""
        self.shapes["kyutai"][kyutai] = (sets * shape[0], shape[1])
        self.shapes["hf"][hf] = (sets, *shape)
        self.blocks.append(Block(kyutai, hf, sets * shape[0]))

    def heights(self, side: Side) -> dict[str, int]:
        """Return the number of rows of each tensor of one side, as counted by the blocks."""
        heights = dict.fromkeys(self.shapes[side], 0)
        for block in self.blocks:
            heights[block.name(side)] += block.rows
        return heights


def check_tensors(found: Mapping[str, TensorSpec], layouts: Iterable[Layout], where: str) -> None:
    """Check that a file's tensors are those of the Hugging Face side of `layouts`.

    Raises:
      WeightsError: tensors are missing, unknown or misshapen. The message names all of them.
    """
    wanted = {name: shape for layout in layouts for name, shape in layout.shapes["hf"].items()}
    problems = [f"missing tensor '{name}' {list(shape)}" for name, shape in wanted.items() if name not in found]
    problems += [f"unknown tensor '{name}' {list(spec.shape)}" for name, spec in found.items() if name not in wanted]
    problems += [
        f"tensor '{name}' has shape {list(found[name].shape)}, expected {list(shape)}"
        for name, shape in wanted.items()
        if name in found and tuple(found[name].shape) != shape
    ]
    if problems:
        raise WeightsError(
            f"{where}: the tensors do not fit config.json:\n  " + "\n  ".join(problems)
            + "\nUse the config.json that was saved with these weights."
        )  # fmt: skip


class MappedSource:
    """Shows the tensors of one side of a layout, read from a source with those of the other side.

    It holds no data: each read takes the rows that it needs from `base`.
    """

    def __init__(self, base: TensorSource, layout: Layout, to: Side) -> None:
        self.name = base.name
        self._base, self._to = base, to
        other: Side = "hf" if to == "kyutai" else "kyutai"
        self._base_heights, self._heights = layout.heights(other), layout.heights(to)
        self._parts: dict[str, list[_Part]] = {name: [] for name in layout.shapes[to]}
        for block in sorted(layout.blocks, key=lambda b: b.row(to)):
            self._parts[block.name(to)].append(
                _Part(block.row(to), block.rows, block.name(other), block.row(other), block.rope_heads)
            )
        self.specs: dict[str, TensorSpec] = {}
        problems = []
        for name, parts in self._parts.items():
            dtypes = {part.source: base.specs[part.source].dtype for part in parts}
            if len(set(dtypes.values())) > 1:
                problems.append(f"'{name}': " + ", ".join(f"'{source}' is {dtype}" for source, dtype in dtypes.items()))
            self.specs[name] = TensorSpec(layout.shapes[to][name], next(iter(dtypes.values())))
        if problems:
            raise WeightsError(
                f"{self.name}: tensors that are joined have different dtypes; convert the weights to one dtype: "
                + "; ".join(problems)
            )

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """Read a tensor, or consecutive `rows` of its first axis, in the layout of this side."""
        shape = self.specs[name].shape
        first, last, _ = (rows or slice(None)).indices(shape[0])
        if first >= last:
            return np.empty((0, *shape[1:]), self.specs[name].dtype)
        scale = self._heights[name] // shape[0]
        parts = [
            self._read_part(part, max(first * scale, part.row), min(last * scale, part.row + part.rows))
            for part in self._parts[name]
            if part.row < last * scale and part.row + part.rows > first * scale
        ]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return values.reshape(last - first, *shape[1:])

    def _read_part(self, part: _Part, start: int, stop: int) -> np.ndarray:
        """Return rows `start` to `stop` of the tensor, which lie within `part`: [rows, values in a row]."""
        if part.rope_heads:  # rows change their order within a head: read whole heads, then cut
            whole = self._read_base(part.source, part.source_row, part.source_row + part.rows)
            return swap_rope_order(whole, part.rope_heads, self._to)[start - part.row : stop - part.row]
        shift = part.source_row - part.row
        return self._read_base(part.source, start + shift, stop + shift)

    def _read_base(self, name: str, start: int, stop: int) -> np.ndarray:
        length = self._base.specs[name].shape[0]
        scale = self._base_heights[name] // length
        first, last = start // scale, -(-stop // scale)
        values = self._base.read(name, None if (first, last) == (0, length) else slice(first, last))
        return values.reshape((last - first) * scale, -1)[start - first * scale : stop - first * scale]


class _Part(NamedTuple):
    """Source of `rows` rows of a tensor, from `row` on."""

    row: int
    rows: int
    source: str
    source_row: int
    rope_heads: int


def swap_rope_order(rows: np.ndarray, heads: int, to: Side) -> np.ndarray:
    """Reorder the rows [heads * H, D] of a query or key projection between the two rotary conventions.

    Kyutai rotates the neighbours 2i and 2i + 1 of a head, Hugging Face i and i + H / 2.
    """
    pairs = rows.shape[0] // heads // 2
    split = (heads, pairs, 2) if to == "hf" else (heads, 2, pairs)
    return rows.reshape(*split, -1).swapaxes(1, 2).reshape(rows.shape)
