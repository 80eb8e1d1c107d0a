"""The networks that checkpoints can hold. A new model is a folder in `jomni.models` and one line here.

Detecting, loading, saving, `jomni info` and `jomni convert` follow this list.
"""

from __future__ import annotations

from collections.abc import Mapping

from jomni.models.decoder.component import COMPONENT as DECODER
from jomni.models.mimi.component import COMPONENT as MIMI
from jomni.models.mini_omni.component import COMPONENT as MINI_OMNI
from jomni.models.moshi.component import COMPONENT as MOSHI
from jomni.models.snac.component import COMPONENT as SNAC
from jomni.models.whisper.component import COMPONENT as WHISPER
from jomni.tensors.component import Component

COMPONENTS: dict[str, Component] = {c.name: c for c in (MOSHI, MINI_OMNI, DECODER, MIMI, SNAC, WHISPER)}
"""By name: "lm" (Moshi's language model), "omni" (Mini-Omni's), "decoder", "mimi", "snac", "whisper"."""

CODECS = tuple(name for name, component in COMPONENTS.items() if component.codec)
"""Names of the components that turn audio into codes."""

_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "moshi": ("kyutai", "hf", "orbax"),  # lm and mimi
    "mimi": ("kyutai", "hf", "orbax"),
    "mini_omni": ("litgpt", "orbax"),  # omni, whisper and snac
}
"""Families whose layouts do not follow from one component alone."""


def layouts_of(family: str) -> tuple[str, ...]:
    """Return the layouts that can hold a family. The first is that of the model's authors."""
    if family in _FAMILIES:
        return _FAMILIES[family]
    component = COMPONENTS[family]
    found = [component.published.layout] if component.published else []
    found += ["hf"] if component.huggingface else []
    return (*found, "orbax") if component.to_json else tuple(found)


def model_kind(model_type: str) -> str:
    """Return what a checkpoint of a model type is, for people."""
    kinds = {kind: said for component in COMPONENTS.values() for kind, said in component.kinds.items()}
    return kinds.get(model_type, model_type)


def is_float32_only(path: str) -> bool:
    """Return whether a parameter ("mimi/...", "lm/...") stays float32 whatever the model's dtype."""
    name, _, rest = path.partition("/")
    return name in COMPONENTS and rest.startswith(COMPONENTS[name].float32_only)
