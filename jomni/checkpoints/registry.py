"""The parts that a checkpoint can have, in one table: their configurations, parameters and published names.

Everything that goes through a checkpoint part by part -- loading, exporting, the project's own form, checks -- follows
this table. A part's configuration is the field of its name of `Checkpoint` and `Opened`; its parameters and its weight
file stand under that name too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jomni.models.decoder.weights import decoder_table, decoder_tree
from jomni.models.mimi.config import MimiConfig
from jomni.models.mimi.weights import mimi_table, mimi_tree
from jomni.models.mini_omni.weights import bind_omni, omni_table, omni_tree, read_json_config, write_json_config
from jomni.models.moshi.config import MoshiConfig
from jomni.models.moshi.weights import lm_table, lm_tree
from jomni.models.snac.config import SnacConfig
from jomni.models.snac.weights import snac_table, snac_tree
from jomni.models.whisper.config import WhisperConfig
from jomni.models.whisper.weights import bind_encoder, whisper_table, whisper_tree
from jomni.tensors.source import TensorSource
from jomni.tensors.weight_map import Place, WeightMap, bind


@dataclasses.dataclass(frozen=True)
class Part:
    """One kind of model that a checkpoint can hold."""

    name: str
    tree: Callable[[Any], dict[str, Any]]  # configuration -> shapes of the parameters
    table: Callable[[Any], WeightMap]  # configuration -> names that its authors publish them under
    read: Callable[[Any, str], Any] | None = None  # (JSON, where it stands) -> configuration
    write: Callable[[Any], Any] | None = None  # back; None: the project's own form does not hold this part
    fits: str = "its configuration"  # what a weight file is compared with, for messages
    find: Callable[[Any, TensorSource], dict[str, Place]] | None = None  # in place of comparing file and table whole

    def places(self, config: Any, source: TensorSource) -> dict[str, Place]:
        """Where each parameter lies in a weight file, by path.

        Raises:
          WeightsError: the file does not fit; all that is missing, surplus or misshapen is named.
        """
        if self.find is not None:
            return self.find(config, source)
        table = self.table(config)
        return bind(table, table.expect(self.tree(config)), source.specs, source.name, self.fits)


_PARTS = (
    Part("lm", lm_tree, lm_table, MoshiConfig.from_kyutai, MoshiConfig.to_kyutai),
    Part("omni", omni_tree, omni_table, read_json_config, write_json_config, find=bind_omni),
    Part("decoder", decoder_tree, decoder_table),
    Part(
        "mimi", mimi_tree, mimi_table, MimiConfig.from_kyutai, MimiConfig.to_kyutai,
        fits="the Mimi configuration it was read with",
    ),
    Part("snac", snac_tree, lambda config: snac_table(), SnacConfig.from_published, SnacConfig.to_published),
    Part(
        "whisper", whisper_tree, lambda config: whisper_table("openai"), WhisperConfig.from_openai,
        WhisperConfig.to_openai, find=bind_encoder,
    ),
)  # fmt: skip

PARTS: Mapping[str, Part] = {part.name: part for part in _PARTS}
"""By name: Moshi's language model, Mini-Omni's, text decoder, codec, another codec, speech encoder."""


def present(holder: Any) -> Iterator[tuple[Part, Any]]:
    """The parts that a `Checkpoint` or an `Opened` has, each with its configuration."""
    for part in _PARTS:
        if (config := getattr(holder, part.name)) is not None:
            yield part, config


def is_float32_only(path: str) -> bool:
    """Whether a parameter, "mimi/...", "snac/..." or "lm/...", stays float32 whatever the model's dtype."""
    return path.startswith(("mimi/", "snac/", "lm/condition_provider/"))
