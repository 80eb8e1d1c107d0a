"""A text tokenizer for a small world: each of its words one token, anything else letters and bytes."""

from __future__ import annotations

import io
import string
from collections.abc import Iterable

from jomni.errors import DataError

_SPACE = "\u2581"  # what sentencepiece writes for the space before a word
_BYTES = 256
_SPECIAL = 4


def train_tokenizer(words: Iterable[str], vocabulary: int | None = None) -> bytes:
    """A sentencepiece model, numbered as Moshi's: 0 unknown, 1 begin, 2 end, 3 padding.

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
