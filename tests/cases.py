"""Parametrised cases of which some are left to the slow run."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_except(kept: Collection[str], names: Iterable[str]) -> list[Any]:
    """Return every name as a parameter; those that are not in `kept` are marked slow."""
    names = list(names)
    assert set(kept) <= set(names)
    return [name if name in kept else pytest.param(name, marks=pytest.mark.slow) for name in names]
