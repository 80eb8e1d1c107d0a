"""Configuration of the Moshi language model: the fields are the keys of a published config.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jomni.errors import ConfigError
from jomni.nn.config import TransformerConfig


@dataclasses.dataclass(frozen=True)
class ConditionerConfig:
    """One conditioner (moshi/conditioners): a text look-up table ("lut") or a tensor that is passed in."""

    name: str  # the condition's name, e.g. "description"
    type: str  # "lut" or "tensor"
    dim: int  # width of the table's entries or of the tensor
    n_bins: int = 0  # entries of the table, the padding entry not counted ("lut")
    possible_values: tuple[str, ...] | None = None  # texts in table order; None: entry by hash ("lut")
    force_linear: bool = True  # project even when dim equals the model's width
    learn_padding: bool = True  # a learnt vector where there is no condition; False: zeros
    pad_empty: bool = True  # read by the original, no effect on conditions of length 1 or more

    def __post_init__(self) -> None:
        if self.type not in ("lut", "tensor"):
            raise ConfigError(f"conditioner '{self.name}': type {self.type!r} is not supported, use 'lut' or 'tensor'")
        if self.type == "lut" and self.possible_values is not None and len(self.possible_values) > self.n_bins:
            raise ConfigError(f"conditioner '{self.name}': {len(self.possible_values)} values for {self.n_bins} bins")


@dataclasses.dataclass(frozen=True)
class FuserConfig:
    """How conditions enter the model (moshi/conditioners/base.py::ConditionFuser)."""

    sum: tuple[str, ...] = ()  # added to the input of every step
    cross: tuple[str, ...] = ()  # joined in time, read through cross attention
    cross_attention_pos_emb: bool = False  # add sinusoidal positions to the cross-attention source
    cross_attention_pos_emb_scale: float = 1.0  # their factor


@dataclasses.dataclass(frozen=True)
class MoshiConfig:
    """The multistream model (moshi/models/lm.py::LMModel). Names and defaults are the original's.

    Options that the depth transformer inherits in the original (`depformer_num_heads` and the like) are resolved here:
    they always hold the value in force.
    """

    dim: int  # width of the temporal transformer
    num_heads: int
    num_layers: int
    delays: tuple[int, ...]  # delay of each stream in frames: text, agent's codebooks, user's codebooks
    n_q: int  # audio streams, agent's and user's together
    dep_q: int  # audio streams that the depth transformer generates (the agent's); 0: text only
    card: int  # entries of an audio codebook
    text_card: int  # entries of the text vocabulary
    text_card_out: int  # text logits; differs from text_card where two text streams are multiplexed
    demux_second_text_stream: bool = False  # text tokens carry two streams: token1 + (text_card + 1) * (token2 + 1)
    hidden_scale: float = 4.0  # feed-forward width over dim, before the gating's two-thirds rule
    norm: str = "layer_norm"
    norm_emb: bool = False  # layer norm after each embedding
    bias_proj: bool = False  # biases on the output heads
    context: int | None = None  # frames that the temporal transformer sees; None: no limit (not streamable)
    max_period: float = 10_000.0
    positional_embedding: str = "sin"
    positional_scale: float = 1.0
    gating: str = "none"
    layer_scale: float | None = None
    kv_repeat: int = 1
    cross_attention: bool = False
    existing_text_padding_id: int = 3  # text token of silence (PAD)
    existing_text_end_padding_id: int = 0  # text token that ends a padding (EPAD)
    extra_heads_num_heads: int = 0  # additional linear heads on the temporal transformer
    extra_heads_dim: int = 6  # classes of each
    depformer_dim: int = 256
    depformer_dim_feedforward: int | tuple[int, ...] = 1024
    depformer_num_heads: int = 8
    depformer_num_layers: int = 1
    depformer_multi_linear: bool = False  # one input projection per step
    depformer_weights_per_step: bool = False
    depformer_weights_per_step_schedule: tuple[int, ...] | None = None  # step -> weight set
    depformer_low_rank_embeddings: int | None = None  # width of factorised embeddings
    depformer_pos_emb: str = "sin"
    depformer_positional_scale: float = 1.0
    depformer_max_period: float = 10_000.0
    depformer_norm: str | None = None  # norm before each output head
    depformer_gating: str = "none"
    depformer_layer_scale: float | None = None
    depformer_kv_repeat: int = 1
    conditioners: tuple[ConditionerConfig, ...] = ()
    fuser: FuserConfig | None = None
    lora_rank: int = 0  # rank of low-rank adapters kept beside every linear layer; 0: none
    lora_scaling: float = 2.0  # their factor
    text_eos_reads_as_padding: bool = False  # Hibiki: text token 2 is embedded as token 3 (loaders.py::get_moshi)

    def __post_init__(self) -> None:
        if len(self.delays) != self.n_q + 1:
            raise ConfigError(f"'delays' must list {self.n_q + 1} values (text and n_q audio), got {len(self.delays)}")
        if any(d < 0 for d in self.delays):
            raise ConfigError(f"'delays' must not be negative, got {list(self.delays)}")
        if not 0 <= self.dep_q <= self.n_q:
            raise ConfigError(f"'dep_q' must lie between 0 and n_q = {self.n_q}, got {self.dep_q}")
        schedule = self.depformer_weights_per_step_schedule
        if schedule is not None and len(schedule) != self.dep_q:
            raise ConfigError(
                f"'depformer_weights_per_step_schedule' must list dep_q = {self.dep_q} values, got {len(schedule)}"
            )
        if self.norm_emb and self.demux_second_text_stream:
            raise ConfigError("'norm_emb' with 'demux_second_text_stream' is not supported (nor by the original)")
        known = {c.name for c in self.conditioners}
        if self.fuser:
            for name in (*self.fuser.sum, *self.fuser.cross):
                if name not in known:
                    raise ConfigError(f"'fuser' names condition {name!r}, but 'conditioners' has only {sorted(known)}")
            if self.fuser.cross and not self.cross_attention:
                raise ConfigError("'fuser.cross' needs 'cross_attention': true")
        self.temporal  # noqa: B018  (validates)
        if self.dep_q:
            self.depth  # noqa: B018

    @property
    def temporal(self) -> TransformerConfig:
        """Return the temporal transformer, which runs one step per frame."""
        return TransformerConfig(
            dim=self.dim, num_heads=self.num_heads, num_layers=self.num_layers,
            dim_feedforward=int(self.hidden_scale * self.dim), context=self.context, norm=self.norm,
            gating=self.gating, positional_embedding=self.positional_embedding,
            positional_scale=self.positional_scale, max_period=self.max_period, layer_scale=self.layer_scale,
            kv_repeat=self.kv_repeat, cross_attention=self.cross_attention,
        )  # fmt: skip

    @property
    def depth(self) -> TransformerConfig:
        """Return the depth transformer, which runs one step per agent codebook and restarts each frame."""
        return TransformerConfig(
            dim=self.depformer_dim, num_heads=self.depformer_num_heads, num_layers=self.depformer_num_layers,
            dim_feedforward=self.depformer_dim_feedforward, context=None, norm=self.norm, gating=self.depformer_gating,
            positional_embedding=self.depformer_pos_emb, positional_scale=self.depformer_positional_scale,
            max_period=self.depformer_max_period, layer_scale=self.depformer_layer_scale,
            kv_repeat=self.depformer_kv_repeat, step_weights=self.depth_weight_sets,
        )  # fmt: skip

    @property
    def depth_weight_sets(self) -> tuple[int, ...]:
        """Return the weight set of each depth step. Empty if all steps share one."""
        if not self.depformer_weights_per_step:
            return ()
        return self.depformer_weights_per_step_schedule or tuple(range(self.dep_q))

    @property
    def depth_input_sets(self) -> tuple[int, ...]:
        """Return the input projection (`depformer_in`) of each depth step."""
        if not self.depformer_multi_linear:
            return (0,) * self.dep_q
        return self.depformer_weights_per_step_schedule or tuple(range(self.dep_q))

    @property
    def user_q(self) -> int:
        """Return the number of the user's audio streams."""
        return self.n_q - self.dep_q

    @property
    def has_user_asr_head(self) -> bool:
        """Return whether the first extra head is a user ASR head, with one class per text token."""
        return self.extra_heads_num_heads > 0 and self.extra_heads_dim == self.text_card

    @property
    def silent_tokens(self) -> tuple[int, int]:
        """Return the text tokens without text: padding, and end of padding."""
        return (self.existing_text_padding_id, self.existing_text_end_padding_id)

    @property
    def codec_codebooks(self) -> int:
        """Return the number of codebooks that the codec must support."""
        return max(self.dep_q, self.user_q)

    @property
    def max_delay(self) -> int:
        """Return the largest delay of the streams, frames."""
        return max(self.delays)

    @classmethod
    def tiny(cls) -> MoshiConfig:
        """Return a model of four agent and four user codebooks that compiles in seconds; it fits `MimiConfig.tiny`."""
        return dataclasses.replace(
            MOSHI_7B, dim=32, num_heads=2, num_layers=2, card=32, text_card=48, text_card_out=48, context=20, n_q=8,
            dep_q=4, delays=(0, 0, 1, 1, 1, 0, 1, 1, 1), depformer_dim=16, depformer_dim_feedforward=48,
            depformer_num_heads=2, depformer_num_layers=1,
        )  # fmt: skip

    @classmethod
    def from_kyutai(cls, raw: Mapping[str, Any], where: str = "config.json") -> MoshiConfig:
        """Build the configuration from the dictionary that Kyutai's `get_moshi_lm` takes.

        Raises:
          ConfigError: naming every option that is unknown or not supported.
        """
        return _from_kyutai(dict(raw), where)

    def to_kyutai(self) -> dict[str, Any]:
        """Return the dictionary that Kyutai's `get_moshi_lm` takes, every option written out."""
        raw = dataclasses.asdict(self)
        for key in ("text_eos_reads_as_padding", "conditioners", "fuser", "lora_rank", "lora_scaling"):
            raw.pop(key)
        raw = {k: list(v) if isinstance(v, tuple) else v for k, v in raw.items()}
        raw["causal"] = True
        if self.conditioners:
            raw["conditioners"] = {c.name: _conditioner_to_kyutai(c) for c in self.conditioners}
        if self.fuser is not None:
            fuser = dataclasses.asdict(self.fuser)
            raw["fuser"] = {k: list(v) if isinstance(v, tuple) else v for k, v in fuser.items()}
        if self.lora_rank:
            raw |= {"lora": True, "lora_rank": self.lora_rank, "lora_scaling": self.lora_scaling}
        return raw


