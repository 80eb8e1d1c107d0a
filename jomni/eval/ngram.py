"""N-gram language models from a list of sentences, as ARPA files.

Interpolated Witten-Bell (Witten and Bell 1991; Chen and Goodman 1998, section 2.5): with c(h) the count of a history,
T(h) the number of different words after it and h' the history without its oldest word,

    p(w | h) = (c(h w) + T(h) p(w | h')) / (c(h) + T(h))

An ARPA file can represent this exactly: the back-off weight of h is T(h) / (c(h) + T(h)). The method needs no held-out
data and suits a few thousand short sentences.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

BEGIN, END = "<s>", "</s>"
_NEVER = -99.0  # log10 of probability 0 in ARPA files


def arpa(sentences: Iterable[Sequence[str]], order: int = 2) -> str:
    """Return the content of an ARPA file.

    Args:
      sentences: lists of words.
      order: 2 for a bigram, 3 for a trigram model.

    Raises:
      ValueError: there are no words, `order` is below 1, or a word has a space or is empty, <s> or </s>.
    """
    if order < 1:
        raise ValueError(f"order {order}: must be at least 1")
    counts = _count(sentences, order)
    after: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for gram, count in counts.items():
        after[gram[:-1]][gram[-1]] += count
    words = sorted(after[()])
    probability = _probabilities(after, words)
    lines = ["\\data\\"]
    grams: list[list[str]] = []
    for n in range(1, order + 1):
        found = sorted(gram for gram in probability if len(gram) == n)
        if n == 1:
            found = [(BEGIN,), *found]  # a history, but never predicted
        grams.append([_line(gram, probability.get(gram), after, n < order) for gram in found])
    lines += [f"ngram {n}={len(rows)}" for n, rows in enumerate(grams, 1)]
    for n, rows in enumerate(grams, 1):
        lines += ["", f"\\{n}-grams:", *rows]
    return "\n".join([*lines, "", "\\end\\", ""])


def _count(sentences: Iterable[Sequence[str]], order: int) -> Counter[tuple[str, ...]]:
    """Return the counts of the n-grams with up to `order` words; sentences begin with <s> and end with </s>."""
    counts: Counter[tuple[str, ...]] = Counter()
    for sentence in sentences:
        words = list(sentence)
        for word in words:
            if word in (BEGIN, END) or not word or word.split() != [word]:
                raise ValueError(f"{word!r}: an ARPA file cannot hold this word")
        if not words:
            continue
        line = (BEGIN, *words, END)
        for last in range(1, len(line)):
            for n in range(1, min(order, last + 1) + 1):
                counts[line[last - n + 1 : last + 1]] += 1
    if not counts:
        raise ValueError("the sentences have no words. Give some that do.")
    return counts


def _probabilities(after: dict[tuple[str, ...], Counter[str]], words: list[str]) -> dict[tuple[str, ...], float]:
    """Return n-gram -> probability of its last word given the words before it."""
    found: dict[tuple[str, ...], float] = {}
    for history in sorted(after, key=len):
        counts = after[history]
        total, kinds = sum(counts.values()), len(counts)
        for word, count in counts.items():
            shorter = found[(*history[1:], word)] if history else 1 / len(words)
            found[(*history, word)] = (count + kinds * shorter) / (total + kinds)
    return found


def _line(gram: tuple[str, ...], p: float | None, after: dict[tuple[str, ...], Counter[str]], weigh: bool) -> str:
    text = f"{_NEVER if p is None else math.log10(p):.6f}\t{' '.join(gram)}"
    if not weigh or gram[-1] == END:
        return text
    counts = after.get(gram)
    weight = 1.0 if not counts else len(counts) / (sum(counts.values()) + len(counts))
    return f"{text}\t{math.log10(weight):.6f}"
