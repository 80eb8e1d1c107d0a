"""Configuration of the Mimi codec: frozen, validated, in the shape of Kyutai's own mimi config file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from jomni.errors import ConfigError
from jomni.nn.config import TransformerConfig

ACTIVATIONS = ("ELU", "ReLU", "LeakyReLU", "GELU", "SiLU", "Tanh", "Identity")


@dataclasses.dataclass(frozen=True)
class SeanetConfig:
    """The convolutional encoder and decoder (moshi/modules/seanet.py). Kernel sizes and strides are in samples."""

    dimension: int = 128  # channels of the latent
    channels: int = 1  # audio channels
    n_filters: int = 32  # channels after the first convolution; doubled at each stage
    n_residual_layers: int = 3  # residual blocks per stage
    ratios: tuple[int, ...] = (8, 5, 4, 2)  # strides, in the decoder's order
    activation: str = "ELU"  # one of ACTIVATIONS
    elu_alpha: float = 1.0  # alpha of the ELU
    kernel_size: int = 7  # of the first convolution
    last_kernel_size: int = 7  # of the last convolution
    residual_kernel_size: int = 3  # of the residual blocks
    dilation_base: int = 2  # dilation of residual block j is dilation_base ** j
    pad_mode: str = "constant"  # padding before the first sample: "constant" (zeros) or "replicate"
    true_skip: bool = True  # identity shortcut; False: a 1x1 convolution
    compress: int = 2  # channel reduction inside the residual blocks

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"mimi option 'seanet.activation' = {self.activation!r} is not one of {ACTIVATIONS}")
        if self.pad_mode not in ("constant", "replicate"):
            raise ConfigError(
                f"mimi option 'seanet.pad_mode' = {self.pad_mode!r} is not streamable; use 'constant' or 'replicate'"
            )

    @property
    def hop_length(self) -> int:
        """Return the number of samples per latent step."""
        return math.prod(self.ratios)


@dataclasses.dataclass(frozen=True)
class QuantizerConfig:
    """The split residual vector quantiser (moshi/quantization/vq.py)."""

    dimension: int = 128  # width of the codebook vectors
    n_q: int = 8  # number of codebooks, including the semantic ones
    n_q_semantic: int = 1  # codebooks of the first, semantic quantiser
    bins: int = 1024  # entries per codebook

    def __post_init__(self) -> None:
        if not self.n_q > self.n_q_semantic >= 1:
            raise ConfigError(
                f"mimi needs more codebooks than semantic ones, got n_q = {self.n_q} and "
                f"n_q_semantic = {self.n_q_semantic}"
            )


@dataclasses.dataclass(frozen=True)
class MimiConfig:
    """The Mimi codec. `MimiConfig.from_kyutai` reads the original's dictionary, `to_kyutai` writes it."""

    sample_rate: int  # Hz
    frame_rate: float  # code frames per second, Hz
    channels: int  # audio channels
    seanet: SeanetConfig
    transformer: TransformerConfig  # the same for encoder and decoder
    quantizer: QuantizerConfig

    def __post_init__(self) -> None:
        rate = self.sample_rate / self.seanet.hop_length
        if rate < self.frame_rate or not (rate / self.frame_rate).is_integer():
            raise ConfigError(
                f"mimi's encoder runs at {rate:g} Hz, which is no whole multiple of frame_rate = {self.frame_rate:g} Hz"
            )
        if self.channels != self.seanet.channels:
            raise ConfigError(f"mimi option 'channels' is {self.channels} but 'seanet.channels' {self.seanet.channels}")
        if self.transformer.cross_attention or self.transformer.step_weights:
            raise ConfigError("mimi's transformers have neither cross attention nor weights per step")

    @property
    def resample_stride(self) -> int:
        """Return the number of transformer steps per code frame (1: no resampling)."""
        return round(self.sample_rate / self.seanet.hop_length / self.frame_rate)

    @property
    def frame_size(self) -> int:
        """Return the number of samples per code frame."""
        return self.seanet.hop_length * self.resample_stride

    @property
    def num_codebooks(self) -> int:
        """Return the number of codebooks in the weights."""
        return self.quantizer.n_q

    @classmethod
    def tiny(cls) -> MimiConfig:
        """Return a codec of a few thousand parameters that compiles in seconds, with Mimi's own rates and features."""
        return dataclasses.replace(
            MIMI,
            seanet=dataclasses.replace(MIMI.seanet, n_filters=2, dimension=16),
            transformer=dataclasses.replace(
                MIMI.transformer, dim=16, num_heads=2, num_layers=1, dim_feedforward=32, context=20
            ),
            quantizer=dataclasses.replace(MIMI.quantizer, dimension=8, n_q=8, bins=32),
        )

    @classmethod
    def from_kyutai(cls, raw: Mapping[str, Any], where: str = "mimi config") -> MimiConfig:
        """Build the configuration from Kyutai's dictionary; raises `ConfigError` naming every unsupported option."""
        raw = dict(raw)
        problems: list[str] = []
        seanet = _section(raw, "seanet", _SEANET, problems)
        quantizer = _section(raw, "quantizer", _QUANTIZER, problems)
        transformer = _section(raw, "transformer", _TRANSFORMER, problems)
        for key in ("sample_rate", "frame_rate", "channels"):
            if key not in raw:
                problems.append(f"'{key}' is missing")
        problems += [f"unknown option '{k}'" for k in raw if k not in _TOP]
        if problems:
            raise ConfigError(f"{where}: " + "; ".join(problems) + ". Remove or correct these options.")
        params = seanet.pop("activation_params", None) or {}
        if set(params) - {"alpha"}:
            raise ConfigError(f"{where}: 'seanet.activation_params' supports only 'alpha', got {params}")
        dimension = seanet.get("dimension", 128)
        for side in ("input_dimension", "output_dimension"):
            if (quantizer.pop(side, None) or quantizer["dimension"]) != dimension:
                raise ConfigError(f"{where}: 'quantizer.{side}' must equal 'seanet.dimension' = {dimension}")
        outputs = transformer.pop("output_dimensions", [dimension])
        if transformer.pop("input_dimension", dimension) != dimension or list(outputs) != [dimension]:
            raise ConfigError(f"{where}: the transformer's input and output must be {dimension} wide")
        transformer["dim"] = transformer.pop("d_model")
        return cls(
            sample_rate=int(raw["sample_rate"]),
            frame_rate=float(raw["frame_rate"]),
            channels=int(raw["channels"]),
            seanet=SeanetConfig(
                **(seanet | {"ratios": tuple(seanet.get("ratios", (8, 5, 4, 2)))}), elu_alpha=params.get("alpha", 1.0)
            ),
            transformer=TransformerConfig(**transformer),
            quantizer=QuantizerConfig(**quantizer),
        )

    def to_kyutai(self) -> dict[str, Any]:
        """Return the dictionary that Kyutai's `get_mimi` takes."""
        seanet = dataclasses.asdict(self.seanet)
        alpha = seanet.pop("elu_alpha")
        seanet |= {"ratios": list(self.seanet.ratios), "causal": True, "norm": "none"}
        if self.seanet.activation == "ELU":
            seanet["activation_params"] = {"alpha": alpha}
        else:
            seanet["activation_params"] = {}
        width = self.seanet.dimension
        t = self.transformer
        transformer = {
            "d_model": t.dim, "num_heads": t.num_heads, "num_layers": t.num_layers, "causal": True,
            "layer_scale": t.layer_scale, "context": t.context, "conv_layout": True, "max_period": t.max_period,
            "gating": t.gating, "norm": t.norm, "positional_embedding": t.positional_embedding,
            "positional_scale": t.positional_scale, "kv_repeat": t.kv_repeat, "dim_feedforward": t.dim_feedforward,
            "input_dimension": width, "output_dimensions": [width],
        }  # fmt: skip
        quantizer = dataclasses.asdict(self.quantizer) | {"input_dimension": width, "output_dimension": width}
        return {
            "sample_rate": self.sample_rate, "channels": self.channels, "frame_rate": self.frame_rate,
            "seanet": seanet, "quantizer": quantizer, "transformer": transformer,
        }  # fmt: skip


