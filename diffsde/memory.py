"""How memory is taken and given back, by the C library and by Python, and whether there is enough; apart, since it is said before jax
is imported."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import sys
from functools import cache
from pathlib import Path

from diffsde.errors import UserError
from diffsde.system_errors import shown_bytes

# <malloc.h> of glibc
TRIM_THRESHOLD, MMAP_MAX, ARENA_MAX = -1, -4, -8
COLLECTED_EVERY = (
    100_000  # new objects, for 700: a sixth of the CPU time of importing jax went into looking for garbage
)
SMALLER = "take less at once (n=, batch_size=, keep= or the net smaller)"


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


def require(count: float, what: str, remedy: str) -> None:
    """Raise UserError where `what` takes `count` bytes at least and the machine has fewer: before any is taken, since Linux gives what
    it does not have and ends the process that uses it.
    """
    if count > (there := installed()):
        raise UserError(f"{what}: {shown_bytes(count)} of memory or more, and there are {shown_bytes(there)}; {remedy}")


@cache
def installed() -> float:
    """Bytes that this process may have at most: the machine's memory and swap, or less where its control group or `ulimit -v` says so."""
    limits = [_machine(), *_control_groups(), _address_space()]
    return min(limit for limit in limits if limit > 0)


def _machine() -> float:
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not known here: nothing is refused
        return float("inf")
    return float(found + _swap()) if found > 0 else float("inf")


def _swap() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("SwapTotal:")), 0)


def _control_groups(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[float]:
    """The limits of the control groups that this process is in, of both versions; [] where there are none."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, file = (root, "memory.max") if not controllers else (root / "memory", "memory.limit_in_bytes")
        group = top / name.strip("/")
        for place in [group, *group.parents]:
            try:
                text = (place / file).read_text().strip()
            except OSError:
                text = "max"
            if text.isdigit():
                found.append(float(text))
            if place == top:
                break
    return found


def _address_space() -> float:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return float("inf")
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return float("inf") if soft == resource.RLIM_INFINITY else float(soft)
