"""Where a run comes from, as its config.json says: command, date, versions, git revisions, machine, seeds, and the runs it used."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from diffsde import __version__, nested
from diffsde.nested import flatten
from diffsde.runs.record import id_of, read_record

PACKAGES = ("jax", "jaxlib", "numpy", "flax", "optax")  # whose versions are written, of those that are imported
LONGEST_WAIT = 2.0  # seconds for git, which may be slow over a network
USED = ("run", "guide", "init", "samples", "coupling.run", "teacher")  # knobs that name folders of other jobs


class Given(NamedTuple):
    """What is known of a job before its config: the command as typed, the words of each job by its folder, and when it began."""

    command: str
    words: Mapping[str, Sequence[str]]
    date: str


_given: ContextVar[Given | None] = ContextVar("given", default=None)  # of the command, or of the current job of a sweep


@contextmanager
def given(typed: str, words: Mapping[Path | None, Sequence[str]]) -> Iterator[None]:
    """A context whose jobs were asked for by this command, "" for that of the context around; words: of each job, by its folder; those under None are of any."""
    at = {os.path.abspath(folder) if folder else "": each for folder, each in words.items()}
    token = _given.set(Given(typed or command(), at, now()))
    try:
        yield
    finally:
        _given.reset(token)


def command() -> str:
    """The command as it was typed; "" where none is known."""
    known = _given.get()
    return known.command if known else ""


def now() -> str:
    """The local time, ISO with the offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="microseconds")


def of_job(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The provenance of a job that is written into the folder."""
    known = _given.get() or Given("", {}, now())
    seeds = {key: value for key, value in flatten(config).items() if key.rpartition(".")[2] == "seed"}
    return {
        "id": id_of(folder),
        "date": known.date,
        "command": known.command,
        "words": list(known.words.get(os.path.abspath(folder), known.words.get("", ()))),
        "seeds": seeds,
        "used": used(config),
        "versions": versions(),
        "git": {"directory": revision(Path.cwd()), "diffsde": own_revision()},
        "machine": machine(),
    }


def used(config: dict[str, Any]) -> dict[str, Any]:
    """{knob: id} of the jobs whose folders a config names; a list of ids for a list of folders."""
    found: dict[str, Any] = {}
    for knob in USED:
        named = nested.get(config, knob)
        ids = [record.id for each in as_list(named) if (record := read_record(Path(str(each)))) is not None]
        if ids:
            found[knob] = ids if isinstance(named, list) else ids[0]
    return found


def as_list(value: Any) -> list[Any]:
    """The entries of a list; one value as a list of one, and None of none."""
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def versions() -> dict[str, str]:
    """The versions of diffsde, of Python, and of the packages that compute."""
    found = {"diffsde": __version__, "python": platform.python_version()}
    return found | {
        name: str(getattr(sys.modules[name], "__version__", "")) for name in PACKAGES if name in sys.modules
    }


@cache
def revision(folder: Path) -> dict[str, Any] | None:
    """The git revision that a folder is at, and whether files that git knows are changed there (None where git is too slow to
    say); None where the folder is in no checkout.
    """
    head = git(folder, "rev-parse", "HEAD")
    if not head:
        return None
    changes = git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"revision": head.strip(), "changed": None if changes is None else bool(changes.strip())}


def own_revision() -> dict[str, Any] | None:
    """The git revision of diffsde's own checkout; None where it is installed, in an environment that may lie in another's."""
    package = Path(__file__).resolve().parent.parent
    return revision(package) if git(package, "ls-files", "__init__.py") else None


def git(folder: Path, *words: str) -> str | None:
    """What git prints; None where there is no git, it fails, or it is too slow."""
    import subprocess

    asked = ["git", "--no-optional-locks", "-C", str(folder), *words]  # a lock of a git that is ended here would stay
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=LONGEST_WAIT, check=False)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout if done.returncode == 0 else None


def machine() -> dict[str, Any]:
    """Host, system, CPU, and JAX's devices."""
    import jax

    devices = jax.devices()
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("NPROC"),
        "xla_flags": os.environ.get("XLA_FLAGS"),
        "backend": jax.default_backend(),
        "devices": [f"{kind} x {count}" for kind, count in counted([device.device_kind for device in devices]).items()],
        "processes": jax.process_count(),
    }


def counted(names: Sequence[str]) -> dict[str, int]:
    """How often each name is there."""
    return {name: names.count(name) for name in dict.fromkeys(names)}


@cache
def cpu() -> str:
    """The CPU's model, as the system calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except (OSError, UnicodeDecodeError):
        pass
    return platform.processor() or platform.machine()
