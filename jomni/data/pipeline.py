"""What all of jomni's Grain pipelines share: shuffled anew every epoch, endless, checkpointable.

The i-th element depends on the seed and i alone, so the state of an iterator is a counter, batches are the same with
any number of worker processes, and an iterator set to a state goes on exactly as the one that gave it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from jomni.errors import DataError

Batch = dict[str, np.ndarray]


def endless(
    source: Sequence[Any] | grain.sources.RandomAccessDataSource,
    draw: Callable[[Any, np.random.Generator], Batch],
    *,
    batch: int,
    seed: int,
    workers: int = 0,
    prefetch: int = 8,
    collate: Callable[[Sequence[Batch]], Batch] | None = None,
) -> grain.IterDataset:
    """An endless pipeline of batches.

    Args:
      source: the elements of an epoch; each epoch has them in another order.
      draw: makes one example, without its batch axis, from an element and a random generator of its own.
      batch: examples in each batch. A batch may join two epochs, so that no element is left out.
      seed: of order and draws.
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
    return _Endless(batches, workers, prefetch)


class _Endless(grain.IterDataset):
    """Batches made ahead of their use. The state of its iterators is the number of the next batch, whoever makes it: a
    run may go on with another number of workers."""

    def __init__(self, batches: grain.MapDataset, workers: int, prefetch: int) -> None:
        super().__init__()
        self._batches, self._workers, self._prefetch = batches, workers, prefetch

    def __iter__(self) -> _Iterator:
        return _Iterator(self._from)

    def _from(self, first: int) -> grain.DatasetIterator:
        # One thread suffices and leaves the other cores to the training; it runs ahead by `prefetch` batches.
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=self._prefetch)
        ready = self._batches[first:].to_iter_dataset(options)
        if not self._workers:
            return iter(ready)
        if not flags.FLAGS.is_parsed():  # Grain's workers read absl's flags, which a program without absl never parses
            flags.FLAGS.mark_as_parsed()
        each = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=self._prefetch)
        return iter(ready.mp_prefetch(each))


class _Iterator(grain.DatasetIterator):
    def __init__(self, begin: Callable[[int], grain.DatasetIterator]) -> None:
        super().__init__()
        self._begin, self._next = begin, 0
        self._batches: grain.DatasetIterator | None = None  # begun when first asked for: setting a state costs nothing

    def __next__(self) -> Batch:
        if self._batches is None:
            self._batches = self._begin(self._next)
        batch = next(self._batches)
        self._next += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        return {"next_index": self._next}

    def set_state(self, state: dict[str, Any]) -> None:
        self.close()
        self._next, self._batches = state["next_index"], None

    def close(self) -> None:
        if self._batches is not None:
            self._batches.close()
