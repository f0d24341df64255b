"""The machine: knobs for devices, threads and precision, the persistent compilation cache, and ahead-of-time compilation."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from diffsde import memory
from diffsde.build import read
from diffsde.errors import UserError
from diffsde.runs import processes
from diffsde.state import STATE

PRECISIONS = {
    "float32": "everything in float32",
    "bfloat16": "products inside the network in bfloat16, parameters and all else in float32; slower on CPU",
    "float64": "everything in float64, for checks",
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """The knobs of configs/knobs/machine.yaml; read before all others, since reading a path may already run a program."""

    precision: str | None
    devices: int | None
    coordinator: str | None
    processes: int | None
    rank: int | None
    cache: bool
    cache_dir: str | None
    threads: int | None

    @property
    def cache_folder(self) -> Path | None:
        """Where what can be computed again is kept; None: nowhere."""
        return Path(self.cache_dir or cache_home()) if self.cache else None


def configure_process(config: dict[str, Any]) -> None:
    """Configure this process by the config's machine knobs, before its first program.

    XLA reads the numbers of threads and of CPU devices only once: a job that names none has what there is. Raises UserError for
    wrong values, and for numbers that differ from those with which this process began.
    """
    names = [field.name for field in dataclasses.fields(Machine)]
    machine = read(Machine, {name: config[name] for name in names if name in config})
    for knob in ("threads", "devices"):
        now, was = getattr(machine, knob), getattr(STATE.machine, knob, None)
        if STATE.machine and now not in (None, was):  # None: what is there
            begun = "without it" if was is None else f"with {was}"
            raise UserError(f"{knob} is {now}, but this process began {begun}; it cannot be swept over")
    if STATE.machine is None:
        if machine.threads is not None:
            os.environ["NPROC"] = str(machine.threads)
        if machine.devices is not None:
            jax.config.update("jax_num_cpu_devices", machine.devices)
        STATE.machine = machine
    set_compilation_cache(machine.cache, machine.cache_dir)
    processes.join(machine.coordinator, machine.processes, machine.rank)
    jax.config.update("jax_enable_x64", machine.precision == "float64")
    if machine.devices is not None and machine.devices > jax.local_device_count():
        raise UserError(f"devices is {machine.devices}, but there are {jax.local_device_count()} here")


SETTINGS = (
    *("jax_enable_x64", "jax_enable_compilation_cache", "jax_compilation_cache_dir"),
    "jax_persistent_cache_min_compile_time_secs",
)


@contextmanager
def settings_given_back() -> Iterator[None]:
    """A context after which JAX's precision and compilation cache are as they were: those of the program around a call."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    try:
        yield
    finally:
        changed = [name for name, value in before.items() if getattr(jax.config, name) != value]
        for name in changed:
            jax.config.update(name, before[name])
        if set(changed) - {"jax_enable_x64"}:
            compilation_cache.reset_cache()


def refuse_late(config: dict[str, Any]) -> None:
    """Raise UserError for threads= or devices= where JAX has begun without them in this process."""
    begun = STATE.machine
    for knob, instead in (("threads", "NPROC"), ("devices", "JAX_NUM_CPU_DEVICES")):
        asked = config.get(knob)
        if asked is None or asked == getattr(begun, knob, None) or (begun is None and not has_begun()):
            continue
        raise UserError(
            f"{knob} is {asked}, but JAX has begun in this process, and reads it once: set {instead}={asked} in the environment"
            " before Python starts, or call diffsde first"
        )


def has_begun() -> bool:
    """Whether JAX has started its devices, after which their number and threads cannot be changed."""
    number = "jax_num_cpu_devices"
    now = getattr(jax.config, number)
    try:
        jax.config.update(number, max(1, now) + 1)
    except RuntimeError:
        return True
    jax.config.update(number, now)
    return False


def mesh(devices: int | None) -> Mesh | None:
    """The mesh of devices over which a batch is sharded, with one axis `batch`; None for one device. devices: per process."""
    count = devices or jax.local_device_count()
    used = [device for rank in range(jax.process_count()) for device in jax.devices() if device.process_index == rank]
    if not processes.is_distributed():
        used = used[:count]
    return Mesh(np.array(used), ("batch",)) if len(used) > 1 else None


def set_compilation_cache(cache: bool, cache_dir: str | None) -> None:
    """Turn JAX's persistent compilation cache on or off for this process.

    cache_dir: its folder; None: $JAX_COMPILATION_CACHE_DIR, or the user's cache.
    """
    wanted: dict[str, Any] = {"jax_enable_compilation_cache": cache}
    if cache:
        where = cache_dir or os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(cache_home() / "programs")
        wanted |= {"jax_compilation_cache_dir": where, "jax_persistent_cache_min_compile_time_secs": 0.0}
    if any(getattr(jax.config, name) != value for name, value in wanted.items()):
        for name, value in wanted.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # JAX opens the cache once, at a process's first program


def cache_home() -> Path:
    """The folder for recomputable files: $XDG_CACHE_HOME/diffsde, or ~/.cache/diffsde."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffsde"


class Compiler:
    """Ahead-of-time compiler that adds up its seconds, so that run time never includes compile time.

    A program is compiled once per process and structure of arguments, whatever the numbers in them.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, function: Any, *args: Any, **static: Any) -> Callable[..., Any]:
        leaves, structure = jax.tree.flatten(args)
        key = (function, structure, tuple(map(_kind, leaves)), tuple(sorted(static.items())))
        if key not in STATE.programs:
            begin = time.perf_counter()
            compiled = function.lower(*args, **static).compile()
            require_memory(compiled)
            STATE.programs[key] = compiled
            self.seconds += time.perf_counter() - begin
        return STATE.programs[key]

    def warm(self, kind: Any, function: Callable[[], Any]) -> None:
        """Call a function so that its programs are compiled, once per process and `kind`; the time counts as compilation."""
        if ("warm", kind) not in STATE.programs:
            begin = time.perf_counter()
            jax.block_until_ready(function())
            STATE.programs["warm", kind] = (
                jax.block_until_ready
            )  # a mark that it was done; not the function, which refers to a run
            self.seconds += time.perf_counter() - begin


def require_memory(compiled: Any) -> None:
    """Raise UserError where the machine has less memory than XLA says that a program takes; an accelerator's own errors say it."""
    about = compiled.memory_analysis() if jax.default_backend() == "cpu" else None
    if about is not None:
        kept = about.argument_size_in_bytes + about.output_size_in_bytes - about.alias_size_in_bytes
        memory.require(kept + about.temp_size_in_bytes, "the compiled program", memory.SMALLER)


def _kind(leaf: Any) -> Any:
    """The properties of an argument that a program is compiled for: type, shape and sharding."""
    return jax.typeof(leaf), getattr(leaf, "weak_type", True), getattr(leaf, "sharding", None)
