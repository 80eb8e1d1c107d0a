"""Command line of the synthetic corpus; see the package's docstring."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from jomni.data import train_tokenizer
from jomni.data.text import chat_tokenizer, read_pairs

from . import corpus, espeak, flite, kinds, world
from .conversation import conversations
from .readings import readings
from .samples import write_samples
from .speak import plain
from .testsets import all_sets
from .turns import draw_pairs, draw_readings, write_spoken
from .utterances import agent_words, utterances
from .voices import HELD_OUT, TRAIN

PRONUNCIATIONS = Path(__file__).with_name("pronunciations.dict")
"""Words of the corpus that the CMU dictionary lacks, for the recogniser of `jomni eval`."""


def user_words() -> list[str]:
    """Return all words of the users, sorted."""
    words = {w for kind in kinds.FINITE for turn in kinds.FINITE[kind]() for w in plain(turn.question)}
    follow = kinds.Turn("", "", "", "", None, ("sum", 5)), kinds.Turn("", "", "", "", None, ("day", 5))
    words |= {w for last in follow for turn in kinds.follow_ups(last, "tom") for w in plain(turn.question)}
    for turn in (*kinds.three_turns("cat", "dog", "fish"), *kinds.two_turns("cat", "dog")):
        words |= set(plain(turn.question))
    return sorted(words | {w for said in (*world.WORDS, *world.BACKCHANNELS, *world.HALTS) for w in said.split()})


def agent_sentences(seed: int = 0, combinations: int = 4000, names: Collection[str] | None = None) -> list[str]:
    """Return sentences of the agent, for a recogniser's language model.

    All answers that can be listed, seen and held out, and a sample of the combinations of words.

    Args:
      seed: of the sample.
      combinations: size of the sample.
      names: kinds of questions, without follow-ups; None: all kinds, with follow-ups.
    """
    chosen = kinds.KINDS if names is None else names
    answers = {" ".join(plain(turn.answer)) for kind in kinds.FINITE if kind in chosen for turn in kinds.FINITE[kind]()}
    if names is None:
        answers |= {f"your name is {name}" for name in world.NAMES}
    drawn = [kind for kind in ("repeat", "say") if kind in chosen]
    rng = np.random.default_rng(seed)
    for i in range(combinations if drawn else 0):
        turn = kinds.draw(rng, drawn[i % len(drawn)], unseen=bool(rng.integers(2)))
        answers.add(" ".join(plain(turn.answer)))
    return sorted(answers)


_NUMERIC = {"plus", "minus", "bigger", "smaller"}
_REPEATS = 4


def facts() -> list[str]:
    """Return answers that follow from their own beginning, to train on as text. None of them is held out.

    Answers other than sums and comparisons are repeated, because there are few of them.
    """
    listed = sorted({" ".join(plain(answer)) for answer in kinds.facts()})
    return [fact for fact in listed for _ in range(1 if _NUMERIC & set(fact.split()) else _REPEATS)]


def show_questions(console: Console) -> None:
    """Print the kinds of questions with their numbers of contents and questions, seen and held out."""
    table = Table("kind", "contents", "held out", "questions", "held out ", title="Questions")
    total = 0
    for kind in kinds.FINITE:
        sides = [kinds.listed(kind, unseen) for unseen in (False, True)]
        counts = [sum(len({t.question for t in turns}) for turns in side) for side in sides]
        total += sum(counts)
        table.add_row(kind, *(f"{n:,}" for n in (len(sides[0]), len(sides[1]), counts[0], counts[1])))
    n = len(world.WORDS)
    for kind, combinations, share in (("repeat", n * (n - 1) * (n - 2), 0.15), ("say", n * (n - 1), 0.15)):
        parts = combinations * (1 - share), combinations * share
        table.add_row(kind, *(f"about {p:,.0f}" for p in (*parts, 3 * parts[0], 3 * parts[1])))
    for kind in kinds.FOLLOW_UPS:
        table.add_row(kind, "follow-up", "", "", "")
    console.print(table)
    console.print(f"{len(kinds.KINDS) + len(kinds.FOLLOW_UPS)} kinds; {total:,} different questions of the kinds that "
                  f"can be listed; {len(agent_words())} words of the agent, {len(user_words())} of users; "
                  f"{len(TRAIN)} speakers in training, {len(HELD_OUT)} held out.")  # fmt: skip


def _times(text: str) -> tuple[str, float]:
    """Parse KIND=TIMES."""
    kind, _, times = text.partition("=")
    try:
        number = float(times)
    except ValueError:
        number = -1.0
    if kind not in kinds.WEIGHTS or not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not KIND=TIMES with a kind of {', '.join(kinds.WEIGHTS)}")
    return kind, number


def _share(text: str) -> float:
    """Parse a number from 0 to 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return share


