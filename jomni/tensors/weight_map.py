"""Weight maps as data: the correspondence between tensors of a file and parameters, and their axis orders.

A `Rule` maps a parameter's path to the name of its tensor in the original's modules. A `Stack` lists tensors that
published files store as one, concatenated on their first axis, either whole or in alternating groups of rows.
`WeightMap.expect` applies both to a parameter tree, and returns the names and shapes that a file must have. `bind`
compares these with an existing file and returns the place of each parameter. Reading (`jomni.tensors.stream`) and
writing (`jomni.checkpoints.save`) use the same expectation, so an import is exported with the same names and layout.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from jomni.errors import WeightsError
from jomni.tensors.source import TensorSpec, listing

flatten = functools.partial(traverse_util.flatten_dict, sep="/")
"""Return a nested dictionary as a flat one: path -> leaf, depth first in its own order."""

unflatten = functools.partial(traverse_util.unflatten_dict, sep="/")
"""Return the nested dictionary of a flat one."""


@dataclasses.dataclass(frozen=True)
class Transform:
    """Axis order of a tensor in a file. The parameter is the file's tensor without unit axes, then permuted."""

    perm: tuple[int, ...] | None = None  # parameter = file.transpose(perm)
    units: tuple[int, ...] = ()  # axes of length 1 that only the file has

    @property
    def keeps_rows(self) -> bool:
        """Return whether row i of the file is row i of the parameter."""
        return self.perm is None and 0 not in self.units

    def to_leaf(self, tensor: np.ndarray) -> np.ndarray:
        tensor = tensor.squeeze(self.units)
        return tensor if self.perm is None else tensor.transpose(self.perm)

    def to_file(self, leaf: np.ndarray) -> np.ndarray:
        if self.perm is not None:
            leaf = leaf.transpose(tuple(int(i) for i in np.argsort(self.perm)))
        return np.expand_dims(leaf, self.units)

    def file_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape in the file of a parameter of this shape."""
        return self.to_file(np.broadcast_to(np.int8(0), shape)).shape


IDENTITY = Transform()
CONV = Transform(perm=(2, 1, 0))  # [O, I, K] in the file, [K, I, O] as parameter
CONV_TRANSPOSED = Transform(perm=(0, 2, 1))  # [I, O, K] in the file, [I, K, O] as parameter
POINTWISE = Transform(units=(2,))  # [O, I, 1] in the file, [O, I] as parameter
VECTOR = Transform(units=(0, 1))  # [1, 1, D] in the file, [D] as parameter


class Rule(NamedTuple):
    """Maps a parameter's path to its tensor's name. `{i}` is a number and `{name}` a word, equal in both."""

    path: str
    name: str
    transform: Transform = IDENTITY

    def under(self, path: str, name: str) -> Rule:
        """Return the rule of a module at `path` with the name `name`."""
        return Rule(f"{path}/{self.path}", f"{name}.{self.name}", self.transform)


class Stack(NamedTuple):
    """Tensors whose names end in `parts`, with `{i}` counting up, are one tensor that ends in `whole` in files."""

    parts: str
    whole: str
    groups: int = 1  # > 1: rows alternate: one group of rows of each part, then the next group of each


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One parameter, and its tensor in the original's modules."""

    path: str  # of the parameter, "/"-separated
    name: str  # of its tensor in the original's modules
    transform: Transform
    shape: tuple[int, ...]  # of the parameter
    file_shape: tuple[int, ...]  # of the tensor


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a published file: one leaf, or several stacked on the first axis."""

    name: str
    shape: tuple[int, ...]
    leaves: tuple[Leaf, ...]
    groups: int = 1  # as `Stack.groups`

    def places(self) -> list[Place]:
        """Return the place of each leaf in this tensor."""
        if len(self.leaves) == 1:
            return [Place(self.name, None, self.leaves[0])]
        heights = [leaf.file_shape[0] // self.groups for leaf in self.leaves]
        ends, period = list(itertools.accumulate(heights)), sum(heights)
        return [Place(self.name, slice(end - height, end), leaf, self.groups, period)
                for leaf, end, height in zip(self.leaves, ends, heights, strict=True)]  # fmt: skip


class Place(NamedTuple):
    """Location of a parameter's values: a tensor of the file, or some of its rows."""

    name: str
    rows: slice | None
    leaf: Leaf
    groups: int = 1  # number of runs of rows; `rows` is the first run
    period: int = 0  # rows from one run to the next

    def runs(self, most: int) -> Iterator[tuple[int, int, int]]:
        """Yield (first row of the leaf, number of rows, first row of the tensor) in pieces of at most `most` rows."""
        first, height = self.rows.start if self.rows else 0, self.leaf.file_shape[0] // self.groups
        for group in range(self.groups):
            for row in range(0, height, most):
                yield group * height + row, min(most, height - row), first + group * self.period + row