# For each section: option -> None (read), or the supported values, or `...` (ignored, because the original reads it for
# training only or not at all).
_TOP = ("sample_rate", "frame_rate", "channels", "seanet", "quantizer", "transformer")
_SEANET: dict[str, Any] = {
    **{f.name: None for f in dataclasses.fields(SeanetConfig) if f.name != "elu_alpha"}, "activation_params": None,
    "causal": (True,), "norm": ("none",), "norm_params": ..., "disable_norm_outer_blocks": ..., "mask_fn": (None,),
    "mask_position": (None,),
}  # fmt: skip
_QUANTIZER: dict[str, Any] = {
    **{f.name: None for f in dataclasses.fields(QuantizerConfig)}, "input_dimension": None, "output_dimension": None,
    "q_dropout": ..., "no_quantization_rate": ..., "decay": ..., "threshold_usage_ratio": ...,
    "replaced_usage_ratio": ...,
}  # fmt: skip
_TRANSFORMER: dict[str, Any] = {
    **{f.name: None for f in dataclasses.fields(TransformerConfig)
       if f.name not in ("dim", "step_weights", "cross_attention")},
    "d_model": None, "input_dimension": None, "output_dimensions": None,
    "causal": (True,), "conv_layout": (True,), "quantize": (False,), "skip_self_attn": (False,),
    "cross_attention": (False,), "weights_per_step": (0,), "weights_per_step_schedule": (None,),
    "betas": ..., "checkpointing": ...,
}  # fmt: skip
_REQUIRED = {
    "seanet": ("causal",),
    "quantizer": ("dimension", "n_q"),
    "transformer": ("d_model", "num_heads", "num_layers", "causal"),
}


def _section(raw: dict[str, Any], name: str, allowed: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Check every key of one section and return those that the configuration reads."""
    values = raw.get(name)
    if not isinstance(values, Mapping):
        problems.append(f"section '{name}' is missing")
        values = {}
    kept = {}
    for key, value in values.items():
        rule = allowed.get(key, False)
        if rule is False:
            problems.append(f"unknown option '{name}.{key}'")
        elif rule is None:
            kept[key] = value
        elif rule is not ... and value not in rule:
            problems.append(f"option '{name}.{key}' = {value!r} is not supported, only {rule[0]!r}")
    problems.extend(f"'{name}.{key}' is missing" for key in _REQUIRED[name] if values and key not in values)
    return kept


MIMI = MimiConfig(
    sample_rate=24_000,
    frame_rate=12.5,
    channels=1,
    seanet=SeanetConfig(
        dimension=512, n_filters=64, n_residual_layers=1, ratios=(8, 6, 5, 4), last_kernel_size=3, compress=2
    ),
    transformer=TransformerConfig(
        dim=512, num_heads=8, num_layers=8, dim_feedforward=2048, context=250, layer_scale=0.01,
        positional_embedding="rope",
    ),
    quantizer=QuantizerConfig(dimension=256, n_q=32, bins=2048),
)  # fmt: skip
"""Kyutai's Mimi: 24 kHz, 12.5 frames a second, 32 codebooks of 2048 (`loaders.py::_mimi_config`)."""
