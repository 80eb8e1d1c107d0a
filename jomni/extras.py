"""Optional packages: which are missing, and how to get them."""

from __future__ import annotations

import importlib.util

from jomni.errors import JomniError


def missing(*names: str) -> list[str]:
    """Return those of the given modules that are not installed."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def require(extra: str, *names: str) -> None:
    """Make sure, before the work begins, that modules of one of jomni's extras are installed.

    Raises:
      JomniError: some are not; it names them, and the extra.
    """
    absent = missing(*names)
    if absent:
        raise JomniError(f"this needs {', '.join(absent)}. Install them: pip install 'jomni[{extra}]'")
