"""Configuration of Mini-Omni: any text decoder, a vocabulary of text and audio, and a speech adapter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from jomni.errors import ConfigError
from jomni.models.decoder import DecoderConfig, RopeConfig

ADAPTERS = ("mlp", "llamamlp")


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Layout of the embedding's rows: text, then each audio stream's tokens, each followed by its special tokens.

    Special tokens follow the ordinary ones of their kind, so their numbers are in the stream's own vocabulary.
    Defaults: Qwen 2 and SNAC's 24 kHz model, as Mini-Omni has them (inference.py).
    """

    text_size: int = 151_936  # ordinary text tokens
    text_special: int = 64  # rows kept for special ones
    audio_size: int = 4096  # ordinary tokens of an audio stream: entries of a codebook
    audio_special: int = 64
    streams: int = 7  # audio streams

    def __post_init__(self) -> None:
        for name in ("text_size", "text_special", "audio_size", "audio_special", "streams"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"vocabulary option '{name}' must be an integer of at least 1, got {value!r}")
        if self.text_special < 5 or self.audio_special < 5:
            raise ConfigError(f"text and audio each have 5 special tokens, which do not fit in the vocabulary {self}")

    @property
    def padded_text_size(self) -> int:
        """Return the number of text tokens, including the special ones."""
        return self.text_size + self.text_special

    @property
    def padded_audio_size(self) -> int:
        """Return the number of tokens of an audio stream, including the special ones."""
        return self.audio_size + self.audio_special

    @property
    def size(self) -> int:
        """Return the total number of rows in use."""
        return self.padded_text_size + self.streams * self.padded_audio_size

    def audio_row(self, stream: int) -> int:
        """Return the first row of the embedding that belongs to an audio stream."""
        return self.padded_text_size + stream * self.padded_audio_size

    # Numbers in the text stream, or in an audio stream.
    end_of_text = property(lambda self: self.text_size)
    pad_text = property(lambda self: self.text_size + 1)
    input_text = property(lambda self: self.text_size + 2)
    answer_text = property(lambda self: self.text_size + 3)
    asr = property(lambda self: self.text_size + 4)
    end_of_audio = property(lambda self: self.audio_size)
    pad_audio = property(lambda self: self.audio_size + 1)
    input_audio = property(lambda self: self.audio_size + 2)
    answer_audio = property(lambda self: self.audio_size + 3)
    split = property(lambda self: self.audio_size + 4)


MERGES = ("mean", "sum")
"""How the embeddings of audio streams and text are merged. "mean" is the original's: it scales the text embeddings of a
trained decoder by 1 / 8. With "sum" and zero padding embeddings a trained decoder answers in text as before."""


