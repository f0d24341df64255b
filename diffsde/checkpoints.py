"""Checkpoints of a run, a folder per step, each with a checksum; the only file that imports orbax."""

from __future__ import annotations

import gc
import glob
import logging
import math
import os
import shlex
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding, SingleDeviceSharding

from diffsde import system_errors
from diffsde.errors import UserError, first_line
from diffsde.memory import require
from diffsde.system_errors import of_machine, shown_bytes
from diffsde.types import Array, Moments, on_device

logging.getLogger("absl").setLevel(
    logging.CRITICAL
)  # orbax logs every save there, and what `wait` raises, with its traceback

REMOVALS, REMOVED_EVERY = (
    3,
    0.1,
)  # how often a checkpoint that could not be written is removed, and after how many seconds again

MOST = 2**70  # bytes that are said
BLOCK = 2**20  # words of a checksum at once
PEAK = 2  # memory of reading, of what is read: it is decompressed, then put where it is to be
# Numbers of a trained network hardly compress. A checkpoint of more than SLACK bytes has no RATIO times what its files have.
SLACK, RATIO = 2**26, 100

# (names, what) -> where a leaf of a checkpoint goes
Place = Callable[[tuple[str, ...], jax.ShapeDtypeStruct], Sharding]


class Damaged(Exception):
    """A checkpoint that cannot be read, or is not what was written."""


@jax.jit
def sealed(tree: Any) -> tuple[Any, Array]:
    """A copy of the tree, which the next step may not overwrite, and its checksum: uint32 (leaves,).

    A leaf's is sum_i (2i + 1) w_i mod 2^32 over its 32-bit words w: a flipped bit changes it by an odd multiple of a
    power of two, never by 0. Summed where the leaf lies, so that one spread over many devices needs no gathering.
    """
    return jax.tree.map(jnp.copy, tree), _checksum(tree)


def _checksum(tree: Any) -> Array:
    return jnp.stack([_word_sum(leaf) for leaf in jax.tree.leaves(tree)])


_checksum_compiled = jax.jit(_checksum)


def on_host(tree: Any) -> bool:
    """Whether every leaf lies whole in the memory that numpy sees: on one CPU device of this process, or as numpy's own array."""
    held = [leaf.devices() for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    return all(len(devices) == 1 and next(iter(devices)).platform == "cpu" for devices in held)


def copied(tree: Any) -> tuple[Any, np.ndarray | Array]:
    """What `sealed` gives; by numpy where the tree is on the host: a program of its own for each new network takes most of a
    second to compile.
    """
    if not on_host(tree):
        return sealed(tree)
    copy = jax.tree.map(lambda leaf: on_device(np.array(leaf)), tree)
    return copy, checksum_read(copy)


def checksum_read(tree: Any) -> np.ndarray:
    """The checksum of a tree that was read: by numpy where it can be, with no program to compile for its shapes."""
    if not on_host(tree):
        return np.asarray(_checksum_compiled(tree))
    return np.array([_word_sum_on_host(np.asarray(leaf)) for leaf in jax.tree.leaves(tree)], np.uint32)


def _word_sum_on_host(leaf: np.ndarray) -> np.uint32:
    """A block at a time: the products of a large leaf would take several times its memory."""
    bits = np.ascontiguousarray(leaf).reshape(-1)
    words = bits.view({1: np.uint8, 2: np.uint16}.get(bits.dtype.itemsize, np.uint32))
    odd, total = 2 * np.arange(min(BLOCK, words.size), dtype=np.uint32) + 1, 0
    for first in range(0, words.size, BLOCK):
        block = words[first : first + BLOCK].astype(np.uint32)
        factors = odd[: block.size] + np.uint32(2 * first % 2**32)
        total += int(np.sum(factors * block, dtype=np.uint32))
    return np.uint32(total % 2**32)


@jax.jit
def _all_finite(tree: Any) -> Array:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves])) if leaves else jnp.asarray(True)


def finite(tree: Any) -> bool:
    """Whether no number of the tree is NaN or infinite; looked at where the leaves lie."""
    if not on_host(tree):
        return bool(_all_finite(tree))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return all(np.isfinite(leaf).all() for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact))


def _word_sum(leaf: Array) -> Array:
    bits = jnp.asarray(leaf)
    width = bits.dtype.itemsize
    words = jax.lax.bitcast_convert_type(bits, {1: jnp.uint8, 2: jnp.uint16}.get(width, jnp.uint32)).astype(jnp.uint32)
    index = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        index = index * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    return jnp.sum((2 * index + 1) * words, dtype=jnp.uint32)


@contextmanager
def without_patterns(folder: Path) -> Iterator[Path]:
    """The folder under a path that is no pattern: orbax looks for its files by glob(folder/...), and finds none where the
    folder's own name has brackets in it.
    """
    if glob.escape(str(folder)) == str(folder):
        yield folder
        return
    if jax.process_count() > 1:  # which find one another by the path
        raise UserError(f"'{folder}': several processes cannot save where a folder's name has [, ], * or ? in it")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="diffsde-") as place:
        link = Path(place) / "checkpoints"
        link.symlink_to(folder, target_is_directory=True)
        yield link


