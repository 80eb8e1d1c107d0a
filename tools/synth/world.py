"""Words and facts of the corpus: numbers, names, days, things and their colours.

Words are in lower case. No word is a homophone of another if the answer depends on the difference. Single letters are
the letters' names.
"""

# ruff: noqa: SIM905 - lists of words read best as words
from __future__ import annotations

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
NUMBERS: tuple[str, ...] = (
    *_ONES, *(f"{tens} {ones}".removesuffix(" zero") for tens in ("twenty", "thirty") for ones in _ONES[:10]), "forty",
)  # fmt: skip
"""The numbers 0 to 40 in words."""

DAYS = tuple("monday tuesday wednesday thursday friday saturday sunday".split())
MONTHS = tuple("january february march april may june july august september october november december".split())
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")

NAMES = tuple(
    "tom anna peter maria david sarah john laura paul emma daniel julia simon alice martin clara oliver helen "
    "george susan robert linda michael karen thomas nina adam kevin victor sandra".split()
)

OPPOSITES = tuple(
    tuple(pair.split("-"))
    for pair in (
        "hot-cold big-little up-down fast-slow happy-sad good-bad old-young high-low long-short hard-soft open-closed "
        "early-late full-empty light-dark rich-poor thick-thin clean-dirty dry-wet loud-quiet left-right in-out "
        "day-night black-white love-hate push-pull sweet-bitter deep-shallow easy-difficult"
    ).split()
)
"""Pairs of opposites, asked in both directions; no word is in two pairs."""

COLOURS: dict[str, tuple[str, ...]] = {
    "green": tuple("grass frog lettuce cucumber".split()),
    "yellow": tuple("banana lemon butter corn".split()),
    "red": tuple("tomato strawberry cherry".split()),
    "blue": tuple("sky ocean whale".split()),
    "white": tuple("snow milk sugar".split()),
    "black": tuple("coal panther".split()),
    "orange": tuple("carrot pumpkin tiger".split()),
    "brown": tuple("chocolate coffee potato monkey".split()),
    "grey": tuple("elephant dolphin".split()),
    "pink": ("pig",),
}
"""Colour -> things of this colour."""

SOUNDS: dict[str, str] = {
    "cow": "moo", "dog": "woof", "cat": "meow", "duck": "quack", "sheep": "baa", "lion": "roar", "snake": "hiss",
    "mouse": "squeak",
}  # fmt: skip

LEGS: dict[str, str] = {
    "spider": "eight", "horse": "four", "chicken": "two", "snake": "no", "beetle": "six", "penguin": "two",
}  # fmt: skip

FACTS: tuple[tuple[str, str], ...] = (
    ("how many | days | are in one week", "one week has seven days"),
    ("how many | months | are in one year", "one year has twelve months"),
    ("how many | minutes | are in one hour", "one hour has sixty minutes"),
    ("how many | hours | are in one day", "one day has twenty four hours"),
    ("how many | wheels | does the bicycle have", "the bicycle has two wheels"),
    ("how many | sides | does the triangle have", "the triangle has three sides"),
    ("what do | cows | give us", "cows give us milk"),
    ("where does | the fish | live", "the fish lives in water"),
    ("what is the | capital | of france", "the capital of france is paris"),
    ("what is the | capital | of england", "the capital of england is london"),
    ("what is the | capital | of italy", "the capital of italy is rome"),
    ("what is the | capital | of spain", "the capital of spain is madrid"),
    ("which season comes | after | winter", "after winter comes spring"),
    ("which season comes | after | summer", "after summer comes autumn"),
)
"""(question with pause marks, answer)."""

SMALL_TALK: tuple[tuple[str, str], ...] = (
    ("thank you", "you are welcome"),
    ("thanks", "you are welcome"),
    ("goodbye", "goodbye and take care"),
    ("good night", "good night and sleep well"),
    ("how are you", "very well thank you"),
    ("who | are you", "my name is jomni"),
    ("what is | your name", "my name is jomni"),
)

SPELLED = tuple(
    "cat dog fish cow duck frog bird lion wolf fox bat cup box hat shoe ball desk bed roof key clock map bus truck "
    "bike ship tree moon star wind ice milk egg jam soup salt fork leg king girl farm gate park shop silk wood flag "
    "song zebra jelly quiz".split()
)
"""Short words to spell; all of them can be repeated too."""

_MORE = (
    "apple banana bread butter cheese lemon onion pepper potato salad sandwich sugar tomato carrot cherry coffee "
    "honey pizza peach grape chicken tiger monkey elephant rabbit horse donkey spider turtle dolphin penguin parrot "
    "eagle butterfly squirrel chair table window kitchen garden bottle basket bucket button camera candle carpet "
    "corner hammer ladder mirror needle pencil pillow pocket ribbon scissors shelf sofa telephone ticket umbrella "
    "violin wallet guitar piano trumpet airplane rocket tractor bridge castle church village island forest mountain "
    "river desert ocean school office hospital library museum hotel station teacher farmer painter sailor soldier "
    "child mother father baby shoulder stomach jacket shirt collar glove helmet necklace thunder rainbow shadow "
    "morning evening breakfast dinner music picture story square triangle football tennis puzzle balloon bubble "
    "feather magnet copper diamond plastic leather pebble volcano planet giant wizard pirate magic treasure holiday "
    "birthday party".split()
)
WORDS: tuple[str, ...] = tuple(dict.fromkeys((*SPELLED, *_MORE)))
"""Words to repeat."""

BACKCHANNELS = ("uh huh", "mm hmm", "yeah", "okay", "right")
HALTS = ("wait", "stop")
