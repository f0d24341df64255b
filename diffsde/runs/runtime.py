"""How programs are compiled and run: threads, the persistent cache, and compilation timed apart from execution."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from diffsde.build import positive, read
from diffsde.errors import UserError

_threads: list[int | None] = []  # what this process was started with


@dataclasses.dataclass(frozen=True)
class Threads:
    """The one knob that has to be read before the others, since reading a path may run a program."""

    threads: int | None

    def check(self) -> None:
        positive(self, "threads")


def use_threads(config: dict[str, Any]) -> None:
    """Give XLA's CPU programs `threads` threads; null: one a core. XLA reads it once, before a process's first program.

    Raises UserError for what is no such number, or where an earlier job of this process had another.
    """
    threads = read(Threads, {"threads": config.get("threads")}).threads
    if threads is not None:
        os.environ["NPROC"] = str(threads)
    _threads.append(threads)
    if threads != _threads[0]:
        raise UserError(f"threads is {threads}, but this process began with {_threads[0]}; it cannot be swept over")


def keep_programs(cache: bool, cache_dir: str | None) -> None:
    """Turn JAX's persistent compilation cache on or off for this process."""
    jax.config.update("jax_enable_compilation_cache", cache)
    if cache:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", cache_dir or str(home / "diffsde" / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


class Compiler:
    """Compiles ahead of time and adds up the seconds, so that run time never hides compile time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, function: Any, *args: Any, **static: Any) -> Callable[..., Any]:
        begin = time.perf_counter()
        compiled = function.lower(*args, **static).compile()
        self.seconds += time.perf_counter() - begin
        return compiled
