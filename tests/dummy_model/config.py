"""Configuration of the dummy model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jomni.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class DummyConfig:
    """A linear map of vectors."""

    width: int = 4
    outputs: int = 3

    @classmethod
    def from_published(cls, raw: Mapping[str, Any], where: str) -> DummyConfig:
        """Read the config.json of its authors."""
        unknown = sorted(set(raw) - {"dummy_width", "dummy_outputs"})
        if unknown:
            raise ConfigError(f"{where}: unknown options {unknown}. Remove them.")
        return cls(raw["dummy_width"], raw["dummy_outputs"])

    def to_published(self) -> dict[str, Any]:
        """Return the config.json of its authors."""
        return {"dummy_width": self.width, "dummy_outputs": self.outputs}
