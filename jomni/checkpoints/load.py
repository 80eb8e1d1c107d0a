"""`load`: any checkpoint that is known, from a folder, a file or the hub, streamed into parameters."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from jomni.checkpoints import orbax
from jomni.checkpoints.checkpoint import Checkpoint
from jomni.checkpoints.detect import Opened, open_checkpoint
from jomni.checkpoints.registry import PARTS, is_float32_only, present
from jomni.errors import WeightsError
from jomni.models.moshi.weights import lm_table, lm_tree
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
    parts: Collection[str] = tuple(PARTS),
) -> Checkpoint:
    """Loads a checkpoint. Peak host memory is little more than the parameters themselves.

    Args:
      source: a folder, a weight file (a bare Mimi file, or another beside its config.json), or a hub id
        `owner/name`. Known are Kyutai's layout with and without config.json, SNAC's, OpenAI's Whisper checkpoints
        (.pt), Hugging Face's `MimiModel`, `MoshiForConditionalGeneration`, `WhisperModel`,
        `WhisperForConditionalGeneration` and text decoders (Qwen 2 and 3, Llama, Gemma 2 and 3), Mini-Omni's
        (lit_model.pth, model_config.yaml, tokenizer.json; with small.pt and a folder snac or snac_24khz where they
        are), and what `save` writes. Of a Whisper the encoder is read.
      dtype: floating-point dtype of the language model, such as "bfloat16"; None: as in the file. That of the speech
        encoder; None: float32, as openai-whisper computes, and again as in the file when it is saved. Codecs and the
        conditioners are float32 always.
      sharding: where parameters go: a `jax.sharding.Sharding` or device for all, a function of (path, shape) to one,
        with paths such as "lm/text_emb/weight", or a nested dictionary of them in the form of the parameters. None:
        JAX's default device.
      revision: branch, tag or commit of a hub repository.
      fuse_lora: add low-rank adapters into the weights (W + scaling * B A, computed in float32) instead of keeping them
        beside. The checkpoint's configuration then has none.
      lora: a LoRA file in place of the one that config.json names.
      parts: what to load of the checkpoint: ("mimi", "snac") leaves the language model where it is, and does not fetch
        it from the hub where it has a file of its own.

    Raises:
      WeightsError: files are missing, damaged, unsafe, or do not fit the configuration: all tensors that are missing,
        surplus or misshapen are named in one message.
      ConfigError: an option of the configuration is unknown or not supported.
    """
    target = parse_dtype(dtype)
    placement = placements(sharding)
    opened = open_checkpoint(source, revision=revision, lora=lora, parts=parts)
    if "lm" not in parts and opened.lm is not None:
        opened = dataclasses.replace(opened, family="mimi", lora_source=None)
    if "omni" not in parts and opened.omni is not None:
        rest = next((part for part in ("snac", "whisper") if part in parts), opened.family)
        opened = dataclasses.replace(opened, family=rest, model_type=rest, settings={}, files={})
    opened = dataclasses.replace(opened, **dict.fromkeys(PARTS.keys() - set(parts)))  # type: ignore[arg-type]
    stored, lm = dict(opened.stored), opened.lm
    if opened.orbax is not None:
        if fuse_lora and lm is not None and lm.lora_rank:
            raise WeightsError(f"{opened.source}: 'fuse_lora' needs Kyutai's layout. Save it as such and load that.")
        params = orbax.read_params(opened.orbax, opened, target, placement)
    else:
        origins = _origins(opened, fuse_lora)
        params = {
            part: read_tree(f"{part}/", tree, _dtypes(target, stored), placement) for part, tree in origins.items()
        }
    if lm is not None and fuse_lora:
        lm = dataclasses.replace(lm, lora_rank=0)
    configs = {part.name: config for part, config in present(opened)} | {"lm": lm}
    return Checkpoint(
        opened.family, params=params, tokenizer=opened.tokenizer, generation=opened.generation,
        model_type=opened.model_type, settings=opened.settings, source=opened.source, stored=stored,
        files=opened.files, **({"mimi": None} | configs),
    )  # fmt: skip


def _origins(opened: Opened, fuse_lora: bool) -> dict[str, dict[str, Origin]]:
    """Where every parameter lies, by part; all files are checked whole before any is read."""
    parts: dict[str, dict[str, Origin]] = {}
    for part, config in present(opened):
        source = opened.sources[part.name]
        if part.name == "lm":
            parts["lm"] = _lm_origins(opened, fuse_lora)
        else:
            parts[part.name] = {path: Origin(source, place) for path, place in part.places(config, source).items()}
    return parts


def _dtypes(target: np.dtype | None, stored: dict[str, str]) -> Callable[[str, np.dtype], np.dtype]:
    """The dtype of each parameter; notes in `stored` where float32 stands for another one of the file."""

    def choose(path: str, held: np.dtype) -> np.dtype:
        if not is_float(held):
            return held
        if is_float32_only(path) or (path.startswith("whisper/") and target is None):
            if held != np.float32:
                stored[path] = held.name
            return np.dtype(np.float32)
        return held if target is None else target

    return choose


def _lm_origins(opened: Opened, fuse_lora: bool) -> dict[str, Origin]:
    """Where each parameter of the language model lies, over the model's file and the LoRA file."""
    lm, base, lora = opened.lm, opened.sources["lm"], opened.lora_source
    assert lm is not None
    table = lm_table(lm)
    tensors = table.expect(lm_tree(lm))
    adapters = [t for t in tensors if t.leaves[0].path.endswith(_LORA)]
    own = [t for t in tensors if not t.leaves[0].path.endswith(_LORA)]
    if lora is None:
        if adapters and not any(".lora_" in name for name in base.specs):
            raise WeightsError(
                f"{opened.source}: its configuration has 'lora' on, but no LoRA file: neither 'lora_name' nor the file "
                "of the model brings one. Give the file as `lora`, or set 'lora' to false."
            )
        places = bind(table, tensors, base.specs, base.name)
        origins = {path: Origin(base, place) for path, place in places.items()}
    else:
        origins = {path: Origin(base, place) for path, place in bind(table, own, base.specs, base.name).items()}
        held = {table.rename(name) for name in lora.specs}
        replaced = [t for t in own if t.name in held or any(leaf.name in held for leaf in t.leaves)]
        places = bind(table, adapters + replaced, lora.specs, lora.name, "the model that it is for")
        origins |= {path: Origin(lora, place) for path, place in places.items()}
    return _fused(origins, lm.lora_scaling) if fuse_lora else origins


def _fused(origins: dict[str, Origin], scaling: float) -> dict[str, Origin]:
    """The origins of the plain parameters, each layer's adapters attached to its weight."""
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
