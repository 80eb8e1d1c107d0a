"""Kinds of turns: questions in several wordings, their answers, and the split into trained and held-out contents.

An answer restates the question, so the inner monologue includes its recognition. The contents of kinds that combine
words or numbers are divided by a hash of the combination, for all wordings (`is_unseen`). For sums, differences and
comparisons the hash ignores the order of the numbers; for ranges and words to repeat it includes the order.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping

import numpy as np

from . import world
from .world import NUMBERS

Rng = np.random.Generator


@dataclasses.dataclass(frozen=True)
class Turn:
    """A question and its answer.

    Args:
      kind: its kind's name.
      question: text for the synthesiser, with commas and question marks for the melody, and `|` where the speaker may
        pause because the question is incomplete.
      answer: of the agent.
      content: identifier that is the same for all wordings; turns with the same content have the same answer.
      combines: the combination that decides the split, or None.
      result: state for follow-ups: ("number", 7), ("day", 2), ("name", "tom").
    """

    kind: str
    question: str
    answer: str
    content: str
    combines: str | None = None
    result: tuple[str, int | str] | None = None

    @property
    def unseen(self) -> bool:
        """Whether the content is held out of training."""
        return self.combines is not None and is_unseen(self.combines)


_SHARES = {"sum": 0.12, "compare": 0.12, "range": 0.15, "three": 0.15, "two": 0.15}
"""Held-out fraction of each family of combinations."""


@functools.lru_cache(maxsize=1 << 16)
def is_unseen(combination: str) -> bool:
    """Return whether a combination such as `sum 3 4` is held out. The result does not depend on the machine."""
    digest = hashlib.sha256(f"jomni nano {combination}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < _SHARES[combination.split()[0]]


def _pair(family: str, a: int, b: int) -> str:
    return f"{family} {min(a, b)} {max(a, b)}"


def _ask(kind: str, wordings: tuple[str, ...], answer: str, content: str, combines: str | None = None,
         result: tuple[str, int | str] | None = None) -> Iterator[Turn]:  # fmt: skip
    for wording in wordings:
        yield Turn(kind, wording, answer, f"{kind} {content}", combines, result)


def _greeting() -> Iterator[Turn]:
    for name in world.NAMES:
        yield from _ask(
            "greeting",
            (f"hello, my | name is | {name}.", f"hello, i am | {name}.", f"good morning, my | name is | {name}."),
            f"hello {name}, nice to meet you.", name, result=("name", name),
        )  # fmt: skip


def sum_turns(a: int, b: int) -> Iterator[Turn]:
    """Return the turns about a + b."""
    x, y = NUMBERS[a], NUMBERS[b]
    yield from _ask(
        "add",
        (f"what is | {x} | plus | {y}?", f"how much is | {x} | plus | {y}?", f"add | {x} | and | {y}."),
        f"{x} plus {y} is {NUMBERS[a + b]}.", f"{a} {b}", _pair("sum", a, b), ("sum", a + b),
    )  # fmt: skip


def difference_turns(a: int, b: int) -> Iterator[Turn]:
    """Return the turns about a - b."""
    x, y = NUMBERS[a], NUMBERS[b]
    yield from _ask(
        "subtract",
        (f"what is | {x} | minus | {y}?", f"how much is | {x} | minus | {y}?", f"take | {y} | from | {x}."),
        f"{x} minus {y} is {NUMBERS[a - b]}.", f"{a} {b}", _pair("sum", a, b), ("sum", a - b),
    )  # fmt: skip


def _add() -> Iterator[Turn]:
    for a in range(21):
        for b in range(21):
            yield from sum_turns(a, b)


def _subtract() -> Iterator[Turn]:
    for a in range(21):
        for b in range(a + 1):
            yield from difference_turns(a, b)


def _steps(kind: str, series: tuple[str, ...], which: tuple[str, ...], around: bool) -> Iterator[Turn]:
    """Return the turns about the next and the previous element of a series."""
    for i, item in enumerate(series):
        for word, j in (("after", i + 1), ("before", i - 1)):
            if not around and not 0 <= j < len(series):
                continue
            j %= len(series)
            yield from _ask(
                kind, tuple(w.format(word=word, item=item) for w in which), f"{word} {item} comes {series[j]}.",
                f"{word} {item}", result=(kind, j),
            )  # fmt: skip


def _number() -> Iterator[Turn]:
    which = ("what number comes | {word} | {item}?", "tell me the number | {word} | {item}.")
    yield from _steps("number", NUMBERS, which, around=False)


def _day() -> Iterator[Turn]:
    which = (
        "what day comes | {word} | {item}?",
        "tell me the day | {word} | {item}.",
        "which day is | {word} | {item}?",
    )
    yield from _steps("day", world.DAYS, which, around=True)


def _month() -> Iterator[Turn]:
    which = ("what month comes | {word} | {item}?", "tell me the month | {word} | {item}.",
             "which month is | {word} | {item}?")  # fmt: skip
    yield from _steps("month", world.MONTHS, which, around=True)


def _letter() -> Iterator[Turn]:
    which = ("what letter comes | {word} | {item}?", "tell me the letter | {word} | {item}.")
    yield from _steps("letter", world.LETTERS, which, around=False)


def count_turns(a: int, b: int) -> Iterator[Turn]:
    """Return the turns about counting from a to b, up or down."""
    series = range(a, b + 1) if a < b else range(a, b - 1, -1)
    x, y, way = NUMBERS[a], NUMBERS[b], "" if a < b else " down"
    yield from _ask(
        "count",
        (f"count{way} | from | {x} | to | {y}.", f"please count{way} | from | {x} | to | {y}.",
         f"can you count{way} | from | {x} | to | {y}?"),
        f"from {x} to {y}: {' '.join(NUMBERS[i] for i in series)}.", f"{a} {b}", f"range {a} {b}",
    )  # fmt: skip


RANGES = range(2, 7)
"""Distances of the ends of a range to count."""


def _count() -> Iterator[Turn]:
    for a in range(21):
        for b in range(21):
            if abs(a - b) in RANGES:
                yield from count_turns(a, b)


FAR = range(1, 11)
"""Distances of the ends of ranges up to forty, which test sets do not have. They are too many to memorise."""


def _far_counts() -> Iterator[Turn]:
    for a, b in itertools.product(range(len(NUMBERS)), repeat=2):
        if abs(a - b) in FAR:
            yield from count_turns(a, b)


def facts() -> list[str]:
    """Return answers that follow from their own beginning: all trained ones that can be listed, and more.

    Repetitions are excluded, because they depend on the question. Sums up to 40 and long counts are included beyond
    those of the questions: with more of them, the rule is learnt sooner, which held-out contents require.
    """
    kept = [kind for kind in (*FINITE, "far count") if kind not in ("greeting", "small talk")]
    turns = [turn for kind in kept for wordings in listed(kind, unseen=False) for turn in wordings]
    largest = len(NUMBERS) - 1
    for a, b in itertools.product(range(largest + 1), repeat=2):
        if max(a, b) > 20:
            turns += sum_turns(a, b) if a + b <= largest else ()
            turns += difference_turns(a, b) if a >= b else ()
    return sorted({turn.answer for turn in turns})


def _opposite() -> Iterator[Turn]:
    for pair in world.OPPOSITES:
        for word, other in (pair, pair[::-1]):
            yield from _ask(
                "opposite",
                (f"what is the | opposite of | {word}?", f"tell me the | opposite of | {word}.",
                 f"say the | opposite of | {word}."),
                f"the opposite of {word} is {other}.", word,
            )  # fmt: skip


def three_turns(a: str, b: str, c: str) -> Iterator[Turn]:
    """Return the turns that ask to repeat three words."""
    yield from _ask(
        "repeat",
        (f"repeat after me, | {a}, | {b}, | and | {c}.", f"please repeat, | {a}, | {b}, | and | {c}.",
         f"now repeat, | {a}, | {b}, | and | {c}."),
        f"{a} {b} and {c}.", f"{a} {b} {c}", f"three {a} {b} {c}",
    )  # fmt: skip


def two_turns(a: str, b: str) -> Iterator[Turn]:
    """Return the turns that ask to say two words."""
    yield from _ask(
        "say",
        (f"say the words | {a} | and | {b}.", f"please say | {a} | and | {b}.",
         f"can you say | {a} | and | {b}?"),
        f"{a} and {b}.", f"{a} {b}", f"two {a} {b}",
    )  # fmt: skip


def _spell() -> Iterator[Turn]:
    for word in dict.fromkeys(world.SPELLED):
        yield from _ask(
            "spell", (f"spell | {word}.", f"how do you | spell | {word}?", f"please spell | the word | {word}."),
            f"{word} is spelled {' '.join(word)}.", word,
        )  # fmt: skip


def _colour() -> Iterator[Turn]:
    for colour, things in world.COLOURS.items():
        for thing in things:
            yield from _ask(
                "colour",
                (f"what colour is | the | {thing}?", f"tell me the colour | of the | {thing}.",
                 f"which colour has | the | {thing}?"),
                f"the {thing} is {colour}.", thing,
            )  # fmt: skip


def _compare() -> Iterator[Turn]:
    for a in range(21):
        for b in range(21):
            for word, answer in (("bigger", max(a, b)), ("smaller", min(a, b))):
                if a == b:
                    continue
                x, y, other = NUMBERS[a], NUMBERS[b], NUMBERS[a + b - answer]
                yield from _ask(
                    "compare",
                    (f"which is | {word}, | {x} | or | {y}?", f"which number is | {word}, | {x} | or | {y}?"),
                    f"{NUMBERS[answer]} is {word} than {other}.", f"{word} {a} {b}", _pair("compare", a, b),
                )  # fmt: skip


def _sound() -> Iterator[Turn]:
    for animal, sound in world.SOUNDS.items():
        yield from _ask(
            "sound",
            (f"what does | the | {animal} | say?", f"what sound | does the | {animal} | make?"),
            f"the {animal} says {sound}.", animal,
        )  # fmt: skip


def _fact() -> Iterator[Turn]:
    for animal, legs in world.LEGS.items():
        yield from _ask(
            "fact", (f"how many legs | does the | {animal} | have?", f"how many legs has | the | {animal}?"),
            f"the {animal} has {legs} legs.", animal,
        )  # fmt: skip
    for question, answer in world.FACTS:
        yield from _ask("fact", (f"{question}?", f"please tell me, | {question}?"), f"{answer}.", answer)


def _small_talk() -> Iterator[Turn]:
    for question, answer in world.SMALL_TALK:
        yield from _ask("small talk", (f"{question}.",), f"{answer}.", question)


FINITE: dict[str, Callable[[], Iterator[Turn]]] = {
    "greeting": _greeting, "add": _add, "subtract": _subtract, "number": _number, "day": _day, "month": _month,
    "letter": _letter, "count": _count, "opposite": _opposite, "spell": _spell, "colour": _colour, "compare": _compare,
    "sound": _sound, "fact": _fact, "small talk": _small_talk,
}  # fmt: skip
"""Kinds whose questions can be listed. `repeat` and `say` have millions of questions and are drawn at random."""

KINDS = (*FINITE, "repeat", "say")
FOLLOW_UPS = ("name again", "answer again", "and plus", "and after")
WEIGHTS = {"add": 2.2, "subtract": 1.8, "repeat": 2.2, "say": 1.2, "count": 1.6, "compare": 1.4, "spell": 1.5,
           "opposite": 1.2, "number": 0.9, "day": 0.6, "month": 0.6, "letter": 0.7, "colour": 0.9, "sound": 0.5,
           "fact": 0.7, "small talk": 0.5, "greeting": 1.3}  # fmt: skip
"""Kind -> relative frequency in training."""
COMBINING = ("add", "subtract", "count", "compare", "repeat", "say")


@functools.cache
def listed(kind: str, unseen: bool) -> tuple[tuple[Turn, ...], ...]:
    """Return the turns of a kind on one side of the split, grouped by content; `far count`: ranges up to forty."""
    contents: dict[str, list[Turn]] = {}
    for turn in _far_counts() if kind == "far count" else FINITE[kind]():
        if turn.unseen == unseen:
            contents.setdefault(turn.content, []).append(turn)
    return tuple(tuple(turns) for turns in contents.values())


def draw(rng: Rng, kind: str, unseen: bool = False) -> Turn:
    """Return a random turn of a kind on one side of the split."""
    if kind in (*FINITE, "far count"):
        contents = listed(kind, unseen)
        turns = contents[int(rng.integers(len(contents)))]
        return turns[int(rng.integers(len(turns)))]
    while True:
        words = [world.WORDS[int(i)] for i in rng.choice(len(world.WORDS), 3 if kind == "repeat" else 2, replace=False)]
        turns = tuple(three_turns(*words) if kind == "repeat" else two_turns(*words))
        if turns[0].unseen == unseen:
            return turns[int(rng.integers(len(turns)))]


def draw_kind(rng: Rng, more: Mapping[str, float] | None = None, among: Collection[str] = ()) -> str:
    """Return a random kind with the frequencies of training, times the factors `more`; `among`: only these kinds."""
    names = tuple(name for name in WEIGHTS if not among or name in among)
    weights = np.array([WEIGHTS[n] * (more or {}).get(n, 1.0) for n in names])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


_SERIES = {"number": NUMBERS, "day": world.DAYS, "month": world.MONTHS, "letter": world.LETTERS}


def follow_ups(last: Turn, name: str | None) -> list[Turn]:
    """Return the turns that depend on the conversation so far.

    Args:
      last: the previous turn, answered completely.
      name: of the user, if it was said in the last turns.
    """
    turns: list[Turn] = []
    if name is not None:
        for wording in ("what is | my name?", "do you | remember | my name?"):
            turns.append(Turn("name again", wording, f"your name is {name}.", f"name again {name}"))
    if last.kind != "answer again":
        for wording in ("say that | again.", "please say that | again.", "can you | repeat that?"):
            turns.append(Turn("answer again", wording, last.answer, f"answer again {last.content}", last.combines))
    kind, at = last.result or ("", 0)
    if kind == "sum" and isinstance(at, int):
        for b in range(1, 6):
            if at + b < len(NUMBERS):
                answer = f"{NUMBERS[at]} plus {NUMBERS[b]} is {NUMBERS[at + b]}."
                turns.append(Turn("and plus", f"and | plus | {NUMBERS[b]}?", answer, f"and plus {at} {b}",
                                  _pair("sum", at, b), ("sum", at + b)))  # fmt: skip
            if at >= b:
                answer = f"{NUMBERS[at]} minus {NUMBERS[b]} is {NUMBERS[at - b]}."
                turns.append(Turn("and plus", f"and | minus | {NUMBERS[b]}?", answer, f"and minus {at} {b}",
                                  _pair("sum", at, b), ("sum", at - b)))  # fmt: skip
    if kind in _SERIES and isinstance(at, int):
        series, around = _SERIES[str(kind)], kind in ("day", "month")
        for word, j in (("after", at + 1), ("before", at - 1)):
            if around or 0 <= j < len(series):
                j %= len(series)
                turns.append(Turn("and after", f"and | {word} that?", f"{word} {series[at]} comes {series[j]}.",
                                  f"and {word} {kind} {series[at]}", None, (str(kind), j)))  # fmt: skip
    return turns


def draw_follow_up(rng: Rng, last: Turn, name: str | None, unseen: bool = False) -> Turn | None:
    """Return a random follow-up of the last turn on one side of the split; None if there is none.

    The kind is drawn first, because `say that again` has the most wordings.
    """
    turns = [t for t in follow_ups(last, name) if t.unseen == unseen]
    if not turns:
        return None
    kinds = sorted({t.kind for t in turns})
    weights = np.array([{"answer again": 0.5, "name again": 3.0}.get(k, 1.0) for k in kinds])
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    turns = [t for t in turns if t.kind == kind]
    return turns[int(rng.integers(len(turns)))]
