"""Reader of Hugging Face's config.json: every key is read, ignored because it has no effect, or rejected by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from jomni.errors import ConfigError

# Options that any configuration may have and that do not change the forward pass: those of training, saving and
# caches, and the generation defaults that transformers 4 wrote into every section.
_HARMLESS = frozenset([
    "_attn_implementation_autoset", "_commit_hash", "_name_or_path", "add_cross_attention", "architectures",
    "attention_dropout", "attn_implementation", "bad_words_ids", "begin_suppress_tokens", "bos_token_id",
    "chunk_size_feed_forward", "cross_attention_hidden_size", "decoder_start_token_id", "diversity_penalty",
    "do_sample", "dtype", "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id",
    "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "id2label",
    "initializer_range", "is_decoder", "is_encoder_decoder", "label2id", "length_penalty", "max_length",
    "max_position_embeddings", "min_length", "model_type", "no_repeat_ngram_size", "num_beam_groups", "num_beams",
    "num_return_sequences", "output_attentions", "output_hidden_states", "output_scores", "pad_token_id", "prefix",
    "problem_type", "pruned_heads", "remove_invalid_values", "repetition_penalty", "return_dict",
    "return_dict_in_generate", "sep_token_id", "suppress_tokens", "task_specific_params", "temperature",
    "tf_legacy_loss", "tie_encoder_decoder", "tie_word_embeddings", "tokenizer_class", "top_k", "top_p",
    "torch_dtype", "torchscript", "transformers_version", "typical_p", "use_bfloat16", "use_cache", "use_streaming",
])  # fmt: skip


class Section:
    """One dictionary of a config.json, read with Hugging Face's defaults. Collects all problems.

    Args:
      raw: the dictionary. Keys with default values may be missing.
      defaults: keys to read, with their defaults.
      only: keys of which only some values are supported, with these values, the default first.
      prefix: prefix of the keys in messages.
      harmless: further keys without effect.
    """

    def __init__(
        self,
        raw: Mapping[str, Any],
        defaults: Mapping[str, Any],
        only: Mapping[str, tuple[Any, ...]],
        prefix: str = "",
        harmless: Collection[str] = (),
    ) -> None:
        self._prefix = prefix
        self.values: dict[str, Any] = dict(defaults) | {k: v for k, v in raw.items() if k in defaults}
        self.problems: list[str] = []
        for key, value in raw.items():
            if key in only:
                if value not in only[key]:
                    self.refuse(key, value, f"only {' or '.join(repr(v) for v in only[key])}")
            elif key not in defaults and key not in harmless and key not in _HARMLESS and key not in _ROPE_KEYS:
                self.problems.append(f"unknown option '{prefix}{key}'")
        self.rope_theta = self._read_rope(raw)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def refuse(self, key: str, value: object, supported: str) -> None:
        """Add a problem: a value is not supported. `supported` says which values are."""
        self.problems.append(f"option '{self._prefix}{key}' = {value!r} is not supported, {supported}")

    def require(self, key: str, value: object) -> None:
        """Add a problem unless the option has this value, which follows from other options."""
        if self.values[key] != value:
            self.refuse(key, self.values[key], f"only {value!r}, which follows from the other options")

    def finish(self, where: str, *others: Section) -> None:
        """Raise a `ConfigError` that names every problem of this section and of `others`."""
        problems = [problem for section in (self, *others) for problem in section.problems]
        if problems:
            raise ConfigError(f"{where}: " + "; ".join(problems) + ". Remove or correct these options.")

    def _read_rope(self, raw: Mapping[str, Any]) -> float:
        """Return the base of the rotary positions, from transformers 5's `rope_parameters` or 4's `rope_theta`."""
        if raw.get("rope_scaling") is not None:
            self.refuse("rope_scaling", raw["rope_scaling"], "only null")
        rope = raw.get("rope_parameters") or {}
        kind = rope.get("rope_type", "default")
        unknown = {k: v for k, v in rope.items() if k not in ("rope_type", "rope_theta", "partial_rotary_factor")}
        if kind != "default" or unknown or rope.get("partial_rotary_factor", 1.0) != 1.0:
            self.refuse("rope_parameters", rope, "only {'rope_type': 'default', 'rope_theta': ...}")
        return float(rope.get("rope_theta", raw.get("rope_theta", 10_000.0)))


_ROPE_KEYS = ("rope_parameters", "rope_theta", "rope_scaling")
