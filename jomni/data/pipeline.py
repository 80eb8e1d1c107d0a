"""What all of jomni's Grain pipelines share: shuffled anew every epoch, endless, checkpointable.

The i-th element depends on the seed and i alone, so the state of an iterator is a counter, batches are the same with
any number of worker processes, and an iterator set to a state goes on exactly as the one that gave it. The state also
says which data it is of: a counter means another example where the data has changed.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np
from absl import flags

from jomni.errors import DataError

Batch = dict[str, np.ndarray]

_TAIL = 1 << 16
"""Bytes at the end of a file that are looked at: where parquet and ArrayRecord tell what the file holds."""


def fingerprint(*parts: Any) -> str:
    """A short hash of what identifies data: numbers, texts, and tuples or lists of such, for their repr is hashed."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def file_mark(path: Path) -> tuple[str, int, str]:
    """What tells a large file from one of other contents, wherever it lies and without reading it whole: its name, its
    size and a hash of its end."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL))
        return path.name, size, hashlib.sha256(file.read()).hexdigest()


def endless(
    source: Sequence[Any] | grain.sources.RandomAccessDataSource,
    draw: Callable[[Any, np.random.Generator], Batch],
    *,
    batch: int,
    seed: int,
    data: str | None = None,
    workers: int = 0,
    prefetch: int = 8,
    collate: Callable[[Sequence[Batch]], Batch] | None = None,
) -> grain.IterDataset:
    """Return an endless pipeline of batches.

    Args:
      source: the elements of an epoch; each epoch has them in another order.
      draw: makes one example, without its batch axis, from an element and a random generator of its own.
      batch: examples in each batch. A batch may join two epochs, so that no element is left out.
      seed: of order and draws.
      data: from `fingerprint`, of what the elements are made of; None: they are numbers and texts, or lists and tuples
        of such, and speak for themselves.
      workers: processes that prepare batches; 0: threads of this process.
      prefetch: batches kept ready.
      collate: makes a batch of its examples; None: stacks their arrays, which are then of one shape.

    Raises:
      DataError: there is nothing to draw from.
    """
    if not len(source):
        raise DataError("the data set holds no examples. Give one with at least one recording.")
    if batch < 1:
        raise DataError(f"batches of {batch} examples cannot be made. Give at least 1.")
    elements = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
    batches = elements.random_map(draw).batch(
        batch, drop_remainder=True, batch_fn=collate
    )  # of what is endless, nothing is dropped
    mark = fingerprint(source) if data is None else data
    return _Endless(batches, f"{len(source)} examples, {mark}", workers, prefetch)


class _Endless(grain.IterDataset):
    """Batches made ahead of their use. The state of its iterators is the number of the next batch, whoever makes it: a
    run may go on with another number of workers; and what the batches are made of."""

    def __init__(self, batches: grain.MapDataset, data: str, workers: int, prefetch: int) -> None:
        super().__init__()
        self._batches, self._data, self._workers, self._prefetch = batches, data, workers, prefetch

    def __iter__(self) -> _Iterator:
        return _Iterator(self._from, self._data)

    def _from(self, first: int) -> grain.DatasetIterator:
        # One thread suffices and leaves the other cores to the training; it runs ahead by `prefetch` batches.
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=self._prefetch)
        ready = self._batches[first:].to_iter_dataset(options)
        if not self._workers:
            return iter(ready)
        if not flags.FLAGS.is_parsed():  # Grain's workers read absl's flags, which a program without absl never parses
            flags.FLAGS.mark_as_parsed()
        each = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=self._prefetch)
        return iter(ready.mp_prefetch(each, worker_init_fn=_begin_worker))


def _begin_worker(index: int, count: int) -> None:
    """What a worker process does first: from then on its parent alone says when it ends.

    A terminal's Ctrl-C and a scheduler's SIGTERM reach the whole group, and the parent still needs batches to finish
    its step. A parent that is killed can say nothing any more, and Grain's workers would wait for it for ever.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a worker"
    parent.join()
    os._exit(1)  # the worker's main thread is somewhere within Grain


class _Iterator(grain.DatasetIterator):
    def __init__(self, begin: Callable[[int], grain.DatasetIterator], data: str) -> None:
        super().__init__()
        self._begin, self._data, self._next = begin, data, 0
        self._batches: grain.DatasetIterator | None = None  # begun when first asked for: setting a state costs nothing

    def __next__(self) -> Batch:
        if self._batches is None:
            self._batches = self._begin(self._next)
        batch = next(self._batches)
        self._next += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        return {"next_index": self._next, "data": self._data}

    def set_state(self, state: dict[str, Any]) -> None:
        """Raise `DataError` where the state is of other data."""
        held = state.get("data", self._data)  # states of before this was kept do not say
        if held != self._data:
            raise DataError(
                f"the training data has changed: it was {held}, now it is {self._data}. Another order of other "
                "examples would follow. Restore the data as it was, or start a run under another --name."
            )
        self.close()
        self._next, self._batches = state["next_index"], None

    def close(self) -> None:
        if self._batches is not None:
            self._batches.close()
