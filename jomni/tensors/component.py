"""Description of one kind of network: all that detection, loading, saving and `jomni info` need to know of it.

Every model folder has a `component.py` with one `Component`, and `jomni.checkpoints.registry` lists them. Apart from
this, `jomni.checkpoints` and the commands `info` and `convert` name only models that consist of several networks.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
from flax import linen as nn

from jomni.tensors.source import TensorSource
from jomni.tensors.weight_map import Place, WeightMap, bind


@dataclasses.dataclass(frozen=True)
class Published:
    """The published form of a network: one weight file, with a config.json beside it."""

    layout: str  # name of the layout, such as "snac"
    weights: tuple[str, ...]  # names of the weight file; the first is written
    owns_config: Callable[[Mapping[str, Any]], bool]  # whether the content of a config.json is of this network
    owns_weights: Callable[[TensorSource], bool]  # whether a weight file is of this network
    read: Callable[[Any, str], Any]  # (content of config.json, its path for messages) -> configuration
    write: Callable[[Any], Any]  # configuration -> content of config.json
    keys: tuple[str, ...]  # keys of config.json, for messages
    embedded: Callable[[TensorSource], Any] = lambda source: None  # configuration inside the weight file, or None


class Described(Protocol):
    """Everything of a checkpoint but its numbers; what `jomni.checkpoints.detect` returns is such, too."""

    @property
    def configs(self) -> Mapping[str, Any]:
        """Return the configuration of each component."""
        ...

    @property
    def model_type(self) -> str:
        """Return the intended use: "moshi", "hibiki", "stt", "tts", ..."""
        ...

    @property
    def generation(self) -> Mapping[str, Any]:
        """Return the default sampling settings."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Return other published keys."""
        ...

    @property
    def source(self) -> str:
        """Return the path or hub id from which it was loaded."""
        ...


class Loaded(Described, Protocol):
    """The parts of a loaded checkpoint from which a model is built. `jomni.Checkpoint` implements it."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Return the parameters of each component."""
        ...

    @property
    def tokenizer(self) -> bytes | None:
        """Return the content of the sentencepiece model file, or None."""
        ...

    @property
    def files(self) -> Mapping[str, bytes]:
        """Return the tokenizer and generation files by name."""
        ...

    @property
    def codec_codebooks(self) -> int:
        """Return the number of Mimi codebooks that the model uses."""
        ...


def _same(source: TensorSource, config: Any) -> TensorSource:
    return source


@dataclasses.dataclass(frozen=True)
class HuggingFace:
    """The transformers form of a network: a folder with config.json and model.safetensors."""

    architectures: Mapping[str, tuple[str, ...]]  # "model_type" -> supported classes
    read: Callable[[Mapping[str, Any], str], Any]  # (content of config.json, its path for messages) -> configuration
    write: Callable[[Any, str], dict[str, Any]]  # (configuration, model_type) -> content of config.json
    names: Callable[[Any], WeightMap] | None = None  # names in the file; None: `Component.weight_map`
    to_own: Callable[[TensorSource, Any], TensorSource] = _same  # shows the file under the names of `Component`
    to_hf: Callable[[TensorSource, Any], TensorSource] = _same  # the inverse of `to_own`
    preprocessor: Callable[[Any], dict[str, Any]] | None = None  # content of preprocessor_config.json
    text: bool = False  # whether it has tokenizer files and generation_config.json


@dataclasses.dataclass(frozen=True)
class Component:
    """One kind of network that a checkpoint can hold."""

    name: str  # key in `Checkpoint.configs` and `Checkpoint.params`
    title: str  # name in messages and in `jomni info`
    abstract_params: Callable[[Any], dict[str, Any]]  # configuration -> nested dict of jax.ShapeDtypeStruct
    weight_map: Callable[[Any], WeightMap]  # configuration -> published names of the parameters
    build: Callable[[Loaded], tuple[Any, Any]]  # checkpoint -> (runnable model, its parameters); see `from_pretrained`
    groups: Mapping[str, tuple[str, ...]]  # part of the network -> prefixes of its parameter paths
    describe: Callable[[Any, Any], list[str]]  # (configuration, `CheckpointInfo`) -> lines of `jomni info`
    kinds: Mapping[str, str]  # "model_type" -> description of such a checkpoint
    from_json: Callable[[Any, str], Any] | None = None  # reads the configuration in the project's own layout
    to_json: Callable[[Any], Any] | None = None  # writes it; None: that layout does not support this network
    published: Published | None = None
    huggingface: HuggingFace | None = None
    described_by: str = "its configuration"  # what a weight file is compared with, for messages
    find: Callable[[Any, TensorSource], dict[str, Place]] | None = None  # replaces the comparison in `places`
    float32_only: tuple[str, ...] = ()  # prefixes of parameters that are float32 for every dtype; ("",): all
    float32_default: bool = False  # float32 in memory unless a dtype is given
    codec: Callable[[Any], Any] | None = None
    """Configuration -> `jomni.Codec` with all codebooks in use. None: it is not a codec."""
    companions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Other components of a whole model that contains this one -> their titles."""

    def places(self, config: Any, source: TensorSource) -> dict[str, Place]:
        """Return the place of each parameter in a weight file, by parameter path.

        Raises:
          WeightsError: the file does not fit. The message names all tensors that are missing, surplus or misshapen.
        """
        if self.find is not None:
            return self.find(config, source)
        names = self.weight_map(config)
        return bind(names, names.expect(self.abstract_params(config)), source.specs, source.name, self.described_by)


def abstract_init(
    module: nn.Module, *inputs: jax.ShapeDtypeStruct, method: Callable[..., Any] | None = None
) -> dict[str, Any]:
    """Return the shapes of a module's parameters, as a nested dict of `jax.ShapeDtypeStruct`.

    Tracing a large model takes a second, so the shapes of the last models are kept.

    Args:
      module: with hashable fields.
      inputs: shapes and dtypes of its arguments.
      method: of the module, instead of `__call__`.
    """
    return jax.tree.map(lambda leaf: leaf, _abstract_init(module, inputs, method))  # the dicts are the caller's own


@functools.lru_cache(maxsize=64)
def _abstract_init(
    module: nn.Module, inputs: tuple[jax.ShapeDtypeStruct, ...], method: Callable[..., Any] | None
) -> dict[str, Any]:
    shapes: dict[str, Any] = jax.eval_shape(functools.partial(module.init, method=method), jax.random.key(0), *inputs)
    return shapes["params"]