@dataclasses.dataclass(frozen=True)
class MiniOmniConfig:
    """A text decoder with a speech adapter at its input and audio heads at its output."""

    decoder: DecoderConfig  # the backbone; its vocab_size holds the whole vocabulary, and possibly unused rows
    vocabulary: Vocabulary = Vocabulary()
    adapter: str = "llamamlp"  # one of ADAPTERS: a linear layer, or a gated one of the backbone's hidden_dim
    feature_dim: int = 768  # width of the speech encoder's output (Whisper small)
    post_adapter_layers: int = 0  # layers between the backbone and a head of audio's own; 0: one head for all
    merge: str = "mean"  # of the streams' embeddings, one of MERGES: the original's, or one that leaves text as it was

    def __post_init__(self) -> None:
        if self.merge not in MERGES:
            raise ConfigError(f"embeddings cannot be merged by {self.merge!r}, only by {' or '.join(MERGES)}")
        if self.adapter not in ADAPTERS:
            raise ConfigError(f"speech adapter {self.adapter!r} is not supported, only {', '.join(ADAPTERS)}")
        for name, least in (("feature_dim", 1), ("post_adapter_layers", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"Mini-Omni option '{name}' must be an integer of at least {least}, got {value!r}")
        if self.decoder.vocab_size < self.vocabulary.size:
            raise ConfigError(
                f"the decoder's embedding has {self.decoder.vocab_size} rows, the vocabulary of text and "
                f"{self.vocabulary.streams} audio streams needs {self.vocabulary.size}"
            )

    @classmethod
    def tiny(cls) -> MiniOmniConfig:
        """Return a model that compiles in seconds; it fits `WhisperConfig.tiny` and `SnacConfig.tiny`."""
        vocabulary = Vocabulary(text_size=260, text_special=8, audio_size=16, audio_special=8)
        decoder = dataclasses.replace(DecoderConfig.tiny(), vocab_size=vocabulary.size)
        return cls(decoder, vocabulary, feature_dim=16, post_adapter_layers=1)

    @property
    def post_adapter(self) -> DecoderConfig | None:
        """Return the post-adapter: a decoder of hidden states with full layers, and the audio heads."""
        if not self.post_adapter_layers:
            return None
        rows = self.vocabulary.streams * self.vocabulary.padded_audio_size
        return dataclasses.replace(
            self.decoder, num_layers=self.post_adapter_layers, layer_kinds=(), vocab_size=rows, tied=False
        )

    @classmethod
    def from_published(cls, fields: Mapping[str, Any], where: str = "model_config.yaml") -> MiniOmniConfig:
        """Build the configuration from the fields of a `model_config.yaml` (litgpt/config.py).

        Raises:
          ConfigError: a field is missing, unknown or has a value that is not supported; the message lists all of them.
        """
        required = ("block_size", "n_layer", "n_head", "n_embd", "padded_vocab_size", "intermediate_size")
        problems = [f"'{name}' is missing" for name in required if fields.get(name) is None]
        fixed = [name for name, _, _ in _FIXED]
        problems += [f"unknown option '{name}'" for name in fields if name not in (*_READ, *fixed, *NO_EFFECT)]
        for name, default, supported in _FIXED:
            if (found := fields.get(name, default)) != supported:
                problems.append(f"'{name}' is {found!r}, only {supported!r} is supported")
        for name, kind in _READ.items():
            given = fields.get(name)
            if given is None and (name not in fields or name in (*required, *_MAY_BE_NULL)):
                continue
            if not isinstance(given, kind) or (kind is not bool and isinstance(given, bool)):
                words = {int: "an integer", bool: "true or false", str: "a string"}
                problems.append(f"'{name}' is {given!r}, not {words.get(kind, 'a number')}")
        if problems:
            raise ConfigError(f"{where}: not a configuration of Mini-Omni: {'; '.join(problems)}. Correct these.")
        streams, audio = Vocabulary.streams, fields.get("audio_vocab_size", 4160)
        if (total := fields.get("cat_audio_vocab_size", 29_120)) != streams * audio:
            raise ConfigError(
                f"{where}: 'cat_audio_vocab_size' is {total}, {streams} streams of {audio} tokens make "
                f"{streams * audio}. Correct it."
            )
        dim, heads, bias = fields["n_embd"], fields["n_head"], fields.get("bias", True)
        qkv_bias = fields.get("add_qkv_bias")
        special = Vocabulary.text_special
        layers = fields.get("post_adapter_layers", 6) if fields.get("post_adapter", False) else 0
        try:
            decoder = DecoderConfig(
                vocab_size=fields["padded_vocab_size"], dim=dim, num_layers=fields["n_layer"], num_heads=heads,
                num_kv_heads=fields.get("n_query_groups") or heads,
                head_dim=fields.get("head_size") or dim // max(heads, 1),
                hidden_dim=fields["intermediate_size"], max_positions=fields["block_size"],
                rope=RopeConfig(float(fields.get("rope_base", 10_000))),
                norm_epsilon=float(fields.get("norm_eps", 1e-5)), norm_offset=float("Gemma" in fields.get("name", "")),
                qkv_bias=bias if qkv_bias is None else qkv_bias, out_bias=bias, mlp_bias=bias,
                embedding_scale=dim**0.5 if fields.get("scale_embeddings") else 1.0,
                tied=fields.get("tie_word_embeddings", False),
            )  # fmt: skip
            vocabulary = Vocabulary(
                text_size=fields.get("text_vocab_size", 152_000) - special, audio_size=audio - Vocabulary.audio_special
            )
            adapter, width = fields.get("asr_adapter", "llamamlp"), fields.get("whisper_adapter_dim", 768)
            return cls(decoder, vocabulary, adapter, width, layers)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None

    def to_published(self, others: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        """Return the fields of a `model_config.yaml`, with `others`, which are fields of `NO_EFFECT`.

        Raises:
          ConfigError: they cannot express the configuration; the options at fault are named.
        """
        d, v = self.decoder, self.vocabulary
        fields = {name: value for name, _, value in _FIXED} | {
            "name": "Gemma" if d.norm_offset else "mini-omni", "vocab_size": d.vocab_size,
            "block_size": d.max_positions, "n_layer": d.num_layers, "n_head": d.num_heads, "n_embd": d.dim,
            "head_size": d.head_dim, "n_query_groups": d.num_kv_heads, "padded_vocab_size": d.vocab_size,
            "intermediate_size": d.hidden_dim, "rope_base": int(d.rope.theta), "norm_eps": d.norm_epsilon,
            "bias": d.out_bias, "add_qkv_bias": d.qkv_bias, "scale_embeddings": d.embedding_scale != 1,
            "tie_word_embeddings": d.tied, "text_vocab_size": v.padded_text_size,
            "audio_vocab_size": v.padded_audio_size, "cat_audio_vocab_size": Vocabulary.streams * v.padded_audio_size,
            "whisper_adapter_dim": self.feature_dim, "asr_adapter": self.adapter,
            "post_adapter": self.post_adapter_layers > 0,
            **({"post_adapter_layers": self.post_adapter_layers} if self.post_adapter_layers else {}),
        }  # fmt: skip
        fields |= others
        back = self.from_published(fields)
        pairs: list[tuple[Any, Any]] = [(d, back.decoder), (v, back.vocabulary), (self, back)]
        differ = {
            field.name: getattr(ours, field.name)
            for ours, theirs in pairs
            for field in dataclasses.fields(ours)
            if getattr(ours, field.name) != getattr(theirs, field.name) and field.name not in ("decoder", "vocabulary")
        }
        if differ:
            told = ", ".join(f"'{name}' = {value!r}" for name, value in differ.items())
            raise ConfigError(f"a model_config.yaml cannot express {told}. Save as 'orbax'.")
        return fields


_READ: dict[str, Any] = {
    "block_size": int, "n_layer": int, "n_head": int, "n_embd": int, "head_size": int, "n_query_groups": int,
    "padded_vocab_size": int, "intermediate_size": int, "rope_base": (int, float), "norm_eps": (int, float),
    "bias": bool, "add_qkv_bias": bool, "scale_embeddings": bool, "tie_word_embeddings": bool, "name": str,
    "text_vocab_size": int, "audio_vocab_size": int, "cat_audio_vocab_size": int, "whisper_adapter_dim": int,
    "asr_adapter": str, "post_adapter": bool, "post_adapter_layers": int,
}  # fmt: skip
"""Fields that are read, with the kind of their values."""

_MAY_BE_NULL = ("head_size", "n_query_groups", "add_qkv_bias")

_FIXED = (  # field, the published code's default, what it must be
    ("parallel_residual", True, False), ("shared_attention_norm", False, False), ("lm_head_bias", False, False),
    ("norm_class_name", "LayerNorm", "RMSNorm"), ("mlp_class_name", "GptNeoxMLP", "LLaMAMLP"),
    ("rotary_percentage", 0.25, 1.0), ("rope_condense_ratio", 1, 1), ("n_expert", 0, 0), ("pos_type", "rope", "rope"),
)  # fmt: skip

NO_EFFECT = (
    "name", "hf_config", "vocab_size", "padding_multiple", "gelu_approximate", "n_expert_per_token",
    "prompt_vocab_size", "attn_dropout", "force_align", "use_pretrain_phoneme_emb",
)  # fmt: skip
"""Fields that the published code has and its model does not read (of the name, whether it says Gemma)."""

MINI_OMNI = MiniOmniConfig(
    DecoderConfig(
        vocab_size=181_120, dim=896, num_layers=24, num_heads=14, num_kv_heads=2, head_dim=64, hidden_dim=4864,
        max_positions=2048, rope=RopeConfig(1_000_000.0), norm_epsilon=1e-6, qkv_bias=True, tied=True,
    )
)  # fmt: skip
"""gpt-omni/mini-omni: Qwen 2 with 0.5 B parameters, Whisper small's features, SNAC's codes at 24 kHz."""
