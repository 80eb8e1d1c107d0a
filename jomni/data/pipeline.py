"""Endless Grain pipelines with a checkpointable position, shared by all data sets of jomni.

Each epoch is shuffled anew. Element i depends on the seed and i alone. So the state of an iterator is a counter,
batches are the same for any number of worker processes, and an iterator restored from a state continues exactly where
that state was taken. The state also holds a fingerprint of the data, because the same counter means another example
when the data has changed.
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
"""Bytes at the end of a file that `file_mark` hashes. Parquet and ArrayRecord keep their index there."""


def fingerprint(*parts: Any) -> str:
    """Return a short hash of `parts`: numbers, strings, and tuples or lists of them. It hashes their `repr`."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def file_mark(path: Path) -> tuple[str, int, str]:
    """Return the name, the size and a hash of the end of a file.

    These identify the content of a large file without reading all of it, independent of its folder.
    """
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
      source: the elements of one epoch. Each epoch has them in another order.
      draw: makes one example, without the batch axis, from an element and its own random generator.
      batch: examples in each batch. A batch may span two epochs, so no element is dropped.
      seed: seed of the order and of `draw`.
      data: `fingerprint` of the data behind the elements. None: hash the elements themselves, which must then be
        numbers, strings, or lists and tuples of them.
      workers: processes that prepare batches. 0: a thread of this process.
      prefetch: batches prepared ahead.
      collate: makes a batch from a list of examples. None: stack arrays of equal shape.

    Raises:
      DataError: `source` is empty, or `batch` is less than 1.
    """
    if not len(source):
        raise DataError("the data set holds no examples. Give one with at least one recording.")
    if batch < 1:
        raise DataError(f"batches of {batch} examples cannot be made. Give at least 1.")
    elements = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
    batches = elements.random_map(draw).batch(
        batch, drop_remainder=True, batch_fn=collate
    )  # the elements are endless: drop_remainder drops nothing
    mark = fingerprint(source) if data is None else data
    return _Endless(batches, f"{len(source)} examples, {mark}", workers, prefetch)


class _Endless(grain.IterDataset):
    """Batches prepared ahead of their use.

    The state of an iterator is the number of the next batch and a description of the data. It does not depend on the
    number of workers, so a run may be resumed with another number.
    """

    def __init__(self, batches: grain.MapDataset, data: str, workers: int, prefetch: int) -> None:
        super().__init__()
        self._batches, self._data, self._workers, self._prefetch = batches, data, workers, prefetch

    def __iter__(self) -> _Iterator:
        return _Iterator(self._from, self._data)

    def _from(self, first: int) -> grain.DatasetIterator:
        # One thread is fast enough and leaves the other cores to training. It runs up to `prefetch` batches ahead.
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=self._prefetch)
        ready = self._batches[first:].to_iter_dataset(options)
        if not self._workers:
            return iter(ready)
        if not flags.FLAGS.is_parsed():  # Grain's workers read absl's flags, which only absl programs parse
            flags.FLAGS.mark_as_parsed()
        each = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=self._prefetch)
        return iter(ready.mp_prefetch(each, worker_init_fn=_begin_worker))


def _begin_worker(index: int, count: int) -> None:
    """Prepare a worker process: ignore SIGINT and SIGTERM, and exit when the parent process exits.

    Ctrl-C in a terminal and a scheduler's SIGTERM reach the whole process group, while the parent still needs batches
    to finish its step. A parent that is killed cannot stop its workers, and Grain's workers would wait for it for ever.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a worker"
    parent.join()
    os._exit(1)  # sys.exit would end this thread only: the main thread is inside Grain


class _Iterator(grain.DatasetIterator):
    def __init__(self, begin: Callable[[int], grain.DatasetIterator], data: str) -> None:
        super().__init__()
        self._begin, self._data, self._next = begin, data, 0
        self._batches: grain.DatasetIterator | None = None  # created at the first use, so that set_state is cheap

    def __next__(self) -> Batch:
        if self._batches is None:
            self._batches = self._begin(self._next)
        batch = next(self._batches)
        self._next += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        return {"next_index": self._next, "data": self._data}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that `get_state` returned. Raise `DataError` if it belongs to other data."""
        held = state.get("data", self._data)  # states of older versions do not hold it
        if held != self._data:
            raise DataError(
                f"the training data has changed: it was {held}, now it is {self._data}. Training would continue with "
                "other examples. Restore the data, or start a run with another --name."
            )
        self.close()
        self._next, self._batches = state["next_index"], None

    def close(self) -> None:
        if self._batches is not None:
            self._batches.close()
