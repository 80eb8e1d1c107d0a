"""Turns for Mini-Omni in VoiceAssistant-400K's schema: questions in users' voices, answers in the agent's."""

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
_LONGEST = 8  # largest number of words of a sentence to read
_PADDED = 8  # frames; answers are padded to multiples of it, to compile fewer lengths


def draw_pairs(
    rng: Rng, count: int, unseen: bool = False, names: Collection[str] = tuple(kinds.WEIGHTS)
) -> Iterator[tuple[str, str]]:
    """Yield random questions and answers on one side of the split.

    Args:
      rng: of the draws.
      count: number of pairs.
      unseen: only held-out contents; else only trained ones.
      names: kinds, with the relative frequencies of training.

    Raises:
      ValueError: a name is not a kind, or none of the kinds has held-out contents.
    """
    if wrong := sorted(set(names) - set(kinds.WEIGHTS)):
        raise ValueError(f"{', '.join(wrong)}: no such kind, only {', '.join(kinds.WEIGHTS)}")
    names = [name for name in names if not unseen or name in kinds.COMBINING]
    if not names:
        raise ValueError(
            f"none of these kinds has contents that are held out of training, only {', '.join(kinds.COMBINING)}"
        )
    for _ in range(count):
        turn = kinds.draw(rng, kinds.draw_kind(rng, among=names), unseen)
        yield " ".join(t for t in turn.question.split() if t != "|"), turn.answer


def draw_readings(rng: Rng, count: int, names: Collection[str] = tuple(kinds.WEIGHTS)) -> Iterator[tuple[str, str]]:
    """Yield sentences to read aloud: the beginning of one answer and the end of another.

    There are too many to memorise, so a model learns to say each word in any context. Held-out answers are excluded.

    Args:
      rng: of the draws.
      count: number of sentences.
      names: kinds of the answers.
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
    """Synthesise a file of questions and answers. Lines that the synthesiser cannot read are left out and counted.

    Args:
      pairs: lines of a question, a tab and an answer, in the format of `speak`.
      out: the parquet file.
      codec: checkpoint of a SNAC.
      split: of the questions' voices, "train" or "heldout".
      seed: of voices, manners and rooms.
    """
    rng, babble, dropped = np.random.default_rng(seed), babble_pool(), list[str]()

    def ask(text: str) -> tuple[np.ndarray, int]:
        voice = draw_voice(rng, split)
        pcm = room.level(speak(text, voice, draw_manner(rng, voice)).pcm, float(rng.uniform(-30, -20)))
        pcm = np.pad(pcm, [round(float(rng.uniform(0.02, 0.2)) * RATE) for _ in range(2)])
        return in_a_room(rng, pcm, babble), RATE

    @functools.lru_cache(2048)  # answers recur, and their synthesis is slow
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
    """Return an encoder with a cache, as the agent's audio of an answer is always the same."""
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
        raise jomni.JomniError(f"{source}: is not a SNAC codec. Give the checkpoint of one.")
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
