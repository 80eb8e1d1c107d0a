"""Configuration of one transformer stack, shared by the codec, the temporal and the depth transformer."""

from __future__ import annotations

import dataclasses

from jomni.errors import ConfigError

NORMS = ("layer_norm", "layer_norm_f32", "rms_norm", "rms_norm_f32")
POSITIONS = ("none", "sin", "rope", "sin_rope", "rope_concat")
GATINGS = ("none", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "mish", "softsign", "identity")


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """A causal transformer, as `StreamingTransformer` of the original (moshi/modules/transformer.py)."""

    dim: int  # width of the residual stream
    num_heads: int  # query heads; each is dim / num_heads wide
    num_layers: int  # 0: the identity, for ablations without a depth transformer
    dim_feedforward: int | tuple[int, ...] = 2048  # inner width; one per weight set where `step_weights` is given
    context: int | None = None  # steps a query can see, itself included; None: all before it
    norm: str = "layer_norm"  # one of NORMS
    gating: str = "none"  # gated feed-forward with this activation, or "none": linear, GELU, linear
    positional_embedding: str = "sin"  # one of POSITIONS; "rope" interleaves, "rope_concat" splits in halves
    positional_scale: float = 1.0  # factor on the sinusoidal embedding
    max_period: float = 10_000.0  # longest period of the position encoding, steps
    layer_scale: float | None = None  # initial value of the learnt residual scale; None: no scale
    kv_repeat: int = 1  # query heads that share one key/value head
    cross_attention: bool = False  # a cross-attention block between self-attention and feed-forward
    step_weights: tuple[int, ...] = ()  # weight set used at each step; empty: one set for every step

    def __post_init__(self) -> None:
        for name, least in (("dim", 1), ("num_heads", 1), ("num_layers", 0), ("kv_repeat", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"transformer option '{name}' must be an integer of at least {least}, got {value!r}")
        for name, allowed in (("norm", NORMS), ("gating", GATINGS), ("positional_embedding", POSITIONS)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"transformer option '{name}' = {getattr(self, name)!r} is not one of {allowed}")
        if self.context is not None and self.context < 1:
            raise ConfigError(f"transformer option 'context' must be at least 1 step, got {self.context}")
        if self.dim % self.num_heads:
            raise ConfigError(f"transformer width {self.dim} is not a multiple of num_heads = {self.num_heads}")
        if self.num_heads % self.kv_repeat:
            raise ConfigError(f"num_heads = {self.num_heads} is not a multiple of kv_repeat = {self.kv_repeat}")
        if "rope" in self.positional_embedding and self.head_dim % 2:
            raise ConfigError(f"rotary positions need an even head width, got {self.head_dim}")
        if "sin" in self.positional_embedding and self.dim % 2:
            raise ConfigError(f"sinusoidal positions need an even width, got {self.dim}")
        if self.cross_attention and self.kv_repeat != 1:
            raise ConfigError("'cross_attention' with 'kv_repeat' other than 1 is not supported (nor by the original)")
        if self.gating == "none" and (self.step_weights or not isinstance(self.dim_feedforward, int)):
            raise ConfigError("weights per step need a 'gating' other than 'none'")
        unused = set(range(self.num_weight_sets)) - set(self.step_weights or (0,))
        if unused:
            raise ConfigError(f"the weight schedule {list(self.step_weights)} leaves weight set {min(unused)} unused")
        if not isinstance(self.dim_feedforward, int) and len(self.dim_feedforward) != self.num_weight_sets:
            raise ConfigError(
                f"'dim_feedforward' lists {len(self.dim_feedforward)} widths for {self.num_weight_sets} weight sets"
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def num_kv_heads(self) -> int:
        return self.num_heads // self.kv_repeat

    @property
    def num_weight_sets(self) -> int:
        return max(self.step_weights) + 1 if self.step_weights else 1

    def feedforward_width(self, weight_set: int = 0) -> int:
        """Return the inner width of the feed-forward layer before the gating's two-thirds rule."""
        return self.dim_feedforward if isinstance(self.dim_feedforward, int) else self.dim_feedforward[weight_set]

    def gated_width(self, weight_set: int = 0) -> int:
        """Return the hidden width of the gated feed-forward layer (moshi/modules/gating.py)."""
        width = self.feedforward_width(weight_set)
        return 21 * self.dim // 8 if width == 4 * self.dim else 2 * width // 3