def _add_kinds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kinds", nargs="+", choices=tuple(kinds.WEIGHTS), metavar="KIND",
                        help=f"only these kinds of questions: {', '.join(kinds.WEIGHTS)} (default: all)")  # fmt: skip


def _add_turns(commands: Any) -> None:
    """Add the commands for Mini-Omni's data."""
    turn = commands.add_parser("turns", help="questions and answers in text, separated by a tab, for Mini-Omni")
    turn.add_argument("out", type=Path, help="the text file to write")
    turn.add_argument("--count", type=int, default=20_000)
    what = turn.add_mutually_exclusive_group()
    what.add_argument("--unseen", action="store_true", help="only contents that are held out of training")
    what.add_argument("--readings", action="store_true", help="sentences to read aloud, composed of two answers")
    _add_kinds(turn)
    chat = commands.add_parser("chat-tokenizer", help="train the tokenizer of a small chat model on such a file")
    chat.add_argument("pairs", type=Path, help="the text file")
    chat.add_argument("out", type=Path, help="the folder to write")
    chat.add_argument("--vocabulary", type=int, default=1024)
    spoken = commands.add_parser("spoken", help="synthesise such a file into a parquet file")
    spoken.add_argument("pairs", type=Path, help="the text file")
    spoken.add_argument("out", type=Path, help="the parquet file to write")
    spoken.add_argument("--snac", required=True, help="checkpoint of the codec, with 1, 2 and 4 codes per frame")
    spoken.add_argument("--voices", choices=("train", "heldout"), default="train", help="voices of the questions")
    for sub in (turn, spoken):
        sub.add_argument("--seed", type=int, default=0)


