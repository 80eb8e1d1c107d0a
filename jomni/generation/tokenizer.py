"""Tokenizer of a text decoder: text to tokens and back, whole or incrementally, and its chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import tokenizers

from jomni.errors import WeightsError
from jomni.generation.template import Message, render

_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_UNFINISHED = "\ufffd"  # decoded from the bytes of an incomplete character


class TextTokenizer:
    """The tokenizer of a Hugging Face folder, from the content of its files.

    Args:
      files: name -> content; tokenizer.json is required, tokenizer_config.json, special_tokens_map.json and
        chat_template.jinja are optional.
      where: name of the folder in messages.

    Raises:
      WeightsError: tokenizer.json is missing or damaged.
    """

    def __init__(self, files: Mapping[str, bytes], where: str) -> None:
        self.where = where
        if "tokenizer.json" not in files:
            raise WeightsError(f"{where}: has no tokenizer.json, which text needs. Download it.")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode())
        except Exception as error:  # the library raises plain exceptions
            raise WeightsError(f"{where}: its tokenizer.json is damaged ({error}). Download it again.") from None
        config = _json(files, "tokenizer_config.json", where)
        held = _json(files, "special_tokens_map.json", where) | config
        self.special = {name: _text(held[name]) for name in _SPECIAL if held.get(name) is not None}
        template = files.get("chat_template.jinja")
        self.template = _default(config.get("chat_template")) if template is None else template.decode()

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Return the tokens of a text. `special` adds the tokenizer's own tokens, such as begin-of-text."""
        return self._tokenizer.encode(text, add_special_tokens=special).ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, without special tokens."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True)

    def token(self, text: str) -> int | None:
        """Return the token with this text; None if there is none."""
        return self._tokenizer.token_to_id(text)

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """Return the conversation in the model's chat format; see `jomni.generation.template.render`.

        Raises:
          WeightsError: there is no chat template, or it is damaged.
          PromptError: the template rejects the conversation.
        """
        if self.template is None:
            raise WeightsError(
                f"{self.where}: has no chat template, so it was not made for conversations. "
                "Give an instruction-tuned model, often called -Instruct, -it or -chat."
            )
        return render(self.template, messages, self.special, add_generation_prompt=add_generation_prompt)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of a conversation, up to the beginning of the assistant's turn."""
        return self.encode(self.render(messages), special=False)


class Decoding(Protocol):
    """Protocol of a tokenizer that decodes; `TextTokenizer` follows it."""

    def decode(self, tokens: Sequence[int]) -> str: ...


class TextStream:
    """Incremental decoding of tokens to text. Pieces never end within a character; joined, they are the whole text."""

    def __init__(self, tokenizer: Decoding) -> None:
        self._decode = tokenizer.decode
        self._tokens: list[int] = []
        self._start = 0  # first token to decode: a token's text depends on the token before
        self._told = 0  # number of tokens whose text was returned

    def push(self, token: int) -> str:
        """Add a token and return the text that it completes; "" while a character is incomplete."""
        self._tokens.append(token)
        return "" if self._text().endswith(_UNFINISHED) else self.end()

    def end(self) -> str:
        """Return the remaining text, complete or not."""
        text = self._text()[len(self._decode(self._tokens[self._start : self._told])) :]
        self._start, self._told = self._told, len(self._tokens)
        return text

    def _text(self) -> str:
        return self._decode(self._tokens[self._start :])


def _json(files: Mapping[str, bytes], name: str, where: str) -> dict[str, Any]:
    try:
        raw = json.loads(files.get(name, b"{}"))
    except ValueError as error:
        raise WeightsError(f"{where}: its {name} is not valid JSON ({error}). Download it again.") from None
    if not isinstance(raw, dict):
        raise WeightsError(f"{where}: its {name} is not a JSON object. Download it again.")
    return raw


def _text(token: Any) -> Any:
    """Return a special token's text from its config entry, a string or a dictionary."""
    return token["content"] if isinstance(token, dict) else token


def _default(template: Any) -> str | None:
    """Return the default template from a config entry, one template or a list of named ones."""
    if isinstance(template, list):
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    return template