@dataclasses.dataclass(frozen=True)
class WeightMap:
    """The weight map of one model family."""

    rules: tuple[Rule, ...]
    stacks: tuple[Stack, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()  # regular expression -> replacement, for other spellings in files

    def expect(self, tree: Mapping[str, Any]) -> list[Tensor]:
        """Return the tensors of the published file that holds the parameters `tree`.

        Args:
          tree: nested dictionary of arrays or of `jax.ShapeDtypeStruct`.

        Raises:
          WeightsError: no rule matches a parameter.
        """
        rules = [(_regex(rule.path, "/"), rule) for rule in self.rules]
        stacks = [(re.compile(f"(?P<stem>.*\\.){_regex(s.parts, '.').pattern}"), s) for s in self.stacks]
        members: dict[str, tuple[int, list[tuple[int, Leaf]]]] = {}
        for path, value in flatten(tree).items():
            leaf = _leaf(path, tuple(value.shape), rules)
            whole, index, groups = leaf.name, 0, 1
            for regex, stack in stacks:
                if match := regex.fullmatch(leaf.name):
                    whole, index, groups = match["stem"] + stack.whole, int(match["i"]), stack.groups
            members.setdefault(whole, (groups, []))[1].append((index, leaf))
        tensors = []
        for name, (groups, found) in members.items():
            leaves = tuple(leaf for _, leaf in sorted(found, key=lambda m: m[0]))
            shape = leaves[0].file_shape
            if len(leaves) > 1:
                shape = (sum(leaf.file_shape[0] for leaf in leaves), *shape[1:])
            tensors.append(Tensor(name, shape, leaves, groups))
        return tensors

    def rename(self, name: str) -> str:
        """Return the current name of a tensor that a file may spell otherwise."""
        for pattern, replacement in self.renames:
            name = re.sub(pattern, replacement, name)
        return name


def bind(names: WeightMap, tensors: Iterable[Tensor], specs: Mapping[str, TensorSpec], where: str,
         fits: str = "its configuration") -> dict[str, Place]:  # fmt: skip
    """Return the place of every parameter in a file. No tensor may be missing, surplus or misshapen.

    Stacked tensors may also be stored separately, under the names in the original's current modules.

    Args:
      names: the weight map.
      tensors: expected tensors, from `WeightMap.expect`.
      specs: tensors of the file.
      where: name of the file, for messages.
      fits: what the file is compared with, for messages.

    Returns:
      The place of each parameter, by path.

    Raises:
      WeightsError: one message with all that is missing, surplus, misshapen or not of a floating-point dtype.
    """
    found: dict[str, str] = {}
    problems: dict[str, list[str]] = {"missing": [], "surplus": [], "of another shape or kind": []}
    for name in specs:
        if (known := names.rename(name)) in found:
            problems["surplus"].append(f"'{name}' (the same as '{found[known]}')")
        else:
            found[known] = name
    places: dict[str, Place] = {}
    used: set[str] = set()
    for tensor in tensors:
        if tensor.name in found:
            wanted = [(tensor.name, tensor.shape)]
            places |= {p.leaf.path: p._replace(name=found[tensor.name]) for p in tensor.places()}
        elif any(leaf.name in found for leaf in tensor.leaves):
            wanted = [(leaf.name, leaf.file_shape) for leaf in tensor.leaves]
            places |= {leaf.path: Place(found.get(leaf.name, ""), None, leaf) for leaf in tensor.leaves}
        else:
            wanted = [(tensor.name, tensor.shape)]
        for name, shape in wanted:
            used.add(name)
            if name not in found:
                problems["missing"].append(f"'{name}' {list(shape)}")
                continue
            spec = specs[found[name]]
            if spec.shape != shape:
                told = f"'{found[name]}' {list(spec.shape)} (expected {list(shape)})"
                problems["of another shape or kind"].append(told)
            elif not is_float(spec.dtype):
                problems["of another shape or kind"].append(f"'{found[name]}' {spec.dtype} (expected floating point)")
    problems["surplus"] += [f"'{name}'" for known, name in found.items() if known not in used]
    if any(problems.values()):
        raise misfit(problems, where, fits)
    return places


def is_float(dtype: Any) -> bool:
    """Return whether a dtype is floating point, including bfloat16."""
    return np.dtype(dtype).kind == "f" or np.dtype(dtype).name == "bfloat16"


_FIELD = re.compile(r"\{(\w+)\}")


def _regex(template: str, separator: str) -> re.Pattern[str]:
    """Return the pattern of a template. A one-letter field is a number, a longer one a word without the separator."""
    parts = _FIELD.split(template)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = f"(?P<{part}>\\d+)" if len(part) == 1 else f"(?P<{part}>[^{separator}]+)"
        else:
            parts[i] = re.escape(part)
    return re.compile("".join(parts))


def _leaf(path: str, shape: tuple[int, ...], rules: list[tuple[re.Pattern[str], Rule]]) -> Leaf:
    for regex, rule in rules:
        if match := regex.fullmatch(path):
            name = rule.name.format(**match.groupdict())
            return Leaf(path, name, rule.transform, shape, rule.transform.file_shape(shape))
    raise WeightsError(f"parameter '{path}' has no name in the published layout; this layout cannot hold it")


def misfit(problems: Mapping[str, list[str]], where: str, fits: str) -> WeightsError:
    """Return one error for all problems, given as lists of names by kind of problem."""
    told = [f"{len(names)} {kind}: {listing(names)}" for kind, names in problems.items() if names]
    cure = "Use the configuration that belongs to this file, or download the file again."
    if any("_scb" in name for name in problems.get("surplus", [])):
        cure = "These are int8 weights of the original's quantised form, which is not supported: use the bf16 file."
    return WeightsError(f"{where}: does not fit {fits}: {'; '.join(told)}. {cure}")
