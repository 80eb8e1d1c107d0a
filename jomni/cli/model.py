"""Models and devices by their names on the command line."""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jomni.cli.console import working
from jomni.errors import AudioError, ConfigError, JomniError

if TYPE_CHECKING:
    import jax

    from jomni.checkpoints.checkpoint import Checkpoint, CheckpointSource
    from jomni.models.codec import Codec
    from jomni.models.mimi.config import MimiConfig


def split_revision(name: str) -> tuple[str, str | None]:
    """Split `owner/name@revision`; a path that exists is not split."""
    if "@" in name and not os.path.exists(name):
        source, _, revision = name.rpartition("@")
        return source, revision
    return name, None


def open_model(name: str, *, codec_only: bool = False) -> CheckpointSource:
    """Detect a model and read its configurations, but no weights.

    Args:
      name: on the command line.
      codec_only: read those of the codec alone.
    """
    from jomni.checkpoints.detect import detect
    from jomni.checkpoints.registry import CODECS

    source, revision = split_revision(name)
    return detect(source, revision=revision, components=CODECS if codec_only else None)


def load_codec(name: str) -> Checkpoint:
    """Load the codec of a model, without its language model."""
    import jomni
    from jomni.checkpoints.registry import CODECS

    source, revision = split_revision(name)
    return jomni.load(source, revision=revision, components=CODECS)


def load_model(options: Namespace, chosen: jax.Device) -> tuple[Checkpoint, str]:
    """Load the model of --model in --dtype, by default `jomni.default_dtype` of the device. Return it and the dtype."""
    import jomni

    source, revision = split_revision(options.model)
    dtype = options.dtype or jomni.default_dtype(chosen)
    with working(f"loading {options.model}"):
        return jomni.load(source, revision=revision, dtype=dtype), dtype


def codec_of(opened: CheckpointSource, codebooks: int | None = None) -> tuple[str, Codec]:
    """Return the codec of a model: the name of its component, and the codec without its parameters.

    Args:
      opened: the model.
      codebooks: those in use (--codebooks); None: as many as the model uses.

    Raises:
      AudioError: the codec cannot have so many codebooks.
      ConfigError: the model brings no codec, or one of several channels.
    """
    from jomni.checkpoints.registry import CODECS, COMPONENTS

    name = next((name for name in CODECS if name in opened.configs), None)
    if name is None:
        raise ConfigError(f"{opened.source}: the model brings no codec. Give one with its codec's weights beside it.")
    make = COMPONENTS[name].codec
    assert make is not None
    codec: Codec = make(opened.configs[name])
    if codec.channels != 1:
        raise ConfigError(
            f"{opened.source}: its codec has {codec.channels} channels; commands work with one. Use the functions of "
            "jomni instead."
        )
    if codebooks is not None:
        try:
            return name, codec.with_codebooks(codebooks)
        except AudioError as error:
            raise AudioError(f"--codebooks {codebooks}: {opened.source}: {error}") from None
    return name, codec.with_codebooks(opened.codec_codebooks or codec.num_codebooks)


def mimi_of(opened: CheckpointSource) -> MimiConfig:
    """Return the configuration of a model's Mimi; raises `ConfigError` where it has none."""
    name, _ = codec_of(opened)
    if name != "mimi":
        raise ConfigError(
            f"{opened.source}: its codec is {name.upper()}, this command works with Mimi. Give a model with Mimi."
        )
    config: MimiConfig = opened.configs[name]
    return config


def refuse_options(options: Namespace, names: Collection[str], kind: str) -> None:
    """Raise `ConfigError` if options were given that only another kind of model has."""
    given = [
        f"--{name.replace('_', '-')}"
        for name in names
        if getattr(options, name) is not None and getattr(options, name) is not False
    ]
    if given:
        raise ConfigError(
            f"{', '.join(given)}: only for models {kind}, and {options.model} is none. "
            f"Leave {'it' if len(given) == 1 else 'them'} out."
        )


def local_path(name: str) -> Path:
    """Return the path of a model on this machine; it need not exist."""
    return Path(split_revision(name)[0]).expanduser()


@contextlib.contextmanager
def device(name: str | None) -> Iterator[jax.Device]:
    """Compute on a device such as "cpu", "cuda" or "cuda:1"; None: JAX's own choice.

    Raises:
      JomniError: JAX finds no such device.
    """
    platform, _, number = (name or "").partition(":")
    if platform and "jax" not in sys.modules:
        # Keeps JAX from starting, and taking memory on, devices that are not asked for.
        os.environ["JAX_PLATFORMS"] = platform if platform == "cpu" else f"{platform},cpu"
    import jax

    try:
        devices = jax.devices(platform or None)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise JomniError(
            f"--device {name}: JAX finds no such device here ({reason}). "
            "Use --device cpu, or install JAX for it: pip install 'jomni[cuda]' or 'jomni[tpu]'."
        ) from error
    index = int(number or 0)
    if index >= len(devices):
        raise JomniError(f"--device {name}: there are only {len(devices)} {platform} devices, numbered from 0.")
    with jax.default_device(devices[index]) if name else contextlib.nullcontext():
        yield devices[index]
