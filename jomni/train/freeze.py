"""Freezing: split a parameter tree by its paths into trained and frozen parameters, and join them again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jomni.errors import ConfigError
from jomni.tensors.weight_map import flatten, unflatten

Tree = dict[str, Any]


def check_patterns(patterns: Sequence[str]) -> None:
    """Check that all patterns are regular expressions. Raise `ConfigError` if one is not."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"freeze: {pattern!r} is not a regular expression ({error})") from None


def frozen_paths(params: Mapping[str, Any], patterns: Sequence[str]) -> frozenset[str]:
    """Return the paths, such as "encoder/conv1/bias", that start with a match of any of the regular expressions.

    Raises:
      ConfigError: a pattern matches no path, or all parameters would be frozen.
    """
    paths = list(flatten(params))
    for pattern in patterns:
        if not any(re.match(pattern, path) for path in paths):
            raise ConfigError(f"freeze: {pattern!r} matches no parameter; the model's parts are {', '.join(params)}")
    frozen = frozenset(path for path in paths if any(re.match(pattern, path) for pattern in patterns))
    if len(frozen) == len(paths):
        raise ConfigError(f"freeze = {tuple(patterns)} leaves nothing to train")
    return frozen


def split(params: Mapping[str, Any], trains: Callable[[str], bool]) -> tuple[Tree, Tree | None]:
    """Split parameters into those that train and those that do not (None: all train).

    Args:
      params: the parameters.
      trains: returns whether the parameter at a path trains.
    """
    leaves = flatten(params)
    moving = {path: leaf for path, leaf in leaves.items() if trains(path)}
    if len(moving) == len(leaves):
        return dict(params), None
    return unflatten(moving), unflatten({path: leaf for path, leaf in leaves.items() if path not in moving})


def join(params: Mapping[str, Any], frozen: Mapping[str, Any] | None) -> Tree:
    """Join the two parts that `split` returned."""
    return dict(params) if frozen is None else unflatten(flatten(params) | flatten(frozen))


def cast(tree: Mapping[str, Any], dtype: Any) -> Tree:
    """Return the tree with its floating-point leaves cast to `dtype`."""
    leaves = flatten(tree).items()
    return unflatten({p: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x for p, x in leaves})


def fingerprint(frozen: Tree) -> str:
    """Return a SHA-256 fingerprint of the frozen parameters: 64 hexadecimal digits.

    It depends on the paths, dtypes, shapes and all bits, and not on the sharding. It reads each parameter once, on its
    own devices.
    """
    leaves = sorted(flatten(frozen).items(), key=lambda pair: pair[0])
    told = [f"{path} {leaf.dtype}{leaf.shape} {int(_sum(leaf))}" for path, leaf in leaves]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


@jax.jit
def _sum(leaf: Array) -> Array:
    """Return a hash of an array: the wrapping sum of its values' bits, each mixed with its index. Order-independent."""
    kind = jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")
    bits = leaf if leaf.dtype == bool else jax.lax.bitcast_convert_type(leaf, kind)
    place, stride = jnp.zeros(leaf.shape, jnp.uint32), 1
    for axis in reversed(range(leaf.ndim)):
        place += jnp.uint32(stride % 2**32) * jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
        stride *= leaf.shape[axis]
    mixed = bits.astype(jnp.uint32) ^ (place * jnp.uint32(0x9E3779B1))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):  # MurmurHash3's finaliser
        mixed = (mixed ^ (mixed >> shift)) * jnp.uint32(factor)
    return (mixed ^ (mixed >> 16)).sum(dtype=jnp.uint32)
