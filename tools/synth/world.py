"""What there is to talk about: numbers, names, days, things and their colours. Words in lower case, none of them a
homophone of another where the answer would have to tell them apart, and single letters always the letters' names."""

# ruff: noqa: SIM905 - lists of words read best as words
from __future__ import annotations

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
NUMBERS: tuple[str, ...] = (
    *_ONES, *(f"{tens} {ones}".removesuffix(" zero") for tens in ("twenty", "thirty") for ones in _ONES[:10]), "forty",
)  # fmt: skip
"""0 to 40 in words."""

DAYS = tuple("monday tuesday wednesday thursday friday saturday sunday".split())
MONTHS = tuple("january february march april may june july august september october november december".split())
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")

NAMES = tuple(
    "tom anna peter maria david sarah john laura paul emma daniel julia simon alice martin clara oliver helen george "
    "susan robert linda michael karen thomas nina adam diana kevin monica brian tina eric sofia victor vera oscar "
    "hannah felix olga arthur irene leo nora max ruth ben lucy sam mary henry eva jacob rita luke amy noah ella ivan "
    "sandra".split()
)

OPPOSITES = tuple(
    tuple(pair.split("-"))
    for pair in (
        "hot-cold big-little up-down fast-slow happy-sad good-bad old-young high-low long-short hard-soft open-closed "
        "early-late full-empty light-dark rich-poor strong-feeble thick-thin wide-narrow clean-dirty dry-wet "
        "loud-quiet left-right in-out over-under front-back first-last top-bottom day-night black-white always-never "
        "love-hate win-lose push-pull give-take start-finish sweet-bitter smooth-rough sharp-blunt deep-shallow "
        "safe-dangerous easy-difficult cheap-expensive simple-complicated true-false brave-afraid "
        "kind-cruel polite-rude lazy-busy asleep-awake alive-dead friend-enemy king-queen brother-sister "
        "husband-wife boy-girl summer-winter north-south east-west sunrise-sunset question-answer "
        "begin-end arrive-leave remember-forget laugh-cry"
    ).split()
)
"""Pairs, asked in both directions; no word is in two of them."""

COLOURS: dict[str, tuple[str, ...]] = {
    "green": tuple("grass frog lettuce cucumber leaf spinach forest broccoli".split()),
    "yellow": tuple("banana lemon sunflower butter corn canary cheese".split()),
    "red": tuple("tomato strawberry cherry blood ruby lobster ketchup".split()),
    "blue": tuple("sky ocean sapphire whale lake".split()),
    "white": tuple("snow milk cotton swan sugar salt rice".split()),
    "black": tuple("coal raven tyre panther ink".split()),
    "orange": tuple("carrot pumpkin tangerine tiger".split()),
    "brown": tuple("chocolate coffee potato monkey bark mud".split()),
    "grey": tuple("elephant mouse dolphin cement ash".split()),
    "pink": tuple("pig flamingo salmon".split()),
    "purple": tuple("plum lavender".split()),
}
"""What is of one colour."""

SOUNDS: dict[str, str] = {
    "cow": "moo", "dog": "woof", "cat": "meow", "duck": "quack", "sheep": "baa", "pig": "oink", "frog": "croak",
    "lion": "roar", "snake": "hiss", "mouse": "squeak", "owl": "hoot", "wolf": "howl", "crow": "caw", "donkey": "bray",
    "turkey": "gobble",
}  # fmt: skip

LEGS: dict[str, str] = {
    "spider": "eight", "ant": "six", "horse": "four", "chicken": "two", "snake": "no", "beetle": "six", "goat": "four",
    "penguin": "two", "fish": "no", "rabbit": "four",
}  # fmt: skip

