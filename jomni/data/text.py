"""Text data: tokenizers for small vocabularies and for chats, and files of questions and answers."""

from __future__ import annotations

import io
import json
import os
import string
from collections.abc import Iterable
from pathlib import Path

from jomni.errors import DataError

_SPACE = "\u2581"  # sentencepiece's symbol for the space before a word
_BYTES = 256
_SPECIAL = 4


def train_tokenizer(words: Iterable[str], vocabulary: int | None = None) -> bytes:
    """Return a sentencepiece model whose special tokens are Moshi's: 0 unknown, 1 begin, 2 end, 3 padding.

    Each given word, together with the space before it, is one piece. Other text is split into letters, and characters
    without a piece into their UTF-8 bytes, so decoding restores every text. Text is not normalised: "The" and "the"
    are two words.

    Args:
      words: the words, without spaces. Duplicates are dropped. Token ids follow the order of the words.
      vocabulary: size of the vocabulary; unused pieces fill it up. None: the smallest size that holds the words.

    Returns:
      The serialised model.

    Raises:
      DataError: there are no words, a word is empty or contains a space, or the vocabulary is too small for the words.
    """
    import sentencepiece

    words = list(dict.fromkeys(words))
    wrong = [word for word in words if not word or word.split() != [word] or _SPACE in word or "\0" in word]
    if wrong or not words:
        raise DataError(f"{wrong[:5]} cannot be words of a tokenizer. Give at least one word, without spaces.")
    letters = "".join(sorted({*string.ascii_lowercase, *"".join(words)}))
    needed = _SPECIAL + _BYTES + len(words) + len(letters) + 1  # the space
    spare = 0 if vocabulary is None else vocabulary - needed
    if spare < 0:
        raise DataError(f"a vocabulary of {vocabulary} is too small: {len(words)} words need {needed}.")
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
"""Special tokens of a chat: before a question, before an answer, and after an answer."""

_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def read_pairs(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Read pairs of question and answer from a UTF-8 text file with one pair per line, separated by a tab.

    Raises:
      DataError: the file cannot be read or is empty, or a line is not such a pair. The message names the first five
        of these lines.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). Give a text file with a question, a tab and an answer in each line."
        ) from None
    pairs = [tuple(part.strip() for part in line.split("\t")) for line in lines]
    wrong = [number for number, pair in enumerate(pairs, 1) if len(pair) != 2 or not all(pair)]
    if wrong or not pairs:
        told = f"{len(wrong)} of {len(pairs)} lines are not, such as {wrong[:5]}" if wrong else "the file is empty"
        raise DataError(f"{path}: each line must be a question, a tab and an answer: {told}. Correct the file.")
    return [(question, answer) for question, answer in pairs]


def chat_tokenizer(texts: Iterable[str], vocabulary: int) -> dict[str, bytes]:
    """Train the tokenizer of a chat model, and return its files by name.

    The tokenizer is a byte-level byte-pair encoding, so it can encode every text. Frequent words become one token. The
    files are tokenizer.json, tokenizer_config.json, chat_template.jinja and generation_config.json.

    Args:
      texts: text from which the pairs are learnt.
      vocabulary: largest number of tokens, including the 3 special tokens and 256 bytes.

    Raises:
      DataError: the vocabulary is smaller than the special tokens and the bytes.
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
