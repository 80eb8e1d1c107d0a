"""Mini-Omni's published files: litgpt's tensor names, and the configuration in YAML.

The file of a tied model may also contain the head (`lm_head.weight`, which `lit_model.pth` shares with the embedding).
It is compared with the embedding, and not read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import yaml

from jomni.errors import ConfigError, WeightsError
from jomni.models.decoder.config import DecoderConfig, RopeConfig
from jomni.models.mini_omni.config import MiniOmniConfig, Vocabulary
from jomni.models.mini_omni.model import MiniOmni
from jomni.models.snac.config import SnacConfig
from jomni.models.whisper.config import WhisperConfig
from jomni.tensors.component import abstract_init
from jomni.tensors.source import TensorSource, file_size, without_copy
from jomni.tensors.weight_map import Place, Rule, Stack, WeightMap, bind

CONFIG_NAME = "model_config.yaml"
WEIGHT_NAMES = ("lit_model.safetensors", "lit_model.pth")
"""Names of the weight file: exported, and published."""
WHISPER_NAME = "small.pt"  # OpenAI's file beside the published model
WHISPER_FOLDERS = ("whisper",)  # exported
SNAC_FOLDERS = ("snac", "snac_24khz")  # exported, and named as on the hub
SNAC_ON_HUB = "hubertsiuzdak/snac_24khz"  # the codec of the published model
HEAD, EMBEDDING = "lm_head.weight", "transformer.wte.weight"

_KINDS = ("weight", "bias")
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")
_MLP = (("gate_proj", "fc_1"), ("up_proj", "fc_2"), ("down_proj", "proj"))


def abstract_params(config: MiniOmniConfig) -> dict[str, Any]:
    """Return the shapes of a Mini-Omni's parameters, as a nested dict of `jax.ShapeDtypeStruct`."""
    tokens = jax.ShapeDtypeStruct((1, config.vocabulary.streams + 1, 2), jnp.int32)
    return abstract_init(MiniOmni(config), tokens)


def weight_map(config: MiniOmniConfig) -> WeightMap:
    """Return the weight map of a Mini-Omni file.

    One tensor holds, for each key head, its query heads, the key head and the value head.
    """
    rules = [
        Rule("backbone/embed_tokens/weight", EMBEDDING),
        Rule("backbone/lm_head/weight", HEAD),
        Rule("backbone/norm/alpha", "transformer.ln_f.weight"),
        Rule("post_adapter/norm/alpha", "transformer.post_adapter_audio_ln.weight"),
        Rule("post_adapter/lm_head/weight", "transformer.post_adapter_audio_lm_head.weight"),
    ]
    layer = [
        Rule("pre_attention_norm/alpha", "norm_1.weight"),
        Rule("pre_feedforward_norm/alpha", "norm_2.weight"),
    ]
    for kind in _KINDS:
        rules.append(Rule(f"whisper_adapter/{kind}", f"whisper_adapter.{kind}"))
        rules.append(Rule(f"whisper_adapter/{{name}}/{kind}", f"whisper_adapter.{{name}}.{kind}"))
        layer += [Rule(f"self_attn/{ours}/{kind}", f"attn.attn.{i}.{kind}") for i, ours in enumerate(_PROJECTIONS)]
        layer.append(Rule(f"self_attn/o_proj/{kind}", f"attn.proj.{kind}"))
        layer += [Rule(f"mlp/{ours}/{kind}", f"mlp.{theirs}.{kind}") for ours, theirs in _MLP]
    for path, name in (("backbone", "transformer.h"), ("post_adapter", "transformer.post_adapter")):
        rules += [rule.under(f"{path}/layers_{{i}}", f"{name}.{{i}}") for rule in layer]
    groups = config.decoder.num_kv_heads
    stacks = tuple(Stack(f"attn.attn.{{i}}.{kind}", f"attn.attn.{kind}", groups) for kind in _KINDS)
    return WeightMap(tuple(rules), stacks)


def bind_omni(config: MiniOmniConfig, source: TensorSource) -> dict[str, Place]:
    """Return the place of each parameter in a file with the published names.

    Raises:
      WeightsError: tensors are missing, surplus or misshapen, or a tied head differs from the embedding.
    """
    names = weight_map(config)
    if config.decoder.tied:
        source = without_copy(source, HEAD, EMBEDDING, "Set 'tie_word_embeddings' to false to use it, or remove it.")
    return bind(names, names.expect(abstract_params(config)), source.specs, source.name, f"the {CONFIG_NAME} beside it")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the fields of a `model_config.yaml`.

    Raises:
      WeightsError: the file is empty or not YAML.
      ConfigError: it does not contain a dictionary of options.
    """
    file_size(path)
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())
        raise WeightsError(f"{path}: is not valid YAML ({told}). Correct it or download it again.") from None
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise ConfigError(f"{path}: is not a dictionary of options. Download it again.")
    return fields


def write_yaml(path: Path, fields: Mapping[str, Any]) -> None:
    """Write the fields of a `model_config.yaml`."""
    path.write_text(yaml.safe_dump(dict(fields)), encoding="utf-8")


def check_neighbours(omni: MiniOmniConfig, whisper: WhisperConfig | None, snac: SnacConfig | None, where: str) -> None:
    """Check that the speech encoder and the codec fit the model. Raise `ConfigError` if they do not."""
    v, problems = omni.vocabulary, []
    if whisper is not None and whisper.n_audio_state != omni.feature_dim:
        problems.append(
            f"its Whisper has width {whisper.n_audio_state}, but 'whisper_adapter_dim' is {omni.feature_dim}: "
            "use the Whisper with which the model was trained"
        )
    if snac is not None and (sum(snac.tokens_per_frame), snac.codebook_size) != (v.streams, v.audio_size):
        problems.append(
            f"its SNAC has {sum(snac.tokens_per_frame)} tokens per frame of {snac.codebook_size} entries, the model "
            f"generates {v.streams} of {v.audio_size}: use the SNAC with which the model was trained"
        )
    if problems:
        raise ConfigError(f"{where}: {'; '.join(problems)}.")


def read_json_config(raw: Mapping[str, Any], where: str) -> MiniOmniConfig:
    """Read the configuration from its form in jomni.json, which supports every backbone.

    Raises:
      ConfigError: the form is malformed, or an option is out of range.
    """
    try:
        decoder = dict(raw["decoder"])
        ropes = {name: RopeConfig(**decoder[name]) for name in ("rope", "local_rope") if decoder.get(name)}
        decoder |= ropes | {"layer_kinds": tuple(decoder["layer_kinds"])}
        parts = {"decoder": DecoderConfig(**decoder), "vocabulary": Vocabulary(**raw["vocabulary"])}
        return MiniOmniConfig(**(dict(raw) | parts))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        told = f"is not a configuration of Mini-Omni ({error})"
        raise ConfigError(f"{where}: {told}. Save the checkpoint again.") from None


def write_json_config(config: MiniOmniConfig) -> dict[str, Any]:
    """Return the form that `read_json_config` reads."""
    return dataclasses.asdict(config)
