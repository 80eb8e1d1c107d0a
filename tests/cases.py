"""Parametrised cases of which some are left to the slow run."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest
from hypothesis import settings

EAGER = settings(max_examples=settings.default.max_examples // 10)
"""For properties of arrays whose shapes differ: each example compiles its operations again."""


def slow_except(kept: Collection[str], names: Iterable[str]) -> list[Any]:
    """Return every name as a parameter; those that are not in `kept` are marked slow."""
    names = list(names)
    assert set(kept) <= set(names)
    return [name if name in kept else pytest.param(name, marks=pytest.mark.slow) for name in names]