class CheckpointManager:
    """Saves one checkpoint at a time, in the background, and then removes those that are not to be kept.

    keep: how many of the newest stay. best: of the saved steps the one that stays besides, or None.
    With several processes all of them save; `lead` is whether this one removes.
    """

    def __init__(self, folder: Path, keep: int, best: Callable[[list[int]], int | None], lead: bool = True) -> None:
        self.folder, self.keep, self.best, self.lead = folder.resolve(), keep, best, lead
        self.writing: Any = None
        self.step = 0  # of what is being written
        self.place = ExitStack()  # of what is being written
        if lead:
            for leftover in [*self.folder.glob(".removed-*"), *self.folder.glob("*orbax-checkpoint-tmp*")]:
                shutil.rmtree(leftover, ignore_errors=True)

    def save(self, step: int, tree: Any) -> None:
        """Begin to write folder/<step>, which appears whole or not at all; waits for the one before, skips none."""
        self.wait()
        copy, seal = jax.block_until_ready(copied(tree))
        from orbax.checkpoint import v1 as ocp  # here: 0.3 s that what saves and reads nothing need not wait for

        mute_orbax()
        self.step = step
        with self.unwritten():
            folder = self.place.enter_context(without_patterns(self.folder))
            self.writing = ocp.save_async(folder / str(step), {"tree": copy, "checksum": seal})
        if jax.process_count() > 1:  # their barriers are messages too, which must not mix with those of the next step
            self.wait()

    def wait(self) -> None:
        """Until the last one is on disk. Raises UserError where it could not be written, for a full disk among others."""
        if self.writing is None:
            return
        with self.place, self.unwritten():
            self.writing.result()
        self.writing = None
        if self.lead:
            saved = steps(self.folder)
            for step in set(saved[: -self.keep]) - {self.best(saved)}:
                set_aside(self.folder, step, ".removed")
                shutil.rmtree(self.folder / f".removed-{step}", ignore_errors=True)

    @contextmanager
    def unwritten(self) -> Iterator[None]:
        """A context in which what went wrong in writing a checkpoint is a UserError with the step that is whole; what there was of
        it is removed, which on a full disk makes room.
        """
        try:
            yield
        except Exception as error:  # orbax raises what its threads met, of many kinds
            self.writing = None
            for _ in range(REMOVALS):  # its other threads may still be writing
                for leftover in self.folder.glob(f"{self.step}.orbax-checkpoint-tmp*"):
                    shutil.rmtree(leftover, ignore_errors=True)
                time.sleep(REMOVED_EVERY)
            path, why = self.folder / str(self.step), system_errors.of_checkpoint(error)
            raise UserError(f"checkpoint '{path}' could not be written: {why}; {resumable(self.folder)}") from error


def mute_orbax() -> None:
    """Have Python say nothing of tasks and threads of orbax's that end after a call that failed: the call's error says it."""
    logging.getLogger("asyncio").addFilter(not_of_orbax)
    before = sys.unraisablehook
    if getattr(before, "__name__", "") == unless_a_loop_is_closed.__name__:
        return

    def hook(about: Any) -> None:
        unless_a_loop_is_closed(about, before)

    hook.__name__ = unless_a_loop_is_closed.__name__
    sys.unraisablehook = hook


def not_of_orbax(record: logging.LogRecord) -> bool:
    """Whether a record of asyncio's log is of other tasks than orbax's."""
    said = record.getMessage()
    return not any(word in said for word in ("orbax", "OCDBT", "zarr"))


def unless_a_loop_is_closed(about: Any, say: Callable[[Any], object]) -> None:
    """Say what could not be raised, but for that an event loop is closed."""
    if not (isinstance(about.exc_value, RuntimeError) and str(about.exc_value) == "Event loop is closed"):
        say(about)


