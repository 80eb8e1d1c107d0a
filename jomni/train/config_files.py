"""Configuration files: jomni's own by name, and others by path."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

from jomni.errors import ConfigError
from jomni.train.config import TrainConfig


def named_configs() -> dict[str, Path]:
    """Return the file of each configuration that comes with jomni, by names such as "tiny_lm" and "nano/lm"."""
    package = importlib.util.find_spec("jomni.configs")
    folders = [Path(folder) for folder in (package.submodule_search_locations or ())] if package else []
    found = {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
    }
    return {name: path for name, path in found.items() if not name.endswith("__init__")}


def read_config(source: str | Path) -> TrainConfig:
    """Run a configuration file, and return the result of its `get_config()`.

    Args:
      source: the name of a configuration that comes with jomni, such as "tiny_lm" or "nano/lm", or the path of a
        Python file. The file may import modules beside it.

    Raises:
      ConfigError: there is no such file or name, the file raises an exception, or its `get_config` is missing or does
        not return a `TrainConfig`.
    """
    named = named_configs()
    path = named.get(str(source), Path(source))
    if not path.is_file():
        near = difflib.get_close_matches(str(source), named, 1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"{source}: is neither a file nor a known configuration.{meant} Known names: {', '.join(sorted(named))}."
        )
    try:
        with _importing_from(path.parent.resolve()):
            found = runpy.run_path(str(path))
            if not callable(found.get("get_config")):
                raise ConfigError(f"{path}: has no function get_config(); it must return a TrainConfig.")
            config = found["get_config"]()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path}: fails with {type(error).__name__}: {error}") from error
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"{path}: get_config() returned a {type(config).__name__}; it must be a TrainConfig.")
    return config


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Make the modules of a folder importable, and unload them at the end: another folder may use the same names."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and Path(file).parent == folder:
                del sys.modules[name]
