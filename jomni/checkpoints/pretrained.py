"""`from_pretrained`: loads a runnable model and its parameters."""

from __future__ import annotations

import logging
import os
from typing import Any

import jax

from jomni.checkpoints.load import load
from jomni.checkpoints.registry import COMPONENTS

_LOG = logging.getLogger(__name__)


def from_pretrained(
    source: str | os.PathLike[str],
    *,
    dtype: Any = None,
    sharding: Any = None,
    revision: str | None = None,
    lora: str | os.PathLike[str] | None = None,
) -> tuple[Any, Any]:
    """Load a checkpoint, and return a runnable model and its parameters.

        model, params = jomni.from_pretrained("nano")
        state = model.init_state(batch=4, seed=0)
        state, out = model.step(params, state, pcm)

    Args:
      source: "nano", "nano_omni" or "nano_snac", which come with jomni; a folder; a weight file; or a hub id
        `owner/name`. See `jomni.load`.
      dtype: floating-point dtype of language models and speech encoders. None: `default_dtype()`, which is logged and
        shown by `repr(model)`. Codecs are always float32.
      sharding: see `jomni.load`.
      revision: branch, tag or commit of a hub repository.
      lora: a LoRA file that replaces the one in config.json.

    Returns:
      (model, params)

      The model is hashable and holds no arrays. It is a `Duplex` (a Moshi with its codec), `Generator` (a Moshi alone),
      `OmniModel` (Mini-Omni), `MimiCodec`, `SnacCodec`, `SpeechEncoder` (Whisper) or `TextGenerator` (a text decoder).
      The parameters are prepared for inference; `jomni.load` returns the checkpoint itself, for export and training.

    Raises:
      WeightsError: files are missing, damaged, unsafe, or do not fit the configuration.
      ConfigError: an option of the configuration is unknown or not supported.
    """
    chosen = default_dtype() if dtype is None else dtype
    checkpoint = load(source, dtype=chosen, sharding=sharding, revision=revision, fuse_lora=False, lora=lora)
    _LOG.info("%s: %s, computing in %s", checkpoint.source, checkpoint.family, chosen)
    first = next(name for name in COMPONENTS if name in checkpoint.configs)  # the registry lists whole models first
    return COMPONENTS[first].build(checkpoint)


def default_dtype(device: jax.Device | None = None) -> str:
    """Return the floating-point dtype that a device computes fast.

    float32 on CPUs and float16 on GPUs before Ampere (T4, V100), which have no fast bfloat16; bfloat16 elsewhere.

    Args:
      device: a device. None: JAX's default device.
    """
    default = jax.config.values["jax_default_device"]
    device = device or (default if isinstance(default, jax.Device) else jax.devices(default)[0])
    if device.platform == "cpu":
        return "float32"
    major = str(getattr(device, "compute_capability", "")).partition(".")[0]  # of NVIDIA's; AMD's is like "gfx942"
    before_ampere = device.platform in ("gpu", "cuda") and major.isdigit() and int(major) < 8
    return "float16" if before_ampere else "bfloat16"
