"""Text alone: tokenizers for a small world and for a chat, and files of questions and answers."""

from __future__ import annotations

import io
import json
import os
import string
from collections.abc import Iterable
from pathlib import Path

from jomni.errors import DataError

_SPACE = "\u2581"  # what sentencepiece writes for the space before a word
_BYTES = 256
_SPECIAL = 4


def train_tokenizer(words: Iterable[str], vocabulary: int | None = None) -> bytes:
    """Return a sentencepiece model, numbered as Moshi's: 0 unknown, 1 begin, 2 end, 3 padding.

    Each given word, after a space or at the beginning of the text, is one piece; what a text holds beside them becomes
    letters, and characters without a piece become their UTF-8 bytes, so every text comes back as it was. Text is
    taken as it is: "The" and "the" are two words.

    Args:
      words: without spaces; repeated ones count once. They are numbered in their order.
      vocabulary: how many pieces, the rest of them never used; None: as many as it takes.

    Returns:
      The serialised model.

    Raises:
      DataError: a word that is empty or holds a space, or a vocabulary too small for the words.
    """
    import sentencepiece

    words = list(dict.fromkeys(words))
    wrong = [word for word in words if not word or word.split() != [word] or _SPACE in word or "\0" in word]
    if wrong or not words:
        raise DataError(f"{wrong[:5]} cannot be words of a tokenizer. Give words without spaces, at least one.")
    letters = "".join(sorted({*string.ascii_lowercase, *"".join(words)}))
    needed = _SPECIAL + _BYTES + len(words) + len(letters) + 1  # the space
    spare = 0 if vocabulary is None else vocabulary - needed
    if spare < 0:
        raise DataError(f"a vocabulary of {vocabulary} is too small: {len(words)} words take {needed}.")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([letters]), model_writer=model, model_type="char", vocab_size=needed + spare,
        user_defined_symbols=[_SPACE + word for word in words], required_chars=letters + _SPACE,
        control_symbols=[f"<unused{index}>" for index in range(spare)], byte_fallback=True, character_coverage=1.0,
        normalization_rule_name="identity", unk_id=0, bos_id=1, eos_id=2, pad_id=3, num_threads=1, minloglevel=2,
        max_sentence_length=1 << 20,
    )  # fmt: skip
    return model.getvalue()


USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
"""Special tokens of a chat: what begins a question, what begins an answer, and what ends it."""

_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def read_pairs(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Questions and answers of a text file: one pair a line, a tab between the two.

    Raises:
      DataError: the file cannot be read, holds none, or a line is no such pair; the first such lines are told.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). Give a text file: a question, a tab and an answer a line."
        ) from None
    pairs = [tuple(part.strip() for part in line.split("\t")) for line in lines]
    wrong = [number for number, pair in enumerate(pairs, 1) if len(pair) != 2 or not all(pair)]
    if wrong or not pairs:
        told = f"{len(wrong)} of {len(pairs)} lines have none, such as {wrong[:5]}" if wrong else "it is empty"
        raise DataError(f"{path}: wanted a question, a tab and an answer in each line: {told}. Correct it.")
    return [(question, answer) for question, answer in pairs]


def chat_tokenizer(texts: Iterable[str], vocabulary: int) -> dict[str, bytes]:
    """Return the tokenizer's files of a chat model from nothing, by name: `tokenizer.json`, its template, and the end.

    Byte-level byte-pair encoding, so that every text has tokens; frequent words become one.

    Args:
      texts: to learn the pairs from.
      vocabulary: tokens at most, the three special ones and 256 bytes included.

    Raises:
      DataError: the vocabulary is too small for these.
    """
    import tokenizers

    special = [USER, ASSISTANT, END]
    if vocabulary < 256 + len(special):
        raise DataError(f"a vocabulary of {vocabulary} is too small for 256 bytes and {len(special)} special tokens.")
    levels = tokenizers.pre_tokenizers.ByteLevel
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = levels(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=levels.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    end = {"eos_token_id": [tokenizer.token_to_id(END)], "do_sample": False}
    return {
        "tokenizer.json": tokenizer.to_str().encode(), "chat_template.jinja": _TEMPLATE.encode(),
        "tokenizer_config.json": json.dumps({"eos_token": END}).encode(),
        "generation_config.json": json.dumps(end).encode(),
    }  # fmt: skip
