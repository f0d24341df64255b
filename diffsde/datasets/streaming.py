"""Examples that stay on the disk: the batches of a run's steps in an order of epochs, read while the device computes."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from threading import Lock
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.datasets.dataset import Examples, Source
from diffsde.datasets.finite import Buffer
from diffsde.extras import require
from diffsde.sharding import Sharding, shard_buffer

BUFFER_BYTES, BUFFER_EXAMPLES = 1 << 25, 1 << 15  # of one process, at most, in a buffer of several steps
PART_BYTES, PART_EXAMPLES = (
    1 << 27,
    1 << 14,
)  # of the part that is held in memory: a standard error of std/128 for the mean
PERMUTED_WHOLE = 1 << 22  # examples at most whose order of an epoch is held in memory, 16 MiB
PERMUTED_AT_ONCE = 1 << 14  # examples at least that are put in order together: many epochs of data that are fewer
READ_AT_ONCE = 64  # examples that one thread reads of the part
THREADS = 16  # that read, at most
ENDLESS = 1 << 62  # steps


def require_grain() -> None:
    """Raise UserError where grain is not installed."""
    require("grain", "stream", "dataset.stream=true")


def reader_threads() -> int:
    return max(2, min(THREADS, os.cpu_count() or 1))


def gather(source: Source, rows: np.ndarray) -> Examples:
    """The examples of these rows in memory, read by several threads: decoding lets others run."""
    whole = jax.tree.map(lambda leaf: np.empty((len(rows), *leaf.shape[1:]), leaf.dtype), source.read(rows[:1]))

    def fill(begin: int) -> None:
        piece = slice(begin, begin + READ_AT_ONCE)
        jax.tree.map(lambda leaf, found: np.copyto(leaf[piece], found), whole, source.read(rows[piece]))

    with ThreadPoolExecutor(reader_threads()) as pool:
        list(pool.map(fill, range(0, len(rows), READ_AT_ONCE)))
    return jax.tree.map(jnp.asarray, whole)


def part(source: Source) -> Examples:
    """At most 16,384 examples and 128 MiB, drawn at random without replacement, always the same ones; else all."""
    size = max(2, min(source.size, PART_EXAMPLES, PART_BYTES // bytes_of(source)))
    return gather(source, np.sort(np.random.default_rng(0).choice(source.size, size, replace=False)))


def bytes_of(source: Source) -> int:
    """Of one example."""
    return int(source.read(np.arange(1)).x.nbytes)


def batches(source: Source, seed: int, batch_size: int, rank: int = 0, ranks: int = 1) -> Any:
    """A grain.MapDataset without end, whose element s is the share of process `rank` in the examples of step s.

    The data in epochs without replacement, each shuffled anew, are one row of examples; step s takes those in
    [s B, (s+1) B), and a process the rank-th of `ranks` equal pieces of them. All depends on the seed and s alone.
    """
    import grain

    share = batch_size // ranks
    if source.size > PERMUTED_WHOLE:  # grain finds the place of an example without the order of the others
        order = grain.MapDataset.range(source.size).seed(seed).shuffle().repeat()
        return order.batch(share, batch_fn=np.array)[rank::ranks].map(source.read)
    rows = shuffled(source.size, seed)

    def read(step: int) -> Examples:
        begin = step * batch_size + rank * share
        return source.read(rows(begin, begin + share))

    return grain.MapDataset.range(ENDLESS).map(read)


def shuffled(size: int, seed: int) -> Callable[[int, int], np.ndarray]:
    """The examples at the places from `begin` to before `end` of the row of all epochs, (end - begin,); for any threads.

    Epochs are put in order a block at a time: with uniform 64-bit keys, of Philox with the key (seed, block), the order
    that sorts them is a uniform permutation. grain's order is a cipher of 16 bits and more, applied to an example again
    and again until it falls below `size`: 218 times each for 300 examples.
    """
    epochs = max(1, PERMUTED_AT_ONCE // size)
    one_at_a_time, keep = Lock(), lru_cache(maxsize=2)(partial(permutations, size, epochs, seed))

    def rows(begin: int, end: int) -> np.ndarray:
        length, pieces = size * epochs, []
        for block in range(begin // length, (end - 1) // length + 1):
            with one_at_a_time:  # else each thread that waits for a block would make it
                order = keep(block)
            pieces.append(order[max(0, begin - block * length) : end - block * length])
        return np.concatenate(pieces).astype(np.int64)

    return rows


def permutations(size: int, epochs: int, seed: int, block: int) -> np.ndarray:
    """(epochs * size,) uint32: in each of `epochs` pieces every number below `size` once."""
    keys = np.random.Philox(key=np.array([seed, block], np.uint64)).random_raw(epochs * size)
    return np.argsort(keys.reshape(epochs, size), axis=1).astype(np.uint32).reshape(-1)


class Stream:
    """The examples of the steps `first` to `last` of a run, a buffer of `capacity` steps after another.

    Threads read ahead by as much as a buffer; with the buffer that a program computes on and the next one, which is put
    on the device meanwhile, that is all there is in memory. longest: the most steps that a dispatch will have.
    """

    field: ClassVar[str] = "arrays"  # of the Run

    def __init__(
        self,
        source: Source,
        seed: int,
        batch_size: int,
        longest: int,
        steps: tuple[int, int],
        sharding: Sharding | None,
    ) -> None:
        rank, ranks = (0, 1) if sharding is None else sharding.process()
        share = batch_size // ranks
        self.capacity = max(1, min(longest, BUFFER_BYTES // (share * bytes_of(source)), BUFFER_EXAMPLES // share))
        self._next, self._last = steps
        self._layout = sharding
        self._held: tuple[int, Buffer] | None = None
        self._batches = self._iterator(batches(source, seed, batch_size, rank, ranks)[self._next : self._last])

    def _iterator(self, found: Any) -> Any:
        import grain

        ahead = grain.ReadOptions(
            num_threads=reader_threads(), prefetch_buffer_size=max(reader_threads(), self.capacity)
        )
        return iter(found.to_iter_dataset(ahead))

    def buffer(self, step: int) -> Buffer:
        """The buffer, on the device, that has a step's batch: the last one that was asked for, or the one after it."""
        number = step // self.capacity
        if self._held is None or self._held[0] != number:
            self._held = number, shard_buffer(self._layout, self._read((number + 1) * self.capacity))
        return self._held[1]

    def _read(self, until: int) -> Buffer:
        """The batches of all steps before `until` that are yet to come, in their places."""
        x: Any = None
        y: Any = None
        while self._next < min(until, self._last):
            batch = next(self._batches)
            if x is None:
                x = np.zeros((self.capacity, *batch.x.shape), batch.x.dtype)
                y = None if batch.y is None else np.zeros((self.capacity, *batch.y.shape), batch.y.dtype)
            x[self._next % self.capacity] = batch.x
            if y is not None:
                y[self._next % self.capacity] = batch.y
            self._next += 1
        return Buffer(x, y)

    def close(self) -> None:
        """End the threads."""
        self._batches.close()
