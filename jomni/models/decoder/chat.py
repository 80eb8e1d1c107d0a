"""Conversations in text: messages in, answers streamed out, the history kept in the cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from jomni.errors import ConfigError, PromptError
from jomni.generation.template import Message
from jomni.generation.tokenizer import TextStream, TextTokenizer
from jomni.models.decoder import Decoder
from jomni.models.decoder.generate import TextGenerator, TextSampling, TextSession, stop_tokens
from jomni.tensors.component import Loaded

CONTEXT = 4096
"""Default size of a conversation in tokens; less if the model supports less."""


def check_text(text: str) -> None:
    """Raise `PromptError` where a text is empty or cannot be written in UTF-8."""
    if not text.strip():
        raise PromptError("the prompt is empty. Give some text.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PromptError("the prompt is not valid text (UTF-8). Give it in that encoding.") from None


class Chat:
    """Independent conversations with a text decoder, one in each slot.

    Args:
      checkpoint: a decoder with its tokenizer.
      slots: conversations.
      system: a system prompt for all of them; None: none (a template may have its own).
      seed: of slot 0's sampling; slot i has seed + i.
      context: most tokens of a conversation; None: `CONTEXT`, or the model's most.

    Raises:
      ConfigError: the checkpoint has no text decoder, or `context` is more than the model takes.
      WeightsError: it has no tokenizer.
    """

    def __init__(
        self, checkpoint: Loaded, slots: int = 1, *, system: str | None = None, seed: int = 0,
        context: int | None = None,
    ) -> None:  # fmt: skip
        config = checkpoint.configs.get("decoder")
        if config is None:
            raise ConfigError(f"{checkpoint.source}: is not a text decoder. Give one, as Qwen/Qwen2.5-0.5B-Instruct.")
        self.tokenizer = TextTokenizer(checkpoint.files, checkpoint.source)
        self.sampling = TextSampling.from_hf(checkpoint.generation)
        self.stop = stop_tokens(checkpoint.generation)
        begun: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        self.messages = [list(begun) for _ in range(slots)]
        dtype = str(checkpoint.params["decoder"]["norm"]["alpha"].dtype)
        size = min(CONTEXT, config.max_positions) if context is None else context
        generator = TextGenerator(Decoder(config), size, dtype=dtype)
        self._session = TextSession(generator, checkpoint.params["decoder"], slots, seed)

    def reply(
        self, texts: Sequence[str | None], *, max_tokens: int = 512, temperature: float | None = None,
        top_k: int | None = None, top_p: float | None = None,
    ) -> Iterator[list[str]]:  # fmt: skip
        """Send a message in each conversation and stream the answers.

        Args:
          texts: the user's messages by slot; None leaves a conversation unchanged.
          max_tokens: longest answer.
          temperature: 0 takes the most probable token; None: the model's default, also for `top_k` and `top_p`.

        Returns:
          An iterator of each slot's new text, "" where there is none. The messages, and as much of the answers as was
          streamed before the iterator ends or is closed, become part of the conversation.

        Raises:
          PromptError: a text is empty, a conversation does not fit the context, or the template rejects it. The
            conversations are then unchanged.
        """
        for text in texts:
            if text is not None:
                check_text(text)
        asked = [
            None if text is None else [*held, {"role": "user", "content": text}]
            for held, text in zip(self.messages, texts, strict=True)
        ]
        prompts = [None if turns is None else self.tokenizer.encode_chat(turns) for turns in asked]
        changes = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        sampling = dataclasses.replace(self.sampling, **{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]
        coming = self._session.answer(prompts, max_tokens=max_tokens, stop=self.stop, sampling=sampling)
        return self._stream(asked, coming)

    def _stream(self, asked: Sequence[list[Message] | None], coming: Iterator[list[int | None]]) -> Iterator[list[str]]:
        streams = [TextStream(self.tokenizer) for _ in asked]
        answers = [""] * len(asked)

        def gain(pieces: list[str]) -> list[str]:
            for slot, piece in enumerate(pieces):
                answers[slot] += piece
            return pieces

        try:
            for tokens in coming:
                both = zip(streams, tokens, strict=True)
                yield gain(["" if t is None or t in self.stop else stream.push(t) for stream, t in both])
            yield gain([stream.end() for stream in streams])
        finally:
            for slot, turns in enumerate(asked):
                if turns is not None:
                    self.messages[slot] = [*turns, {"role": "assistant", "content": answers[slot]}]
