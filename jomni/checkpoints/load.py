"""`load`: reads a checkpoint of any supported layout from a folder, a file or the hub."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from jomni.checkpoints import orbax
from jomni.checkpoints.checkpoint import Checkpoint, CheckpointSource
from jomni.checkpoints.detect import detect
from jomni.checkpoints.registry import COMPONENTS, is_float32_only
from jomni.errors import WeightsError
from jomni.tensors.stream import Origin, parse_dtype, placements, read_tree
from jomni.tensors.weight_map import bind, is_float

_LORA = ("/lora_A", "/lora_B")


def load(
    source: str | os.PathLike[str],
    *,
    dtype: Any = None,
    sharding: Any = None,
    revision: str | None = None,
    fuse_lora: bool = False,
    lora: str | os.PathLike[str] | None = None,
    components: Collection[str] | None = None,
) -> Checkpoint:
    """Load a checkpoint. The peak host memory is little more than the size of the parameters.

    Supported layouts: Kyutai's, with and without config.json; SNAC's; OpenAI's Whisper checkpoints (.pt); Hugging
    Face's `MimiModel`, `MoshiForConditionalGeneration`, `WhisperModel`, `WhisperForConditionalGeneration` and text
    decoders (Qwen 2 and 3, Llama, Gemma 2 and 3); Mini-Omni's (lit_model.pth, model_config.yaml, tokenizer.json,
    optionally small.pt and a folder snac or snac_24khz); and the output of `save`. Only the encoder of a Whisper is
    read.

    Args:
      source: a folder, a weight file (a bare Mimi file, or another beside its config.json), or a hub id `owner/name`.
      dtype: floating-point dtype of language models and speech encoders, such as "bfloat16". None: language models as
        in the file, speech encoders in float32 as openai-whisper computes (`save` restores the dtype of the file).
        Codecs and conditioners are always float32.
      sharding: placement of the parameters: a `jax.sharding.Sharding` or device for all, a function of (path, shape) to
        one, with paths such as "lm/text_emb/weight", or a nested dictionary of them in the form of the parameters.
        None: JAX's default device.
      revision: branch, tag or commit of a hub repository.
      fuse_lora: add low-rank adapters to the weights (W + scaling * B A, computed in float32) instead of keeping them
        separate. The checkpoint's configuration then has no adapters.
      lora: a LoRA file that replaces the one in config.json.
      components: names of the components to load. None: all. ("mimi", "snac") leaves out the language model, and does
        not download its file if it has its own.

    Raises:
      WeightsError: files are missing, damaged, unsafe, or do not fit the configuration. One message names all tensors
        that are missing, surplus or misshapen.
      ConfigError: an option of the configuration is unknown or not supported.
    """
    target = parse_dtype(dtype)
    placement = placements(sharding)
    opened = _chosen(detect(source, revision=revision, lora=lora, components=components), components)
    configs, stored = dict(opened.configs), dict(opened.stored)
    if opened.orbax is not None:
        if fuse_lora and "lm" in configs and configs["lm"].lora_rank:
            raise WeightsError(f"{opened.source}: 'fuse_lora' needs Kyutai's layout. Save it as such and load that.")
        params = orbax.read_params(opened.orbax, configs, target, placement)
    else:
        origins = {name: _origins(opened, name, fuse_lora) for name in configs}  # checks all files before reading any
        params = {
            name: read_tree(f"{name}/", tree, _dtypes(target, stored), placement) for name, tree in origins.items()
        }
    if fuse_lora and "lm" in configs:
        configs["lm"] = dataclasses.replace(configs["lm"], lora_rank=0)
    return Checkpoint(
        opened.family, configs, params, tokenizer=opened.tokenizer, generation=opened.generation,
        model_type=opened.model_type, settings=opened.settings, source=opened.source, stored=stored, files=opened.files,
    )  # fmt: skip


def _chosen(opened: CheckpointSource, components: Collection[str] | None) -> CheckpointSource:
    """Leave out components that were not requested. A part of a model gets the family of its component."""
    if components is None:
        return opened
    left = {name: config for name, config in opened.configs.items() if name in components}
    if opened.family in COMPONENTS or set(left) & {"lm", "omni"} or not left:
        return dataclasses.replace(opened, configs=left)
    family = next(iter(sorted(left)))
    kept = opened.tokenizer if "lm" in opened.configs else None
    return dataclasses.replace(
        opened, configs=left, family=family, model_type=family, lora_source=None, settings={}, files={}, tokenizer=kept
    )


def _origins(opened: CheckpointSource, name: str, fuse_lora: bool) -> dict[str, Origin]:
    """Return the source of each parameter of a component."""
    source = opened.sources[name]
    if name == "lm":
        return _lm_origins(opened, fuse_lora)
    places = COMPONENTS[name].places(opened.configs[name], source)
    return {path: Origin(source, place) for path, place in places.items()}


def _dtypes(target: np.dtype | None, stored: dict[str, str]) -> Callable[[str, np.dtype], np.dtype]:
    """Return a function to the dtype of each parameter. It records in `stored` where float32 replaces another dtype."""

    def choose(path: str, held: np.dtype) -> np.dtype:
        if not is_float(held):
            return held
        component = COMPONENTS[path.partition("/")[0]]
        if is_float32_only(path) or (component.float32_default and target is None):
            if held != np.float32:
                stored[path] = held.name
            return np.dtype(np.float32)
        return held if target is None else target

    return choose


def _lm_origins(opened: CheckpointSource, fuse_lora: bool) -> dict[str, Origin]:
    """Return the source of each parameter of the language model: the model's file or the LoRA file."""
    lm, base, lora = opened.configs["lm"], opened.sources["lm"], opened.lora_source
    names = COMPONENTS["lm"].weight_map(lm)
    tensors = names.expect(COMPONENTS["lm"].abstract_params(lm))
    adapters = [t for t in tensors if t.leaves[0].path.endswith(_LORA)]
    own = [t for t in tensors if not t.leaves[0].path.endswith(_LORA)]
    if lora is None:
        if adapters and not any(".lora_" in name for name in base.specs):
            raise WeightsError(
                f"{opened.source}: its configuration has 'lora' on, but neither 'lora_name' nor the model's file gives "
                "adapters. Give a LoRA file as `lora`, or set 'lora' to false."
            )
        places = bind(names, tensors, base.specs, base.name)
        origins = {path: Origin(base, place) for path, place in places.items()}
    else:
        origins = {path: Origin(base, place) for path, place in bind(names, own, base.specs, base.name).items()}
        held = {names.rename(name) for name in lora.specs}
        replaced = [t for t in own if t.name in held or any(leaf.name in held for leaf in t.leaves)]
        places = bind(names, adapters + replaced, lora.specs, lora.name, "the model that it is for")
        origins |= {path: Origin(lora, place) for path, place in places.items()}
    return _fused(origins, lm.lora_scaling) if fuse_lora else origins


def _fused(origins: dict[str, Origin], scaling: float) -> dict[str, Origin]:
    """Return the sources of the plain parameters, with each layer's adapters attached to its weight."""
    fused = {}
    for path, origin in origins.items():
        if path.endswith(_LORA):
            continue
        down, up = (origins.get(path.removesuffix("/weight") + suffix) for suffix in _LORA)
        if path.endswith("/weight") and down and up:
            pair = ((down.source, down.place), (up.source, up.place))
            origin = dataclasses.replace(origin, lora=pair, scaling=scaling)
        fused[path] = origin
    return fused
