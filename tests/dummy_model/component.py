"""The dummy model as a component of checkpoints, its weight map included."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jomni.tensors.component import Component, Published, abstract_init
from jomni.tensors.weight_map import Rule, WeightMap
from tests.dummy_model.config import DummyConfig
from tests.dummy_model.model import Dummy


def abstract_params(config: DummyConfig) -> dict[str, Any]:
    """Return the shapes of its parameters."""
    x = jax.ShapeDtypeStruct((1, config.width), jnp.float32)
    return abstract_init(Dummy(config), x)


def weight_map(config: DummyConfig) -> WeightMap:
    """Return the published names."""
    return WeightMap((Rule("head/weight", "proj.weight"),))


COMPONENT = Component(
    name="dummy",
    title="dummy",
    abstract_params=abstract_params,
    weight_map=weight_map,
    build=lambda checkpoint: (Dummy(checkpoint.configs["dummy"]), checkpoint.params["dummy"]),
    groups={"head": ("head/",)},
    describe=lambda config, info: [f"  {config.width} wide, {config.outputs} outputs"],
    kinds={"dummy": "Dummy, a model for tests"},
    from_json=DummyConfig.from_published,
    to_json=DummyConfig.to_published,
    published=Published(
        layout="dummy",
        weights=("model.safetensors",),
        owns_config=lambda raw: "dummy_width" in raw,
        owns_weights=lambda source: "proj.weight" in source.specs,
        read=DummyConfig.from_published,
        write=DummyConfig.to_published,
        keys=("dummy_width", "dummy_outputs"),
    ),
)