def forget(error: BaseException) -> None:
    """Drop what the frames of an error hold, quietly: coroutines of orbax's that were never awaited."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cause: BaseException | None = error
        while cause is not None:
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__cause__ or cause.__context__
        gc.collect()


def resumable(folder: Path) -> str:
    """What is left of a run that ended early, in words."""
    if saved := steps(folder):
        return f"the checkpoint of step {saved[-1]} is whole, and the same command goes on from it"
    return "there is no checkpoint before it, and the same command begins again"


def set_aside(folder: Path, step: int, name: str) -> Path:
    """Rename a checkpoint to folder/<name>-<step>, so that it no longer counts as one."""
    target = folder / f"{name}-{step}"
    shutil.rmtree(target, ignore_errors=True)
    os.replace(folder / str(step), target)
    return target


def steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isascii() and entry.name.isdigit())


def none_there(run: Path) -> str:
    """What to say of a run folder without a checkpoint: how its parameters are made, and what makes them again."""
    named = shlex.quote(str(run))
    if (run / "summary.json").exists():
        return (
            f"'{run}' has finished, but its checkpoints are gone, and the parameters with them; diffsde rerun {named} trains it"
            " again, into a folder of its own"
        )
    if (run / "config.json").exists():
        return f"'{run}' has no checkpoint yet; diffsde train run={named} goes on with it"
    return f"'{run}' has no checkpoint; train it first, or give another run="


def load(
    folder: Path,
    warn: Callable[[str], None],
    step: int | None = None,
    place: Place | None = None,
    unfit: Callable[[Any], str | None] = lambda tree: None,
    has_seal: bool = True,
) -> tuple[int, Any]:
    """(step, tree) of the newest checkpoint that is whole, or of this step, as nested dicts of arrays.

    A damaged newest one is said to `warn`, and the one before is taken. place: where each leaf goes, by its names and
    shape; else the first device. unfit: why a whole one is of no use all the same, which is treated as damage. has_seal: see
    read_checkpoint. Raises UserError where none can be read, or the one asked for cannot, and where the system fails: then no other
    is taken.
    """
    saved = steps(folder)
    if not saved:
        raise UserError(f"run: {none_there(folder.parent)}")
    if step is not None and step not in saved:
        raise UserError(
            f"checkpoint: '{folder.parent}' has none of step {step}; there are {', '.join(map(str, saved))}"
        )
    candidates = saved[::-1] if step is None else [step]
    for candidate, before in zip(candidates, [*candidates[1:], None], strict=True):
        path = folder / str(candidate)
        try:
            tree = read_checkpoint(path.resolve(), place, has_seal)
            if why := unfit(tree):
                raise Damaged(why)
            return candidate, tree
        except Damaged as error:
            if before is None:
                others = ", and none before it is whole" if step is None else ""
                raise UserError(f"run: checkpoint '{path}' is damaged ({error}){others}") from error
            warn(f"checkpoint '{path}' is damaged ({error}); taking the one of step {before}")
    raise AssertionError


def check_size(kept: Any, files: int) -> None:
    """Raise for arrays, by their shapes and types, which may be anyone's, before any is read: Damaged where `files` bytes do not hold
    them, UserError where there is not the memory.
    """
    size = sum(math.prod(map(int, leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(kept))
    if size > max(SLACK, RATIO * files):
        raise Damaged(f"it says {shown_bytes(min(size, MOST))} of numbers, and its files have {shown_bytes(files)}")
    require(PEAK * size, f"a checkpoint of {shown_bytes(size)} of numbers", "read it on a machine with more memory")


def bytes_in(folder: Path) -> int:
    """The bytes of the files in a folder and below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def not_of_a_run(tree: Any) -> str | None:
    """Why a checkpoint that is whole is none of a training run; None where it is."""
    moments, state = (tree.get(name) if isinstance(tree, dict) else None for name in ("moments", "state"))
    if not isinstance(moments, dict) or set(moments) != set(Moments._fields) or not isinstance(state, dict):
        return "it is of no training run"
    if not {"params", "ema"} <= state.keys() or np.ndim(tree.get("classes", 0)):
        return "it is of no training run"
    if np.shape(moments["std"]) not in ((), np.shape(moments["mean"])) or not finite(moments):
        return "the mean and the std of its data are none"
    return None


def read_checkpoint(path: Path, place: Place | None = None, has_seal: bool = True) -> Any:
    """The tree of one checkpoint. has_seal: whether there must be a checksum, as there is but in format 1.

    Raises Damaged for what it is, and UserError for what the system lacks to read it.
    """
    from orbax.checkpoint import v1 as ocp

    mute_orbax()
    one = SingleDeviceSharding(jax.local_devices()[0])
    try:
        with without_patterns(path.parent) as folder:
            plain = folder / path.name
            kept = ocp.metadata(plain).metadata  # shapes and types, so that arrays come back where they are to be
            check_size(kept, bytes_in(path))
            like = jax.tree_util.tree_map_with_path(
                lambda names, leaf: jax.ShapeDtypeStruct(
                    leaf.shape, leaf.dtype, sharding=place(tuple(key.key for key in names[1:]), leaf) if place else one
                ),
                kept,
            )
            with warnings.catch_warnings():
                # about shardings that a damaged file no longer gives; what counts is checked below
                warnings.simplefilter("ignore")
                content = ocp.load(plain, like)
        if not has_seal and set(content) == {"moments", "state"}:  # nor several averages
            averages = jax.tree.map(lambda leaf: leaf[None], content["state"]["ema"])
            return content | {"state": content["state"] | {"ema": averages}}
        tree, seal = content["tree"], content["checksum"]
    except (Damaged, UserError):
        raise
    except Exception as error:  # orbax raises many kinds for a damaged or foreign folder
        forget(error)
        if why := of_machine(error):
            raise UserError(f"run: checkpoint '{path}' cannot be read: {why}") from error
        raise Damaged(first_line(error)[:160]) from error
    if not np.array_equal(checksum_read(tree), np.asarray(seal)):
        raise Damaged("its checksum differs: some bytes are not what was written")
    return tree
