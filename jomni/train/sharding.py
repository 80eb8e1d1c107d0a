"""Where every array lies: a table from logical axes to mesh axes, and patterns that give a parameter's logical axes.

A mesh has the axes data, fsdp and tensor. Batches are cut over data and fsdp; parameters over fsdp and tensor, as the
table says; XLA puts in the communication. Moments of the optimiser and running averages end in their parameter's path
and so lie where it does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jomni.errors import ConfigError

Axes = Any
"""A tree in the form of the state: for each leaf a tuple of a logical name (None: not cut) for each of its axes."""

MESH_AXES = ("data", "fsdp", "tensor")

RULES: Mapping[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "embed": ("fsdp",),  # the width of a residual stream
    "heads": ("tensor",),  # all heads side by side
    "mlp": ("tensor",),  # the inner width of a feed-forward layer
    "vocab": ("tensor",),  # entries of a table, or logits
    "channels_in": ("tensor",),  # of a convolution
    "channels_out": ("fsdp",),
}
"""The table. A logical axis that is not in it is not cut."""

_LINEAR = {
    r"(text_linear|linears_\d+|extra_heads_\d+)": ("vocab", "embed"),
    r"depformer_in_\d+": (None, "embed"),
    r"(in_proj|in_projs_\d+)": ("heads", "embed"),
    r"(out_proj|out_projs_\d+)": ("embed", "heads"),
    r"(linear1|linear_in)": ("mlp", "embed"),
    r"(linear2|linear_out)": ("embed", "mlp"),
    r"(input_proj|output_projs_\d+|output_proj)": (None, "embed"),
    r"([qkv]_proj|query|key|value)": ("heads", "embed"),
    r"(o_proj|attn/out)": ("embed", "heads"),
    r"(gate_proj|up_proj|mlp_0)": ("mlp", "embed"),
    r"(down_proj|mlp_2)": ("embed", "mlp"),
    r"whisper_adapter/fc_\d": ("mlp", None),
    r"whisper_adapter/proj": ("embed", "mlp"),
}
PATTERNS: tuple[tuple[re.Pattern[str], tuple[str | None, ...]], ...] = tuple(
    (re.compile(rf"(^|/){pattern}$"), axes)
    for pattern, axes in [
        (r"(depformer_)?(text_)?emb(_\d+)?/weight", ("vocab", "embed")),
        (r"(embed_tokens|lm_head)/weight(/text|/new)?", ("vocab", "embed")),
        *((rf"{layer}/weight", axes) for layer, axes in _LINEAR.items()),
        *((rf"{layer}/lora_A", (None, axes[1])) for layer, axes in _LINEAR.items()),
        *((rf"{layer}/lora_B", (axes[0], None)) for layer, axes in _LINEAR.items()),
        (r"kernel", (None, "channels_in", "channels_out")),
    ]
)
"""Axes by the end of a path, for the parameters of all models; those that none fits are kept whole."""


def make_mesh(data: int, fsdp: int, tensor: int) -> Mesh:
    """The mesh over this process's view of the devices; `data` 0 takes what the others leave.

    Raises:
      ConfigError: the product is not a number of devices that there are.
    """
    count = jax.device_count()
    rest = fsdp * tensor
    if (data == 0 and count % rest) or max(data, 1) * rest > count:
        raise ConfigError(
            f"mesh data={data or 'all'} x fsdp={fsdp} x tensor={tensor} does not fit {count} "
            f"device{'s' if count > 1 else ''}. Choose axes whose product is at most that and divides it."
        )
    shape = (data or count // rest, fsdp, tensor)
    return jax.make_mesh(shape, MESH_AXES, axis_types=(AxisType.Auto,) * 3, devices=jax.devices()[: math.prod(shape)])


def axes_by_path(state: Any) -> Axes:
    """Logical axes of each leaf by the end of its path (`PATTERNS`)."""

    def axes(path: tuple[Any, ...], leaf: Any) -> tuple[str | None, ...]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for pattern, found in PATTERNS:
            if len(found) == leaf.ndim and pattern.search(name):
                return found
        return (None,) * leaf.ndim

    return jax.tree_util.tree_map_with_path(axes, state)


def spec(
    shape: tuple[int, ...], axes: tuple[str | None, ...], mesh: Mesh, rules: Mapping[str, tuple[str, ...]] = RULES
) -> tuple[PartitionSpec, list[str]]:
    """How one leaf is cut, and the logical axes left whole because their length does not divide.

    Raises:
      ConfigError: the number of names is not that of axes, or two of them want one mesh axis.
    """
    if len(axes) != len(shape):
        raise ConfigError(f"{len(axes)} logical axes {axes} for an array of shape {shape}")
    parts: list[tuple[str, ...] | None] = []
    whole: list[str] = []
    used: dict[str, str] = {}
    for length, name in zip(shape, axes, strict=True):
        wanted = tuple(axis for axis in rules.get(name or "", ()) if mesh.shape[axis] > 1)
        for axis in wanted:
            if axis in used:
                raise ConfigError(f"logical axes {used[axis]!r} and {name!r} of one array both want mesh axis {axis!r}")
            used[axis] = name or ""
        if length % math.prod(mesh.shape[axis] for axis in wanted):
            whole.append(f"{name} of length {length}")
            wanted = ()
        parts.append(wanted or None)
    return PartitionSpec(*parts), whole


def shardings(state: Any, axes: Axes, mesh: Mesh, report: Callable[[str], None] = lambda line: None) -> Any:
    """A `NamedSharding` for each leaf of an (abstract) state.

    Args:
      state: arrays or their shapes.
      axes: their logical axes.
      mesh: from `make_mesh`.
      report: is told once which axes stay whole because they do not divide.
    """
    kept: dict[str, int] = {}

    def place(leaf: Any, names: tuple[str | None, ...]) -> NamedSharding:
        cut, whole = spec(leaf.shape, names, mesh)
        for axis in whole:
            kept[axis] = kept.get(axis, 0) + 1
        return NamedSharding(mesh, cut)

    placed = jax.tree.map(place, state, axes)
    if kept:
        listed = ", ".join(f"{axis} ({count} arrays)" for axis, count in sorted(kept.items()))
        report(f"not cut over the mesh {dict(mesh.shape)}, for their lengths do not divide: {listed}")
    return placed


def batch_sharding(mesh: Mesh, rows: int) -> NamedSharding:
    """How batches of `rows` are cut.

    Raises:
      ConfigError: the rows do not divide over the mesh.
    """
    shares = math.prod(mesh.shape[axis] for axis in RULES["batch"])
    if rows % shares:
        raise ConfigError(
            f"a batch of {rows} does not divide over mesh axes data={mesh.shape['data']} x fsdp={mesh.shape['fsdp']}: "
            f"choose a batch that is a multiple of {shares}, or another mesh"
        )
    return NamedSharding(mesh, PartitionSpec(RULES["batch"]))
