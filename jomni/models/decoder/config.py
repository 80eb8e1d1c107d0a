"""Configuration of a text decoder: one set of options for Qwen, Llama, SmolLM and Gemma."""

from __future__ import annotations

import dataclasses
import math

from jomni.errors import ConfigError

ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu")
FULL, SLIDING = "full", "sliding"
ROPES = ("default", "linear", "llama3", "yarn")


@dataclasses.dataclass(frozen=True)
class RopeConfig:
    """Rotary positions and how they are stretched beyond the trained context (transformers/modeling_rope_utils.py)."""

    theta: float = 10_000.0  # base: the longest period is 2 pi theta, steps
    kind: str = "default"  # one of ROPES
    factor: float = 1.0  # by which the context is stretched; "default": 1 only
    original_positions: int = 0  # trained context, steps; "llama3" and "yarn"
    low_freq_factor: float = 1.0  # "llama3": waves longer than original_positions / this are fully stretched,
    high_freq_factor: float = 4.0  # those shorter than original_positions / this are unchanged
    beta_fast: float = 32.0  # "yarn": pairs that turn more often than this in the trained context are unchanged,
    beta_slow: float = 1.0  # those that turn less often than this are fully stretched
    attention_factor: float | None = None  # "yarn": scales queries and keys; None: 0.1 ln(factor) + 1
    truncate: bool = True  # "yarn": bounds of the ramp between the two are rounded to whole pairs

    def __post_init__(self) -> None:
        if self.kind not in ROPES:
            raise ConfigError(f"rotary positions of kind {self.kind!r} are not supported, only {', '.join(ROPES)}")
        if not self.theta > 1 or not self.factor >= 1 or (self.kind == "default" and self.factor != 1):
            raise ConfigError(f"rotary positions need a base above 1 and a factor of 1 or more, got {self}")
        if self.kind in ("llama3", "yarn") and self.original_positions < 1:
            raise ConfigError(f"rotary positions of kind {self.kind!r} need the trained context, got {self}")
        if self.kind == "llama3" and not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ConfigError(f"'low_freq_factor' must be positive and below 'high_freq_factor', got {self}")


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """A causal decoder of text tokens.

    Every layer is attention and a gated feed-forward, each behind an RMS norm. Sliding layers see the last `window`
    steps only, and may have rotary positions of their own.
    """

    vocab_size: int  # rows of the embedding and of the head
    dim: int  # width of the residual stream
    num_layers: int
    num_heads: int  # query heads
    num_kv_heads: int  # key/value heads; each serves num_heads / num_kv_heads query heads
    head_dim: int  # width of a head
    hidden_dim: int  # inner width of the feed-forward layer
    max_positions: int  # longest supported sequence, steps
    rope: RopeConfig = RopeConfig()  # of full layers
    local_rope: RopeConfig | None = None  # of sliding layers; None: as in full layers
    layer_kinds: tuple[str, ...] = ()  # FULL or SLIDING for each layer; empty: all full
    window: int | None = None  # steps that a sliding layer sees, the query's own included
    activation: str = "silu"  # one of ACTIVATIONS, on the gate
    norm_epsilon: float = 1e-6
    norm_offset: float = 0.0  # added to the scale of every norm: 1 where the file keeps scale - 1 (Gemma)
    post_norms: bool = False  # norms also after attention and after the feed-forward, before the residual sum (Gemma)
    qk_norm: bool = False  # norms of each query and key head before rotation (Qwen3, Gemma 3)
    qkv_bias: bool = False
    out_bias: bool = False  # on attention's output projection
    mlp_bias: bool = False  # on the three feed-forward projections
    attention_scale: float | None = None  # factor on attention scores; None: head_dim ** -0.5
    attention_softcap: float | None = None  # scores s become cap * tanh(s / cap)
    logit_softcap: float | None = None  # likewise the logits
    embedding_scale: float = 1.0  # factor on embedded tokens, rounded to their dtype
    tied: bool = False  # the head is the embedding

    def __post_init__(self) -> None:
        for name in ("vocab_size", "dim", "num_layers", "num_heads", "num_kv_heads", "head_dim", "hidden_dim",
                     "max_positions"):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"decoder option '{name}' must be an integer of at least 1, got {value!r}")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(f"{self.num_heads} query heads do not share {self.num_kv_heads} key/value heads evenly")
        if self.head_dim % 2:
            raise ConfigError(f"rotary positions need an even head width, got {self.head_dim}")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"activation {self.activation!r} is not supported, only {', '.join(ACTIVATIONS)}")
        if self.layer_kinds and len(self.layer_kinds) != self.num_layers:
            raise ConfigError(f"{len(self.layer_kinds)} kinds of layers are listed for {self.num_layers} layers")
        if unknown := set(self.layer_kinds) - {FULL, SLIDING}:
            raise ConfigError(f"layers of kind {sorted(unknown)} are not supported, only {FULL!r} and {SLIDING!r}")
        if SLIDING in self.layer_kinds and (self.window is None or self.window < 1):
            raise ConfigError(f"sliding layers need a window of at least 1 step, got {self.window}")
        for name in ("attention_softcap", "logit_softcap", "attention_scale"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"decoder option '{name}' must be a positive number, got {value!r}")

    @classmethod
    def tiny(cls) -> DecoderConfig:
        """Return a decoder of two layers that compiles in seconds."""
        return cls(
            vocab_size=260, dim=16, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=4, hidden_dim=24,
            max_positions=600, tied=True, qkv_bias=True,
        )  # fmt: skip

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kind of each layer."""
        return self.layer_kinds or (FULL,) * self.num_layers

    def window_of(self, kind: str) -> int | None:
        """Return how many steps a layer of this kind sees; None: all."""
        return self.window if kind == SLIDING else None

    def rope_of(self, kind: str) -> RopeConfig:
        """Return the rotary positions of a layer of this kind."""
        return self.local_rope if kind == SLIDING and self.local_rope is not None else self.rope
