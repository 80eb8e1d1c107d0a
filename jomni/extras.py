"""Checks for optional packages."""

from __future__ import annotations

import importlib.util

from jomni.errors import JomniError


def missing(*names: str) -> list[str]:
    """Return the modules that are not installed."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def require(extra: str, *names: str) -> None:
    """Check that modules of one of jomni's extras are installed, before work begins.

    Raises:
      JomniError: modules are missing. The message names them and the extra.
    """
    absent = missing(*names)
    if absent:
        raise JomniError(f"this needs {', '.join(absent)}. Install them: pip install 'jomni[{extra}]'")
