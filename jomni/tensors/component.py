"""The description of one kind of network from which checkpoints of it are detected, loaded, saved and shown.

Every model folder has a `component.py` with one `Component`; `jomni.checkpoints.registry` lists them. Nothing else in
`jomni.checkpoints` or in the commands `info` and `convert` names a model that is published alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from jomni.tensors.source import TensorSource
from jomni.tensors.weight_map import Place, WeightMap, bind


@dataclasses.dataclass(frozen=True)
class Published:
    """How the authors publish a network: one weight file and a config.json beside it."""

    layout: str  # name of the layout, such as "snac"
    weights: tuple[str, ...]  # names of the weight file; the first is written
    owns_config: Callable[[Mapping[str, Any]], bool]  # whether the content of a config.json is of this network
    owns_weights: Callable[[TensorSource], bool]  # whether a weight file is of this network
    read: Callable[[Any, str], Any]  # (content of config.json, where it stands) -> configuration
    write: Callable[[Any], Any]  # back
    keys: tuple[str, ...]  # of config.json, for messages
    embedded: Callable[[TensorSource], Any] = lambda source: None  # configuration inside the weight file, or None


class Loaded(Protocol):
    """What a model needs of a loaded checkpoint to become runnable; `jomni.Checkpoint` is one."""

    @property
    def configs(self) -> Mapping[str, Any]:
        """Configuration of each component."""
        ...

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameters of each component."""
        ...

    @property
    def tokenizer(self) -> bytes | None:
        """Sentencepiece model."""
        ...

    @property
    def generation(self) -> Mapping[str, Any]:
        """Default sampling settings."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Other published keys."""
        ...

    @property
    def files(self) -> Mapping[str, bytes]:
        """Tokenizer and generation files by name."""
        ...

    @property
    def source(self) -> str:
        """Where it was loaded from."""
        ...

    @property
    def codec_codebooks(self) -> int:
        """Codebooks of Mimi that the model uses."""
        ...


def _same(source: TensorSource, config: Any) -> TensorSource:
    return source


@dataclasses.dataclass(frozen=True)
class HuggingFace:
    """How the transformers library publishes a network: a folder with config.json and model.safetensors."""

    architectures: Mapping[str, tuple[str, ...]]  # "model_type" -> classes that are read
    read: Callable[[Mapping[str, Any], str], Any]  # (content of config.json, where it stands) -> configuration
    write: Callable[[Any, str], dict[str, Any]]  # (configuration, model_type) -> content of config.json
    names: Callable[[Any], WeightMap] | None = None  # names in the file; None: `Component.weight_map`
    to_own: Callable[[TensorSource, Any], TensorSource] = _same  # the file under names that `Component` knows
    to_hf: Callable[[TensorSource, Any], TensorSource] = _same  # back
    preprocessor: Callable[[Any], dict[str, Any]] | None = None  # content of preprocessor_config.json
    text: bool = False  # carries tokenizer files and generation_config.json


@dataclasses.dataclass(frozen=True)
class Component:
    """One kind of network that a checkpoint can hold."""

    name: str  # key in `Checkpoint.configs` and `Checkpoint.params`
    title: str  # for people
    abstract_params: Callable[[Any], dict[str, Any]]  # configuration -> nested dict of jax.ShapeDtypeStruct
    weight_map: Callable[[Any], WeightMap]  # configuration -> published names of the parameters
    build: Callable[[Loaded], tuple[Any, Any]]  # checkpoint -> (runnable model, its parameters); see `from_pretrained`
    groups: Mapping[str, tuple[str, ...]]  # part of the network -> prefixes of its parameter paths
    describe: Callable[[Any, Any], list[str]]  # (configuration, `CheckpointInfo`) -> lines of `jomni info`
    kinds: Mapping[str, str]  # "model_type" -> what a checkpoint of it is, for people
    from_json: Callable[[Any, str], Any] | None = None  # configuration in the project's own layout: read
    to_json: Callable[[Any], Any] | None = None  # ... and write; None: that layout does not hold this network
    published: Published | None = None
    huggingface: HuggingFace | None = None
    described_by: str = "its configuration"  # what a weight file is compared with, for messages
    find: Callable[[Any, TensorSource], dict[str, Place]] | None = None  # replaces the comparison in `places`
    float32_only: tuple[str, ...] = ()  # prefixes of parameters that stay float32 whatever the dtype; ("",): all
    float32_default: bool = False  # float32 in memory unless a dtype is asked for
    codec: Callable[[Any], Any] | None = None
    """Configuration -> `jomni.Codec` with all codebooks in use, as one listens to it; None: it is no codec."""
    companions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Component that a whole model has beside this one -> its title."""

    def places(self, config: Any, source: TensorSource) -> dict[str, Place]:
        """Return the place of each parameter in a weight file, by parameter path.

        Raises:
          WeightsError: the file does not fit. The message names all tensors that are missing, surplus or misshapen.
        """
        if self.find is not None:
            return self.find(config, source)
        names = self.weight_map(config)
        return bind(names, names.expect(self.abstract_params(config)), source.specs, source.name, self.described_by)
