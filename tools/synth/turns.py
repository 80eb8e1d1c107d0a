"""Turns for Mini-Omni: questions in the users' voices, answers in the agent's, as VoiceAssistant-400K keeps them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

import jomni
from jomni.audio import resample
from jomni.data.text import read_pairs
from jomni.data.turns.build import Encode, spoken_turns
from jomni.data.turns.parquet import Turn, write_turns
from jomni.models.snac import model as snac

from . import kinds, room
from .agent import agent_says
from .speak import agent_level, speak
from .utterances import babble_pool, in_a_room
from .voices import RATE, draw_manner, draw_voice

Rng = np.random.Generator
_LONGEST = 8  # words of a sentence that is read
_PADDED = 8  # frames: answers are encoded at lengths of so many, each of which is compiled for once


def draw_pairs(
    rng: Rng, count: int, unseen: bool = False, names: Collection[str] = tuple(kinds.WEIGHTS)
) -> Iterator[tuple[str, str]]:
    """Questions and answers of the synthetic world, on one side of its split.

    Args:
      rng: what they are drawn with.
      count: how many.
      unseen: contents that are held out of training, and no others.
      names: of the kinds that are drawn, as often among themselves as in the whole world.

    Raises:
      ValueError: a name is no kind, or none of them is divided, so that nothing of them is unseen.
    """
    if wrong := sorted(set(names) - set(kinds.WEIGHTS)):
        raise ValueError(f"{', '.join(wrong)}: no such kind, only {', '.join(kinds.WEIGHTS)}")
    names = [name for name in names if not unseen or name in kinds.COMBINING]
    if not names:
        raise ValueError(f"of these kinds nothing is held out of training, only of {', '.join(kinds.COMBINING)}")
    for _ in range(count):
        turn = kinds.draw(rng, kinds.draw_kind(rng, among=names), unseen)
        yield " ".join(t for t in turn.question.split() if t != "|"), turn.answer


def draw_readings(rng: Rng, count: int, names: Collection[str] = tuple(kinds.WEIGHTS)) -> Iterator[tuple[str, str]]:
    """Sentences to be read aloud: the beginning of one answer and the end of another, as often as not without sense.

    There are so many of them that none can be learnt by heart, so a voice learns to say a word wherever it stands. What
    is said is no answer that is held out of training.

    Args:
      rng: what they are drawn with.
      count: how many.
      names: of the kinds whose answers are crossed.
    """
    listed = [kind for kind in names if kind in kinds.FINITE]
    held_out = {turns[0].answer for kind in listed for turns in kinds.listed(kind, unseen=True)}
    while count:
        (_, first), (_, second) = draw_pairs(rng, 2, names=names)
        begin, end = first.rstrip(".").split(), second.split()
        text = " ".join((*begin[: int(rng.integers(1, len(begin) + 1))], *end[int(rng.integers(len(end))) :]))
        if len(text.split()) <= _LONGEST and not any(answer in text for answer in held_out):
            count -= 1
            yield f"read: {text}", text


def write_spoken(pairs: Path, out: Path, codec: str, split: str, seed: int) -> None:
    """Speak a file of questions and answers. What the synthesiser cannot read is left out, and told.

    Args:
      pairs: a question, a tab and an answer a line; words as `speak` takes them.
      out: the parquet file.
      codec: a SNAC's checkpoint.
      split: of the voices that ask, "train" or "heldout".
      seed: of voices, manners and rooms.
    """
    rng, babble, dropped = np.random.default_rng(seed), babble_pool(), list[str]()

    def ask(text: str) -> tuple[np.ndarray, int]:
        voice = draw_voice(rng, split)
        pcm = room.level(speak(text, voice, draw_manner(rng, voice)).pcm, float(rng.uniform(-30, -20)))
        pcm = np.pad(pcm, [round(float(rng.uniform(0.02, 0.2)) * RATE) for _ in range(2)])
        return in_a_room(rng, pcm, babble), RATE

    @functools.lru_cache(2048)  # answers recur, and unit selection is slow
    def tell(text: str) -> tuple[np.ndarray, int]:
        return agent_level(agent_says(text).pcm), RATE

    def turns() -> Iterator[Turn]:
        encode = _once(_encoder(codec))
        for pair in track(read_pairs(pairs), "speaking"):
            try:
                yield from spoken_turns([pair], ask, tell, encode)
            except ValueError as error:
                dropped.append(f"{pair}: {error}")

    count = write_turns(out, turns())
    print(f"{out}: {count} turns" + (f"; {len(dropped)} left out, such as {dropped[0]}" if dropped else ""))


def _once(encode: Encode) -> Encode:
    """Return the codec, which encodes the same sound once: the agent says an answer the same way every time."""
    known: dict[bytes, Any] = {}

    def codes(pcm: np.ndarray, rate: int) -> Any:
        key = hashlib.sha256(pcm.tobytes()).digest()
        if key not in known:
            known[key] = encode(pcm, rate)
        return known[key]

    return codes


def _encoder(source: str) -> Encode:
    found = jomni.load(source, components=("snac",))
    if "snac" not in found.configs:
        raise jomni.JomniError(f"{source}: is no SNAC codec. Name one's checkpoint.")
    config, codec, params = (
        found.configs["snac"],
        jomni.Snac(found.configs["snac"]),
        jomni.fold_weight_norm(found.params["snac"]),
    )

    def encode(pcm: np.ndarray, rate: int) -> list[np.ndarray]:
        pcm = resample(pcm, rate, config.sampling_rate)
        frames = -(-len(pcm) // config.frame_size)
        whole = -(-frames // _PADDED) * _PADDED * config.frame_size
        codes = snac.encode(codec, params, np.pad(pcm, (0, whole - len(pcm)))[None])
        return [np.asarray(book[0, : frames * n]) for book, n in zip(codes, config.tokens_per_frame, strict=True)]

    return encode
