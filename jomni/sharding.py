"""Sharding of parameters, states and batches over a mesh of devices.

A mesh has the axes data, fsdp and tensor. `PATTERNS` give each parameter logical axes by the end of its path, and
`RULES` give each logical axis its mesh axes; XLA adds the communication. Batches and states are sharded over data and
fsdp. Moments of the optimiser and running averages end in their parameter's path, so they are sharded like it.

    mesh = jomni.sharding.make_mesh(data=1, fsdp=1, tensor=4)
    params = jomni.sharding.shard_params(params, mesh)
    state = jomni.sharding.shard_state(model.init_state(batch=8), mesh)
    state, out = model.step(params, state, pcm)

`jomni.load(source, sharding=jomni.sharding.placement(mesh))` shards parameters while they are read.
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
"""A tree in the form of the state. Each leaf is a tuple with a logical name for each axis; None: not sharded."""

MESH_AXES = ("data", "fsdp", "tensor")

RULES: Mapping[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "embed": ("fsdp",),  # width of the residual stream
    "heads": ("tensor",),  # all heads, concatenated
    "mlp": ("tensor",),  # inner width of a feed-forward layer
    "vocab": ("tensor",),  # entries of a table, or logits
    "channels_in": ("tensor",),  # of a convolution
    "channels_out": ("fsdp",),
}
"""Mesh axes of each logical axis. Other logical axes are not sharded."""

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
"""Axes by the end of a path, for the parameters of all models. Parameters that match no pattern are replicated."""


def make_mesh(data: int = 0, fsdp: int = 1, tensor: int = 1) -> Mesh:
    """Return a mesh of the available devices. `data` 0 means all devices that the other axes leave.

    Raises:
      ConfigError: the product of the axes does not fit the number of devices.
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
    """Return the logical axes of each leaf by the end of its path (`PATTERNS`)."""

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
    """Return the sharding of one leaf, and the logical axes that are not sharded because their length does not divide.

    Raises:
      ConfigError: the number of names is not the number of axes, or two names use the same mesh axis.
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
                raise ConfigError(f"logical axes {used[axis]!r} and {name!r} of one array both use mesh axis {axis!r}")
            used[axis] = name or ""
        if length % math.prod(mesh.shape[axis] for axis in wanted):
            whole.append(f"{name} of length {length}")
            wanted = ()
        parts.append(wanted or None)
    return PartitionSpec(*parts), whole


def shardings(state: Any, axes: Axes, mesh: Mesh, report: Callable[[str], None] = lambda line: None) -> Any:
    """Return a `NamedSharding` for each leaf of an (abstract) state.

    Args:
      state: arrays or their shapes.
      axes: their logical axes.
      mesh: from `make_mesh`.
      report: called once with the axes that are not sharded because their length does not divide.
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
        report(f"not sharded over the mesh {dict(mesh.shape)}, because the length is not divisible: {listed}")
    return placed


def shard_params(params: Any, mesh: Mesh) -> Any:
    """Return the parameters of any model, placed on the mesh. Leaves that no pattern fits are replicated."""
    return jax.device_put(params, shardings(params, axes_by_path(params), mesh))


def shard_state(state: Any, mesh: Mesh) -> Any:
    """Return a streaming state, placed on the mesh with its batch axis over data and fsdp.

    Raises:
      ConfigError: the batch does not divide over the mesh.
    """

    def place(leaf: Any) -> Any:
        return jax.device_put(leaf, batch_sharding(mesh, leaf.shape[0]))

    return jax.tree.map(place, state)


def placement(mesh: Mesh) -> Callable[[str, tuple[int, ...]], NamedSharding]:
    """Return a function of (path, shape) for `jomni.load(sharding=)`."""

    def place(path: str, shape: tuple[int, ...]) -> NamedSharding:
        for pattern, axes in PATTERNS:
            if len(axes) == len(shape) and pattern.search(path):
                return NamedSharding(mesh, spec(shape, axes, mesh)[0])
        return NamedSharding(mesh, PartitionSpec())

    return place


def batch_sharding(mesh: Mesh, rows: int) -> NamedSharding:
    """Return how batches of `rows` are sharded.

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
