"""Writing a corpus in shards, one folder and one new process for each.

A shard is a function of the seed and its number, for any number of processes. espeak-ng keeps noise from one utterance
to the next, so only a new process reproduces the same samples.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .agent import keep_answers
from .voices import RATE

SHARD = 100
"""Largest number of items in a shard. Short items use larger shards, because each shard starts a process."""

_ANSWERS = "answers"

Item = dict[str, Any]
Maker = Callable[..., Iterable[tuple[np.ndarray, Item]]]
"""(rng, count, **options) -> items (int16 pcm, json); an importable function. The `files` of a json, {suffix: pcm}, are
written beside the wav."""
Work = tuple[Maker, Path, list[int], int, str, dict[str, Any]]


def write_item(folder: Path, path: str, pcm: np.ndarray, about: Item) -> Item:
    """Write x.wav and x.json; return the manifest's line.

    Args:
      folder: of the corpus.
      path: of the wav, relative to it.
      pcm: int16 [n] or [n, 2].
      about: the json's contents.
    """
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(target, pcm, RATE, subtype="PCM_16")
    for suffix, samples in about.pop("files", {}).items():
        soundfile.write(target.with_suffix(suffix), samples, RATE, subtype="PCM_16")
    target.with_suffix(".json").write_text(json.dumps(about))
    return {"path": path, "duration": len(pcm) / RATE}


def _make(work: Work) -> list[Item]:
    """Write one shard; return its lines of the manifest."""
    make, folder, seed, count, name, options = work
    part = folder / "parts" / f"{name}.jsonl"
    if not part.exists():
        items = make(np.random.default_rng(seed), count, **options)
        lines = [write_item(folder, f"data/{name}/{i:04d}.wav", pcm, about) for i, (pcm, about) in enumerate(items)]
        part.parent.mkdir(parents=True, exist_ok=True)
        partial = part.with_suffix(".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines))
        partial.rename(part)
    return [json.loads(line) for line in part.read_text().splitlines()]


def _in_order(jobs: Iterable[Work], workers: int, answers: Path) -> Iterator[list[Item]]:
    """Run each job in a new process; yield the results in order. The processes share a cache of the agent's speech."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, keep_answers, (answers,), maxtasksperchild=1) as pool:
        jobs = iter(jobs)
        pending: list[Any] = []
        while True:
            while len(pending) < workers + 1 and (job := next(jobs, None)) is not None:
                pending.append(pool.apply_async(_make, (job,)))
            if not pending:
                return
            yield pending.pop(0).get()


def _manifest(folder: Path, lines: list[Item]) -> None:
    (folder / "MANIFEST.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def shard_size(hours: float, seconds: float, most: int = SHARD) -> int:
    """Return the number of items in a shard. Small corpora have small shards, because shards are always completed.

    Args:
      hours: of the corpus.
      seconds: typical length of an item.
      most: largest number of items.
    """
    return max(4, min(most, round(hours * 3600 / seconds / 4)))


def write_hours(
    make: Maker, folder: Path, hours: float, seed: int, workers: int, shard: int = SHARD, **options: Any
) -> None:
    """Make shards until there are `hours` of audio, then write MANIFEST.jsonl. Existing shards are kept.

    Args:
      make: makes the items.
      folder: of the corpus.
      hours: least length of the corpus. It may be increased later.
      seed: of the corpus.
      workers: number of processes.
      shard: number of items in a shard; a corpus that exists keeps its own.
      **options: arguments of `make`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shard = _recipe(folder).get("shard", shard)
    _check_same(folder, {"maker": make.__name__, "seed": seed, "shard": shard, **options})
    began, seconds, lines, shards = time.monotonic(), 0.0, [], 0
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())

    def jobs() -> Iterator[Work]:
        number = 0
        while seconds < hours * 3600:
            yield make, folder, [seed, number], shard, f"{number:05d}", options
            number += 1

    with Progress(*columns) as progress:
        bar = progress.add_task(f"{folder.name}, {hours:g} h", total=hours * 3600, rate="")
        for made in _in_order(jobs(), workers, folder / _ANSWERS):
            if seconds >= hours * 3600:  # started before the length was known to suffice
                (folder / "parts" / f"{shards:05d}.jsonl").unlink()
                shutil.rmtree(folder / "data" / f"{shards:05d}")
            else:
                lines += made
                seconds += sum(line["duration"] for line in made)
            shards += 1
            rate = f"{seconds / 3600:.2f} h, {seconds / (time.monotonic() - began):.0f} x real time"
            progress.update(bar, completed=min(seconds, hours * 3600), rate=rate)
    _manifest(folder, lines)
    shutil.rmtree(folder / _ANSWERS, ignore_errors=True)


def write_sets(sets: dict[str, tuple[Maker, int, dict[str, Any]]], folder: Path, seed: int, workers: int) -> None:
    """Make several small corpora, each in a folder with its own manifest.

    Args:
      sets: name -> (maker, number of items, options).
      folder: contains the corpora.
      seed: of the corpora.
      workers: number of processes.
    """
    jobs: list[Work] = []
    for number, (name, (make, count, options)) in enumerate(sets.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        _check_same(folder / name, {"maker": make.__name__, "seed": seed, "count": count, **options})
        jobs.append((make, folder / name, [seed, 7, number], count, "00000", options))
    with Progress() as progress:
        bar = progress.add_task("test sets", total=len(jobs))
        for (_, at, *_), lines in zip(jobs, _in_order(jobs, workers, folder / _ANSWERS), strict=True):
            _manifest(at, lines)
            progress.console.print(
                f"{at}: {len(lines)} items, {sum(line['duration'] for line in lines) / 60:.1f} minutes"
            )
            progress.advance(bar)
    shutil.rmtree(folder / _ANSWERS, ignore_errors=True)


def _recipe(folder: Path) -> Item:
    """Return the options that a corpus was made with; {} if it does not exist."""
    note = folder / "recipe.json"
    return json.loads(note.read_text()) if note.exists() else {}


def _check_same(folder: Path, recipe: Item) -> None:
    """Raise SystemExit if a corpus exists and was made with other options."""
    begun = _recipe(folder)
    if begun and begun != recipe:
        raise SystemExit(
            f"{folder}: was made with {json.dumps(begun)}, not with {json.dumps(recipe)}. Choose another folder."
        )
    (folder / "recipe.json").write_text(json.dumps(recipe))
