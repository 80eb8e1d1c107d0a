"""The config.json of a run: written at its start, and compared when the run is resumed."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jomni.errors import ConfigError
from jomni.train.config import TrainConfig
from jomni.train.overrides import is_group


def to_dict(config: Any) -> Any:
    """Return the configuration as JSON values. Each group holds the name of its class under "type"."""
    if is_group(config):
        values = {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"type": type(config).__name__} | values
    if isinstance(config, tuple | list):
        return [to_dict(value) for value in config]
    return config if isinstance(config, bool | int | float | str | None) else str(config)


def keep_config(config: TrainConfig, folder: Path) -> list[str]:
    """Write config.json to the run's folder. If the folder has checkpoints, the new configuration must be compatible.

    Returns:
      Descriptions of changed optimiser options.

    Raises:
      ConfigError: fields differ that may not change on resume, or the old configuration has a field that no longer
        exists.
    """
    path = folder / "config.json"
    new, told = to_dict(config), []
    if path.is_file() and any(c.name.isdigit() for c in (folder / "checkpoints").glob("*")):
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path}: is damaged ({error}). Remove the folder, or choose another --name.") from None
        allowed = {".".join(name) for name in _mutable(config)}
        # A field that is missing in the old configuration counts as its default.
        before, after = _leaves(old), _leaves(new)
        before = {k: v for k, v in _defaults(config).items() if k in after} | before
        changed = [k for k in sorted(before.keys() | after.keys()) if before.get(k) != after.get(k)]
        unknown = [k for k in sorted(before.keys() - after.keys()) if not any(_nested(k, name) for name in after)]
        refused = [k for k in changed if not any(k == a or k.startswith(a + ".") for a in allowed)]
        if refused or unknown:
            lines = "".join(
                f"\n  {k}: {before.get(k)!r} before, {'no such field' if k in unknown else repr(after.get(k))} now"
                for k in sorted({*refused, *unknown})
            )
            raise ConfigError(
                f"{folder}: holds a run with another configuration:{lines}\n"
                "Choose another --name, give the old values, or remove the folder."
            )
        told = [f"{k} is {after[k]!r}, not {before[k]!r}" for k in changed if "optimizer." in k and k in before]
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(new, indent=2) + "\n", encoding="utf-8")
    os.replace(scratch, path)
    return told


def _mutable(config: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for field in dataclasses.fields(config):
        if field.metadata.get("mutable_on_resume"):
            yield (*prefix, field.name)
        elif is_group(getattr(config, field.name)):
            yield from _mutable(getattr(config, field.name), (*prefix, field.name))


def _defaults(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return the defaults of all fields that have one, by dotted name, as JSON values."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        name, value, default = f"{prefix}{field.name}", getattr(config, field.name), field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if is_group(value):
            found |= _defaults(value, f"{name}.")
        if default is not dataclasses.MISSING:
            found |= _leaves(to_dict(default), f"{name}.")
    return found


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {name: leaf for key, value in tree.items() for name, leaf in _leaves(value, f"{prefix}{key}.").items()}


def _nested(name: str, other: str) -> bool:
    """Return whether one field is inside the other, as when only one configuration sets an optional group."""
    return name.startswith(other + ".") or other.startswith(name + ".")
