"""Registry of the networks that checkpoints can contain. A new model is a folder in `jomni.models` and one line here.

Detecting, loading, saving, `jomni info` and `jomni convert` use this registry.
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
"""Layouts of families with several components, or with layouts that their component does not list."""


def layouts_of(family: str) -> tuple[str, ...]:
    """Return the layouts that support a family. The first is that of the model's authors."""
    if family in _FAMILIES:
        return _FAMILIES[family]
    component = COMPONENTS[family]
    found = [component.published.layout] if component.published else []
    found += ["hf"] if component.huggingface else []
    return (*found, "orbax") if component.to_json else tuple(found)


def model_kind(model_type: str) -> str:
    """Return the description of a model type, or its name if there is none."""
    kinds = {kind: said for component in COMPONENTS.values() for kind, said in component.kinds.items()}
    return kinds.get(model_type, model_type)


def is_float32_only(path: str) -> bool:
    """Return whether a parameter ("mimi/...", "lm/...") is float32 for every dtype of the model."""
    name, _, rest = path.partition("/")
    return name in COMPONENTS and rest.startswith(COMPONENTS[name].float32_only)