def main() -> None:
    """Parse and run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.synth", description="Make the synthetic corpus.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("questions", help="print the kinds of questions, their numbers, and what is held out")
    tokenizer = commands.add_parser("tokenizer", help="make a text tokenizer with one token per word")
    tokenizer.add_argument("out", type=Path, help="the sentencepiece file to write")
    said = commands.add_parser(
        "sentences", help="sentences of the agent, one a line, for the recogniser's language model"
    )
    said.add_argument("out", type=Path, nargs="?", help="the text file to write (default: print them)")
    _add_kinds(said)
    fact = commands.add_parser("facts", help="answers that follow from their own beginning, one a line, none held out")
    fact.add_argument("out", type=Path, help="the text file to write")
    _add_turns(commands)
    for name, hours in (("utterances", 3.0), ("conversations", 40.0), ("readings", 8.0)):
        sub = commands.add_parser(name)
        sub.add_argument("out", type=Path)
        sub.add_argument("--hours", type=float, default=hours)
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument("--workers", type=int, default=2)
        if name == "utterances":
            sub.add_argument("--agent-share", type=float, default=0.45, help="fraction of utterances by the agent "
                             "(default: 0.45)")  # fmt: skip
            _add_kinds(sub)
        if name == "readings":
            sub.add_argument("--facts", action="store_true", help="read facts, mostly counts, whose text "
                             "is a training target too")  # fmt: skip
        if name == "conversations":
            sub.add_argument("--split", choices=("train", "valid"), default="train",
                             help="valid: other conversations with trained contents and voices")  # fmt: skip
            sub.add_argument("--more", type=_times, nargs="+", default=[], metavar="KIND=TIMES",
                             help="factors for the frequency of kinds")  # fmt: skip
            sub.add_argument("--far", type=_share, default=0.0, metavar="SHARE", help="fraction of counts that go up "
                             "to forty, over one to ten numbers (default: 0)")  # fmt: skip
    samples = commands.add_parser("samples", help="write the recordings of jomni/assets/samples")
    samples.add_argument("out", type=Path, help="the folder to write")
    tests = commands.add_parser("tests")
    tests.add_argument("out", type=Path)
    tests.add_argument("--seed", type=int, default=0)
    tests.add_argument("--workers", type=int, default=2)
    tests.add_argument("--scale", type=float, default=1.0, help="below 1: fewer items")
    args = parser.parse_args()
    if args.command == "questions":
        return show_questions(Console())
    if args.command == "tokenizer":
        args.out.write_bytes(train_tokenizer(sorted({*agent_words(), *user_words()})))
        return None
    if args.command == "facts":
        args.out.write_text("\n".join(facts()) + "\n")
        return None
    if args.command == "turns":
        rng, names = np.random.default_rng(args.seed), args.kinds or tuple(kinds.WEIGHTS)
        try:
            if args.readings:
                pairs = list(draw_readings(rng, args.count, names))
            else:
                pairs = list(draw_pairs(rng, args.count, args.unseen, names))
        except ValueError as error:
            parser.exit(2, f"--kinds {' '.join(names)}: {error}\n")
        args.out.write_text("".join(f"{question}\t{answer}\n" for question, answer in pairs))
        return None
    if args.command == "chat-tokenizer":
        args.out.mkdir(parents=True, exist_ok=True)
        texts = (text for pair in read_pairs(args.pairs) for text in pair)
        for name, content in chat_tokenizer(texts, args.vocabulary).items():
            (args.out / name).write_bytes(content)
        return None
    if args.command == "sentences":
        text = "\n".join(agent_sentences(names=args.kinds)) + "\n"
        if args.out is None:
            print(text, end="")
        else:
            args.out.write_text(text)
        return None
    if not (flite.available() and espeak.available()):
        parser.exit(2, "The speech synthesisers are missing. On Debian or Ubuntu: apt install flite espeak-ng\n")
    if args.command == "spoken":
        return write_spoken(args.pairs, args.out, args.snac, args.voices, args.seed)
    if args.command == "samples":
        return write_samples(args.out)
    if args.command == "utterances":
        narrower = {"names": args.kinds} if args.kinds else {}
        corpus.write_hours(utterances, args.out, args.hours, args.seed, args.workers,
                           shard=corpus.shard_size(args.hours, 2.5, 5 * corpus.SHARD),
                           agent_share=args.agent_share, **narrower)  # fmt: skip
    elif args.command == "readings":
        told = {"facts": True} if args.facts else {}
        corpus.write_hours(readings, args.out, args.hours, args.seed, args.workers,
                           shard=corpus.shard_size(args.hours, 33), **told)  # fmt: skip
    elif args.command == "conversations":
        seed = args.seed if args.split == "train" else 1_000_000 + args.seed
        asked = {"more": dict(args.more)} if args.more else {}
        asked |= {"far": args.far} if args.far else {}
        corpus.write_hours(conversations, args.out, args.hours, seed, args.workers,
                           shard=corpus.shard_size(args.hours, 38), **asked)  # fmt: skip
    else:
        corpus.write_sets(all_sets(args.scale), args.out, args.seed, args.workers)
        (args.out / "sentences.txt").write_text("\n".join(agent_sentences()) + "\n")
        shutil.copyfile(PRONUNCIATIONS, args.out / PRONUNCIATIONS.name)


if __name__ == "__main__":
    main()
