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
) -> grain.IterDataset:
    """An endless pipeline of batches.

    Args:
      source: the elements of an epoch; each epoch has them in another order.
      draw: makes one example, without its batch axis, from an element and a random generator of its own.
      batch: examples in each batch. A batch may join two epochs, so that no element is left out.
      seed: of order and draws.
      workers: processes that prepare batches; 0: threads of this process.
      prefetch: batches kept ready.

    Raises:
      DataError: there is nothing to draw from.
    """
    if not len(source):
        raise DataError("the data set holds no examples. Give one with at least one recording.")
    if batch < 1:
        raise DataError(f"batches of {batch} examples cannot be made. Give at least 1.")
    elements = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
    dataset = elements.random_map(draw).batch(batch, drop_remainder=True)  # of what is endless, nothing is dropped
    # One thread suffices and leaves the other cores to the training; it runs ahead by `prefetch` batches.
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=prefetch)
    ready = dataset.to_iter_dataset(options)
    if not workers:
        return ready
    if not flags.FLAGS.is_parsed():  # Grain's workers read absl's flags, which a program without absl never parses
        flags.FLAGS.mark_as_parsed()
    return ready.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=prefetch))