FACTS: tuple[tuple[str, str], ...] = (
    ("how many | days | are in one week", "one week has seven days"),
    ("how many | months | are in one year", "one year has twelve months"),
    ("how many | minutes | are in one hour", "one hour has sixty minutes"),
    ("how many | hours | are in one day", "one day has twenty four hours"),
    ("how many | wheels | does the bicycle have", "the bicycle has two wheels"),
    ("how many | wheels | does the car have", "the car has four wheels"),
    ("how many | fingers | are on one hand", "one hand has five fingers"),
    ("how many | sides | does the triangle have", "the triangle has three sides"),
    ("how many | sides | does the square have", "the square has four sides"),
    ("what do | bees | make", "bees make honey"),
    ("what do | cows | give us", "cows give us milk"),
    ("where does | the fish | live", "the fish lives in water"),
    ("where does | the bird | live", "the bird lives in the nest"),
    ("what is | frozen | water called", "frozen water is called ice"),
    ("what is the | capital | of france", "the capital of france is paris"),
    ("what is the | capital | of england", "the capital of england is london"),
    ("what is the | capital | of italy", "the capital of italy is rome"),
    ("what is the | capital | of spain", "the capital of spain is madrid"),
    ("what is the | capital | of germany", "the capital of germany is berlin"),
    ("which season comes | after | winter", "after winter comes spring"),
    ("which season comes | after | summer", "after summer comes autumn"),
)
"""Questions, with marks where a speaker may pause because more must follow, and their answers."""

SMALL_TALK: tuple[tuple[str, str], ...] = (
    ("thank you", "you are welcome"),
    ("many thanks", "you are welcome"),
    ("thanks", "you are welcome"),
    ("goodbye", "goodbye and take care"),
    ("see you later", "see you later"),
    ("good night", "good night and sleep well"),
    ("how are you", "very well thank you"),
    ("who | are you", "my name is jomni"),
    ("what is | your name", "my name is jomni"),
    ("can you | hear me", "yes loud and clear"),
)

SPELLED = tuple(
    "cat dog fish cow pig duck goat frog bird lion wolf crab ant fox hen owl bat cup box bag hat cap coat sock shoe "
    "belt ring ball kite doll drum bell book pen desk lamp bed door wall roof room house key lock clock map car bus "
    "van truck train bike boat ship tree leaf grass rock sand hill lake pond moon star rain snow wind cloud fire ice "
    "milk egg jam cake rice soup corn bean plum pear nut salt fork spoon plate bowl pan pot soap towel brush comb hand "
    "foot leg arm neck chin lip tooth bone king queen boy girl man nest farm barn fence gate road park zoo shop bank "
    "gold silk wool wood brick glass nail rope chain wheel tent flag gift song game zebra jelly quiz box yard vase "
    "hook jar cube kiwi".split()
)
"""Short words to spell; all may be repeated as well."""

_MORE = (
    "apple banana bread butter cheese lemon melon onion pepper potato salad sandwich sugar tomato carrot cherry coffee "
    "cookie honey pizza noodle mango peach grape garlic chicken tiger monkey elephant rabbit horse donkey camel "
    "spider turtle lizard dolphin penguin parrot pigeon eagle beetle butterfly squirrel hamster kitten puppy chair "
    "table window kitchen garden bottle basket blanket bucket button camera candle carpet ceiling corner curtain "
    "drawer hammer ladder letter mirror needle paper pencil pillow pocket purse ribbon scissors shelf shovel sofa "
    "stamp string sweater telephone ticket umbrella violin wallet guitar piano trumpet airplane rocket tractor "
    "wagon engine bridge castle church city village island forest mountain river valley desert beach ocean meadow "
    "school office hospital library market museum hotel station theatre doctor teacher farmer painter singer dancer "
    "driver baker pilot sailor soldier nurse lawyer child mother father baby cousin neighbour finger shoulder elbow "
    "ankle stomach thumb jacket shirt trousers button collar glove helmet sandal scarf necklace bracelet thunder "
    "lightning rainbow storm shadow sunshine morning evening breakfast dinner lunch supper music picture story "
    "number colour circle square triangle football tennis hockey chess puzzle balloon bubble feather magnet marble "
    "copper silver diamond iron plastic leather cotton pebble volcano planet comet dragon giant wizard pirate robot "
    "magic secret treasure holiday birthday present party".split()
)
WORDS: tuple[str, ...] = tuple(dict.fromkeys((*SPELLED, *_MORE)))
"""What one may be asked to repeat."""

BACKCHANNELS = ("uh huh", "mm hmm", "yeah", "okay", "right")
HALTS = ("wait", "stop")
