"""How memory is taken and given back, by the C library and by Python; apart, because it is said before jax is imported."""

from __future__ import annotations

import atexit
import ctypes
import gc
import sys

# <malloc.h> of glibc
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
COLLECTED_EVERY = (
    100_000  # new objects, for 700: a sixth of the CPU time of importing jax went into looking for garbage
)


def tune_malloc() -> None:
    """Have glibc keep what XLA gives back after each run of a program, for the next one.

    By default it returns large blocks to the system, and every step faults them in again page by page: 28,000 faults in
    a step of a small convolutional network (scripts/bench_allocator.py). One arena, no mapped blocks, no trimming.
    Nothing to do under another C library. Python looks for garbage less often, since imports and traces make many objects
    that stay, and not at all when the process ends, where that took 0.6 CPU seconds.
    """
    gc.set_threshold(COLLECTED_EVERY)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(ARENA_MAX, 1)
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