# Options that the original reads and that change nothing at run time, or that it overwrites.
_IGNORED = ("betas", "gradient_checkpointing", "checkpointing", "depformer_betas", "depformer_checkpointing",
            "depformer_causal", "depformer_context", "depformer_cross_attention",
            "depformer_positional_embedding")  # fmt: skip
# Options of which only the listed values are supported.
_ONLY = {"causal": (True,), "quantize": (False,), "skip_self_attn": (False,), "weights_per_step": (0,),
         "weights_per_step_schedule": (None,), "depformer_skip_self_attn": (False,)}  # fmt: skip
# Options that the depth transformer takes from the temporal one unless they are given with "depformer_".
_INHERITED = ("num_heads", "num_layers", "gating", "max_period", "layer_scale", "kv_repeat", "positional_scale")
_DEFAULTS: dict[str, Any] = {
    "delays": (0,), "n_q": 8, "dep_q": 8, "card": 1024, "text_card": 32000, "dim": 128, "num_heads": 8,
}  # fmt: skip


def _from_kyutai(raw: dict[str, Any], where: str) -> MoshiConfig:
    if "demux_second_stream" in raw:  # the option's former name
        raw["demux_second_text_stream"] = raw.pop("demux_second_stream")
    conditioners = raw.pop("conditioners", None) or {}
    fuser = raw.pop("fuser", None)
    lora, rank, scaling = raw.pop("lora", False), raw.pop("lora_rank", 128), raw.pop("lora_scaling", 2.0)
    fields = {f.name for f in dataclasses.fields(MoshiConfig)} - {"lora_rank", "text_eos_reads_as_padding"}
    problems = []
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key in _ONLY:
            if value not in _ONLY[key]:
                problems.append(f"option '{key}' = {value!r} is not supported, only {_ONLY[key][0]!r}")
        elif key in fields:
            values[key] = tuple(value) if isinstance(value, list) else value
        elif key not in _IGNORED:
            problems.append(f"unknown option '{key}'")
    if "num_layers" not in values:
        problems.append("'num_layers' is missing")
    if problems:
        raise ConfigError(f"{where}: " + "; ".join(problems) + ". Remove or correct these options.")
    values = _DEFAULTS | values
    if values.get("text_card_out") is None:
        values["text_card_out"] = values["text_card"]
    for name in _INHERITED:
        if name in values:
            values.setdefault(f"depformer_{name}", values[name])
    if values.get("depformer_dim_feedforward") is None:
        width = values.get("hidden_scale", 4) * values.get("depformer_dim", 256)
        values["depformer_dim_feedforward"] = int(width)
    try:
        return MoshiConfig(
            **values,
            conditioners=tuple(_conditioner_from_kyutai(name, c) for name, c in conditioners.items()),
            fuser=None if fuser is None else _fuser_from_kyutai(fuser),
            lora_rank=rank if lora else 0,
            lora_scaling=scaling,
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except TypeError as error:
        raise ConfigError(f"{where}: an option has a value of the wrong type ({error})") from None


def _conditioner_from_kyutai(name: str, raw: Mapping[str, Any]) -> ConditionerConfig:
    kind = raw.get("type")
    values = dict(raw.get(kind, {})) if isinstance(kind, str) else {}
    if values.pop("tokenizer", "noop") != "noop":
        raise ConfigError(f"conditioner '{name}': only the tokenizer 'noop' is supported")
    if values.pop("output_bias", False):
        raise ConfigError(f"conditioner '{name}': 'output_bias' is not supported (nor by the original)")
    for ignored in ("init_scale", "device", "output_dim"):
        values.pop(ignored, None)
    if values.get("possible_values") is not None:
        values["possible_values"] = tuple(values["possible_values"])
    unknown = set(values) - {f.name for f in dataclasses.fields(ConditionerConfig)}
    if unknown:
        raise ConfigError(f"conditioner '{name}': unknown option {sorted(unknown)}")
    return ConditionerConfig(name=name, type=str(kind), **values)


def _conditioner_to_kyutai(config: ConditionerConfig) -> dict[str, Any]:
    values = dataclasses.asdict(config)
    kind = values.pop("type")
    values.pop("name")
    if kind == "lut":
        values["tokenizer"] = "noop"
        if config.possible_values is not None:
            values["possible_values"] = list(config.possible_values)
    else:
        values = {k: v for k, v in values.items() if k not in ("n_bins", "possible_values")}
    return {"type": kind, kind: values}


def _fuser_from_kyutai(raw: Mapping[str, Any]) -> FuserConfig:
    raw = dict(raw)
    if raw.pop("prepend", None):
        raise ConfigError("'fuser.prepend' is not supported (nor by the original); use 'sum' or 'cross'")
    unknown = set(raw) - {f.name for f in dataclasses.fields(FuserConfig)}
    if unknown:
        raise ConfigError(f"'fuser' has an unknown option {sorted(unknown)}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
    return FuserConfig(**values)


MOSHI_7B = MoshiConfig(
    dim=4096, num_heads=32, num_layers=32, delays=(0, 0, *[1] * 7, 0, *[1] * 7), n_q=16, dep_q=8, card=2048,
    text_card=32000, text_card_out=32000, hidden_scale=4.125, norm="rms_norm_f32", context=3000, gating="silu",
    positional_embedding="rope", depformer_dim=1024, depformer_dim_feedforward=4224, depformer_num_heads=16,
    depformer_num_layers=6, depformer_multi_linear=True, depformer_weights_per_step=True, depformer_pos_emb="none",
    depformer_gating="silu",
)  # fmt: skip
"""Moshiko and Moshika, 7B (`loaders.py::_lm_kwargs`)."""
