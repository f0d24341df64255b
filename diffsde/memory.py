"""How the C library's allocator serves XLA on CPU; apart, because it has to be told before jax is imported."""

from __future__ import annotations

import ctypes
import sys

# <malloc.h> of glibc
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8


def hold() -> None:
    """Have glibc keep what XLA gives back after each run of a program, for the next one.

    By default it returns large blocks to the system, and every step faults them in again page by page: 28,000 faults in
    a step of a small convolutional network (scripts/bench_allocator.py). One arena, no mapped blocks, no trimming.
    Nothing to do under another C library.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(ARENA_MAX, 1)
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
